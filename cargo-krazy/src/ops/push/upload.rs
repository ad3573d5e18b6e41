//! The upload of a bundle to the inactive slot.
//!
//! The device keeps its offset when the connection breaks. The upload asks for that offset and resumes there, after a
//! back-off, as long as bytes arrive now and then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use krazy_boot::api::Endpoint;
use krazy_boot::api::problem::{ProblemDetails, ProblemKind};
use krazy_boot::api::update::{
    BeginQuery, DataQuery, Session, SessionProblem, SessionState, StatusQuery, UpdateStatus,
};
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::refusal::Refusal;
use reqwest::Method;

use crate::bundle::Bundle;
use crate::bundle::transfer::Transfer;
use crate::device::client::StallTimeouts;
use crate::device::upload::{body, skip};
use crate::device::{Client, DeviceError};
use crate::failure::Result;
use crate::interrupt;
use crate::ops::refusal::RefusedUpdate;
use crate::shell::Shell;

/// Attempts in a row without a single new byte after which an upload fails.
const MAX_FRUITLESS_ATTEMPTS: u32 = 8;

/// The timeout of an upload without progress. After the last byte the device reads back what it wrote, which takes longer.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The timeout of a device that reads everything back.
const READ_BACK_TIMEOUT: Duration = Duration::from_secs(600);

/// A finished upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Bytes sent; those sent twice are counted once.
    pub(super) bytes: Bytes,
    /// Bytes that the device copied from the build it runs.
    pub(super) copied: Bytes,
    /// Number of broken connections.
    pub(super) breaks: u32,
    /// Time from the first byte to the last.
    pub(super) time: Duration,
}

/// For people: bytes, time, rate, and the bytes that the device had already.
impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sent { bytes, copied, breaks, time } = self;
        let seconds = time.as_secs_f64();
        write!(f, "sent {bytes} in {seconds:.1} s")?;
        let rate = bytes.0 as f64 / seconds.max(0.001) / f64::from(1 << 20);
        // The few bytes of a small difference take less time than the connection, so their rate says nothing.
        if rate >= 0.1 {
            write!(f, " ({rate:.1} MiB/s)")?;
        }
        if copied.0 > 0 {
            write!(f, ", it had {copied}")?;
        }
        match breaks {
            0 => Ok(()),
            1 => write!(f, ", across a broken connection"),
            breaks => write!(f, ", across {breaks} broken connections"),
        }
    }
}

/// Sends `transfer` with the first of `heads` that the device accepts; they differ in their signature. When this returns,
/// the slot is complete and verified, and nothing boots it yet.
pub(super) fn upload(
    client: &Client,
    bundle: &Bundle,
    heads: &[Vec<u8>],
    transfer: &Transfer,
    force: bool,
    shell: Shell,
    bars: &MultiProgress,
) -> Result<Sent> {
    let begin = Instant::now();
    let total = transfer.total();
    let mut session = match resumable(client, bundle, total).map_err(RefusedUpdate)? {
        Some(session) => session,
        None => open(client, heads, force).map_err(RefusedUpdate)?,
    };
    let bar = bars.add(shell.bytes_bar("Pushing", total.0));
    bar.set_message(client.device().to_owned());
    let (mut breaks, mut fruitless) = (0, 0);
    let mut restarted = false;
    while session.state == SessionState::Receiving {
        interrupt::check()?;
        let before = session.received;
        bar.set_position(before.0);
        let error = match send(client, &session, transfer, &bar) {
            Ok(answer) => {
                session = answer;
                continue;
            }
            Err(error) if error.is_transient() => error,
            // The device tells its offset when it is asked.
            Err(error) if error.refusal() == Some(Refusal::Offset) => error,
            Err(error) => return Err(RefusedUpdate(error).into()),
        };
        breaks += 1;
        session = match reconnect(client, &session, &error) {
            // The device, or the program that receives, has restarted and forgotten what came before.
            Err(lost) if !restarted && lost.refusal() == Some(Refusal::NoSession) => {
                restarted = true;
                shell.verbose("Restarting", format!("the upload to `{}`: {lost}", client.device()));
                open(client, heads, force)
            }
            found => found,
        }
        .map_err(RefusedUpdate)?;
        fruitless = if session.received > before { 0 } else { fruitless + 1 };
        if fruitless == MAX_FRUITLESS_ATTEMPTS {
            return Err(error.into());
        }
        shell.verbose("Resuming", format!("`{}` after {}: {error}", client.device(), session.received));
    }
    bar.set_position(total.0);
    verified(client, session).map_err(RefusedUpdate)?;
    bar.finish_and_clear();
    let bytes = Bytes(heads.first().map_or(0, Vec::len) as u64 + total.0);
    Ok(Sent { bytes, copied: transfer.copied, breaks, time: begin.elapsed() })
}

/// Ends the session of a slot that is filled for later, so that it does not block another update. The slot stays
/// complete.
pub(super) fn leave(client: &Client) -> Result<()> {
    Ok(client.call(&Endpoint::CancelUpdate)?)
}

/// The session of an earlier push of the same bytes that was interrupted.
fn resumable(client: &Client, bundle: &Bundle, total: Bytes) -> Result<Option<Session>, DeviceError> {
    let status: UpdateStatus = client.get(&Endpoint::UpdateStatus { query: StatusQuery::default() })?;
    let same = |session: &Session| {
        session.state == SessionState::Receiving
            && session.build_id == bundle.manifest.build_id
            && session.total == total
            // Another push may be sending right now.
            && session.idle >= STALL_TIMEOUT.as_secs() / 12
    };
    Ok(status.session.filter(same))
}

/// Begins the update, with the first signature that the device accepts.
fn open(client: &Client, heads: &[Vec<u8>], force: bool) -> Result<Session, DeviceError> {
    let endpoint = Endpoint::BeginUpdate { query: BeginQuery { force, replace: force } };
    let begin = |head: &Vec<u8>| {
        let len = head.len() as u64;
        let bytes = client.send(Method::POST, &endpoint, head.clone().into(), len, STALL_TIMEOUT, || 0)?;
        session(client, &bytes)
    };
    let (last, others) = heads.split_last().ok_or_else(|| client.foreign("no signature".to_owned()))?;
    for head in others {
        match begin(head) {
            Err(error) if error.refusal() == Some(Refusal::Signature) => {}
            begun => return begun,
        }
    }
    begin(last)
}

fn send(
    client: &Client,
    session_now: &Session,
    transfer: &Transfer,
    bar: &indicatif::ProgressBar,
) -> Result<Session, DeviceError> {
    let offset = session_now.received.0;
    let rest = skip(&transfer.streams, offset);
    let len = rest.iter().map(|piece| piece.len).sum();
    let moved = Arc::new(AtomicU64::new(0));
    let body = body(rest, Arc::clone(&moved));
    let position = || {
        let moved = moved.load(Ordering::Relaxed);
        bar.set_position(offset + moved);
        moved
    };
    let endpoint = Endpoint::SendUpdate { id: session_now.id.clone(), query: DataQuery { offset } };
    // The last reply comes when everything has been read back.
    let timeouts = StallTimeouts { sending: STALL_TIMEOUT, reply: READ_BACK_TIMEOUT };
    let bytes = client.send(Method::PATCH, &endpoint, body, len, timeouts, position)?;
    session(client, &bytes)
}

fn session(client: &Client, bytes: &[u8]) -> Result<Session, DeviceError> {
    client.parse("the session of the update", bytes)
}

/// Returns the session with the device's offset after the connection broke. Waits for the device to be reachable, up to [`READ_BACK_TIMEOUT`].
fn reconnect(client: &Client, session: &Session, broken: &DeviceError) -> Result<Session, DeviceError> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(500);
    loop {
        interrupt::check()?;
        thread::sleep(pause);
        match client.get::<UpdateStatus>(&Endpoint::UpdateStatus { query: StatusQuery::default() }) {
            Ok(UpdateStatus { session: Some(found), .. }) if found.id == session.id => return Ok(found),
            Ok(_) => {
                let kind = ProblemKind::Update(Refusal::NoSession);
                let detail = format!("the update ended meanwhile ({broken})");
                return Err(client.refused(ProblemDetails::new(kind, detail)));
            }
            Err(error) if error.is_transient() && begin.elapsed() < READ_BACK_TIMEOUT => {}
            Err(error) => return Err(error),
        }
        pause = (pause * 2).min(Duration::from_secs(8));
    }
}

/// Waits until the device has read everything back.
fn verified(client: &Client, mut session: Session) -> Result<(), DeviceError> {
    let begin = Instant::now();
    while session.state == SessionState::Verifying && begin.elapsed() < READ_BACK_TIMEOUT {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(500));
        let broken = client.foreign("it takes too long to read back what it wrote".to_owned());
        session = reconnect(client, &session, &broken)?;
    }
    match (session.state, session.problem) {
        (SessionState::Verified | SessionState::Armed, _) => Ok(()),
        // The reply with the problem was lost with its connection.
        (_, Some(problem)) => {
            let title = problem.kind().map_or("", ProblemKind::title).to_owned();
            let SessionProblem { kind, detail } = problem;
            Err(client.refused(ProblemDetails { kind, title, status: 422, detail, received: None }))
        }
        (state, None) => Err(client.foreign(format!("the update is {state:?} instead of verified"))),
    }
}

#[cfg(test)]
mod tests;
