//! A kernel of our own: built from source, small, and started from every kind of disk through every kind of card.

use std::fs;

use anyhow::{Result, ensure};
use krazy_tests::device::Device;
use krazy_tests::disk::SmallDisk;
use krazy_tests::guest::{BOOT_LIMIT, Guest, free_port, http_get};
use krazy_tests::krazy::Krazy;
use krazy_tests::own_kernel::{self, Hardware, machine};

/// Bytes an x86_64 image may have: 5.5 MiB. BPF and audit are 0.3 MiB of it.
const LARGEST: u64 = 11 << 19;

/// Every kind of disk once, each with another network card.
const HARDWARE: [Hardware; 4] = [
    Hardware { disk: &["virtio-blk-pci,drive=disk,bootindex=0"], card: "virtio-net-pci" },
    Hardware { disk: &["ahci,id=ahci", "ide-hd,drive=disk,bus=ahci.0,bootindex=0"], card: "e1000e" },
    // QEMU has no model of an r8169; its RTL8139 is the nearest.
    Hardware { disk: &["nvme,drive=disk,serial=1,bootindex=0"], card: "rtl8139" },
    Hardware { disk: &["qemu-xhci", "usb-storage,drive=disk,bootindex=0"], card: "e1000" },
];

/// The kernel features that services need, as the appliance prints them.
const FEATURES: &[&str] = &[
    "pid1=init",
    "cgroup:cpu",
    "cgroup:cpuset",
    "cgroup:io",
    "cgroup:memory",
    "cgroup:pids",
    "ns:cgroup",
    "ns:ipc",
    "ns:mnt",
    "ns:net",
    "ns:pid",
    "ns:time",
    "ns:user",
    "ns:uts",
    "fs:ext4",
    "fs:overlay",
    "fs:squashfs",
    "fs:vfat",
    "conntrack",
    "wireguard",
    "dev:tun",
    "seccomp",
    "no-modules",
    "lists:virtio_blk",
    "watchdog:i6300ESB-timer",
];

#[test]
fn kernel_is_built_from_source_and_starts_from_every_disk() -> Result<()> {
    let krazy = Krazy::new()?;
    let kernel = own_kernel::build(&krazy)?;
    let bytes = kernel.message["image_bytes"].as_u64().unwrap_or(u64::MAX);
    ensure!(bytes <= LARGEST, "the image has {bytes} bytes");

    no_room_for_the_bundle(&krazy)?;

    let package = own_kernel::example(&krazy, "features", Some(&kernel.bundle))?;
    let image = own_kernel::image(&krazy, &package.manifest(), "own-kernel.img")?;
    for hardware in HARDWARE {
        let port = free_port()?;
        let mut command = machine(&image, hardware, port)?;
        let mut guest = Guest::start({
            command.args(["-device", "i6300esb"]);
            command
        })?;
        let features = guest.wait_for("features: ", BOOT_LIMIT)?;
        let words: Vec<_> = features.split_whitespace().collect();
        for feature in FEATURES {
            ensure!(words.contains(feature), "{hardware:?}: no {feature} in {features}");
        }
        let (head, page) = http_get(port, "/", BOOT_LIMIT)?;
        ensure!(head.contains(" 200 ") && !page.is_empty(), "{hardware:?}: {head}");
    }
    Ok(())
}

/// The disk is too small for the compiled files, or for the archive of them: an existing bundle stays, and nothing
/// else is left.
fn no_room_for_the_bundle(krazy: &Krazy) -> Result<()> {
    for (name, size) in [("kernel.tar.zst", "8m"), ("kernel", "3m")] {
        let disk = SmallDisk::mount(krazy.directory.path().join("small"), size)?;
        let (output, old) = (disk.0.join(name), disk.0.join("kernel.tar.zst"));
        fs::write(&old, "an older bundle")?;
        let result = own_kernel::build_command(krazy, &output)?.arg("--quiet").output()?;
        let said = String::from_utf8(result.stderr)?;
        ensure!(result.status.code() == Some(7), "{}\n{said}", result.status);
        let expected = format!("error: no space is left for `{}`\n   help: ", output.display());
        ensure!(said.starts_with(&expected), "{said}");
        ensure!(fs::read(&old)? == b"an older bundle", "the older bundle was changed");
        ensure!(fs::read_dir(&disk.0)?.count() == 1, "something was left behind in {}", disk.0.display());
        drop(disk);
        fs::remove_dir(krazy.directory.path().join("small"))?;
    }
    Ok(())
}

#[test]
fn push_changes_to_an_own_kernel_and_back() -> Result<()> {
    let device = Device::start("")?;
    let debians = device.check("a", "good 1")?["status"]["kernel"].clone();
    let kernel = own_kernel::build(&device.krazy)?;
    let ours = kernel.message["release"].clone();
    ensure!(ours.is_string() && ours != debians, "{ours} is not a kernel of our own");

    device.set_kernel(Some(&kernel.bundle))?;
    device.change("good 2", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    let status = device.check("b", "good 2")?;
    ensure!(status["status"]["kernel"] == ours, "{status:#}");
    ensure!(status["slots"]["standing"] == "confirmed", "{status:#}");

    device.set_kernel(None)?;
    device.change("good 3", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    let status = device.check("a", "good 3")?;
    ensure!(status["status"]["kernel"] == debians, "{status:#}");

    // The slot that was left behind still has its kernel.
    ensure!(device.krazy(&["switch", "qemu", "b"])?.code == Some(0), "switch was refused");
    let status = device.wait_for_slot("b")?;
    ensure!(status["status"]["kernel"] == ours, "{status:#}");
    Ok(())
}
