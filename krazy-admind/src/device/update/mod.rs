//! Updates: admission, the session in progress, and the outcome. The engine that writes the slot is
//! [`krazy_boot::update::engine`].
//!
//! There is one session at a time. It is kept in memory: when the device or this service restarts, the update starts from
//! the beginning, and the slot that was being written cannot be booted. A lost connection does not end the session; the
//! client resumes at the offset received.

mod admission;
mod contents;
mod floor;
mod session;
mod signature;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use krazy_boot::api::control::Command;
use krazy_boot::api::status::BootInfo;
use krazy_boot::api::update::{self as api, BeginQuery, SessionState, UpdateStatus};
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::PROTOCOL;
use krazy_boot::update::engine;
use krazy_boot::update::history::{self, Attempt, History};
use krazy_boot::update::refusal::Refusal;
use tokio::time::sleep;

use super::disk::{Disk, Mode};
use crate::body::Body;
use crate::config::Policy;
use crate::control::Control;
use crate::problem::{Kind, Problem};
use crate::task::blocking;
use admission::{Facts, admit, refuse};
use contents::{Measured, SystemDisk};
use floor::Floors;
use session::Session;

/// The longest wait for services that have just started to become stable. A client waits longer for a reply.
const STABLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two attempts to confirm.
const STABLE_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The device's updates.
pub(crate) struct Updates {
    root: PathBuf,
    control: Control,
    policy: Policy,
    floor_lock: Arc<Mutex<()>>,
    /// A session without data for this long is dropped.
    idle_timeout: Duration,
    session: Mutex<Option<Arc<Session>>>,
    /// Held while a session starts or ends, and while the disk is flashed directly: of two operations that prepare a
    /// slot, the second must see the result of the first.
    transition: tokio::sync::Mutex<()>,
    measured: Measured,
}

/// Refuses to write while it is not known which of several equal disks was booted.
pub(super) fn refuse_ambiguous_disk(boot: &BootInfo) -> Result<(), Problem> {
    match &boot.disk {
        Some(disk) if !boot.twin_disks.is_empty() => {
            let text = format!(
                "{disk} and {} are copies of one image, and it is not known which of them was booted; remove all but one",
                boot.twin_disks.join(", ")
            );
            refuse(Refusal::NoSlots, text)
        }
        _ => Ok(()),
    }
}

impl Updates {
    pub(crate) fn new(root: PathBuf, control: Control, idle_timeout: Duration, policy: Policy) -> Self {
        Updates {
            root,
            control,
            policy,
            floor_lock: Arc::default(),
            idle_timeout,
            session: Mutex::default(),
            transition: tokio::sync::Mutex::default(),
            measured: Measured::default(),
        }
    }

    /// Returns the state of the slots and of the session. With `hash`, an unknown content of the running slot is
    /// measured, which reads the whole slot.
    pub(crate) async fn status(self: &Arc<Self>, hash: bool) -> Result<UpdateStatus, Problem> {
        let boot = self.control.boot().await?;
        let session = self.current();
        let busy = session.as_ref().is_some_and(|session| session.is_writing());
        // A device without slots still reports floor and history.
        let (running, other) = match SystemDisk::of(&boot) {
            Ok(system) => self.contents(&boot, system, hash, busy).await?,
            Err(_) => (None, None),
        };
        let (floors, root) = (self.floors(), self.root.clone());
        // Unusable keys are no reason to tell nothing; an update names them.
        let read = move || Ok((floors.read()?, signature::keys(&root), read_history(&root)));
        let (floor, keys, history) = blocking(read).await?;
        Ok(UpdateStatus {
            protocol: PROTOCOL,
            session: session.map(|session| session.status()),
            running,
            other,
            floor: floor.map(|floor| floor.to_string()),
            keys: keys.unwrap_or_default().iter().map(ToString::to_string).collect(),
            history: history.attempts,
        })
    }

    /// Checks `head` and prepares the inactive slot for it.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        head: Vec<u8>,
        by: &str,
        options: BeginQuery,
    ) -> Result<api::Session, Problem> {
        let _transition = self.transition.lock().await;
        let root = self.root.clone();
        // The signature first: an unsigned head must not lead to any other check, nor to a message about the device.
        let head = blocking(move || signature::read_head(&root, &head)).await?;
        let boot = self.control.boot().await?;
        let system = SystemDisk::of(&boot)?;
        refuse_ambiguous_disk(&boot)?;
        if boot.trial.is_some() {
            let text = format!("slot {} is on trial; confirm it or roll it back first", system.running);
            return refuse(Refusal::Unconfirmed, text);
        }
        // Neither measured nor compared with the other slot: that slot is about to be overwritten.
        let (running, _) = self.contents(&boot, system.clone(), false, true).await?;
        let parts = running.map(|running| running.parts).unwrap_or_default();
        let (floors, root, is_confirmed) = (self.floors(), self.root.clone(), boot.fallback.is_none());
        let (floor, history) = blocking(move || {
            // The build that is about to follow may ask for none.
            let floor = if is_confirmed { floors.keep()? } else { floors.read()? };
            Ok((floor, read_history(&root)))
        })
        .await?;
        // Without it no instruction is known to be missing; a program that needs one then makes the trial fail.
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        admit(
            &head,
            &Facts { boot: &boot, floor, history, cpuinfo: &cpuinfo, running: &parts },
            options.force,
        )?;
        // After all checks: a rejected update must not end one that may still succeed.
        self.end_earlier_update(&boot, options.replace).await?;
        if boot.fallback.is_some() {
            // The update replaces the confirmed slot, which cannot start. From here on the running one is the way back.
            self.confirm_fallback().await?;
        }

        let (root, by) = (self.root.clone(), by.to_owned());
        let session = blocking(move || {
            let disk = Disk::open(&root, &system.node, Mode::ReadWrite)
                .map_err(|error| Problem::from_io(&error, &system.node))?;
            Session::begin(disk, !system.running, head, by)
        })
        .await?;
        let session = Arc::new(session);
        *self.lock() = Some(Arc::clone(&session));
        crate::log::write(format_args!("update to {} started in slot {}", session.version(), session.slot()));
        tokio::spawn(Arc::clone(self).drop_when_idle(Arc::clone(&session)));
        Ok(session.status())
    }

    /// Receives the bundle's streams from byte `offset` on.
    pub(crate) async fn receive(&self, id: &str, offset: u64, body: Body) -> Result<api::Session, Problem> {
        self.named(id)?.receive(offset, body).await
    }

    /// Arms the updated slot: the next start tries it.
    pub(crate) async fn arm(&self, id: &str) -> Result<api::Session, Problem> {
        let _transition = self.transition.lock().await;
        let session = self.named(id)?;
        if !matches!(session.state(), SessionState::Verified | SessionState::Armed) {
            return refuse(Refusal::NotVerified, "the update has not been received and verified as a whole");
        }
        let build_id = session.build_id().to_owned();
        self.control.order(Command::Arm { slot: session.slot(), build_id }).await.inspect_err(|problem| {
            // Retrying cannot help, and the session must not block the next update.
            if problem.kind() == Kind::Update(Refusal::SlotIncomplete) {
                session.failed(problem);
            }
        })?;
        session.armed();
        Ok(session.status())
    }

    /// Ends the session in progress, and disarms the slot.
    pub(crate) async fn cancel(&self) -> Result<(), Problem> {
        let _transition = self.transition.lock().await;
        self.end_session().await?;
        self.control.order(Command::Disarm).await
    }

    /// Sets the lowest version that is accepted.
    pub(crate) async fn set_floor(&self, json: Vec<u8>) -> Result<(), Problem> {
        let (floors, may_lower) = (self.floors(), !self.policy.signed_only);
        blocking(move || floors.write(&json, may_lower)).await
    }

    /// Replaces the update keys, unless something that an earlier key has signed may be about to start. Builds that were
    /// signed by an earlier key only are no longer signed ones.
    pub(crate) async fn set_keys(&self, json: Vec<u8>) -> Result<(), Problem> {
        let _transition = self.transition.lock().await;
        let boot = self.control.boot().await?;
        if let Some(session) = self.current().filter(|session| session.is_in_use()) {
            let text = format!("an update to {} is in progress; cancel it first", session.version());
            return refuse(Refusal::SessionActive, text);
        }
        if let Some(armed) = boot.armed {
            return refuse(Refusal::Armed, format!("slot {armed} is armed: the next start tries it"));
        }
        if boot.trial.is_some() {
            return refuse(
                Refusal::Unconfirmed,
                "the running slot is on trial; confirm it or roll it back first",
            );
        }
        let root = self.root.clone();
        blocking(move || signature::replace_keys(&root, &json)).await
    }

    /// Returns true if the running build asks for a floor.
    pub(crate) fn has_floor(&self) -> bool {
        self.policy.floor.is_some()
    }

    fn floors(&self) -> Floors {
        let (root, of_build) = (self.root.clone(), self.policy.floor.clone());
        Floors { root, of_build, lock: Arc::clone(&self.floor_lock) }
    }

    /// Checks that the device may start `slot` next: its version is not below the floor and, where that is required, it
    /// came from a signed bundle.
    pub(crate) async fn check_slot(&self, slot: Slot) -> Result<(), Problem> {
        let boot = self.control.boot().await?;
        // Init refuses these with reasons of its own.
        let Ok(system) = SystemDisk::of(&boot) else { return Ok(()) };
        if system.running == slot {
            return Ok(());
        }
        let (root, signed_only, floors) = (self.root.clone(), self.policy.signed_only, self.floors());
        let is_confirmed = boot.trial.is_none() && boot.fallback.is_none();
        blocking(move || {
            let floor = if is_confirmed { floors.keep()? } else { floors.read()? };
            let disk = system.open(&root)?;
            let record = match signed_only {
                true => Some(signature::verified_record(&root, &disk, slot)?),
                false => engine::read_record(&disk, slot).map_err(Problem::from_engine)?,
            };
            match (record, floor) {
                (Some(record), Some(floor)) => admission::check_floor(&record.version, &floor),
                _ => Ok(()),
            }
        })
        .await
    }

    /// The same for the slot that a rollback starts. The end of a trial is always allowed: the confirmed slot is running
    /// software already.
    pub(crate) async fn check_rollback(&self) -> Result<(), Problem> {
        let boot = self.control.boot().await?;
        match boot.slot {
            Some(running) if boot.trial.is_none() => self.check_slot(!running).await,
            _ => Ok(()),
        }
    }

    /// Prevents updates from starting while the returned guard is held. Fails while one is being written.
    pub(super) async fn lock_out(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Problem> {
        let transition = self.transition.lock().await;
        match self.current() {
            Some(session) if session.is_writing() => {
                refuse(Refusal::SessionActive, "an update is in progress; cancel it first")
            }
            _ => Ok(transition),
        }
    }

    /// Confirms the running slot, as soon as its services are stable.
    async fn confirm_fallback(&self) -> Result<(), Problem> {
        let end = Instant::now() + STABLE_TIMEOUT;
        loop {
            match self.control.order(Command::Confirm).await {
                Err(problem) if problem.kind() == Kind::NotStable && Instant::now() < end => {
                    sleep(STABLE_POLL_INTERVAL).await;
                }
                confirmed => return confirmed,
            }
        }
    }

    async fn end_earlier_update(&self, boot: &BootInfo, replace: bool) -> Result<(), Problem> {
        if let Some(session) = self.current().filter(|session| session.is_in_use()) {
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

    /// Ends the session. It stays visible until its last write is done.
    async fn end_session(&self) -> Result<(), Problem> {
        if let Some(session) = self.current() {
            session.end().await?;
        }
        *self.lock() = None;
        Ok(())
    }

    /// Drops `session` when it receives no data for [`Updates::idle_timeout`].
    async fn drop_when_idle(self: Arc<Self>, session: Arc<Session>) {
        while let Some(left) = session.time_left(self.idle_timeout) {
            if left.is_zero() {
                let _transition = self.transition.lock().await;
                // Another update may have begun while this one waited for the lock.
                if self.current().is_some_and(|current| Arc::ptr_eq(&current, &session)) {
                    crate::log::write(format_args!(
                        "update to {} dropped: no data came for too long",
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

    fn named(&self, id: &str) -> Result<Arc<Session>, Problem> {
        match self.current() {
            Some(session) if session.id() == id => Ok(session),
            _ => refuse(Refusal::NoSession, format!("there is no update `{id}`; start it again")),
        }
    }

    fn current(&self) -> Option<Arc<Session>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the latest attempt of the device in `root`, which may still be on trial.
pub(super) fn last_attempt(root: &std::path::Path) -> Option<Attempt> {
    read_history(root).attempts.pop()
}

/// Reads the history. An unreadable one counts as empty: it must not prevent the repair of a device.
fn read_history(root: &std::path::Path) -> History {
    History::read(&root.join("data").join(history::PATH)).unwrap_or_else(|error| {
        crate::log::write(error);
        History::default()
    })
}
