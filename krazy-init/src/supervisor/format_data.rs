//! The request to format `/data` at the next start.

use super::boot::Machine;
use super::disk_queue::DiskTask;
use super::refusal::{ambiguous_disk, refuse_while_ending, refused};
use super::state::Supervisor;
use crate::control::{ErrorKind, Reply, RequestError};
use crate::linux::block::Disk;
use crate::linux::boot_mount::{self, BOOT};
use crate::linux::format_request::{self, FormatRequestError};

/// Makes the request durable, if this is the appliance `name` and its disk is the only one of its kind.
pub(super) fn request(
    name: &str,
    machine: &Machine,
    services: &Supervisor,
) -> Result<DiskTask, RequestError> {
    refuse_while_ending(services)?;
    let appliance = &machine.manifest.name;
    if name != appliance {
        let text = format!("this device is the appliance `{appliance}`, not `{name}`");
        return Err(refused(ErrorKind::NotNow, text));
    }
    let none = || failed("the root is on no disk with partitions".to_owned());
    let (disk, appliance) = (machine.disk.clone().ok_or_else(none)?, appliance.clone());
    Ok(DiskTask::answering("requesting a new /data", move |effects| {
        write_request(&disk, &appliance)?;
        effects.log("the next start formats /data, as requested");
        Ok(Reply::Done)
    }))
}

fn failed(text: String) -> RequestError {
    refused(ErrorKind::Failed, text)
}

fn write_request(disk: &Disk, appliance: &str) -> Result<(), RequestError> {
    let twins = disk.twins();
    if !twins.is_empty() {
        return Err(refused(ErrorKind::NotNow, ambiguous_disk(disk, &twins)));
    }
    let was_writable = boot_mount::is_writable().ok_or_else(|| failed(format!("{BOOT} is not mounted")))?;
    let remount = |writable| match was_writable {
        // Left as it is: an update or the manifest made it so.
        true => Ok(()),
        false => boot_mount::remount(writable).map_err(|error| failed(format!("{BOOT}: {error}"))),
    };
    remount(true)?;
    let made = format_request::make(disk, appliance);
    remount(false)?;
    made.map_err(|error: FormatRequestError| failed(error.to_string()))
}
