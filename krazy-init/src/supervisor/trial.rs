//! Trials of a slot: armed here, run here until a deadline, ended here, and explained here after the way back.

use std::fs::File;
use std::time::Duration;

use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::slot::Slot;
use krazy_boot::disk::trial_note::Stage;
use krazy_boot::update::history::{Attempt, Outcome};

use super::attempts;
use super::requests::error;
use super::runtime::Runtime;
use super::unit::Unit;
use crate::control::{ErrorKind, FailedTrial, Reply, RequestError, Trial};
use crate::linux::power::End;
use crate::linux::{boot_mount, crash, kernel_clock};
use crate::slots::{SlotError, Slots, TrialKernel};

/// How long a trial may take until someone confirms it. Within it the required services must have become stable
/// and the host must have come back to look.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// What is known about the slots and the trial that runs.
#[derive(Clone, Debug, Default)]
pub struct TrialState {
    /// The slots, on a machine that has some.
    pub slots: Option<Slots>,
    /// When the machine restarts unless this slot is confirmed.
    pub deadline: Option<Duration>,
    /// The trial that brought the machine back to this slot.
    pub failed: Option<FailedTrial>,
    /// Whether `/boot` has been writable since the tables were last compared with it.
    pub boot_was_writable: bool,
}

impl Runtime {
    /// Finds out whether this boot is a trial, or the way back from one.
    pub(super) fn begin_trial(&mut self) {
        self.trial.boot_was_writable = self.machine.manifest.boot_writable;
        let (Some(slot), Some(disk)) = (self.machine.slot, self.machine.disk.clone()) else { return };
        let slots = match Slots::of(&disk, slot) {
            Ok(Some(slots)) => slots,
            Ok(None) => return,
            Err(why) => return self.degrade(why.to_string()),
        };
        self.trial.slots = Some(slots.clone());
        match slots.repair() {
            Ok(false) => {}
            Ok(true) => self.console.say("what a power cut had left half done about the slots was completed"),
            Err(why) => self.degrade(format!("the boot selector cannot be repaired: {why}")),
        }
        let status = match slots.boot_status() {
            Ok(status) => status,
            Err(why) => return self.degrade(why.to_string()),
        };
        match status.slot_state {
            SlotState::Confirmed => self.settle_attempt(status.generation),
            SlotState::Armed => {}
            SlotState::OnTrial => {
                let limit = self.machine.trial_limit.unwrap_or(DEADLINE);
                self.trial.deadline = Some(limit);
                // Before anything else can hang; a driver that is a module comes later.
                self.arm_watchdog();
                slots.tell_panics(Stage::Init);
                self.tell_trial(Stage::Init, None);
                self.console.say(&format!(
                    "slot {slot} is on trial: without a confirmation the machine returns to slot {} in {} s",
                    status.confirmed,
                    limit.as_secs()
                ));
            }
            SlotState::Reverted => self.explain(&slots, status.generation),
            SlotState::Unexpected => {
                self.degrade(format!(
                    "slot {slot} runs although the boot selector names {}",
                    status.confirmed
                ));
            }
        }
    }

    /// Ends an unconfirmed trial when its time is up, or when a required service will not come up any more.
    pub(super) fn check_trial(&mut self, now: Duration) {
        let Some(deadline) = self.trial.deadline else { return };
        let why = if now >= deadline {
            match self.supervisor.obstacles(now) {
                obstacles if obstacles.is_empty() => "nobody confirmed the trial in time".to_owned(),
                obstacles => format!("not stable when the trial's time was up: {}", obstacles.join(", ")),
            }
        } else {
            match self.supervisor.hopeless() {
                // Its logs are in memory, and gone after the restart.
                Some((id, why)) => match self.units.get(id).and_then(Unit::last_words) {
                    Some(words) => format!("{why}; it wrote last: {words}"),
                    None => why,
                },
                None => return,
            }
        };
        self.shut_down(End::Reboot, &why);
    }

    /// The machine is about to end: if this boot is a trial, that is its end.
    pub(super) fn end_trial(&mut self, why: &str) {
        if self.trial.deadline.take().is_some() {
            // What happens from here on does not change why it ended.
            crash::keep_words(None);
            self.tell_trial(Stage::Ended, Some(why));
        }
    }

    fn tell_trial(&mut self, stage: Stage, text: Option<&str>) {
        if let Some(slots) = &self.trial.slots
            && let Err(why) = slots.tell(stage, text)
        {
            self.degrade(format!("the trial's note cannot be written: {why}"));
        }
    }

    pub(super) fn trial_info(&self, now: Duration) -> Option<Trial> {
        self.trial.deadline.map(|deadline| Trial { deadline: deadline.saturating_sub(now).as_secs() })
    }

    /// The slot that is armed. A selector that cannot be read arms none that anybody could rely on.
    pub(super) fn armed_slot(&self) -> Option<Slot> {
        let slots = self.trial.slots.as_ref()?;
        let armed = slots.boot_status().is_ok_and(|status| status.slot_state == SlotState::Armed);
        armed.then_some(!slots.running)
    }

    /// Says why the other slot's trial failed, and keeps it on `/data`.
    fn explain(&mut self, slots: &Slots, generation: u32) {
        let slot = !slots.running;
        let note = slots.note(slot, generation);
        let reason = note.as_ref().map_or_else(|| "it left no word".to_owned(), |note| note.reason());
        let build_id = note.map(|note| note.build_id).unwrap_or_default();
        self.console.say(&format!("slot {slot} was tried and not confirmed: {reason}"));
        self.console.say(&format!("slot {} runs again", slots.running));
        let attempt = self.attempt(&build_id, slot, generation, Outcome::Failed, Some(reason.clone()));
        self.trial.failed = Some(FailedTrial { slot, build_id, reason });
        // Until it is kept, the note and the selector keep it.
        if self.keep(|history| history.conclude(attempt))
            && let Err(why) = slots.disarm()
        {
            self.degrade(format!("the failed trial stays in the boot selector: {why}"));
        }
    }

    /// An attempt that is pending although no trial is: power was cut between two writes.
    fn settle_attempt(&mut self, generation: u32) {
        let running = (self.machine.manifest.build_id.clone(), generation.wrapping_sub(1));
        if attempts::has_pending(&self.machine.data) {
            self.keep(|history| {
                for attempt in history.attempts.iter_mut().filter(|it| it.outcome == Outcome::Pending) {
                    let is_running =
                        (attempt.build_id.as_str(), attempt.generation) == (running.0.as_str(), running.1);
                    attempt.outcome = if is_running { Outcome::Confirmed } else { Outcome::Withdrawn };
                }
            });
        }
    }

    fn attempt(
        &self,
        build_id: &str,
        slot: Slot,
        generation: u32,
        outcome: Outcome,
        reason: Option<String>,
    ) -> Attempt {
        let armed_at = kernel_clock::wall().as_secs();
        Attempt { build_id: build_id.to_owned(), slot, generation, armed_at, outcome, reason }
    }

    /// Changes the history on `/data`; says so if it cannot, and whether it could.
    fn keep(&mut self, change: impl FnOnce(&mut krazy_boot::update::history::History)) -> bool {
        match attempts::change(&self.machine.data, change) {
            Ok(()) => true,
            Err(why) => {
                self.degrade(format!("the history of updates is not kept: {why}"));
                false
            }
        }
    }

    /// Makes the running slot the confirmed one. A slot that is confirmed already stays so.
    pub(super) fn confirm(&mut self, now: Duration) -> Result<Reply, RequestError> {
        let slots = self.slots()?;
        let status = slots.boot_status().map_err(failed)?;
        match status.slot_state {
            SlotState::Confirmed | SlotState::Armed | SlotState::Reverted => return Ok(Reply::Done),
            SlotState::OnTrial | SlotState::Unexpected => {}
        }
        self.not_ending()?;
        if !self.supervisor.is_stable(now) {
            let message = format!("not confirmed: {}", self.supervisor.obstacles(now).join(", "));
            return Err(error(ErrorKind::NotStable, message));
        }
        slots.confirm().map_err(failed)?;
        self.trial.deadline = None;
        crash::keep_words(None);
        self.console.say(&format!("slot {} is confirmed", slots.running));
        match (slots.has_firmware(), self.machine.launched) {
            (false, _) => {}
            (true, true) => {
                self.console
                    .say("its device tree and the firmware's settings are used from the next start on");
            }
            (true, false) => {
                self.console.say("its kernel, device tree and command line are used from the next start on");
            }
        }
        let build_id = self.machine.manifest.build_id.clone();
        let attempt = self.attempt(&build_id, slots.running, status.generation, Outcome::Confirmed, None);
        self.keep(|history| history.conclude(attempt));
        Ok(Reply::Done)
    }

    /// The other slot boots once, at the next start. `build_id`, if given, must be what it holds.
    pub(super) fn arm(&mut self, slot: Slot, build_id: Option<&str>) -> Result<Reply, RequestError> {
        self.not_ending()?;
        let slots = self.slots()?;
        let not_now = |message: String| Err(error(ErrorKind::NotNow, message));
        if slot == slots.running {
            return not_now(format!("slot {slot} is the one that runs"));
        }
        match slots.boot_status().map_err(failed)?.slot_state {
            SlotState::OnTrial => {
                return not_now(format!("slot {} runs on trial; confirm it or roll it back first", !slot));
            }
            SlotState::Unexpected => {
                return not_now(format!("slot {} runs unconfirmed; confirm it first", !slot));
            }
            SlotState::Confirmed | SlotState::Armed | SlotState::Reverted => {}
        }
        self.sync_boot().map_err(|why| error(ErrorKind::Failed, why))?;
        let found = slots.examine_other().map_err(failed)?.build_id;
        if build_id.is_some_and(|wanted| wanted != found) {
            let message = format!("slot {slot} holds the build {found}");
            return Err(error(ErrorKind::SlotIncomplete, message));
        }
        let kernel = slots.trial_kernel().map_err(failed)?;
        let generation = slots.arm(&found, kernel).map_err(failed)?;
        let with = match kernel {
            TrialKernel::Own => "",
            TrialKernel::Running => ", with the kernel that runs",
        };
        self.console.say(&format!("slot {slot} is armed: the next start tries it{with}"));
        let attempt = self.attempt(&found, slot, generation, Outcome::Pending, None);
        self.keep(|history| history.begin(attempt));
        Ok(Reply::Done)
    }

    /// Forgets a trial that was armed and has not run.
    pub(super) fn disarm(&mut self) -> Result<Reply, RequestError> {
        self.not_ending()?;
        let slots = self.slots()?;
        let status = slots.boot_status().map_err(failed)?;
        match status.slot_state {
            SlotState::Armed => {}
            SlotState::Confirmed | SlotState::Reverted => return Ok(Reply::Done),
            SlotState::OnTrial | SlotState::Unexpected => {
                let message = format!("slot {} runs already", slots.running);
                return Err(error(ErrorKind::NotNow, message));
            }
        }
        slots.disarm().map_err(failed)?;
        let slot = !slots.running;
        self.console.say(&format!("slot {slot} is not armed any more"));
        let build_id = slots.note(slot, status.generation).map(|note| note.build_id).unwrap_or_default();
        let attempt = self.attempt(&build_id, slot, status.generation, Outcome::Withdrawn, None);
        self.keep(|history| history.conclude(attempt));
        Ok(Reply::Done)
    }

    /// On trial: back to the confirmed slot now. Else: the other slot is armed.
    pub(super) fn roll_back(&mut self) -> Result<Reply, RequestError> {
        let slots = self.slots()?;
        if slots.boot_status().map_err(failed)?.slot_state == SlotState::OnTrial {
            self.not_ending()?;
            self.shut_down(End::Reboot, "someone asked to go back to the confirmed slot");
            return Ok(Reply::Done);
        }
        self.arm(!slots.running, None)
    }

    fn slots(&self) -> Result<Slots, RequestError> {
        let none = || error(ErrorKind::Failed, "this machine has no slots".to_owned());
        self.trial.slots.clone().ok_or_else(none)
    }

    /// Makes the boot loader's tables of the running slot agree with its files on `/boot`, if those may have been
    /// changed.
    pub(super) fn sync_boot_tables(&mut self) -> Result<(), String> {
        let Some(slots) = self.trial.slots.clone().filter(|_| self.trial.boot_was_writable) else {
            return Ok(());
        };
        self.sync_boot()?;
        let writes = slots.table_changes(slots.running).map_err(|why| why.to_string())?;
        if !writes.is_empty() {
            slots.write_tables(&writes).map_err(|why| why.to_string())?;
            self.console
                .say(&format!("the boot loader's tables follow what was changed on {}", boot_mount::BOOT));
        }
        self.trial.boot_was_writable = false;
        Ok(())
    }

    /// Brings what was written on `/boot` to the disk.
    fn sync_boot(&self) -> Result<(), String> {
        let context = |error: std::io::Error| format!("{}: {error}", boot_mount::BOOT);
        let folder = File::open(boot_mount::BOOT).map_err(context)?;
        rustix::fs::syncfs(&folder).map_err(|error| context(error.into()))
    }
}

fn failed(why: SlotError) -> RequestError {
    let kind = match why {
        SlotError::Incomplete(..) => ErrorKind::SlotIncomplete,
        SlotError::Io(..) | SlotError::Damaged(_) => ErrorKind::Failed,
    };
    error(kind, why.to_string())
}
