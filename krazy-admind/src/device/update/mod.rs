//! Updates over the API: who may begin one, what has arrived, and what became of it. The bytes are the business of
//! [`krazy_boot::update::engine`].
//!
//! One session exists at a time. It lives in memory: a device that restarts, or whose admind does, begins anew,
//! and the slot it was writing cannot be booted. A broken connection leaves it as it is.

mod admission;
mod disk;
mod floor;
mod session;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use krazy_boot::api::control::Command;
use krazy_boot::api::credentials::{UPDATE_KEYS, UpdateKey};
use krazy_boot::api::status::BootInfo;
use krazy_boot::api::update::{self as api, BeginQuery, SessionState, SlotContent, UpdateStatus};
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::{Head, PROTOCOL, Part};
use krazy_boot::update::engine;
use krazy_boot::update::history::{self, Attempt, History};
use krazy_boot::update::refusal::Refusal;
use ring::signature::{ED25519, UnparsedPublicKey};
use tokio::time::sleep;

use crate::body::Body;
use crate::control::Control;
use crate::device::durable_file;
use crate::problem::{Kind, Problem};
use crate::task::blocking;
use admission::{Facts, admit, refuse};
pub(crate) use disk::{Disk, Purpose};
pub(crate) use session::Arrival;
use session::Session;

/// The longest key file.
const MAX_KEYS: u64 = krazy_boot::api::credentials::MAX_FILE as u64;

/// The device's updates.
pub(crate) struct Updates {
    root: PathBuf,
    control: Control,
    /// After so long without data, a session is dropped.
    patience: Duration,
    session: Mutex<Option<Arc<Session>>>,
    /// Held while a session begins or ends.
    changing: tokio::sync::Mutex<()>,
    /// What the running slot holds, once somebody wanted to know. Locked while it is read: whoever else wants to know
    /// waits for the same answer.
    measured: Arc<tokio::sync::Mutex<Option<Vec<Part>>>>,
}

/// Where the device runs from.
#[derive(Clone, Debug)]
struct Slots {
    running: Slot,
    node: String,
}

impl Slots {
    fn of(boot: &BootInfo) -> Result<Self, Problem> {
        match (boot.slot, &boot.disk) {
            (Some(running), Some(node)) => Ok(Slots { running, node: node.clone() }),
            _ => refuse(Refusal::NoSlots, "this device does not run from a slot of a cargo krazy disk"),
        }
    }
}

impl Updates {
    pub(crate) fn new(root: PathBuf, control: Control, patience: Duration) -> Self {
        Updates {
            root,
            control,
            patience,
            session: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            measured: Arc::default(),
        }
    }

    /// What goes on. With `hash`, the running slot is read as a whole unless its content is known.
    pub(crate) async fn status(self: &Arc<Self>, hash: bool) -> Result<UpdateStatus, Problem> {
        let boot = self.control.boot().await?;
        let session = self.current();
        let busy = session.as_ref().is_some_and(|session| session.is_writing());
        let (running, other) = match Slots::of(&boot) {
            Ok(slots) => self.contents(&boot, slots, hash, busy).await?,
            Err(_) => (None, None),
        };
        let root = self.root.clone();
        let (floor, history) = blocking(move || Ok((floor::read(&root)?, read_history(&root)))).await?;
        Ok(UpdateStatus {
            protocol: PROTOCOL,
            session: session.map(|session| session.status()),
            running,
            other,
            floor: floor.map(|floor| floor.to_string()),
            history: history.attempts,
        })
    }

    /// Checks `head` and makes the slot that does not run ready for it.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        head: Vec<u8>,
        by: &str,
        query: BeginQuery,
    ) -> Result<api::Session, Problem> {
        let _changing = self.changing.lock().await;
        let root = self.root.clone();
        let head = blocking(move || read_head(&root, &head)).await?;
        let boot = self.control.boot().await?;
        let slots = Slots::of(&boot)?;
        if boot.trial.is_some() {
            let text = format!("slot {} runs on trial: confirm it, or roll it back, first", slots.running);
            return refuse(Refusal::Unconfirmed, text);
        }
        let (running, _) = self.contents(&boot, slots.clone(), false, true).await?;
        let parts = running.map(|running| running.parts).unwrap_or_default();
        let root = self.root.clone();
        let (floor, history) = blocking(move || Ok((floor::read(&root)?, read_history(&root)))).await?;
        admit(&head, &Facts { boot: &boot, floor, history, running: &parts }, query.force)?;
        self.make_room(&boot, query.replace).await?;

        let (root, by) = (self.root.clone(), by.to_owned());
        let session = blocking(move || {
            let disk = Disk::open(&root, &slots.node, Purpose::Write)
                .map_err(|error| Problem::from_io(&error, &slots.node))?;
            Session::begin(disk, !slots.running, head, by)
        })
        .await?;
        let session = Arc::new(session);
        *self.lock() = Some(Arc::clone(&session));
        crate::log::write(format_args!(
            "an update to {} begins in slot {}",
            session.version(),
            session.slot()
        ));
        tokio::spawn(Arc::clone(self).watch(Arc::clone(&session)));
        Ok(session.status())
    }

    /// Takes streams from byte `offset` on.
    pub(crate) async fn receive(
        &self,
        id: &str,
        arrival: Arrival,
        body: Body,
    ) -> Result<api::Session, Problem> {
        self.named(id)?.receive(arrival, body).await
    }

    /// Lets the next start try the slot.
    pub(crate) async fn arm(&self, id: &str) -> Result<api::Session, Problem> {
        let _changing = self.changing.lock().await;
        let session = self.named(id)?;
        if !matches!(session.state(), SessionState::Verified | SessionState::Armed) {
            return refuse(Refusal::NotVerified, "the update has not been received and verified as a whole");
        }
        let build_id = session.build_id().to_owned();
        self.control.order(Command::Arm { slot: session.slot(), build_id }).await.inspect_err(|problem| {
            // It will not get better by waiting, and must not keep a better one away.
            if problem.kind() == Kind::Update(Refusal::SlotIncomplete) {
                session.failed(problem);
            }
        })?;
        session.armed();
        Ok(session.status())
    }

    /// Ends the session that is under way, and forgets a trial that was armed.
    pub(crate) async fn cancel(&self) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        self.end_session().await?;
        self.control.order(Command::Disarm).await
    }

    /// Sets the lowest version that is taken.
    pub(crate) async fn set_floor(&self, json: Vec<u8>) -> Result<(), Problem> {
        let root = self.root.clone();
        blocking(move || floor::write(&root, &json)).await
    }

    /// Keeps updates from beginning as long as the guard is held; refuses while one is written.
    pub(crate) async fn keep_away(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Problem> {
        let changing = self.changing.lock().await;
        match self.current() {
            Some(session) if session.is_writing() => {
                refuse(Refusal::SessionActive, "an update is under way; end it first")
            }
            _ => Ok(changing),
        }
    }

    async fn make_room(&self, boot: &BootInfo, replace: bool) -> Result<(), Problem> {
        if let Some(session) = self.current().filter(|session| session.is_under_way()) {
            let api::Session { by, version, idle, .. } = session.status();
            if !replace {
                let text = format!("{by} is updating to {version}; the last data came {idle} s ago");
                return refuse(Refusal::SessionActive, text);
            }
            self.end_session().await?;
        }
        if let Some(armed) = boot.armed {
            if !replace {
                return refuse(Refusal::Armed, format!("slot {armed} is armed: the next start tries it"));
            }
            self.control.order(Command::Disarm).await?;
        }
        Ok(())
    }

    /// The session is there until nobody works for it any more.
    async fn end_session(&self) -> Result<(), Problem> {
        if let Some(session) = self.current() {
            session.end().await?;
        }
        *self.lock() = None;
        Ok(())
    }

    /// Drops a session that gets no data any more.
    async fn watch(self: Arc<Self>, session: Arc<Session>) {
        while let Some(left) = session.patience_left(self.patience) {
            if left.is_zero() {
                let _changing = self.changing.lock().await;
                if self.current().is_some_and(|current| Arc::ptr_eq(&current, &session)) {
                    crate::log::write(format_args!(
                        "the update to {} got no data any more",
                        session.version()
                    ));
                    if let Err(problem) = self.end_session().await {
                        crate::log::write(problem.detail());
                    }
                }
                return;
            }
            sleep(left).await;
        }
    }

    /// What the slots hold. While one is written, only the running one is looked at.
    async fn contents(
        &self,
        boot: &BootInfo,
        slots: Slots,
        hash: bool,
        busy: bool,
    ) -> Result<(Option<SlotContent>, Option<SlotContent>), Problem> {
        let (root, build_id) = (self.root.clone(), boot.build_id.clone());
        let slots_here = slots.clone();
        let (recorded, other) = blocking(move || {
            let disk = slots_here.look(&root)?;
            let running = engine::read_record(&disk, slots_here.running).map_err(Problem::from_engine)?;
            let other = !slots_here.running;
            let other = match !busy && engine::is_complete(&disk, other).map_err(Problem::from_engine)? {
                true => engine::read_record(&disk, other).map_err(Problem::from_engine)?,
                false => None,
            };
            Ok((running.filter(|manifest| manifest.build_id == build_id), other))
        })
        .await?;
        let parts = match recorded {
            Some(manifest) => manifest.parts,
            None if hash => self.measure(slots.clone()).await?,
            None => self.measured.try_lock().ok().and_then(|measured| measured.clone()).unwrap_or_default(),
        };
        let running = SlotContent {
            slot: slots.running,
            build_id: boot.build_id.clone(),
            version: boot.version.clone(),
            parts,
        };
        let other = other.map(|manifest| SlotContent {
            slot: !slots.running,
            build_id: manifest.build_id,
            version: manifest.version,
            parts: manifest.parts,
        });
        Ok((Some(running), other))
    }

    /// Reads the running slot as a whole, unless that was done before. Goes on when the client has gone, so that the
    /// next one does not begin anew.
    async fn measure(&self, slots: Slots) -> Result<Vec<Part>, Problem> {
        let mut measured = Arc::clone(&self.measured).lock_owned().await;
        if let Some(parts) = measured.as_ref() {
            return Ok(parts.clone());
        }
        let root = self.root.clone();
        blocking(move || {
            let parts = engine::measure(&slots.look(&root)?, slots.running).map_err(Problem::from_engine)?;
            *measured = Some(parts.clone());
            Ok(parts)
        })
        .await
    }

    fn named(&self, id: &str) -> Result<Arc<Session>, Problem> {
        match self.current() {
            Some(session) if session.id() == id => Ok(session),
            _ => refuse(Refusal::NoSession, format!("there is no update `{id}`; begin it anew")),
        }
    }

    fn current(&self) -> Option<Arc<Session>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn look(&self, root: &std::path::Path) -> Result<Disk, Problem> {
        Disk::open(root, &self.node, Purpose::Look).map_err(|error| Problem::from_io(&error, &self.node))
    }
}

/// Reads the head of a bundle that one of the device's keys signed.
fn read_head(root: &std::path::Path, bytes: &[u8]) -> Result<Head, Problem> {
    let path = root.join("data").join(UPDATE_KEYS);
    let text = durable_file::read(&path, MAX_KEYS)
        .map_err(|error| Problem::from_io(&error, "the keys of updates, /data/krazy/update.pub"))?;
    let keys = UpdateKey::parse_file(&String::from_utf8_lossy(&text)).map_err(|error| {
        Problem::new(Kind::Internal, format!("the keys of updates, {UPDATE_KEYS}, are not usable: {error}"))
    })?;
    let mut rest = bytes;
    let verify = |message: &[u8], signature: &[u8; 64]| {
        keys.iter().any(|key| UnparsedPublicKey::new(&ED25519, key.0).verify(message, signature).is_ok())
    };
    let head = Head::read(&mut rest, verify).map_err(|error| Problem::from_bundle(&error))?;
    if !rest.is_empty() {
        return refuse(Refusal::Bundle, "something follows the head of the update");
    }
    Ok(head)
}

/// What became of the last update of the device whose root is `root`, or what goes on with it.
pub(crate) fn last_attempt(root: &std::path::Path) -> Option<Attempt> {
    read_history(root).attempts.pop()
}

/// A history that cannot be read must not keep a device from being repaired.
fn read_history(root: &std::path::Path) -> History {
    History::read(&root.join("data").join(history::PATH)).unwrap_or_else(|error| {
        crate::log::write(error);
        History::default()
    })
}
