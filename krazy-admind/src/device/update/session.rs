//! One update, received in requests that may be interrupted.
//!
//! The sending request holds the lock of the session's work. A new request takes it over from an older one, whose
//! connection may be dead without a sign of it. The disk is written on other threads; a write that has started there is
//! finished and counted even if its client disconnects.

use std::future::ready;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

use super::super::disk::Disk;
use super::admission::refuse;
use crate::body::Body;
use crate::problem::{Kind, Problem};
use crate::task::blocking;

/// Bytes gathered before each write to the disk.
const WRITE_LEN: usize = 256 * 1024;

/// Limit on waiting for an older request to release the work: a slow disk may take this long to write and sync.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// Time that a client has to arm a verified update before another update may replace it.
const ARM_TIMEOUT: Duration = Duration::from_secs(30);

/// An update in progress.
pub(crate) struct Session {
    id: String,
    by: String,
    slot: Slot,
    build_id: String,
    version: String,
    total: u64,
    progress: Mutex<Progress>,
    work: Arc<tokio::sync::Mutex<Option<Work>>>,
    /// The number of the latest request to take the work over. Earlier ones give up.
    latest_request: AtomicU64,
    superseded: Notify,
}

/// The disk and the engine that writes it. Dropped when the update is verified or has failed.
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

/// A write in progress. Yields the work, and its buffer for reuse.
type Applied =
    Pin<Box<dyn Future<Output = Result<(OwnedMutexGuard<Option<Work>>, Vec<u8>), Problem>> + Send>>;

impl Session {
    /// Prepares `slot` for writing. Blocks.
    pub(super) fn begin(mut disk: Disk, slot: Slot, head: Head, by: String) -> Result<Self, Problem> {
        let mut random = [0; 8];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Problem::new(Kind::Internal, "the system provides no random numbers"))?;
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
            latest_request: AtomicU64::new(0),
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

    /// Returns true while a client is sending, or is about to arm the update. A verified update that is not armed in
    /// time may be replaced.
    pub(super) fn is_in_use(&self) -> bool {
        let progress = self.progress();
        match progress.state {
            SessionState::Receiving | SessionState::Verifying => true,
            SessionState::Verified => progress.last.elapsed() < ARM_TIMEOUT,
            SessionState::Armed | SessionState::Failed => false,
        }
    }

    pub(super) fn armed(&self) {
        self.progress().state = SessionState::Armed;
    }

    /// Ends the session with `problem`.
    pub(super) fn failed(&self, problem: &Problem) {
        crate::log::write(format_args!("update to {} failed: {}", self.version, problem.detail()));
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

    /// Returns the time left until the session counts as idle, or `None` if no more data is expected.
    pub(super) fn time_left(&self, idle_timeout: Duration) -> Option<Duration> {
        let progress = self.progress();
        match progress.state {
            SessionState::Receiving => Some(idle_timeout.saturating_sub(progress.last.elapsed())),
            // Verifying may take longer than the timeout.
            SessionState::Verifying => Some(idle_timeout),
            SessionState::Verified | SessionState::Armed | SessionState::Failed => None,
        }
    }

    /// Takes the work over and drops it.
    pub(super) async fn end(&self) -> Result<(), Problem> {
        let (mut work, _) = self.take_over().await?;
        // Dropping the disk may wait for init to remount /boot.
        blocking(move || {
            work.take();
            Ok(())
        })
        .await
    }

    /// Receives the streams from byte `offset` on. When they are complete, the slot is read back and made bootable.
    pub(super) async fn receive(
        self: Arc<Self>,
        offset: u64,
        mut body: Body,
    ) -> Result<api::Session, Problem> {
        let (work, request) = self.take_over().await?;
        if !self.expects(offset, body.len())? {
            return Ok(self.status());
        }
        let mut buffer = Vec::with_capacity(WRITE_LEN);
        // One buffer is applied while the next one is received.
        // The lock travels with each write: a write that has started keeps the disk until it is counted.
        let mut applied: Applied = Box::pin(ready(Ok((work, Vec::with_capacity(WRITE_LEN)))));
        loop {
            let filled = self.fill(&mut buffer, &mut body, request).await;
            let complete = matches!(filled, Ok(true));
            let (mut work, mut bytes) = applied.await?;
            std::mem::swap(&mut bytes, &mut buffer);
            let session = Arc::clone(&self);
            applied = Box::pin(blocking(move || {
                session.apply(&mut work, &bytes)?;
                if complete {
                    session.conclude(&mut work)?;
                }
                bytes.clear();
                Ok((work, bytes))
            }));
            // Data received before an interruption counts.
            if complete || filled.is_err() {
                applied.await?;
                return filled.map(|_| self.status());
            }
        }
    }

    /// Takes the work over from an older request, which gives up after its current write.
    /// Returns its number, too.
    async fn take_over(&self) -> Result<(OwnedMutexGuard<Option<Work>>, u64), Problem> {
        // Counted before the notification: a request that is not waiting yet sees the number instead.
        let request = self.latest_request.fetch_add(1, Ordering::SeqCst) + 1;
        self.superseded.notify_waiters();
        let work = timeout(TAKEOVER_TIMEOUT, Arc::clone(&self.work).lock_owned())
            .await
            .map_err(|_| Problem::new(Kind::Busy, "the disk is still busy with this update"))?;
        Ok((work, request))
    }

    /// Fills `buffer` from the body. Returns true at its end. Fails if another request takes the work over.
    async fn fill(&self, buffer: &mut Vec<u8>, body: &mut Body, request: u64) -> Result<bool, Problem> {
        let superseded = || Problem::new(Kind::Busy, "another request continues this update");
        // Registered before the check, so that no notification is missed between the two.
        let notified = self.superseded.notified();
        if self.latest_request.load(Ordering::SeqCst) != request {
            return Err(superseded());
        }
        match select(pin!(body.fill(buffer, WRITE_LEN)), pin!(notified)).await {
            Either::Left((filled, _)) => Ok(filled?),
            Either::Right(_) => Err(superseded()),
        }
    }

    /// Checks that `len` bytes from `offset` on may come. Returns false if everything is received and verified.
    fn expects(&self, offset: u64, len: Option<u64>) -> Result<bool, Problem> {
        let progress = self.progress();
        if let Some(problem) = &progress.problem {
            return refuse(Refusal::NoSession, format!("this update failed: {}", problem.detail));
        }
        let received = progress.received;
        if offset != received {
            let text = format!("{received} bytes have been received, the data starts at {offset}");
            return Err(Problem::new(Kind::Update(Refusal::Offset), text).received(received));
        }
        // Rejected before the body is read; a body without a length is checked by the engine.
        if len.is_some_and(|len| len > self.total - received) {
            let text = format!("the update has {} bytes, more were announced", self.total);
            return refuse(Refusal::Content, text);
        }
        Ok(progress.state == SessionState::Receiving)
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

    /// Verifies the slot and makes it bootable, if the streams are complete.
    fn conclude(&self, work: &mut Option<Work>) -> Result<(), Problem> {
        let Some(Work { disk, engine }) = work else { return self.over() };
        if !engine.is_received() {
            return Ok(());
        }
        self.progress().state = SessionState::Verifying;
        let start = Instant::now();
        let finished = engine.finish(disk);
        self.checked(work, finished.map_err(Problem::from_engine))?;
        // Closes the disk, which remounts /boot read-only.
        *work = None;
        let mut progress = self.progress();
        progress.state = SessionState::Verified;
        progress.last = Instant::now();
        let seconds = start.elapsed().as_secs_f64();
        crate::log::write(format_args!(
            "slot {} holds {}, verified in {seconds:.2} s",
            self.slot, self.version
        ));
        Ok(())
    }

    fn over<T>(&self) -> Result<T, Problem> {
        refuse(Refusal::NoSession, "this update has ended; start it again")
    }

    /// Passes `outcome` on; a failure ends the session.
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
