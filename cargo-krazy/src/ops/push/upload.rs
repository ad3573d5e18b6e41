//! A bundle into the slot that does not run.
//!
//! The device writes what it receives and keeps its place when the connection breaks. So this asks where that is and
//! goes on from there, with pauses that grow, as long as something gets through now and then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use krazy_boot::api::problem::{ProblemDetails, ProblemKind};
use krazy_boot::api::update::{Session, SessionProblem, SessionState, UpdateStatus};
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::refusal::Refusal;
use reqwest::Method;

use crate::bundle::Bundle;
use crate::bundle::transfer::Shipment;
use crate::device::client::Patience;
use crate::device::status::API;
use crate::device::upload::{body, skip};
use crate::device::{Client, DeviceError};
use crate::failure::{Exit, Failure};
use crate::interrupt;
use crate::shell::Shell;

/// Attempts in a row that may fail without a single new byte.
const FRUITLESS_ATTEMPTS: u32 = 8;

/// How long an upload may stand still until all is sent; then the device reads back what it wrote.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the device may take to read everything back.
const READ_BACK: Duration = Duration::from_secs(600);

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes over the line, those sent twice counted once.
    pub bytes: Bytes,
    /// Bytes the device had already.
    pub copied: Bytes,
    /// How often the connection broke.
    pub breaks: u32,
    /// From the first byte to the last.
    pub time: Duration,
}

/// For people: how much, how fast, and what need not be sent.
impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sent { bytes, copied, breaks, time } = self;
        let seconds = time.as_secs_f64();
        let rate = bytes.0 as f64 / seconds.max(0.001) / f64::from(1 << 20);
        write!(f, "sent {bytes} in {seconds:.1} s ({rate:.1} MiB/s)")?;
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

/// Sends `shipment`; when this returns, the slot is complete and verified, and nothing boots it yet.
pub fn upload(
    client: &Client,
    bundle: &Bundle,
    shipment: &Shipment,
    force: bool,
    shell: Shell,
    bars: &MultiProgress,
) -> Result<Sent, Failure> {
    let begin = Instant::now();
    let refused = |error: DeviceError| explain(error, client.device());
    let total = shipment.total();
    let mut session = match resumable(client, bundle, total).map_err(refused)? {
        Some(session) => session,
        None => open(client, shipment, force).map_err(refused)?,
    };
    let bar = bars.add(shell.bytes_bar("Pushing", total.0));
    bar.set_message(client.device().to_owned());
    let (mut breaks, mut fruitless) = (0, 0);
    let mut begun_anew = false;
    while session.state == SessionState::Receiving {
        interrupt::check()?;
        let before = session.received;
        bar.set_position(before.0);
        let error = match send(client, &session, shipment, &bar) {
            Ok(answer) => {
                session = answer;
                continue;
            }
            Err(error) if error.is_transient() => error,
            // The device knows best where it is.
            Err(error) if error.refusal() == Some(Refusal::Offset) => error,
            Err(error) => return Err(refused(error)),
        };
        breaks += 1;
        session = match reconnect(client, &session, &error) {
            // The device, or the program that receives, has restarted and forgotten what came before.
            Err(lost) if !begun_anew && lost.refusal() == Some(Refusal::NoSession) => {
                begun_anew = true;
                shell.verbose("Restarting", format!("the upload to `{}`: {lost}", client.device()));
                open(client, shipment, force)
            }
            found => found,
        }
        .map_err(refused)?;
        fruitless = if session.received > before { 0 } else { fruitless + 1 };
        if fruitless == FRUITLESS_ATTEMPTS {
            return Err(error.into_failure());
        }
        shell.verbose("Resuming", format!("`{}` after {}: {error}", client.device(), session.received));
    }
    bar.set_position(total.0);
    verified(client, session).map_err(refused)?;
    bar.finish_and_clear();
    Ok(Sent { bytes: shipment.bytes(), copied: shipment.copied, breaks, time: begin.elapsed() })
}

/// Ends the session of a slot that is filled for later, so that it keeps no other update away. The slot stays complete.
pub fn leave(client: &Client) -> Result<(), Failure> {
    client.order(Method::DELETE, &format!("{API}/update"), None).map_err(DeviceError::into_failure)
}

/// The session of an earlier push of the same bytes that was interrupted.
fn resumable(client: &Client, bundle: &Bundle, total: Bytes) -> Result<Option<Session>, DeviceError> {
    let status: UpdateStatus = client.get(&format!("{API}/update"))?;
    let same = |session: &Session| {
        session.state == SessionState::Receiving
            && session.build_id == bundle.manifest.build_id
            && session.total == total
            // Someone may be sending right now.
            && session.idle >= PATIENCE.as_secs() / 12
    };
    Ok(status.session.filter(same))
}

fn open(client: &Client, shipment: &Shipment, force: bool) -> Result<Session, DeviceError> {
    let query = if force { "?force=true&replace=true" } else { "" };
    let (head, len) = (shipment.head.clone(), shipment.head.len() as u64);
    let path = format!("{API}/update{query}");
    let bytes = client.send(Method::POST, &path, head.into(), len, PATIENCE, || 0)?;
    session(client, &bytes)
}

fn send(
    client: &Client,
    session_now: &Session,
    shipment: &Shipment,
    bar: &indicatif::ProgressBar,
) -> Result<Session, DeviceError> {
    let offset = session_now.received.0;
    let rest = skip(&shipment.streams, offset);
    let len = rest.iter().map(|piece| piece.len).sum();
    let moved = Arc::new(AtomicU64::new(0));
    let body = body(rest, Arc::clone(&moved));
    let position = || {
        let moved = moved.load(Ordering::Relaxed);
        bar.set_position(offset + moved);
        moved
    };
    let path = format!("{API}/update/{}?offset={offset}", session_now.id);
    // The last answer comes when everything has been read back.
    let patience = Patience { sending: PATIENCE, answer: READ_BACK };
    let bytes = client.send(Method::PATCH, &path, body, len, patience, position)?;
    session(client, &bytes)
}

fn session(client: &Client, bytes: &[u8]) -> Result<Session, DeviceError> {
    serde_json::from_slice(bytes).map_err(|error| client.foreign(format!("{API}/update: {error}")))
}

/// Where the device is after the connection broke. Waits for it to be reachable, up to [`READ_BACK`].
fn reconnect(client: &Client, session: &Session, broken: &DeviceError) -> Result<Session, DeviceError> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(500);
    loop {
        interrupt::check()?;
        thread::sleep(pause);
        match client.get::<UpdateStatus>(&format!("{API}/update")) {
            Ok(UpdateStatus { session: Some(found), .. }) if found.id == session.id => return Ok(found),
            Ok(_) => {
                let kind = ProblemKind::Update(Refusal::NoSession);
                let detail = format!("the update ended meanwhile ({broken})");
                return Err(client.refused(ProblemDetails::new(kind, detail)));
            }
            Err(error) if error.is_transient() && begin.elapsed() < READ_BACK => {}
            Err(error) => return Err(error),
        }
        pause = (pause * 2).min(Duration::from_secs(8));
    }
}

/// Waits until the device has read everything back.
fn verified(client: &Client, mut session: Session) -> Result<(), DeviceError> {
    let begin = Instant::now();
    while session.state == SessionState::Verifying && begin.elapsed() < READ_BACK {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(500));
        let broken = client.foreign("it takes too long to read back what it wrote".to_owned());
        session = reconnect(client, &session, &broken)?;
    }
    match (session.state, session.problem) {
        (SessionState::Verified | SessionState::Armed, _) => Ok(()),
        // The answer that told it was lost with its connection.
        (_, Some(problem)) => {
            let title = problem.kind().map_or("", ProblemKind::title).to_owned();
            let SessionProblem { kind, detail } = problem;
            Err(client.refused(ProblemDetails { kind, title, status: 422, detail, received: None }))
        }
        (state, None) => Err(client.foreign(format!("the update is {state:?} instead of verified"))),
    }
}

/// The failure with the next step for what only an update can be refused for.
pub fn explain(error: DeviceError, device: &str) -> Failure {
    let Some(refusal) = error.refusal() else { return error.into_failure() };
    let failure = Failure::new(Exit::Device, error.to_string());
    let help = match refusal {
        Refusal::Signature => {
            "the bundle was changed on its way, or the device trusts another key: make the bundle again, on the \
             machine that made the device's image or with a copy of the appliance's folder from that machine's state \
             directory"
        }
        Refusal::Board => "give `--target` the device's board; `cargo krazy status` tells it",
        Refusal::Appliance | Refusal::RejectedBefore => {
            "`--force` pushes it all the same; `cargo krazy status` tells what happened before"
        }
        Refusal::Protocol => "the device is too old for this program: push with an older cargo-krazy first",
        Refusal::TooLarge => "install less; the device's partitions cannot grow over the network",
        Refusal::BelowFloor => "push a newer version, or lower the floor: `cargo krazy floor set`",
        Refusal::SessionActive | Refusal::Armed => "wait until that is over, or end it with `--force`",
        Refusal::Unconfirmed => {
            return failure.help(format!(
                "`cargo krazy confirm {device}` keeps what it runs, `cargo krazy rollback {device}` goes back"
            ));
        }
        Refusal::NoSession | Refusal::Content | Refusal::Base | Refusal::Offset => {
            "nothing was armed, and the device runs what it ran; push again"
        }
        Refusal::ReadBack => "its disk or memory card fails: replace it; the device runs what it ran",
        Refusal::SlotIncomplete => "push an update into that slot first",
        Refusal::Bundle => "make the bundle again",
        Refusal::Unchanged | Refusal::NoSlots | Refusal::NotVerified => return failure,
    };
    failure.help(help)
}

#[cfg(test)]
mod tests;
