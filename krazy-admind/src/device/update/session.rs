//! One update, fed by requests that may break off.
//!
//! Whoever sends holds the session's work. A new request takes it from an older one whose connection may be dead
//! without anybody having noticed. The disk is written on other threads; what was begun there is finished and
//! counted whether or not the client is still there.

use std::future::ready;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use krazy_boot::api::update::{self as api, SessionProblem, SessionState};
use krazy_boot::digest::Hex;
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::Head;
use krazy_boot::update::engine;
use krazy_boot::update::refusal::Refusal;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::timeout;

use super::Disk;
use super::admission::refuse;
use crate::body::Body;
use crate::problem::{Kind, Problem};
use crate::task::blocking;

/// Pieces of an upload are gathered to this many bytes before the disk is bothered.
const GATHER: usize = 256 * 1024;

/// How long a request waits for an older one to let go: as long as a slow disk may take to write and sync.
const HANDOVER: Duration = Duration::from_secs(60);

/// How long after it was verified a client may be about to arm it.
const TO_ARM: Duration = Duration::from_secs(30);

/// An update under way.
pub(crate) struct Session {
    id: String,
    by: String,
    slot: Slot,
    build_id: String,
    version: String,
    total: u64,
    progress: Mutex<Progress>,
    work: Arc<tokio::sync::Mutex<Option<Work>>>,
    /// Counts the requests that have taken the work; each one but the last gives up.
    senders: AtomicU64,
    superseded: Notify,
}

/// What the disk is told. Gone when there is nothing more to do.
struct Work {
    disk: Disk,
    engine: engine::Session,
}

struct Progress {
    state: SessionState,
    received: u64,
    last: Instant,
    problem: Option<SessionProblem>,
}

/// The session's work, and memory to gather the next piece in, once the last one has been applied.
type Applied =
    Pin<Box<dyn Future<Output = Result<(OwnedMutexGuard<Option<Work>>, Vec<u8>), Problem>> + Send>>;

/// What comes in a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Where in the streams it begins.
    pub(crate) offset: u64,
    /// How many bytes come, if the client says so.
    pub(crate) len: Option<u64>,
    /// The longest pause between two pieces.
    pub(crate) pause: Duration,
}

impl Session {
    /// Makes `slot` ready to be written. Blocks.
    pub(super) fn begin(mut disk: Disk, slot: Slot, head: Head, by: String) -> Result<Self, Problem> {
        let mut random = [0; 8];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Problem::new(Kind::Internal, "there are no random numbers"))?;
        let engine = engine::Session::begin(&mut disk, slot, head).map_err(Problem::from_engine)?;
        let manifest = &engine.head().manifest;
        Ok(Session {
            id: Hex(random).to_string(),
            by,
            slot,
            build_id: manifest.build_id.clone(),
            version: manifest.version.clone(),
            total: engine.head().stored().0,
            progress: Mutex::new(Progress {
                state: SessionState::Receiving,
                received: 0,
                last: Instant::now(),
                problem: None,
            }),
            work: Arc::new(tokio::sync::Mutex::new(Some(Work { disk, engine }))),
            senders: AtomicU64::new(0),
            superseded: Notify::new(),
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    pub(super) fn build_id(&self) -> &str {
        &self.build_id
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn state(&self) -> SessionState {
        self.progress().state
    }

    pub(super) fn is_writing(&self) -> bool {
        matches!(self.state(), SessionState::Receiving | SessionState::Verifying)
    }

    /// Whether somebody is at it, who would be disturbed by another update. A slot that was filled for later is
    /// nobody's.
    pub(super) fn is_under_way(&self) -> bool {
        let progress = self.progress();
        match progress.state {
            SessionState::Receiving | SessionState::Verifying => true,
            SessionState::Verified => progress.last.elapsed() < TO_ARM,
            SessionState::Armed | SessionState::Failed => false,
        }
    }

    pub(super) fn armed(&self) {
        self.progress().state = SessionState::Armed;
    }

    /// It is over, for this reason.
    pub(super) fn failed(&self, problem: &Problem) {
        crate::log::write(format_args!("the update to {} failed: {}", self.version, problem.detail()));
        let mut progress = self.progress();
        progress.state = SessionState::Failed;
        progress.problem =
            Some(SessionProblem { kind: problem.kind().type_uri(), detail: problem.detail().to_owned() });
    }

    pub(super) fn status(&self) -> api::Session {
        let progress = self.progress();
        api::Session {
            id: self.id.clone(),
            state: progress.state,
            slot: self.slot,
            build_id: self.build_id.clone(),
            version: self.version.clone(),
            by: self.by.clone(),
            received: Bytes(progress.received),
            total: Bytes(self.total),
            idle: progress.last.elapsed().as_secs(),
            problem: progress.problem.clone(),
        }
    }

    /// How much longer data may stay away; `None` when none is expected.
    pub(super) fn patience_left(&self, patience: Duration) -> Option<Duration> {
        let progress = self.progress();
        match progress.state {
            SessionState::Receiving => Some(patience.saturating_sub(progress.last.elapsed())),
            // Looks again later: verifying takes its time.
            SessionState::Verifying => Some(patience),
            SessionState::Verified | SessionState::Armed | SessionState::Failed => None,
        }
    }

    /// Takes the work away from whoever has it, and drops it.
    pub(super) async fn end(&self) -> Result<(), Problem> {
        let mut work = self.take_over().await?;
        // Dropping it may have to wait for init.
        blocking(move || {
            work.take();
            Ok(())
        })
        .await
    }

    /// Takes streams from byte `offset` on. When they are complete, the slot is read back and made bootable.
    pub(super) async fn receive(
        self: Arc<Self>,
        arrival: Arrival,
        body: Body,
    ) -> Result<api::Session, Problem> {
        let work = self.take_over().await?;
        let sender = self.senders.load(Ordering::SeqCst);
        let received = self.expected(arrival)?;
        if received.is_none() {
            return Ok(self.status());
        }
        let mut body = body;
        let mut gathered = Vec::with_capacity(GATHER);
        // One piece is applied while the next one is received.
        let mut applied: Applied = Box::pin(ready(Ok((work, Vec::with_capacity(GATHER)))));
        loop {
            let piece = self.next_piece(&mut body, arrival.pause, sender).await;
            let ended = matches!(piece, Ok(None));
            if let Ok(Some(piece)) = &piece {
                gathered.extend_from_slice(piece);
            }
            let broken = piece.err();
            if ended || broken.is_some() || gathered.len() >= GATHER {
                let (mut work, mut bytes) = applied.await?;
                std::mem::swap(&mut bytes, &mut gathered);
                let session = Arc::clone(&self);
                applied = Box::pin(blocking(move || {
                    session.apply(&mut work, &bytes)?;
                    if ended {
                        session.conclude(&mut work)?;
                    }
                    bytes.clear();
                    Ok((work, bytes))
                }));
            }
            if let Some(problem) = broken {
                applied.await?;
                return Err(problem);
            }
            if ended {
                applied.await?;
                return Ok(self.status());
            }
        }
    }

    async fn take_over(&self) -> Result<OwnedMutexGuard<Option<Work>>, Problem> {
        self.senders.fetch_add(1, Ordering::SeqCst);
        self.superseded.notify_waiters();
        timeout(HANDOVER, Arc::clone(&self.work).lock_owned())
            .await
            .map_err(|_| Problem::new(Kind::Busy, "the disk is still busy with this update"))
    }

    /// The next piece of the body, unless it stays away, the connection breaks, or another request has come.
    async fn next_piece(
        &self,
        body: &mut Body,
        pause: Duration,
        sender: u64,
    ) -> Result<Option<bytes::Bytes>, Problem> {
        let superseded = || Problem::new(Kind::Busy, "another request goes on with this update");
        let notified = self.superseded.notified();
        if self.senders.load(Ordering::SeqCst) != sender {
            return Err(superseded());
        }
        let next = async {
            match timeout(pause, body.next()).await {
                Ok(Some(piece)) => piece.map(Some).map_err(|error| {
                    Problem::new(Kind::BadRequest, format!("the upload broke off: {error}"))
                }),
                Ok(None) => Ok(None),
                Err(_) => {
                    let text = format!("nothing came for {} s", pause.as_secs());
                    Err(Problem::new(Kind::Timeout, text))
                }
            }
        };
        match select(pin!(next), pin!(notified)).await {
            Either::Left((piece, _)) => piece,
            Either::Right(_) => Err(superseded()),
        }
    }

    /// Whether data may come, from where on; `None` when everything is there and verified.
    fn expected(&self, arrival: Arrival) -> Result<Option<u64>, Problem> {
        let progress = self.progress();
        if let Some(problem) = &progress.problem {
            return refuse(Refusal::NoSession, format!("this update failed: {}", problem.detail));
        }
        if arrival.offset != progress.received {
            let received = progress.received;
            let text = format!("{received} bytes have been received, the data begins at {}", arrival.offset);
            return Err(Problem::new(Kind::Update(Refusal::Offset), text).received(received));
        }
        if arrival.len.is_some_and(|len| len > self.total - progress.received) {
            let text = format!("the update has {} bytes, more are about to come", self.total);
            return refuse(Refusal::Content, text);
        }
        Ok((progress.state == SessionState::Receiving).then_some(progress.received))
    }

    fn apply(&self, work: &mut Option<Work>, bytes: &[u8]) -> Result<(), Problem> {
        let Some(Work { disk, engine }) = work else { return self.over() };
        let fed = engine.feed(disk, bytes);
        let received = engine.received().0;
        self.checked(work, fed.map_err(Problem::from_engine))?;
        let mut progress = self.progress();
        progress.received = received;
        progress.last = Instant::now();
        Ok(())
    }

    /// The client has nothing more to send. If that is all there is, the slot is verified and made bootable.
    fn conclude(&self, work: &mut Option<Work>) -> Result<(), Problem> {
        let Some(Work { disk, engine }) = work else { return self.over() };
        if !engine.is_received() {
            return Ok(());
        }
        self.progress().state = SessionState::Verifying;
        let begin = Instant::now();
        let finished = engine.finish(disk);
        self.checked(work, finished.map_err(Problem::from_engine))?;
        *work = None;
        let mut progress = self.progress();
        progress.state = SessionState::Verified;
        progress.last = Instant::now();
        let seconds = begin.elapsed().as_secs_f64();
        crate::log::write(format_args!(
            "slot {} holds {}, read back in {seconds:.2} s",
            self.slot, self.version
        ));
        Ok(())
    }

    fn over<T>(&self) -> Result<T, Problem> {
        refuse(Refusal::NoSession, "this update is over; begin it anew")
    }

    /// After a failure the session is over.
    fn checked(&self, work: &mut Option<Work>, outcome: Result<(), Problem>) -> Result<(), Problem> {
        outcome.inspect_err(|problem| {
            *work = None;
            self.failed(problem);
        })
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
