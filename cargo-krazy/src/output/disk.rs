//! What the kernel knows about a disk, and whether it is free to be overwritten.
//!
//! Source: Linux `Documentation/ABI/stable/sysfs-block`, proc(5) for mountinfo and swaps.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};

use crate::failure::{Exit, Failure};

/// The kernel's two windows.
#[derive(Clone, Debug)]
pub struct System {
    sys: PathBuf,
    proc: PathBuf,
}

impl System {
    /// Those of this machine.
    pub fn host() -> Self {
        System { sys: "/sys".into(), proc: "/proc".into() }
    }

    /// Folders laid out like /sys and /proc.
    #[cfg(test)]
    fn example(root: &Path) -> Self {
        System { sys: root.join("sys"), proc: root.join("proc") }
    }
}

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The device node.
    pub path: PathBuf,
    /// The kernel's name, such as `sdb`.
    pub name: String,
    /// Vendor and model, or what else tells it apart.
    pub model: String,
    /// Its capacity.
    pub size: Bytes,
    /// Whether the kernel takes the medium to be removable. Card readers and USB disks differ in what they say.
    pub removable: bool,
    /// Whether the disk can be told to write zeros without being sent them.
    pub offloads_zeros: bool,
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
    /// Looks at the block device `path`. Partitions, read-only disks and disks with sectors other than
    /// 512 bytes, whose partition table would be read differently, are refused.
    pub fn examine(system: &System, path: &Path) -> Result<Self> {
        let metadata =
            fs::metadata(path).with_context(|| format!("failed to look at `{}`", path.display()))?;
        // Source: makedev(3), glibc's encoding of 64-bit device numbers.
        let number = metadata.rdev();
        let major = ((number >> 32) & 0xffff_f000) | ((number >> 8) & 0xfff);
        let minor = ((number >> 12) & 0xffff_ff00) | (number & 0xff);
        Self::from_sysfs(system, path, &format!("{major}:{minor}"))
    }

    fn from_sysfs(system: &System, path: &Path, number: &str) -> Result<Self> {
        let shown = path.display();
        let entry = system.sys.join("dev/block").join(number);
        let folder = fs::canonicalize(&entry)
            .with_context(|| format!("the kernel does not describe `{shown}` in {}", entry.display()))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if folder.join("partition").exists() {
            let parent = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            let failure = Failure::new(Exit::Image, format!("`{shown}` is a partition, not a disk"));
            return Err(failure.help(format!("the disk is `/dev/{parent}`")).into());
        }
        if attribute(&folder, "ro").as_deref() == Some("1") {
            let failure = Failure::new(Exit::Image, format!("`{shown}` is read-only"));
            return Err(failure.help("some cards and adapters have a lock switch").into());
        }
        let sector = attribute(&folder, "queue/logical_block_size").unwrap_or_default();
        if sector != SECTOR_SIZE.to_string() {
            let text = format!("`{shown}` has sectors of {sector} bytes; only {SECTOR_SIZE} are supported");
            return Err(Failure::new(Exit::Image, text).into());
        }
        // The attribute counts 512-byte units whatever the disk's sectors are.
        let size = attribute(&folder, "size").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if size == 0 {
            let failure = Failure::new(Exit::Image, format!("`{shown}` is empty"));
            return Err(failure.help("is a medium inserted?").into());
        }
        Ok(Disk {
            path: path.to_owned(),
            model: model(&folder),
            size: Bytes(size.saturating_mul(SECTOR_SIZE)),
            removable: attribute(&folder, "removable").as_deref() == Some("1"),
            offloads_zeros: attribute(&folder, "queue/write_zeroes_max_bytes").is_some_and(|max| max != "0"),
            sequence: attribute(&folder, "diskseq"),
            number: number.to_owned(),
            name,
        })
    }

    /// Fails when an image of `len` bytes is larger than the disk.
    pub fn refuse_if_smaller(&self, len: Bytes) -> Result<(), Failure> {
        if self.size >= len {
            return Ok(());
        }
        let text =
            format!("the image of {len} does not fit on `{}`, which has {}", self.path.display(), self.size);
        Err(Failure::new(Exit::Image, text).help("make it smaller with `--size`"))
    }

    /// Fails when the disk or one of its partitions is mounted, swapped to, or part of something else.
    pub fn refuse_if_used(&self, system: &System) -> Result<()> {
        let folder = fs::canonicalize(system.sys.join("dev/block").join(&self.number))
            .with_context(|| format!("`{}` went away", self.path.display()))?;
        let read = |file: &str| {
            let path = system.proc.join(file);
            fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        let (mounts, swaps) = (read("self/mountinfo")?, read("swaps")?);
        for part in parts(&folder)? {
            let use_ = mounted(&mounts, &part)
                .map(|point| (format!("mounted at `{point}`"), format!("unmount it: `umount '{point}'`")))
                .or_else(|| {
                    let swapped = swapped(&swaps, &part.name);
                    swapped.then(|| {
                        ("used as swap".to_owned(), format!("stop it: `swapoff /dev/{}`", part.name))
                    })
                })
                .or_else(|| {
                    let holder = part.holder.as_ref()?;
                    Some((format!("part of `{holder}`"), format!("stop `{holder}` first")))
                });
            if let Some((how, help)) = use_ {
                let which =
                    if part.name == self.name { "is" } else { &format!("has `{}`, which is", part.name) };
                let text = format!("`{}` {which} {how}", self.path.display());
                return Err(Failure::new(Exit::Image, text).help(help).into());
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

/// The disk in `folder`, then its partitions.
fn parts(folder: &Path) -> Result<Vec<Part>> {
    let context = || format!("failed to read {}", folder.display());
    let part = |path: &Path| Part {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        number: attribute(path, "dev").unwrap_or_default(),
        holder: fs::read_dir(path.join("holders"))
            .ok()
            .and_then(|mut holders| holders.next())
            .and_then(|holder| holder.ok())
            .map(|holder| holder.file_name().to_string_lossy().into_owned()),
    };
    let mut parts = vec![part(folder)];
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.join("partition").exists() {
            parts.push(part(&path));
        }
    }
    parts[1..].sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}

/// Where `part` is mounted. Some file systems (btrfs) have device numbers of their own, so the source counts too.
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

/// A one-line file below `folder`; none if it is missing or empty.
fn attribute(folder: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join(name)).ok()?;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

/// SCSI and NVMe disks have vendor and model, cards a name, loop and mapped devices what is behind them.
fn model(folder: &Path) -> String {
    let vendor = attribute(folder, "device/vendor").filter(|vendor| !vendor.starts_with("0x"));
    let model = attribute(folder, "device/model").or_else(|| attribute(folder, "device/name"));
    match (vendor, model) {
        (Some(vendor), Some(model)) => format!("{vendor} {model}"),
        (None, Some(model)) => model,
        _ => attribute(folder, "loop/backing_file")
            .map(|file| format!("loop device of {file}"))
            .or_else(|| attribute(folder, "dm/name"))
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
        let error = disk(system).unwrap().refuse_if_used(system).unwrap_err();
        assert_eq!(Failure::exit_of(&error), Exit::Image);
        (error.to_string(), Failure::help_of(&error).unwrap().to_owned())
    }

    #[test]
    fn a_free_disk_is_described() {
        let (_root, system) = machine();
        let disk = disk(&system).unwrap();
        assert_eq!(disk.to_string(), "Acme Stick 3000, 16 GiB, removable");
        assert_eq!((disk.name.as_str(), disk.offloads_zeros), ("sdx", false));
        disk.refuse_if_used(&system).unwrap();
        disk.refuse_if_smaller(Bytes::gib(16)).unwrap();
        assert_eq!(
            disk.refuse_if_smaller(Bytes::gib(17)).unwrap_err().to_string(),
            "the image of 17 GiB does not fit on `/dev/sdx`, which has 16 GiB"
        );
    }

    #[test]
    fn a_mounted_partition_protects_the_disk() {
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
        assert_eq!(Failure::help_of(&partition), Some("the disk is `/dev/sdx`"));
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
