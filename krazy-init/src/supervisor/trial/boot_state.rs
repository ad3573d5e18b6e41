//! The boot state on the disk, changed by the thread that waits for the disk.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::history::Outcome;

use super::super::effect::{Effect, Effects};
use super::super::refusal::{ambiguous_disk, refused};
use super::history::UpdateHistory;
use super::{attempt, rules};
use crate::control::{ErrorKind, RequestError};
use crate::linux::power::End;
use crate::slots::{SlotError, Slots, TrialKernel};

/// The slots and their record, and what changes of them need to know.
#[derive(Clone, Debug)]
pub(in super::super) struct BootState {
    pub(super) slots: Slots,
    pub(super) history: UpdateHistory,
    /// The build that runs.
    pub(super) build_id: String,
    /// True if another kernel started this one, and not the firmware.
    pub(super) is_launched: bool,
    /// Set when `/boot` has been writable since the tables were last compared with it.
    pub(super) boot_was_writable: Arc<AtomicBool>,
}

impl BootState {
    /// The slot that is armed. `None` too if the selector cannot be read: the next start may do anything.
    pub(super) fn armed_slot(&self) -> Option<Slot> {
        let is_armed = self.slots.boot_status().is_ok_and(|status| status.slot_state == SlotState::Armed);
        is_armed.then_some(!self.slots.running)
    }

    /// Makes the running slot the confirmed one, if the machine is ready. Returns false if it was confirmed already.
    pub(super) fn confirm(
        &self,
        readiness: Result<(), RequestError>,
        effects: &mut Effects,
    ) -> Result<bool, RequestError> {
        let slots = &self.slots;
        let status = slots.boot_status().map_err(refusal)?;
        if !rules::may_confirm(status.slot_state, readiness)? {
            return Ok(false);
        }
        slots.confirm().map_err(refusal)?;
        effects.log(format!("slot {} is confirmed", slots.running));
        match (slots.has_firmware(), self.is_launched) {
            (false, _) => {}
            (true, true) => {
                effects.log("its device tree and the firmware's settings are used from the next start on");
            }
            (true, false) => {
                effects.log("its kernel, device tree and command line are used from the next start on");
            }
        }
        let attempt = attempt(&self.build_id, slots.running, status.generation, Outcome::Confirmed, None);
        self.history.record(effects, |history| history.conclude(attempt));
        self.renew_loader(effects);
        Ok(true)
    }

    /// Makes the other slot boot once, at the next start. `build_id`, if given, must be the build that it holds.
    pub(super) fn arm(
        &self,
        slot: Slot,
        build_id: Option<&str>,
        effects: &mut Effects,
    ) -> Result<(), RequestError> {
        let slots = &self.slots;
        let status = slots.boot_status().map_err(refusal)?;
        rules::may_arm(status.slot_state, slots.running, slot)?;
        // Examined now and not once: a disk may have been plugged in since.
        let twins = slots.disk().twins();
        if !twins.is_empty() {
            return Err(refused(ErrorKind::NotNow, ambiguous_disk(slots.disk(), &twins)));
        }
        // The slot's files must be on the disk before they are examined and the selector names them.
        self.sync_boot()?;
        let manifest = slots.check_inactive().map_err(refusal)?;
        let found = &manifest.build_id;
        if build_id.is_some_and(|expected| expected != found) {
            let text = format!("slot {slot} holds the build {found}");
            return Err(refused(ErrorKind::SlotIncomplete, text));
        }
        if slots.relocate_state(&manifest).map_err(refusal)? {
            effects.log("the boot state has been moved away from the partition table");
        }
        let kernel = slots.trial_kernel().map_err(refusal)?;
        let generation = slots.arm(found, kernel).map_err(refusal)?;
        let with = match kernel {
            TrialKernel::Own => "",
            TrialKernel::Running => ", with the running kernel",
        };
        effects.log(format!("slot {slot} is armed: the next start tries it{with}"));
        // Last: an attempt in the history without a trial would be reported as one that was withdrawn.
        let attempt = attempt(found, slot, generation, Outcome::Pending, None);
        self.history.record(effects, |history| history.begin(attempt));
        Ok(())
    }

    /// Forgets a trial that was armed and has not run.
    pub(super) fn disarm(&self, effects: &mut Effects) -> Result<(), RequestError> {
        let slots = &self.slots;
        let status = slots.boot_status().map_err(refusal)?;
        if !rules::may_disarm(status.slot_state, slots.running)? {
            return Ok(());
        }
        slots.disarm().map_err(refusal)?;
        let slot = !slots.running;
        effects.log(format!("slot {slot} is no longer armed"));
        let build_id = slots.note(slot, status.generation).map(|note| note.build_id).unwrap_or_default();
        let attempt = attempt(&build_id, slot, status.generation, Outcome::Withdrawn, None);
        self.history.record(effects, |history| history.conclude(attempt));
        Ok(())
    }

    /// On trial: restarts the machine into the confirmed slot. Otherwise: arms the other slot.
    pub(super) fn roll_back(&self, effects: &mut Effects) -> Result<(), RequestError> {
        if self.slots.boot_status().map_err(refusal)?.slot_state == SlotState::OnTrial {
            let reason = "a rollback to the confirmed slot was requested".to_owned();
            effects.push(Effect::ShutDown(End::Reboot, reason));
            return Ok(());
        }
        self.arm(!self.slots.running, None, effects)
    }
}

fn refusal(why: SlotError) -> RequestError {
    let kind = match why {
        SlotError::Incomplete(..) => ErrorKind::SlotIncomplete,
        _ => ErrorKind::Failed,
    };
    refused(kind, why.to_string())
}
