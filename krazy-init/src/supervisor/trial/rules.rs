//! Decisions about trials, without side effects.

use std::time::Duration;

use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::history::NOBODY_CONFIRMED;

use super::super::refusal::{refuse_while_ending, refused};
use super::super::state::Supervisor;
use crate::control::{ErrorKind, RequestError};

/// The reason for which an unconfirmed trial has to end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its time is up.
    TimedOut(String),
    /// The required service with this index cannot become stable by waiting; this is why.
    ServiceFailed(usize, String),
}

/// Returns the reason for which a trial with this deadline has to end now, if there is one.
pub(super) fn verdict(deadline: Duration, now: Duration, services: &Supervisor) -> Option<Verdict> {
    // Not later than necessary: the old build serves again minutes before the deadline.
    if now < deadline {
        return services.failed_service().map(|(id, why)| Verdict::ServiceFailed(id, why));
    }
    let blockers = services.blockers(now);
    Some(Verdict::TimedOut(if blockers.is_empty() {
        NOBODY_CONFIRMED.to_owned()
    } else {
        format!("not stable when the trial's time was up: {}", blockers.join(", "))
    }))
}

/// Decides about a confirmation that is requested now, of a slot that is not confirmed yet.
pub(super) fn readiness(now: Duration, services: &Supervisor) -> Result<(), RequestError> {
    refuse_while_ending(services)?;
    if !services.is_stable(now) {
        let text = format!("not confirmed: {}", services.blockers(now).join(", "));
        return Err(refused(ErrorKind::NotStable, text));
    }
    Ok(())
}

/// Decides about a confirmation of the running slot, by its state and the machine's [`readiness`]. Returns false if it is
/// confirmed already.
pub(super) fn may_confirm(
    state: SlotState,
    readiness: Result<(), RequestError>,
) -> Result<bool, RequestError> {
    // The host repeats a confirmation whose answer was lost, so a confirmed slot is no error.
    match state {
        SlotState::Confirmed | SlotState::Armed | SlotState::Reverted => Ok(false),
        SlotState::OnTrial | SlotState::Fallback => readiness.map(|()| true),
    }
}

/// Decides about arming `slot` while `running` runs, by the state of the slots.
pub(super) fn may_arm(state: SlotState, running: Slot, slot: Slot) -> Result<(), RequestError> {
    let refuse = |text: String| Err(refused(ErrorKind::NotNow, text));
    if slot == running {
        return refuse(format!("slot {slot} is the running one"));
    }
    match state {
        // The other slot is the only one known to work: it must stay the way back.
        SlotState::OnTrial => {
            refuse(format!("slot {running} runs on trial; confirm it or roll it back first"))
        }
        SlotState::Fallback => refuse(format!("slot {running} runs as the fallback; confirm it first")),
        SlotState::Confirmed | SlotState::Armed | SlotState::Reverted => Ok(()),
    }
}

/// Decides about disarming while `running` runs. Returns false if nothing is armed.
pub(super) fn may_disarm(state: SlotState, running: Slot) -> Result<bool, RequestError> {
    match state {
        SlotState::Armed => Ok(true),
        SlotState::Confirmed | SlotState::Reverted => Ok(false),
        SlotState::OnTrial | SlotState::Fallback => {
            let text = format!("slot {running} is running already");
            Err(refused(ErrorKind::NotNow, text))
        }
    }
}
