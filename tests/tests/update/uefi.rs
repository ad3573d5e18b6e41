//! The UEFI loader in place of the boot sector: trials, and slots that it cannot start.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use krazy_boot::boot::load_table::{Load, LoadTable, TABLE_LEN};
use krazy_boot::disk::layout::area_of_slot;
use krazy_boot::disk::slot::Slot;
use krazy_tests::device::Device;

/// The address that a load table gives the kernel. Its last entry is the initramfs.
const KERNEL_ADDRESS: u32 = 0x10_0000;

#[test]
fn loader_starts_trials_and_gives_way_from_damaged_slots() -> Result<()> {
    let mut device = Device::new("")?;
    device.firmware = "uefi".to_owned();
    device.switch_on()?;
    device.change("good 2", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    ensure!(device.check("b", "good 2")?["slots"]["standing"] == "confirmed", "not confirmed");

    // The confirmed kernel is damaged, in a way that the boot sector does not see.
    device.power_off()?;
    let table = load_table(&device, Slot::B)?;
    let is_kernel = |load: &&Load| load.destination == KERNEL_ADDRESS;
    damage(&device, table.loads.iter().find(is_kernel).context("no kernel")?)?;
    device.boot()?;
    let status = device.check("a", "good 1")?;
    ensure!(status["slots"]["standing"] == "fallback", "{status:#}");
    let reason = status["status"]["fallback"]["reason"].as_str().context("no reason")?;
    ensure!(reason.contains("its kernel is damaged: SHA-256"), "{reason}");

    // An update replaces it. The old build is damaged before it is tried again.
    device.change("good 3", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    device.check("b", "good 3")?;
    device.power_off()?;
    let table = load_table(&device, Slot::A)?;
    damage(&device, table.loads.last().context("no initramfs")?)?;
    device.boot()?;
    device.krazy(&["switch", "qemu", "a"])?;
    let reason = device.wait_for_failed_trial("b", "its initramfs is damaged: SHA-256")?;
    ensure!(reason.starts_with("its kernel could not be started"), "{reason}");
    device.check("b", "good 3")?;
    device.power_off()
}

fn load_table(device: &Device, slot: Slot) -> Result<LoadTable> {
    let mut bytes = vec![0; TABLE_LEN];
    File::open(&device.image)?.read_exact_at(&mut bytes, area_of_slot(slot).start.bytes().0)?;
    Ok(LoadTable::decode(&bytes)?)
}

/// Overwrites a sector of what a load table names, on the disk of a machine that is off.
fn damage(device: &Device, Load { source, .. }: &Load) -> Result<()> {
    let at = source.start.bytes().0 + source.len.bytes().0 / 2;
    Ok(OpenOptions::new().write(true).open(&device.image)?.write_all_at(&[0x5a; 512], at)?)
}
