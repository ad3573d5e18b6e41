//! Trials of a slot as a part of the loop: run until a deadline, ended, and explained after the way back.
//!
//! | module | is |
//! |---|---|
//! | `rules` | decisions without side effects: the end of a trial, refusals of requests |
//! | `requests` | confirmation, arming, disarming and rollback |
//! | `boot_files` | changes on `/boot`, which the boot loader's tables have to follow |
//! | `history` | the record of updates on `/data` |

mod boot_files;
mod history;
mod requests;
mod rules;

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
use history::UpdateHistory;
use rules::Verdict;

/// The time that a trial may take until it is confirmed. Within it the required services must have become stable, and the
/// host must have come back to check.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(300);

/// The slots of the machine and the trial that runs.
#[derive(Debug)]
pub(super) struct Trial {
    /// The slots, on a machine that has some.
    slots: Option<Slots>,
    /// The time at which the machine restarts unless this slot is confirmed; `None` if it is not on trial.
    deadline: Option<Duration>,
    /// The trial of the other slot that brought the machine back to this one.
    failed: Option<FailedTrial>,
    /// The confirmed slot that did not start, if this one is the fallback from it.
    fallback: Option<Fallback>,
    history: UpdateHistory,
    /// The build that runs.
    build_id: String,
    /// True if another kernel started this one, and not the firmware.
    is_launched: bool,
    /// Set when `/boot` has been writable since the tables were last compared with it.
    boot_was_writable: bool,
}

impl Trial {
    /// Finds out whether this boot is a trial, or the way back from one.
    pub(super) fn begin(machine: &Machine, watchdog: &mut WatchdogTimer, effects: &mut Effects) -> Self {
        let mut trial = Trial {
            slots: None,
            deadline: None,
            failed: None,
            fallback: None,
            history: UpdateHistory::on(&machine.data),
            build_id: machine.manifest.build_id.clone(),
            is_launched: machine.launched,
            boot_was_writable: machine.manifest.boot_writable,
        };
        let (Some(slot), Some(disk)) = (machine.slot, &machine.disk) else { return trial };
        match Slots::of(disk, slot) {
            Ok(Some(slots)) => {
                trial.slots = Some(slots.clone());
                trial.examine(&slots, machine.trial_limit.unwrap_or(TRIAL_TIMEOUT), watchdog, effects);
            }
            Ok(None) => {}
            Err(why) => effects.degrade(why.to_string()),
        }
        trial
    }

    fn examine(
        &mut self,
        slots: &Slots,
        limit: Duration,
        watchdog: &mut WatchdogTimer,
        effects: &mut Effects,
    ) {
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
            SlotState::Confirmed => self.settle_pending(status.generation, effects),
            SlotState::Armed => {}
            SlotState::OnTrial => {
                self.deadline = Some(limit);
                // Before anything that could hang. If its driver is a module, the watchdog is armed later.
                watchdog.arm(effects);
                slots.record_panics(Stage::Init);
                self.write_note(Stage::Init, None, effects);
                effects.log(format!(
                    "slot {slot} is on trial: without a confirmation the machine returns to slot {} in {} s",
                    status.confirmed,
                    limit.as_secs()
                ));
            }
            SlotState::Reverted => self.explain_failure(slots, status.generation, effects),
            SlotState::Fallback => {
                let reason = slots.fallback_reason(status.generation);
                self.fallback = Some(Fallback { slot: status.confirmed, reason });
                effects.log(self.fallback_problem().unwrap_or_default());
            }
        }
    }

    /// The time of the next [`Trial::tick`] that may end the trial.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Ends an unconfirmed trial when its time is up, or when a required service cannot become stable any more.
    pub(super) fn tick(&self, now: Duration, services: &Services, effects: &mut Effects) {
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
            self.write_note(Stage::Finished, Some(reason), effects);
        }
    }

    fn write_note(&self, stage: Stage, text: Option<&str>, effects: &mut Effects) {
        if let Some(slots) = &self.slots
            && let Err(why) = slots.record_stage(stage, text)
        {
            effects.degrade(format!("the trial's note cannot be written: {why}"));
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
        let slots = self.slots.as_ref()?;
        let is_armed = slots.boot_status().is_ok_and(|status| status.slot_state == SlotState::Armed);
        is_armed.then_some(!slots.running)
    }

    /// Reports why the other slot's trial failed, and records it on `/data`.
    fn explain_failure(&mut self, slots: &Slots, generation: u32, effects: &mut Effects) {
        let slot = !slots.running;
        let note = slots.note(slot, generation);
        let reason = note.as_ref().map_or_else(|| "it left no reason".to_owned(), |note| note.reason());
        let build_id = note.map(|note| note.build_id).unwrap_or_default();
        effects.log(format!("slot {slot} was tried and not confirmed: {reason}"));
        effects.log(format!("slot {} runs again", slots.running));
        let attempt = attempt(&build_id, slot, generation, Outcome::Failed, Some(reason.clone()));
        self.failed = Some(FailedTrial { slot, build_id, reason });
        // The note and the selector keep the reason until the history does: dropped only after it was recorded.
        if self.history.record(effects, |history| history.conclude(attempt))
            && let Err(why) = slots.disarm()
        {
            effects.degrade(format!("the failed trial stays in the boot selector: {why}"));
        }
    }

    /// Concludes attempts that are pending although no trial is: power was cut between two writes.
    fn settle_pending(&mut self, generation: u32, effects: &mut Effects) {
        if self.history.has_pending() {
            // Confirming took the selector's next generation.
            let armed_with = generation.wrapping_sub(1);
            self.history.record(effects, |history| {
                for attempt in history.attempts.iter_mut().filter(|it| it.outcome == Outcome::Pending) {
                    let is_running = attempt.build_id == self.build_id && attempt.generation == armed_with;
                    attempt.outcome = if is_running { Outcome::Confirmed } else { Outcome::Withdrawn };
                }
            });
        }
    }
}

fn attempt(build_id: &str, slot: Slot, generation: u32, outcome: Outcome, reason: Option<String>) -> Attempt {
    let armed_at = kernel_clock::wall().as_secs();
    Attempt { build_id: build_id.to_owned(), slot, generation, armed_at, outcome, reason }
}

#[cfg(test)]
mod tests;
