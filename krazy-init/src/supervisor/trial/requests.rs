//! Confirmation, arming, disarming and rollback, as clients of the control socket request them: decided in the loop as far
//! as services are concerned, and carried out by [`BootState`] in the thread that waits for the disk.

use std::time::Duration;

use krazy_boot::disk::slot::Slot;

use super::super::disk_queue::DiskTask;
use super::super::effect::{Effect, Effects};
use super::super::refusal::{refuse_while_ending, refused};
use super::super::state::Supervisor;
use super::boot_state::BootState;
use super::{Change, Trial, rules};
use crate::control::{ErrorKind, Reply, RequestError};

/// The time for which a trial goes on beyond its deadline while its confirmation is written.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(60);

impl Trial {
    /// Makes the running slot the confirmed one. A slot that is confirmed already stays so.
    pub(in super::super) fn confirm(
        &mut self,
        now: Duration,
        services: &Supervisor,
    ) -> Result<DiskTask, RequestError> {
        let readiness = rules::readiness(now, services);
        let is_ready = readiness.is_ok();
        let task = self.task("confirming the slot", move |state, effects| {
            let confirmed = state.confirm(readiness, effects);
            effects.push(Effect::Trial(Change::Confirmation(matches!(confirmed, Ok(true)))));
            confirmed.map(|_| Reply::Done)
        })?;
        if is_ready {
            // Not extended by a repeated confirmation: a disk that hangs ends the trial.
            self.confirming_until.get_or_insert(now + CONFIRMATION_TIMEOUT);
        }
        Ok(task)
    }

    /// Makes the other slot boot once, at the next start. `build_id`, if given, must be the build that it holds.
    pub(in super::super) fn arm(
        &self,
        slot: Slot,
        build_id: Option<String>,
        services: &Supervisor,
    ) -> Result<DiskTask, RequestError> {
        refuse_while_ending(services)?;
        self.task("arming a slot", move |state, effects| {
            state.arm(slot, build_id.as_deref(), effects).map(|()| Reply::Done)
        })
    }

    /// Forgets a trial that was armed and has not run.
    pub(in super::super) fn disarm(&self, services: &Supervisor) -> Result<DiskTask, RequestError> {
        refuse_while_ending(services)?;
        self.task("disarming a slot", |state, effects| state.disarm(effects).map(|()| Reply::Done))
    }

    /// On trial: restarts the machine into the confirmed slot. Otherwise: arms the other slot.
    pub(in super::super) fn roll_back(&self, services: &Supervisor) -> Result<DiskTask, RequestError> {
        refuse_while_ending(services)?;
        self.task("rolling back", |state, effects| state.roll_back(effects).map(|()| Reply::Done))
    }

    /// Mounts `/boot` writable or read-only.
    pub(in super::super) fn remount_boot(
        &self,
        writable: bool,
        services: &Supervisor,
    ) -> Result<DiskTask, RequestError> {
        refuse_while_ending(services)?;
        let state = self.boot_state.clone();
        Ok(DiskTask::answering("remounting /boot", move |effects| {
            BootState::remount_boot(state.as_ref(), writable, effects).map(|()| Reply::Done)
        }))
    }

    /// Checks the file system of `/boot`, and repairs it before the files of `slot` are replaced.
    pub(in super::super) fn repair_boot(
        &self,
        slot: Slot,
        services: &Supervisor,
    ) -> Result<DiskTask, RequestError> {
        refuse_while_ending(services)?;
        self.task("repairing /boot", move |state, effects| {
            state.repair_boot(slot, effects).map(|()| Reply::Done)
        })
    }

    /// A task about the slots, after which the loop knows which one is armed.
    fn task(
        &self,
        name: &'static str,
        work: impl FnOnce(&BootState, &mut Effects) -> Result<Reply, RequestError> + Send + 'static,
    ) -> Result<DiskTask, RequestError> {
        let none = || refused(ErrorKind::Failed, "this machine has no slots");
        let state = self.boot_state.clone().ok_or_else(none)?;
        Ok(DiskTask::answering(name, move |effects| {
            let answer = work(&state, effects);
            effects.push(Effect::Trial(Change::Armed(state.armed_slot())));
            answer
        }))
    }
}
