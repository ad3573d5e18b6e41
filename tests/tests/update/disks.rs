//! Disks in a condition that no update made: a `/data` that is damaged or lost, a damaged `/boot`, and two copies of one
//! disk.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use krazy_tests::device::Device;
use krazy_tests::disk::{extract, partitions};
use krazy_tests::outcome::Outcome;
use krazy_tests::process::succeed;
use krazy_tests::setup::judges;

#[test]
fn device_without_its_data_is_still_managed_and_updated() -> Result<()> {
    let mut device = Device::start("")?;
    let (_, table) = partitions(&device.image)?;
    let data = table[3].start;

    // The inode of the machine's directory is cleared. After a power cut, the journal would bring it back.
    device.power_off()?;
    let mut image = OsString::from(&device.image);
    image.push(format!("?offset={data}"));
    succeed(judges::command("debugfs")?.args(["-w", "-R", "clri /krazy"]).arg(&image))?;
    device.boot()?;
    is_degraded(&device, "they were restored to /run/krazy/identity")?;
    is_degraded(&device, "the file system is damaged (os error 117); help: `cargo krazy data check HOST`")?;
    let check = device.krazy(&["data", "check", "qemu"])?;
    ensure!(check.code == Some(0) && said(&check).contains("EXT4-fs error (device vda4)"), "{check:#?}");
    device.change("good 2", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    is_degraded(&device, "they were restored to /run/krazy/identity")?;

    // The superblock is overwritten. The token that was added since the image is known nevertheless.
    let token = device.krazy(&["token", "add", "later", "qemu", "--role", "viewer"])?;
    ensure!(token.code == Some(0), "{token:#?}");
    device.cut_power()?;
    OpenOptions::new().write(true).open(&device.image)?.write_all_at(&[0x5a; 4096], data)?;
    device.boot()?;
    is_degraded(&device, "/data is temporary")?;
    is_degraded(&device, "they were restored to /data")?;
    let tokens = device.krazy(&["token", "list", "qemu"])?;
    ensure!(tokens.code == Some(0) && format!("{tokens:?}").contains("later"), "{tokens:#?}");
    device.change("good 3", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    ensure!(device.status()?["status"]["slot"] == "a", "the update did not run");

    // A new /data on request: the credentials stay.
    let check = device.krazy(&["data", "check", "qemu"])?;
    ensure!(check.code == Some(0) && said(&check).contains("\"state\":\"not-mounted\""), "{check:#?}");
    let format = device.krazy(&["data", "format", "qemu", "--yes"])?;
    ensure!(format.code == Some(0) && said(&format).contains("\"formatted\":true"), "{format:#?}");
    let status = device.status()?;
    ensure!(status["status"]["milestones"]["data"] == true, "{status:#}");
    let tokens = device.krazy(&["token", "list", "qemu"])?;
    ensure!(tokens.code == Some(0) && format!("{tokens:?}").contains("later"), "{tokens:#?}");
    let check = device.krazy(&["data", "check", "qemu"])?;
    ensure!(check.code == Some(0) && said(&check).contains("\"state\":\"clean\""), "{check:#?}");
    // Once: the next start keeps it.
    let mark = device.krazy.directory.path().join("mark");
    fs::write(&mark, "mark")?;
    let put = device.krazy(&["put", "qemu", mark.to_string_lossy().as_ref(), "/data/mark"])?;
    ensure!(put.code == Some(0), "{put:#?}");
    device.cut_power()?;
    device.boot()?;
    let to = mark.with_extension("back");
    let get = device.krazy(&["get", "qemu", "/data/mark", to.to_string_lossy().as_ref()])?;
    ensure!(get.code == Some(0) && fs::read_to_string(to)? == "mark", "{get:#?}");

    boot_with_broken_chains_takes_an_update(&mut device)?;
    failing_flushes_change_no_slot(&mut device)?;

    // Two copies of the disk: neither may be written.
    let copy = device.krazy.directory.path().join("copy.img");
    fs::copy(&device.image, &copy)?;
    let mut drive = OsString::from("if=virtio,format=raw,file=");
    drive.push(&copy);
    device.boot_with(&["-drive".into(), drive])?;
    is_degraded(&device, "/dev/vda and /dev/vdb are copies of one image")?;
    device.change("good 5", &[])?;
    let push = device.push(&["qemu"])?;
    let refused = push.code == Some(9) && push.stderr.contains("are copies of one image");
    ensure!(refused && push.stderr.contains("remove all but one"), "{push:#?}");
    Ok(())
}

/// The JSON messages of a command, one a line.
fn said(outcome: &Outcome) -> String {
    outcome.messages.iter().map(|message| format!("{message}\n")).collect()
}

/// The FAT of `/boot` is damaged: the kernel of the inactive slot ends in a free cluster, and all free clusters but a few
/// belong to chains of no file. Switches the device off at the end.
fn boot_with_broken_chains_takes_an_update(device: &mut Device) -> Result<()> {
    device.cut_power()?;
    let (_, table) = partitions(&device.image)?;
    let boot = table[0];
    let image = OpenOptions::new().read(true).write(true).open(&device.image)?;
    let mut record = [0; 512];
    image.read_exact_at(&mut record, boot.start)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (fat, len) = (boot.start + number(&record[14..16]) * 512, number(&record[36..40]) * 512);
    let mut entries = vec![0; len as usize];
    image.read_exact_at(&mut entries, fat)?;
    let mut directory = vec![0; number(&record[13..14]) as usize * 512];
    image.read_exact_at(&mut directory, fat + 2 * len)?;
    let kernel =
        directory.as_chunks::<32>().0.iter().find(|entry| entry.starts_with(b"B-VMLI") && entry[11] != 0xf);
    let kernel = kernel.context("slot B has no kernel")?;
    let first = number(&kernel[26..28]) | number(&kernel[20..22]) << 16;
    let entries_of = entries.as_chunks_mut::<4>().0;
    for (n, entry) in (0_u32..).zip(entries_of.iter_mut()).skip(200) {
        if *entry == [0; 4] {
            *entry = (n + 1).to_le_bytes();
        }
    }
    entries_of[first as usize + 3] = [0; 4];
    for copy in 0..2 {
        image.write_all_at(&entries, fat + copy * len)?;
    }
    // What Linux had counted no longer holds: unknown.
    image.write_all_at(&[0xff; 4], boot.start + 512 + 488)?;
    device.boot()?;
    device.change("good 4", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    ensure!(device.status()?["status"]["slot"] == "b", "the update did not run");
    device.cut_power()?;
    let volume = extract(&device.image, boot, device.krazy.directory.path(), "boot.img")?;
    succeed(judges::command("fsck.fat")?.arg("-n").arg(&volume))?;
    Ok(())
}

/// The disk writes, and fails every flush: nothing on it is known to be durable. Starts and ends with a device that is off.
fn failing_flushes_change_no_slot(device: &mut Device) -> Result<()> {
    let rules = device.krazy.directory.path().join("rules");
    fs::write(
        &rules,
        "[inject-error]\nevent = \"flush_to_disk\"\niotype = \"flush\"\nerrno = \"5\"\nonce = \"off\"\n",
    )?;
    let mut drive = OsString::from("drive.disk.file=blkdebug:");
    drive.push(&rules);
    drive.push(":");
    drive.push(&device.image);
    device.boot_with(&["-set".into(), drive])?;
    is_degraded(device, "/data is temporary")?;
    device.change("good 6", &[])?;
    let push = device.push(&["qemu"])?;
    ensure!(push.code == Some(9) && push.stderr.contains("I/O error (os error 5)"), "{push:#?}");
    device.cut_power()?;

    device.boot()?;
    let status = device.status()?;
    ensure!(status["status"]["slot"] == "b" && status["slots"]["standing"] == "confirmed", "{status:#}");
    ensure!(status["status"]["degraded"].as_array().is_some_and(Vec::is_empty), "{status:#}");
    let mark = device.krazy.directory.path().join("kept");
    let get = device.krazy(&["get", "qemu", "/data/mark", mark.to_string_lossy().as_ref()])?;
    ensure!(get.code == Some(0) && fs::read_to_string(mark)? == "mark", "{get:#?}");
    device.cut_power().map(drop)
}

fn is_degraded(device: &Device, words: &str) -> Result<()> {
    let degraded = device.status()?["status"]["degraded"].to_string();
    ensure!(degraded.contains(words), "no `{words}`: {degraded}");
    Ok(())
}
