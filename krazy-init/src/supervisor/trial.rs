//! The slots' standing: whether this boot is a trial, its confirmation and its deadline, and the boot loader's
//! tables, which follow the files on `/boot`.
//!
//! Only disks with the x86 boot selector are known here; other boards' firmware keeps the standing itself.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::time::Duration;

use krazy_boot::boot_fat::BootFat;
use krazy_boot::mbr::Mbr;
use krazy_boot::ordered_write::{SectorWrite, write_in_order};
use krazy_boot::selector::{Selector, SelectorCopies, Standing};
use krazy_boot::size::Bytes;
use krazy_boot::slot_area::{self, BootFiles};

use super::runtime::Runtime;
use super::state::Supervisor;
use crate::control::{ErrorKind, Reply, RequestError, Trial};
use crate::linux::block::Disk;
use crate::linux::boot_mount;
use crate::linux::power::End;

/// How long a trial may take until someone confirms it. Within it the required services must have become stable
/// and the host must have come back to look.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// What is known about the boot selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrialState {
    /// When the machine restarts unless this slot is confirmed.
    pub deadline: Option<Duration>,
    /// Whether `/boot` has been writable since the tables were last compared with it.
    pub boot_was_writable: bool,
}

impl Runtime {
    /// Reads the selector of the disk that runs.
    pub(super) fn begin_trial(&mut self) {
        self.trial.boot_was_writable = self.machine.manifest.boot_writable;
        let (Some(slot), Some(disk)) = (self.machine.slot, self.machine.disk.clone()) else { return };
        let selector = match read_selector(&disk) {
            Ok(Some(selector)) => selector,
            Ok(None) => return,
            Err(why) => return self.degrade(why),
        };
        match selector.standing(slot) {
            Standing::Confirmed | Standing::Armed => {}
            Standing::OnTrial => {
                let limit = self.machine.trial_limit.unwrap_or(DEADLINE);
                self.trial.deadline = Some(limit);
                self.console.say(&format!(
                    "slot {slot} is on trial: without a confirmation the machine returns to slot {} in {} s",
                    selector.confirmed,
                    limit.as_secs()
                ));
            }
            Standing::Reverted => {
                self.console.say(&format!("slot {} was tried and not confirmed; back in slot {slot}", !slot));
            }
            Standing::Unexpected => {
                self.degrade(format!(
                    "slot {slot} runs although the boot selector names {}",
                    selector.confirmed
                ));
            }
        }
    }

    /// Ends an unconfirmed trial when its time is up.
    pub(super) fn check_trial(&mut self, now: Duration) {
        if self.trial.deadline.is_some_and(|deadline| now >= deadline) {
            self.trial.deadline = None;
            let why = match self.supervisor.is_stable(now) {
                true => "nobody confirmed the trial in time",
                false => "required services were not stable when the trial's time was up",
            };
            self.shut_down(End::Reboot, why);
        }
    }

    pub(super) fn trial_info(&self, now: Duration) -> Option<Trial> {
        self.trial.deadline.map(|deadline| Trial { deadline: deadline.saturating_sub(now).as_secs() })
    }

    /// Makes the running slot the confirmed one. A slot that is confirmed already stays so.
    pub(super) fn confirm(&mut self, now: Duration) -> Result<Reply, RequestError> {
        let failed = |message: String| RequestError { kind: ErrorKind::Failed, message };
        let (Some(slot), Some(disk)) = (self.machine.slot, self.machine.disk.clone()) else {
            return Err(failed("this machine has no slots".to_owned()));
        };
        let selector = read_selector(&disk)
            .map_err(failed)?
            .ok_or_else(|| failed(format!("{} has no boot selector", disk.node().display())))?;
        match selector.standing(slot) {
            Standing::Confirmed | Standing::Armed | Standing::Reverted => return Ok(Reply::Done),
            Standing::OnTrial | Standing::Unexpected => {}
        }
        if !self.supervisor.is_stable(now) {
            let message = format!("not confirmed: {}", unstable(&self.supervisor, now).join(", "));
            return Err(RequestError { kind: ErrorKind::NotStable, message });
        }
        write(&disk, &selector.confirm(slot).writes()).map_err(failed)?;
        self.trial.deadline = None;
        self.console.say(&format!("slot {slot} is confirmed"));
        Ok(Reply::Done)
    }

    /// Makes the boot loader's tables of the running slot agree with its files on `/boot`, if those may have been
    /// changed: the BIOS loads sectors, not files.
    pub(super) fn sync_boot_tables(&mut self) -> Result<(), String> {
        let (Some(slot), Some(disk)) = (self.machine.slot, self.machine.disk.clone()) else { return Ok(()) };
        if !self.trial.boot_was_writable || !matches!(read_selector(&disk), Ok(Some(_))) {
            return Ok(());
        }
        let partition = disk.partition(boot_mount::PARTITION).ok_or("there is no boot partition")?;
        let say = |error: &dyn std::error::Error| chain(error);
        let folder =
            File::open(boot_mount::BOOT).map_err(|error| format!("{}: {error}", boot_mount::BOOT))?;
        rustix::fs::syncfs(&folder).map_err(|error| format!("{}: {error}", boot_mount::BOOT))?;
        let mut whole =
            File::open(disk.node()).map_err(|error| format!("{}: {error}", disk.node().display()))?;
        let mut sector = [0u8; 512];
        whole.read_exact(&mut sector).map_err(|error| format!("{}: {error}", disk.node().display()))?;
        let extent = Mbr::decode(&sector).map_err(|error| say(&error))?.layout.boot;
        let reader = File::open(&partition).map_err(|error| format!("{}: {error}", partition.display()))?;
        let mut fat = BootFat::open(reader, Bytes(0), extent).map_err(|error| say(&error))?;
        let files = BootFiles::read(&mut fat, slot).map_err(|error| say(&error))?;
        let writes = slot_area::refresh_from(&mut whole, slot, &files).map_err(|error| say(&error))?;
        if !writes.is_empty() {
            write(&disk, &writes)?;
            self.console
                .say(&format!("the boot loader's tables follow what was changed on {}", boot_mount::BOOT));
        }
        self.trial.boot_was_writable = false;
        Ok(())
    }
}

/// `None` when the disk has no selector at all: it boots in another way.
fn read_selector(disk: &Disk) -> Result<Option<Selector>, String> {
    let node = disk.node();
    let mut file = File::open(&node).map_err(|error| format!("{}: {error}", node.display()))?;
    let copies = SelectorCopies::read(&mut file);
    match copies.selector() {
        Ok(selector) => Ok(Some(selector)),
        Err(krazy_boot::selector::SelectorError::Magic(_)) => Ok(None),
        Err(error) => Err(format!("{}: {}", node.display(), chain(error))),
    }
}

fn write(disk: &Disk, writes: &[SectorWrite]) -> Result<(), String> {
    let node = disk.node();
    let context = |error: std::io::Error| format!("{}: {error}", node.display());
    let mut file = OpenOptions::new().read(true).write(true).open(&node).map_err(context)?;
    write_in_order(&mut file, writes, |file: &mut File| file.sync_data()).map_err(context)
}

/// Which required services keep the machine from being stable.
fn unstable(supervisor: &Supervisor, now: Duration) -> Vec<String> {
    supervisor.unstable(now).map(|name| format!("service {name} is not stable")).collect()
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
