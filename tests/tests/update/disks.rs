//! Disks in a condition that no update made: a `/data` that is damaged or lost, and two copies of one disk.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use anyhow::{Result, ensure};
use krazy_tests::device::Device;
use krazy_tests::disk::partitions;
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

    // Two copies of the disk: neither may be written.
    device.cut_power()?;
    let copy = device.krazy.directory.path().join("copy.img");
    fs::copy(&device.image, &copy)?;
    let mut drive = OsString::from("if=virtio,format=raw,file=");
    drive.push(&copy);
    device.boot_with(&["-drive".as_ref(), &drive])?;
    is_degraded(&device, "/dev/vda and /dev/vdb are copies of one image")?;
    device.change("good 4", &[])?;
    let push = device.push(&["qemu"])?;
    let refused = push.code == Some(9) && push.stderr.contains("are copies of one image");
    ensure!(refused && push.stderr.contains("remove all but one"), "{push:#?}");
    Ok(())
}

fn is_degraded(device: &Device, words: &str) -> Result<()> {
    let degraded = device.status()?["status"]["degraded"].to_string();
    ensure!(degraded.contains(words), "no `{words}`: {degraded}");
    Ok(())
}
