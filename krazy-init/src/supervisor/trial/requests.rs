//! Confirmation, arming, disarming and rollback, as clients of the control socket request them.

use std::time::Duration;

use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::history::Outcome;

use super::super::effect::{Effect, Effects};
use super::super::refusal::{ambiguous_disk, refuse_while_ending, refused};
use super::super::state::Supervisor;
use super::{Trial, attempt, rules};
use crate::control::{ErrorKind, Reply, RequestError};
use crate::linux::crash;
use crate::linux::power::End;
use crate::slots::{SlotError, Slots, TrialKernel};

impl Trial {
    /// Makes the running slot the confirmed one. A slot that is confirmed already stays so.
    pub(in super::super) fn confirm(
        &mut self,
        now: Duration,
        services: &Supervisor,
        effects: &mut Effects,
    ) -> Result<Reply, RequestError> {
        let slots = self.slots()?.clone();
        let status = slots.boot_status().map_err(refusal)?;
        if !rules::may_confirm(status.slot_state, now, services)? {
            return Ok(Reply::Done);
        }
        // First the selector, then the deadline: if it cannot be written, the trial goes on and ends in time.
        slots.confirm().map_err(refusal)?;
        self.deadline = None;
        self.fallback = None;
        crash::set_recorder(None);
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
        Ok(Reply::Done)
    }

    /// Makes the other slot boot once, at the next start. `build_id`, if given, must be the build that it holds.
    pub(in super::super) fn arm(
        &self,
        slot: Slot,
        build_id: Option<&str>,
        services: &Supervisor,
        effects: &mut Effects,
    ) -> Result<Reply, RequestError> {
        refuse_while_ending(services)?;
        let slots = self.slots()?;
        let status = slots.boot_status().map_err(refusal)?;
        rules::may_arm(status.slot_state, slots.running, slot)?;
        // Examined now and not once: a disk may have been plugged in since.
        let twins = slots.disk().twins();
        if !twins.is_empty() {
            return Err(refused(ErrorKind::NotNow, ambiguous_disk(slots.disk(), &twins)));
        }
        // The slot's files must be on the disk before they are examined and the selector names them.
        self.sync_boot()?;
        let found = slots.check_inactive().map_err(refusal)?.build_id;
        if build_id.is_some_and(|expected| expected != found) {
            let text = format!("slot {slot} holds the build {found}");
            return Err(refused(ErrorKind::SlotIncomplete, text));
        }
        let kernel = slots.trial_kernel().map_err(refusal)?;
        let generation = slots.arm(&found, kernel).map_err(refusal)?;
        let with = match kernel {
            TrialKernel::Own => "",
            TrialKernel::Running => ", with the running kernel",
        };
        effects.log(format!("slot {slot} is armed: the next start tries it{with}"));
        // Last: an attempt in the history without a trial would be reported as one that was withdrawn.
        let attempt = attempt(&found, slot, generation, Outcome::Pending, None);
        self.history.record(effects, |history| history.begin(attempt));
        Ok(Reply::Done)
    }

    /// Forgets a trial that was armed and has not run.
    pub(in super::super) fn disarm(
        &self,
        services: &Supervisor,
        effects: &mut Effects,
    ) -> Result<Reply, RequestError> {
        refuse_while_ending(services)?;
        let slots = self.slots()?;
        let status = slots.boot_status().map_err(refusal)?;
        if !rules::may_disarm(status.slot_state, slots.running)? {
            return Ok(Reply::Done);
        }
        slots.disarm().map_err(refusal)?;
        let slot = !slots.running;
        effects.log(format!("slot {slot} is no longer armed"));
        let build_id = slots.note(slot, status.generation).map(|note| note.build_id).unwrap_or_default();
        let attempt = attempt(&build_id, slot, status.generation, Outcome::Withdrawn, None);
        self.history.record(effects, |history| history.conclude(attempt));
        Ok(Reply::Done)
    }

    /// On trial: restarts the machine into the confirmed slot. Otherwise: arms the other slot.
    pub(in super::super) fn roll_back(
        &self,
        services: &Supervisor,
        effects: &mut Effects,
    ) -> Result<Reply, RequestError> {
        let slots = self.slots()?;
        if slots.boot_status().map_err(refusal)?.slot_state == SlotState::OnTrial {
            refuse_while_ending(services)?;
            let reason = "a rollback to the confirmed slot was requested".to_owned();
            effects.push(Effect::ShutDown(End::Reboot, reason));
            return Ok(Reply::Done);
        }
        self.arm(!slots.running, None, services, effects)
    }

    fn slots(&self) -> Result<&Slots, RequestError> {
        let none = || refused(ErrorKind::Failed, "this machine has no slots");
        self.slots.as_ref().ok_or_else(none)
    }
}

fn refusal(why: SlotError) -> RequestError {
    let kind = match why {
        SlotError::Incomplete(..) => ErrorKind::SlotIncomplete,
        _ => ErrorKind::Failed,
    };
    refused(kind, why.to_string())
}
