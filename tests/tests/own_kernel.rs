//! A kernel of our own: built from source, small, and started from every kind of disk through every kind of card.

use std::time::Duration;

use anyhow::{Result, ensure};
use krazy_tests::guest::{BOOT_LIMIT, Guest, free_port, http_get};
use krazy_tests::krazy::Krazy;
use krazy_tests::own_kernel::{self, Hardware, machine};

/// Bytes an x86_64 image may have.
const LARGEST: u64 = 5 << 20;

/// Every kind of disk once, each with another network card.
const HARDWARE: [Hardware; 4] = [
    Hardware { disk: &["virtio-blk-pci,drive=disk,bootindex=0"], card: "virtio-net-pci" },
    Hardware { disk: &["ahci,id=ahci", "ide-hd,drive=disk,bus=ahci.0,bootindex=0"], card: "e1000e" },
    // QEMU has no model of an r8169; its RTL8139 is the nearest.
    Hardware { disk: &["nvme,drive=disk,serial=1,bootindex=0"], card: "rtl8139" },
    Hardware { disk: &["qemu-xhci", "usb-storage,drive=disk,bootindex=0"], card: "e1000" },
];

/// What services need of a kernel, as the appliance tells it.
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
fn it_is_built_from_source_and_starts_from_every_disk() -> Result<()> {
    let krazy = Krazy::new()?;
    let kernel = own_kernel::build(&krazy)?;
    let bytes = kernel.message["image_bytes"].as_u64().unwrap_or(u64::MAX);
    ensure!(bytes <= LARGEST, "the image has {bytes} bytes");

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
        let (head, page) = http_get(port, "/", Duration::from_secs(60))?;
        ensure!(head.contains(" 200 ") && !page.is_empty(), "{hardware:?}: {head}");
    }
    Ok(())
}
