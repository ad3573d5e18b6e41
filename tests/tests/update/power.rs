//! Power that is cut around the start of a trial, on a disk of the first format, and builds that do not hold.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};
use krazy_boot::disk::layout::StateSectors;
use krazy_boot::disk::mbr;
use krazy_boot::disk::ordered_write::write_in_order;
use krazy_boot::disk::selector::Selector;
use krazy_boot::disk::slot::Slot;
use krazy_tests::device::{Device, NAME, noise};

use crate::{NEW, NOT_STARTED, is_reverted, reverts};

/// The boot sector of the first disk format, as the last version that made such disks had it.
const FIRST_BOOT_SECTOR: &[u8] = include_bytes!("first_boot_sector.bin");

/// Turns a new image into one of the first disk format: with a boot sector of that format, which reads the selector behind
/// itself.
pub(crate) fn make_first_format(image: &Path, boot_sector: &[u8]) -> Result<()> {
    let mut disk = File::options().read(true).write(true).open(image)?;
    let mut sector = [0; 512];
    disk.read_exact(&mut sector)?;
    sector[..440].fill(0);
    sector[..boot_sector.len()].copy_from_slice(boot_sector);
    disk.write_all_at(&sector, 0)?;
    let StateSectors { selector, spare, note } = StateSectors::CURRENT;
    for place in [selector, spare, note] {
        disk.write_all_at(&[0; 512], place.bytes().0)?;
    }
    let writes = Selector::confirmed(Slot::A).writes(StateSectors::FIRST);
    write_in_order(&mut disk, &writes, |_| Ok(()))?;
    ensure!(state_sectors(image)? == StateSectors::FIRST, "it is of the present format");
    Ok(())
}

pub(crate) fn state_sectors(image: &Path) -> Result<StateSectors> {
    Ok(mbr::state_sectors(&mut File::open(image)?)?)
}

#[test]
fn power_cuts_and_unstable_builds_leave_the_old_build() -> Result<()> {
    let mut device = Device::new("")?;
    make_first_format(&device.image, FIRST_BOOT_SECTOR)?;
    device.switch_on()?;

    // When a slot is armed, and again while it is tried. `proof.rs` cuts it at every other moment. Before it is armed, the
    // boot state moves to where the present format has it.
    device.change("good 2", &noise(2, NEW / 4))?;
    device.push(&["qemu", "--stage"])?.expect(0, "staged")?;
    ensure!(device.krazy(&["switch", "qemu", "b", "--no-reboot"])?.code == Some(0), "switch was refused");
    device.cut_power()?;
    ensure!(state_sectors(&device.image)? == StateSectors::CURRENT, "the boot state has not moved");
    device.boot()?;
    let status = device.check("b", "good 2")?;
    ensure!(status["slots"]["standing"] == "on-trial", "{status:#}");
    device.cut_power()?;
    device.boot()?;
    let reason = device.wait_for_failed_trial("a", "")?;
    ensure!(!reason.is_empty(), "the cause of the failed trial is not told");
    device.check("a", "good 1")?;

    // The kernel panics: its first program cannot be run.
    device.change("good 3", &[])?;
    device.set_cmdline("rdinit=/dev/console")?;
    is_reverted(&device, &device.push(&["qemu"])?, "good 1", NOT_STARTED)?;

    device.set_cmdline("")?;
    device.change("crash", &[])?;
    reverts(&device, || device.push(&["qemu", "--force"]), "good 1", NAME)?;
    device.push(&["qemu"])?.refused("this build failed its trial")?;

    // Nobody is there to confirm.
    device.change("good 4", &[])?;
    device.set_cmdline("krazy.trial=30")?;
    device.push(&["qemu", "--stage"])?.expect(0, "staged")?;
    ensure!(device.krazy(&["switch", "qemu", "b"])?.code == Some(0), "switch was refused");
    let reason = device.wait_for_failed_trial("a", "time")?;
    // On a machine so slow that the service is not stable by then, it says that instead.
    ensure!(reason.contains("in time") || reason.contains("time was up"), "{reason}");
    device.check("a", "good 1")?;
    // Then it is not the build's fault, and the next push of it needs no force.
    if reason.contains("nobody") {
        device.push(&["qemu", "--stage"])?.expect(0, "staged")?;
    }
    Ok(())
}
