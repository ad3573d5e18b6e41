//! A trial on a board whose firmware cannot start one: this slot's kernel goes on with the other slot's root.
//!
//! What is tried is that root and everything in it. It finds itself as if its own kernel had started it: the kernel
//! command line names its slot, and the modules of the kernel that runs are in its `/lib/modules`. Not tried are its
//! kernel, initramfs, device tree and command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use krazy_boot::boot::cmdline::{CommandLine, ROOT_PARAMETER, SLOT_PARAMETER};
use krazy_boot::manifest::{self, Manifest};
use rustix::mount::{MountFlags, UnmountFlags};

use super::root::{self, SYSROOT};
use crate::console::Console;
use crate::linux::block::Disk;
use crate::linux::{modules, mounts};
use crate::slots::Slots;

/// Where the root of the kernel that runs is mounted for a moment.
const OWN_ROOT: &str = "/ownroot";

/// Where the kernel tells its command line, and what is put in its place.
const COMMAND_LINE: &str = "/proc/cmdline";
const SHOWN_LINE: &str = "/cmdline";

/// Where a root has modules.
const MODULES: &str = "lib/modules";

/// Starts the trial that is armed, if it is for the first stage to start it: the command line to go on with. `own` is
/// the root that the kernel was told.
pub fn start_trial(own: &Path, line: &CommandLine, console: &mut Console) -> Option<CommandLine> {
    let slots = Slots::of(&Disk::of_partition(own)?, line.slot()?);
    let started = slots.and_then(|slots| slots.map_or(Ok(None), |slots| slots.start_trial()));
    let slot = started.unwrap_or_else(|error| {
        console.log(&format!("the other slot is not tried: {error}"));
        None
    })?;
    console.log(&format!("slot {slot} is tried with the kernel of slot {}", !slot));
    let moved = line.moved_to(slot);
    if moved.is_none() {
        console.log(&format!("{SLOT_PARAMETER} is there and {ROOT_PARAMETER}=PARTUUID=… is not: no trial"));
    }
    moved
}

/// Makes every program believe that `line` is the kernel's command line.
pub fn show(line: &CommandLine) -> io::Result<()> {
    fs::write(SHOWN_LINE, format!("{line}\n"))?;
    Ok(rustix::mount::mount_bind(SHOWN_LINE, COMMAND_LINE)?)
}

/// Gives the root at [`SYSROOT`] the modules of the kernel that runs, which are in the root `own`; it has them already
/// if it was made with the same kernel. They are copied into memory, so that `own` can be written when it is its turn.
pub fn lend_modules(own: &Path, kind: Option<&str>) -> Result<(), String> {
    root::mount_at(own, OWN_ROOT, kind).map_err(|why| format!("{}: {why}", own.display()))?;
    let lent = lend(Path::new(OWN_ROOT), Path::new(SYSROOT));
    let left = rustix::mount::unmount(OWN_ROOT, UnmountFlags::DETACH);
    lent.and(left.map_err(|error| format!("{OWN_ROOT}: {error}")))
}

fn lend(own: &Path, other: &Path) -> Result<(), String> {
    let release = modules::release();
    let from = own.join(MODULES).join(&release);
    if !from.is_dir() || same_kernel(own, other) {
        return Ok(());
    }
    let to = other.join(MODULES);
    if !to.is_dir() {
        return Err(format!("it has no folder /{MODULES}, for the modules of the kernel {release}"));
    }
    let flags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
    mounts::mount_at("tmpfs", &to.to_string_lossy(), "tmpfs", flags, "mode=0755,size=50%")
        .and_then(|()| copy(&from, &to.join(release)))
        .map_err(|error| format!("{} cannot be copied: {error}", from.display()))
}

/// Whether both roots were made with one kernel. A manifest that cannot be read says no.
fn same_kernel(own: &Path, other: &Path) -> bool {
    let kernel = |root: &Path| {
        let json = fs::read(root.join(manifest::PATH)).ok()?;
        Some(Manifest::from_json(&json).ok()?.kernel.sha256)
    };
    kernel(own).is_some_and(|own| kernel(other) == Some(own))
}

/// Copies folders and files.
fn copy(from: &Path, to: &PathBuf) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(kernel: &str, modules: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = crate::supervisor::plan::empty_manifest();
        manifest.kernel.sha256 = kernel.to_owned();
        let path = dir.path().join(manifest::PATH);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, manifest.to_json()).unwrap();
        for name in modules {
            let path = dir.path().join(MODULES).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        dir
    }

    #[test]
    fn modules_are_lent_to_a_root_of_another_kernel_only() {
        let release = modules::release();
        let own = root("1a", &[&format!("{release}/kernel/x.ko")]);
        assert_eq!(lend(own.path(), root("1a", &[]).path()), Ok(()));
        let error = lend(own.path(), root("1b", &[]).path()).unwrap_err();
        assert!(error.starts_with("it has no folder /lib/modules, "), "{error}");
        // A kernel with everything built in has nothing to lend.
        assert_eq!(lend(root("1c", &[]).path(), root("1b", &[]).path()), Ok(()));
        assert!(!same_kernel(tempfile::tempdir().unwrap().path(), tempfile::tempdir().unwrap().path()));
    }

    #[test]
    fn whole_folders_are_copied() {
        let own = root("1a", &["6/kernel/drivers/x.ko", "6/modules.dep"]);
        let to = tempfile::tempdir().unwrap();
        copy(&own.path().join(MODULES), &to.path().join("copy")).unwrap();
        for name in ["6/kernel/drivers/x.ko", "6/modules.dep"] {
            assert_eq!(fs::read_to_string(to.path().join("copy").join(name)).unwrap(), name);
        }
    }
}
