//! A trial of a root alone, on a board where neither firmware nor [`launcher`](super::launcher) can start the other
//! slot's kernel: this slot's kernel continues with the other slot's root.
//!
//! That root starts as if its own kernel had started it: the kernel command line names its slot, and the modules of the
//! running kernel are in its `/lib/modules`. Its kernel, initramfs, device tree and command line are not tried.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use krazy_boot::boot::cmdline::{CommandLine, ROOT_PARAMETER, SLOT_PARAMETER};
use krazy_boot::manifest::{self, Manifest};
use rustix::mount::{MountFlags, UnmountFlags};

use super::root::{self, MountRootError, SYSROOT};
use crate::console::Console;
use crate::linux::block::Disk;
use crate::linux::{modules, mounts};
use crate::slots::Slots;

/// The mount point of the running kernel's own root.
const OWN_ROOT: &str = "/ownroot";

/// The kernel's command line, and the file that is mounted over it.
const COMMAND_LINE: &str = "/proc/cmdline";
const REPLACEMENT: &str = "/cmdline";

/// The directory of modules in a root.
const MODULES: &str = "lib/modules";

/// The reason why a root cannot be tried with the running kernel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootTrialError {
    /// The command line cannot be replaced.
    #[error("{COMMAND_LINE} cannot be replaced: {0}")]
    CommandLine(#[source] io::Error),
    /// The running kernel's own root cannot be mounted.
    #[error("{0}: {1}")]
    OwnRoot(PathBuf, #[source] MountRootError),
    /// The running kernel's own root stays mounted.
    #[error("{OWN_ROOT}: {0}")]
    Unmount(#[source] io::Error),
    /// The root has no mount point for modules.
    #[error("it has no directory /{MODULES}, for the modules of the kernel {0}")]
    NoMountPoint(String),
    /// The modules cannot be copied.
    #[error("{0} cannot be copied: {1}")]
    Copy(PathBuf, #[source] io::Error),
}

/// Starts the armed trial if the first stage has to, and returns the command line to continue with. `own` is the root
/// that the kernel's command line names.
pub(crate) fn start(own: &Path, line: &CommandLine, console: &mut Console) -> Option<CommandLine> {
    let slots = Slots::of(&Disk::of_partition(own)?, line.slot()?);
    let started = slots.and_then(|slots| slots.map_or(Ok(None), |slots| slots.start_trial()));
    let started = started.unwrap_or_else(|error| {
        console.log(&format!("the other slot is not tried: {error}"));
        None
    })?;
    let slot = started.slot;
    console.log(&format!("{started} with the kernel of slot {}", !slot));
    let moved = line.moved_to(slot);
    if moved.is_none() {
        console.log(&format!(
            "no trial: the command line has {SLOT_PARAMETER} but no {ROOT_PARAMETER}=PARTUUID=…"
        ));
    }
    moved
}

/// Mounts `line` over the kernel's command line, for every program that reads it.
pub(crate) fn replace_command_line(line: &CommandLine) -> Result<(), RootTrialError> {
    fs::write(REPLACEMENT, format!("{line}\n"))
        .and_then(|()| Ok(rustix::mount::mount_bind(REPLACEMENT, COMMAND_LINE)?))
        .map_err(RootTrialError::CommandLine)
}

/// Provides the root at [`SYSROOT`] with the modules of the running kernel, which are in the root `own`. A root that was
/// built with the same kernel has them already. They are copied into memory, because the next update writes to `own`.
pub(crate) fn provide_modules(own: &Path, kind: Option<&str>) -> Result<(), RootTrialError> {
    if let Err(error) = root::mount(own, OWN_ROOT, kind) {
        // The fallback from a root that cannot be mounted: modules of the same release are the best there are.
        let modules = Path::new(SYSROOT).join(MODULES).join(modules::release());
        return match modules.is_dir() {
            true => Ok(()),
            false => Err(RootTrialError::OwnRoot(own.to_owned(), error)),
        };
    }
    let provided = provide(Path::new(OWN_ROOT), Path::new(SYSROOT));
    let unmounted = rustix::mount::unmount(OWN_ROOT, UnmountFlags::DETACH);
    provided?;
    unmounted.map_err(|error| RootTrialError::Unmount(error.into()))
}

fn provide(own: &Path, other: &Path) -> Result<(), RootTrialError> {
    let release = modules::release();
    let from = own.join(MODULES).join(&release);
    if !from.is_dir() || have_same_kernel(own, other) {
        return Ok(());
    }
    let to = other.join(MODULES);
    if !to.is_dir() {
        return Err(RootTrialError::NoMountPoint(release));
    }
    let flags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
    mounts::mount_at("tmpfs", &to.to_string_lossy(), "tmpfs", flags, "mode=0755,size=50%")
        .and_then(|()| copy(&from, &to.join(release)))
        .map_err(|error| RootTrialError::Copy(from, error))
}

/// Returns true if both manifests name the same kernel.
fn have_same_kernel(own: &Path, other: &Path) -> bool {
    let kernel = |root: &Path| {
        let json = fs::read(root.join(manifest::PATH)).ok()?;
        Some(Manifest::from_json(&json).ok()?.kernel.sha256)
    };
    kernel(own).is_some_and(|own| kernel(other) == Some(own))
}

/// Copies directories and files.
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
    fn only_a_root_of_another_kernel_needs_modules() {
        let release = modules::release();
        let own = root("1a", &[&format!("{release}/kernel/x.ko")]);
        assert!(provide(own.path(), root("1a", &[]).path()).is_ok());
        let error = provide(own.path(), root("1b", &[]).path()).unwrap_err().to_string();
        assert!(error.starts_with("it has no directory /lib/modules, "), "{error}");
        // A kernel with everything built in has no modules.
        assert!(provide(root("1c", &[]).path(), root("1b", &[]).path()).is_ok());
        assert!(!have_same_kernel(tempfile::tempdir().unwrap().path(), tempfile::tempdir().unwrap().path()));
    }

    #[test]
    fn whole_directories_are_copied() {
        let own = root("1a", &["6/kernel/drivers/x.ko", "6/modules.dep"]);
        let to = tempfile::tempdir().unwrap();
        copy(&own.path().join(MODULES), &to.path().join("copy")).unwrap();
        for name in ["6/kernel/drivers/x.ko", "6/modules.dep"] {
            assert_eq!(fs::read_to_string(to.path().join("copy").join(name)).unwrap(), name);
        }
    }
}
