//! A disk as the kernel describes it, and the checks before it is overwritten.
//!
//! Source: Linux `Documentation/ABI/stable/sysfs-block`, proc(5) for mountinfo and swaps.

mod error;

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};

pub(super) use self::error::DiskError;
use self::error::Usage;
use crate::failure::Result;

/// The kernel's descriptions of disks and of their use: /sys and /proc.
#[derive(Clone, Debug)]
pub(crate) struct System {
    sys: PathBuf,
    proc: PathBuf,
}

impl System {
    /// Returns those of this machine.
    pub(crate) fn host() -> Self {
        System { sys: "/sys".into(), proc: "/proc".into() }
    }

    /// Returns directories laid out like /sys and /proc.
    #[cfg(test)]
    fn example(root: &Path) -> Self {
        System { sys: root.join("sys"), proc: root.join("proc") }
    }
}

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The device node.
    pub(crate) path: PathBuf,
    /// The kernel's name, such as `sdb`.
    pub(crate) name: String,
    /// Vendor and model, or another description.
    pub(crate) model: String,
    /// Its capacity.
    pub(crate) size: Bytes,
    /// Set when the kernel reports a removable medium. Not all card readers and USB disks report it.
    pub(crate) removable: bool,
    /// Set when the disk writes zeros on command, without being sent them.
    pub(crate) offloads_zeros: bool,
    /// Device number as `major:minor`.
    number: String,
    /// Changes whenever another medium appears under the same number.
    sequence: Option<String>,
}

/// The disk for people: `SanDisk Ultra, 29.7 GiB, removable`.
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.removable { "removable" } else { "not removable" };
        write!(f, "{}, {}, {kind}", self.model, self.size)
    }
}

impl Disk {
    /// Examines the block device `path`. Partitions, read-only disks and disks with sectors other than 512 bytes, whose
    /// partition table would be read differently, are refused.
    pub(crate) fn examine(system: &System, path: &Path) -> Result<Self> {
        let metadata =
            fs::metadata(path).with_context(|| format!("failed to inspect `{}`", path.display()))?;
        // Source: makedev(3), glibc's encoding of 64-bit device numbers.
        let number = metadata.rdev();
        let major = ((number >> 32) & 0xffff_f000) | ((number >> 8) & 0xfff);
        let minor = ((number >> 12) & 0xffff_ff00) | (number & 0xff);
        Self::from_sysfs(system, path, &format!("{major}:{minor}"))
    }

    fn from_sysfs(system: &System, path: &Path, number: &str) -> Result<Self> {
        let shown = path.display();
        let entry = system.sys.join("dev/block").join(number);
        let directory = fs::canonicalize(&entry)
            .with_context(|| format!("the kernel does not describe `{shown}` in {}", entry.display()))?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if directory.join("partition").exists() {
            let parent = directory.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            return Err(
                DiskError::IsPartition { path: path.to_owned(), disk: format!("/dev/{parent}") }.into()
            );
        }
        if attribute(&directory, "ro").as_deref() == Some("1") {
            return Err(DiskError::ReadOnly(path.to_owned()).into());
        }
        let sector = attribute(&directory, "queue/logical_block_size").unwrap_or_default();
        if sector != SECTOR_SIZE.to_string() {
            return Err(DiskError::SectorSize { path: path.to_owned(), sector }.into());
        }
        // The attribute counts 512-byte units whatever the disk's sectors are.
        let size = attribute(&directory, "size").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if size == 0 {
            return Err(DiskError::NoMedium(path.to_owned()).into());
        }
        Ok(Disk {
            path: path.to_owned(),
            model: model(&directory),
            size: Bytes(size.saturating_mul(SECTOR_SIZE)),
            removable: attribute(&directory, "removable").as_deref() == Some("1"),
            offloads_zeros: attribute(&directory, "queue/write_zeroes_max_bytes")
                .is_some_and(|max| max != "0"),
            sequence: attribute(&directory, "diskseq"),
            number: number.to_owned(),
            name,
        })
    }

    /// Fails if this user may not write the disk, which is better known before the build.
    pub(crate) fn check_allowed(&self) -> Result<(), DiskError> {
        match rustix::fs::access(&self.path, rustix::fs::Access::WRITE_OK) {
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
                Err(DiskError::Denied(self.path.clone()))
            }
            // Whatever else is wrong is found when it is opened.
            _ => Ok(()),
        }
    }

    /// Fails if an image of `len` bytes is larger than the disk.
    pub(crate) fn check_fits(&self, len: Bytes) -> Result<(), DiskError> {
        match self.size >= len {
            true => Ok(()),
            false => Err(DiskError::TooSmall { path: self.path.clone(), size: self.size, len }),
        }
    }

    /// Fails if the disk or one of its partitions is mounted, used as swap, or part of another device.
    pub(crate) fn check_unused(&self, system: &System) -> Result<()> {
        let directory = fs::canonicalize(system.sys.join("dev/block").join(&self.number))
            .with_context(|| format!("`{}` went away", self.path.display()))?;
        let read = |file: &str| {
            let path = system.proc.join(file);
            fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        let (mounts, swaps) = (read("self/mountinfo")?, read("swaps")?);
        for part in parts(&directory)? {
            let usage = mounted(&mounts, &part)
                .map(Usage::Mounted)
                .or_else(|| swapped(&swaps, &part.name).then(|| Usage::Swap(part.name.clone())))
                .or_else(|| part.holder.clone().map(Usage::PartOf));
            if let Some(usage) = usage {
                let partition = (part.name != self.name).then_some(part.name);
                return Err(DiskError::InUse { path: self.path.clone(), partition, usage }.into());
            }
        }
        Ok(())
    }
}

/// A disk or partition as the kernel's tables name it.
struct Part {
    name: String,
    number: String,
    /// The first device built upon it.
    holder: Option<String>,
}

/// The disk in `directory`, then its partitions.
fn parts(directory: &Path) -> Result<Vec<Part>> {
    let context = || format!("failed to read {}", directory.display());
    let part = |path: &Path| Part {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        number: attribute(path, "dev").unwrap_or_default(),
        holder: fs::read_dir(path.join("holders"))
            .ok()
            .and_then(|mut holders| holders.next())
            .and_then(|holder| holder.ok())
            .map(|holder| holder.file_name().to_string_lossy().into_owned()),
    };
    let mut parts = vec![part(directory)];
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.join("partition").exists() {
            parts.push(part(&path));
        }
    }
    parts[1..].sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}

/// Returns the mount point of `part`. Some file systems (btrfs) have device numbers of their own, so the source counts too.
fn mounted(mountinfo: &str, part: &Part) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let fields: Vec<_> = mount.split(' ').collect();
        let source = source.split(' ').nth(1)?;
        let same = *fields.get(2)? == part.number || source.strip_prefix("/dev/") == Some(&part.name);
        // A space in a mount point is written \040.
        same.then(|| fields.get(4).map(|point| point.replace("\\040", " ")))?
    })
}

fn swapped(swaps: &str, name: &str) -> bool {
    swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .any(|path| path.strip_prefix("/dev/") == Some(name))
}

/// Returns the content of a one-line file below `directory`; nothing if it is missing or empty.
fn attribute(directory: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(directory.join(name)).ok()?;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

/// SCSI and NVMe disks have vendor and model, cards a name, loop and mapped devices a backing file or name.
fn model(directory: &Path) -> String {
    let vendor = attribute(directory, "device/vendor").filter(|vendor| !vendor.starts_with("0x"));
    let model = attribute(directory, "device/model").or_else(|| attribute(directory, "device/name"));
    match (vendor, model) {
        (Some(vendor), Some(model)) => format!("{vendor} {model}"),
        (None, Some(model)) => model,
        _ => attribute(directory, "loop/backing_file")
            .map(|file| format!("loop device of {file}"))
            .or_else(|| attribute(directory, "dm/name"))
            .unwrap_or_else(|| "unknown model".to_owned()),
    }
}

#[cfg(test)]
impl Disk {
    /// A disk for tests of its surroundings.
    pub(super) fn example() -> Self {
        Disk {
            path: "/dev/sdx".into(),
            name: "sdx".into(),
            model: "Acme Stick".into(),
            size: Bytes::gib(8),
            removable: true,
            offloads_zeros: false,
            number: "8:16".into(),
            sequence: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    /// A machine with a disk `sdx` (8:16) of 16 GiB with two partitions, and nothing else.
    fn machine() -> (tempfile::TempDir, System) {
        let root = tempfile::tempdir().unwrap();
        let system = System::example(root.path());
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (name, number) in [("sdx", "8:16"), ("sdx/sdx1", "8:17"), ("sdx/sdx2", "8:18")] {
            write(&format!("sys/devices/{name}/dev"), &format!("{number}\n"));
            write(&format!("sys/devices/{name}/size"), "33554432\n");
            write(&format!("sys/devices/{name}/ro"), "0\n");
            fs::create_dir_all(root.path().join(format!("sys/devices/{name}/holders"))).unwrap();
            let link = root.path().join("sys/dev/block").join(number);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(root.path().join("sys/devices").join(name), link).unwrap();
        }
        write("sys/devices/sdx/sdx1/partition", "1\n");
        write("sys/devices/sdx/sdx2/partition", "2\n");
        write("sys/devices/sdx/queue/logical_block_size", "512\n");
        write("sys/devices/sdx/queue/write_zeroes_max_bytes", "0\n");
        write("sys/devices/sdx/device/vendor", "Acme    \n");
        write("sys/devices/sdx/device/model", "Stick  3000 \n");
        write("sys/devices/sdx/removable", "1\n");
        write("proc/swaps", "Filename Type Size Used Priority\n");
        write("proc/self/mountinfo", "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n");
        (root, system)
    }

    fn disk(system: &System) -> Result<Disk> {
        Disk::from_sysfs(system, Path::new("/dev/sdx"), "8:16")
    }

    fn refusal(system: &System) -> (String, String) {
        let error = disk(system).unwrap().check_unused(system).unwrap_err();
        assert_eq!(error.exit(), Exit::Image);
        (error.to_string(), error.next_step().unwrap().to_owned())
    }

    #[test]
    fn unused_disk_is_described() {
        let (_root, system) = machine();
        let disk = disk(&system).unwrap();
        assert_eq!(disk.to_string(), "Acme Stick 3000, 16 GiB, removable");
        assert_eq!((disk.name.as_str(), disk.offloads_zeros), ("sdx", false));
        disk.check_unused(&system).unwrap();
        disk.check_fits(Bytes::gib(16)).unwrap();
        assert_eq!(
            disk.check_fits(Bytes::gib(17)).unwrap_err().to_string(),
            "the image of 17 GiB does not fit on `/dev/sdx`, which has 16 GiB"
        );
    }

    #[test]
    fn mounted_partition_protects_the_disk() {
        let (root, system) = machine();
        let mountinfo = root.path().join("proc/self/mountinfo");
        fs::write(&mountinfo, "40 22 8:18 / /media/my\\040stick rw - vfat /dev/sdx2 rw\n").unwrap();
        let (message, help) = refusal(&system);
        assert_eq!(message, "`/dev/sdx` has `sdx2`, which is mounted at `/media/my stick`");
        assert_eq!(help, "unmount it: `umount '/media/my stick'`");
        fs::write(&mountinfo, "40 22 0:44 /@ /mnt rw shared:2 - btrfs /dev/sdx1 rw\n").unwrap();
        assert_eq!(refusal(&system).0, "`/dev/sdx` has `sdx1`, which is mounted at `/mnt`");
        fs::write(&mountinfo, "40 22 8:16 / /mnt rw - ext4 /dev/sdx rw\n").unwrap();
        assert_eq!(refusal(&system).0, "`/dev/sdx` is mounted at `/mnt`");
    }

    #[test]
    fn swap_and_holders_protect_the_disk() {
        let (root, system) = machine();
        let swaps = root.path().join("proc/swaps");
        fs::write(&swaps, "Filename Type Size Used Priority\n/dev/sdx1 partition 1 0 -2\n").unwrap();
        let (message, help) = refusal(&system);
        assert_eq!(message, "`/dev/sdx` has `sdx1`, which is used as swap");
        assert_eq!(help, "stop it: `swapoff /dev/sdx1`");
        fs::write(&swaps, "Filename Type Size Used Priority\n").unwrap();
        fs::write(root.path().join("sys/devices/sdx/sdx2/holders/dm-0"), "").unwrap();
        assert_eq!(refusal(&system).0, "`/dev/sdx` has `sdx2`, which is part of `dm-0`");
    }

    #[test]
    fn unsuitable_devices_are_refused() {
        let (root, system) = machine();
        let partition = Disk::from_sysfs(&system, Path::new("/dev/sdx1"), "8:17").unwrap_err();
        assert_eq!(partition.to_string(), "`/dev/sdx1` is a partition, not a disk");
        assert_eq!(partition.next_step(), Some("the disk is `/dev/sdx`"));
        for (file, value, message) in [
            ("size", "0", "`/dev/sdx` is empty"),
            (
                "queue/logical_block_size",
                "4096",
                "`/dev/sdx` has sectors of 4096 bytes; only 512 are supported",
            ),
            ("ro", "1", "`/dev/sdx` is read-only"),
        ] {
            fs::write(root.path().join("sys/devices/sdx").join(file), value).unwrap();
            assert_eq!(disk(&system).unwrap_err().to_string(), message);
        }
    }
}
