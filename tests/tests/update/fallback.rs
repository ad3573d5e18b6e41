//! A confirmed slot that cannot start: the other one runs instead, is visible as the fallback, and is the way to repair.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use krazy_boot::disk::identity::IdentityCopies;
use krazy_boot::disk::layout::area_of_slot;
use krazy_boot::disk::slot::Slot;
use krazy_tests::device::Device;
use krazy_tests::disk::partitions;
use krazy_tests::guest::BOOT_LIMIT;
use serde_json::Value;

/// The sectors behind the slot areas: a copy of the credentials, the trial note and the selector.
const BEHIND_AREAS: u64 = 1984;

#[test]
fn confirmed_slot_that_cannot_start_gives_way_to_the_other_one() -> Result<()> {
    let mut device = Device::start("")?;
    device.change("good 2", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;

    // The confirmed root's superblock is gone: the first stage gives way, at every start.
    device.cut_power()?;
    let (_, table) = partitions(&device.image)?;
    overwrite(&device, table[2].start, &[0; 8 * 512])?;
    device.boot()?;
    is_fallback(&device, "a", "good 1", "cannot mount the root")?;
    ensure!(device.krazy(&["reboot", "qemu"])?.code == Some(0), "reboot was refused");
    device.console()?.wait_for("slot A starts instead, once", BOOT_LIMIT)?;
    is_fallback(&device, "a", "good 1", "cannot mount the root")?;

    // An update replaces it.
    device.change("good 3", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    is_confirmed(&device, "b", "good 3")?;

    // The confirmed slot's load table is gone: the boot sector gives way. A confirmation keeps the fallback.
    device.cut_power()?;
    overwrite(&device, area_of_slot(Slot::B).start.bytes().0, &[0; 4 * 512])?;
    device.boot()?;
    is_fallback(&device, "a", "good 1", "tables")?;
    device.confirm()?;
    is_confirmed(&device, "a", "good 1")?;

    // Both selectors and the note are garbage, and slot A, which is assumed then, has no table. The credentials have no
    // copies, as on the disks of earlier versions.
    device.change("good 4", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    device.cut_power()?;
    overwrite(&device, 512, &[0x5a; 63 * 512])?;
    overwrite(&device, BEHIND_AREAS * 512, &[0; 64 * 512])?;
    overwrite(&device, area_of_slot(Slot::A).start.bytes().0, &[0; 4 * 512])?;
    device.boot()?;
    let status = is_confirmed(&device, "b", "good 4")?;
    let degraded = status["status"]["degraded"].to_string();
    ensure!(degraded.contains("both copies of the boot selector were lost"), "{degraded}");
    let copies = IdentityCopies::read(&mut File::open(&device.image)?);
    ensure!(copies.newest().is_ok_and(|copy| copy.files.len() >= 4), "the credentials are not copied");
    device.change("good 5", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    is_confirmed(&device, "a", "good 5")?;
    Ok(())
}

/// Checks that the build with `mode` runs from `slot` as the fallback, for a reason that contains `words`.
fn is_fallback(device: &Device, slot: &str, mode: &str, words: &str) -> Result<()> {
    device.wait_for_slot(slot)?;
    let status = device.check(slot, mode)?;
    ensure!(status["slots"]["standing"] == "fallback", "{status:#}");
    let reason = status["status"]["fallback"]["reason"].as_str().context("no reason")?;
    ensure!(reason.contains(words), "{reason}");
    let degraded = status["status"]["degraded"].to_string();
    ensure!(degraded.contains(words) && degraded.contains("help:"), "{degraded}");
    Ok(())
}

fn is_confirmed(device: &Device, slot: &str, mode: &str) -> Result<Value> {
    let status = device.check(slot, mode)?;
    ensure!(status["slots"]["standing"] == "confirmed", "{status:#}");
    ensure!(status["status"]["fallback"].is_null(), "{status:#}");
    Ok(status)
}

/// Overwrites bytes of the disk of a machine that is off.
fn overwrite(device: &Device, at: u64, bytes: &[u8]) -> Result<()> {
    Ok(OpenOptions::new().write(true).open(&device.image)?.write_all_at(bytes, at)?)
}
