//! Trials of a slot as a part of the loop: run until a deadline, ended, and explained after the way back.
//!
//! | module | is |
//! |---|---|
//! | `rules` | decisions without side effects: the end of a trial, refusals of requests |
//! | `requests` | confirmation, arming, disarming and rollback, as they are requested |
//! | `boot_state` | the same on the disk |
//! | `boot_files` | changes on `/boot`, which the boot loader's tables have to follow |
//! | `history` | the record of updates on `/data` |

mod boot_files;
mod boot_state;
mod history;
mod requests;
mod rules;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::slot::Slot;
use krazy_boot::disk::trial_note::Stage;
use krazy_boot::update::history::{Attempt, Outcome};

use super::boot::Machine;
use super::effect::{Effect, Effects};
use super::services::Services;
use super::watchdog::WatchdogTimer;
use crate::control::{self, FailedTrial, Fallback};
use crate::linux::crash;
use crate::linux::kernel_clock;
use crate::linux::power::End;
use crate::slots::{Repair, Slots};
use boot_files::BootFilesError;
use boot_state::BootState;
use history::UpdateHistory;
use rules::Verdict;

/// The time that a trial may take until it is confirmed. Within it the required services must have become stable, and the
/// host must have come back to check.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(300);

/// The slots of the machine and the trial that runs.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// The slots, on a machine that has some.
    boot_state: Option<BootState>,
    /// The slot that is armed, as the disk last said.
    armed: Option<Slot>,
    /// The time at which the machine restarts unless this slot is confirmed; `None` if it is not on trial.
    deadline: Option<Duration>,
    /// Set while the confirmation is written: before this time the trial does not end.
    confirming_until: Option<Duration>,
    /// The trial of the other slot that brought the machine back to this one.
    failed: Option<FailedTrial>,
    /// The confirmed slot that did not start, if this one is the fallback from it.
    fallback: Option<Fallback>,
}

/// A change of the boot state, reported when the disk has taken or refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The running slot's confirmation; false if it is not confirmed by it.
    Confirmation(bool),
    /// The slot that is armed now.
    Armed(Option<Slot>),
}

impl Trial {
    /// Finds out whether this boot is a trial, or the way back from one.
    pub(super) fn begin(machine: &Machine, watchdog: &mut WatchdogTimer, effects: &mut Effects) -> Self {
        let mut trial = Trial::default();
        let (Some(slot), Some(disk)) = (machine.slot, &machine.disk) else { return trial };
        match Slots::of(disk, slot) {
            Ok(Some(slots)) => {
                let state = BootState {
                    slots,
                    history: UpdateHistory::on(&machine.data),
                    build_id: machine.manifest.build_id.clone(),
                    is_launched: machine.launched,
                    boot_was_writable: Arc::new(AtomicBool::new(machine.manifest.boot_writable)),
                };
                let limit = machine.trial_limit.unwrap_or(TRIAL_TIMEOUT);
                trial.examine(&state, limit, watchdog, effects);
                trial.armed = state.armed_slot();
                trial.boot_state = Some(state);
            }
            Ok(None) => {}
            Err(why) => effects.degrade(why.to_string()),
        }
        trial
    }

    fn examine(
        &mut self,
        state: &BootState,
        limit: Duration,
        watchdog: &mut WatchdogTimer,
        effects: &mut Effects,
    ) {
        let slots = &state.slots;
        match slots.repair() {
            Ok(Repair::None) => {}
            Ok(Repair::Completed) => {
                effects.log("the boot state that a power cut had left incomplete was repaired");
            }
            Ok(Repair::Replaced(slot)) => effects.degrade(format!(
                "both copies of the boot selector were lost; slot {slot} is confirmed by new ones"
            )),
            Err(why) => effects.degrade(format!("the boot selector cannot be repaired: {why}")),
        }
        let status = match slots.boot_status() {
            Ok(status) => status,
            Err(why) => return effects.degrade(why.to_string()),
        };
        let slot = slots.running;
        match status.slot_state {
            SlotState::Confirmed => settle_pending(state, status.generation, effects),
            SlotState::Armed => {}
            SlotState::OnTrial => {
                self.deadline = Some(limit);
                // Before anything that could hang. If its driver is a module, the watchdog is armed later.
                watchdog.arm(effects);
                slots.record_panics(Stage::Init);
                write_note(slots, Stage::Init, None, effects);
                effects.log(format!(
                    "slot {slot} is on trial: without a confirmation the machine returns to slot {} in {} s",
                    status.confirmed,
                    limit.as_secs()
                ));
            }
            SlotState::Reverted => self.explain_failure(state, status.generation, effects),
            SlotState::Fallback => {
                let reason = slots.fallback_reason(status.generation);
                self.fallback = Some(Fallback { slot: status.confirmed, reason });
                effects.log(self.fallback_problem().unwrap_or_default());
            }
        }
    }

    /// Puts the UEFI loader of the running build on `/boot`, if this slot is the confirmed one.
    pub(super) fn renew_loader(&self, effects: &mut Effects) {
        if let Some(state) = &self.boot_state
            && self.deadline.is_none()
            && self.fallback.is_none()
        {
            state.renew_loader(effects);
        }
    }

    /// The time of the next [`Trial::tick`] that may end the trial.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.max(self.confirming_until.unwrap_or_default()))
    }

    /// Ends an unconfirmed trial when its time is up, or when a required service cannot become stable any more.
    pub(super) fn tick(&self, now: Duration, services: &Services, effects: &mut Effects) {
        if self.confirming_until.is_some_and(|until| now < until) {
            return;
        }
        let Some(verdict) =
            self.deadline.and_then(|deadline| rules::verdict(deadline, now, services.state()))
        else {
            return;
        };
        let reason = match verdict {
            Verdict::TimedOut(reason) => reason,
            // Its logs are in memory, and gone after the restart: the note keeps their last lines.
            Verdict::ServiceFailed(id, why) => match services.last_error_lines(id) {
                Some(lines) => format!("{why}; it wrote last: {lines}"),
                None => why,
            },
        };
        effects.push(Effect::ShutDown(End::Reboot, reason));
    }

    /// Handles the shutdown of the machine for this reason: if this boot is a trial, the trial ends with it.
    pub(super) fn end(&mut self, reason: &str, effects: &mut Effects) {
        if self.deadline.take().is_some() {
            // A panic from here on is not the reason.
            crash::set_recorder(None);
            if let Some(state) = self.boot_state.clone() {
                let reason = reason.to_owned();
                effects.on_disk("writing the trial's note", move |effects| {
                    write_note(&state.slots, Stage::Finished, Some(&reason), effects);
                });
            }
        }
    }

    /// The trial that this boot is, for the boot information.
    pub(super) fn info(&self, now: Duration) -> Option<control::Trial> {
        self.deadline.map(|deadline| control::Trial { deadline: deadline.saturating_sub(now).as_secs() })
    }

    /// The trial that brought the machine back to this slot.
    pub(super) fn failed(&self) -> Option<&FailedTrial> {
        self.failed.as_ref()
    }

    /// The confirmed slot that did not start.
    pub(super) fn fallback(&self) -> Option<&Fallback> {
        self.fallback.as_ref()
    }

    /// The sentence about [`Trial::fallback`] for people.
    pub(super) fn fallback_problem(&self) -> Option<String> {
        let Fallback { slot, reason } = self.fallback.as_ref()?;
        let running = !*slot;
        Some(format!(
            "slot {running} runs as the fallback, because slot {slot}, which is confirmed, did not start: {reason}; \
             help: `cargo krazy push` replaces slot {slot}, `cargo krazy confirm` keeps slot {running}"
        ))
    }

    /// The slot that is armed. `None` too if the selector cannot be read: the next start may do anything.
    pub(super) fn armed_slot(&self) -> Option<Slot> {
        self.armed
    }

    /// Takes a change that the disk has taken.
    pub(super) fn changed(&mut self, change: Change) {
        match change {
            // Only now: if it cannot be written, the trial goes on and ends in time.
            Change::Confirmation(true) => {
                self.deadline = None;
                self.confirming_until = None;
                self.fallback = None;
                crash::set_recorder(None);
            }
            Change::Confirmation(false) => self.confirming_until = None,
            Change::Armed(slot) => self.armed = slot,
        }
    }

    /// Makes the boot loader's tables agree with the files on `/boot`, for the end of the machine.
    pub(super) fn sync_boot_tables(&self, effects: &mut Effects) -> Result<(), BootFilesError> {
        self.boot_state.as_ref().map_or(Ok(()), |state| state.sync_boot_tables(effects))
    }

    /// Reports why the other slot's trial failed, and records it on `/data`.
    fn explain_failure(&mut self, state: &BootState, generation: u32, effects: &mut Effects) {
        let slots = &state.slots;
        let slot = !slots.running;
        let note = slots.note(slot, generation);
        let reason = note.as_ref().map_or_else(|| "it left no reason".to_owned(), |note| note.reason());
        let build_id = note.map(|note| note.build_id).unwrap_or_default();
        effects.log(format!("slot {slot} was tried and not confirmed: {reason}"));
        effects.log(format!("slot {} runs again", slots.running));
        let attempt = attempt(&build_id, slot, generation, Outcome::Failed, Some(reason.clone()));
        self.failed = Some(FailedTrial { slot, build_id, reason });
        // The note and the selector keep the reason until the history does: dropped only after it was recorded.
        if state.history.record(effects, |history| history.conclude(attempt))
            && let Err(why) = slots.disarm()
        {
            effects.degrade(format!("the failed trial stays in the boot selector: {why}"));
        }
    }
}

/// Concludes attempts that are pending although no trial is: power was cut between two writes.
fn settle_pending(state: &BootState, generation: u32, effects: &mut Effects) {
    if state.history.has_pending() {
        // Confirming took the selector's next generation.
        let armed_with = generation.wrapping_sub(1);
        state.history.record(effects, |history| {
            for attempt in history.attempts.iter_mut().filter(|it| it.outcome == Outcome::Pending) {
                let is_running = attempt.build_id == state.build_id && attempt.generation == armed_with;
                attempt.outcome = if is_running { Outcome::Confirmed } else { Outcome::Withdrawn };
            }
        });
    }
}

fn write_note(slots: &Slots, stage: Stage, text: Option<&str>, effects: &mut Effects) {
    if let Err(why) = slots.record_stage(stage, text) {
        effects.degrade(format!("the trial's note cannot be written: {why}"));
    }
}

fn attempt(build_id: &str, slot: Slot, generation: u32, outcome: Outcome, reason: Option<String>) -> Attempt {
    let armed_at = kernel_clock::wall().as_secs();
    Attempt { build_id: build_id.to_owned(), slot, generation, armed_at, outcome, reason }
}

#[cfg(test)]
mod tests;
