//! The sandbox of a service, prepared by init and entered by the child between fork and exec.
//!
//! First, as root, the child gets mounts of its own and the descriptor of its Landlock rules, which refer to these mounts;
//! then, when it has the account of its service, it enters the rules and the filters of system calls. Both by system calls
//! only.

use std::io;
use std::path::Path;

use krazy_boot::manifest::sandbox::Sandbox;
use rustix::fs::OFlags;

use super::capabilities::Capabilities;
use super::landlock::{self, Rules};
use super::private_mounts::{self, PrivateMounts};
use super::run_files;
use super::seccomp::{self, Filters};

/// The mechanisms of the kernel that sandboxes need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Support {
    /// Filters of system calls that log.
    pub(crate) filters: bool,
    /// The version of Landlock's interface; none is 0 or less.
    pub(crate) landlock: i64,
    /// Mount namespaces.
    pub(crate) mounts: bool,
}

/// A service whose sandbox is prepared.
#[derive(Debug)]
pub(crate) struct Confined<'a> {
    /// Its restrictions.
    pub(crate) sandbox: Sandbox,
    /// Capabilities that it keeps, which allow some system calls.
    pub(crate) capabilities: Capabilities,
    /// Directories that it may change.
    pub(crate) directories: &'a [&'a Path],
    /// The directory with its device nodes.
    pub(crate) devices: &'a Path,
    /// True if it was given files of sysfs to write.
    pub(crate) writes_sysfs: bool,
}

/// The sandbox of a process that is about to start.
#[derive(Debug)]
pub(crate) struct Confinement {
    mounts: Option<PrivateMounts>,
    rules: Option<Rules>,
    filters: Option<Filters>,
}

/// Directories of everybody that a service may write in, which may be private.
const SCRATCH: [&str; 2] = ["/tmp", "/dev/shm"];

/// Trees where permissions decide which of the existing files a service may write.
const FILES: [&str; 2] = ["/dev", "/proc"];

/// The same for a service with files of sysfs. Links of classes and buses lead to devices.
const SYSFS_FILES: [&str; 3] = ["/sys/devices", "/sys/class", "/sys/bus"];

/// Makes the empty file that covers files of `/proc`.
pub(crate) fn prepare() -> io::Result<()> {
    let empty = Path::new(private_mounts::EMPTY);
    run_files::make_own_directory()?;
    let mode = rustix::fs::Mode::empty();
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(empty, flags, mode)?;
    Ok(())
}

impl Support {
    /// A kernel without any of them.
    pub(crate) const NONE: Self = Support { filters: false, landlock: 0, mounts: false };

    /// Asks the kernel.
    pub(crate) fn of_this_kernel() -> Self {
        Support {
            filters: seccomp::is_supported(),
            landlock: landlock::version(),
            mounts: Path::new("/proc/self/ns/mnt").exists(),
        }
    }

    /// Returns a message for each restriction that is in effect for no service.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.filters {
            problems.push(
                "services may make every system call: this kernel has no seccomp (CONFIG_SECCOMP_FILTER)"
                    .to_owned(),
            );
        }
        if self.landlock < 1 {
            problems.push(
                "services may write wherever permissions allow it: this kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, \
                 and `landlock` in `lsm=`)"
                    .to_owned(),
            );
        } else if !landlock::has_scopes(self.landlock) {
            problems.push(format!(
                "services reach abstract sockets of all others: this kernel has version {} of Landlock, and version 6 \
                 (Linux 6.12) restricts them",
                self.landlock
            ));
        }
        if !self.mounts {
            problems.push(
                "services share /tmp, /dev and /proc: this kernel has no mount namespaces (CONFIG_NAMESPACES)"
                    .to_owned(),
            );
        }
        problems
    }
}

impl Confinement {
    /// Prepares the sandbox as far as the kernel supports it.
    pub(crate) fn new(service: &Confined<'_>, support: Support) -> io::Result<Self> {
        let Confined { sandbox, capabilities, directories, devices, writes_sysfs } = *service;
        let mut rules = Rules::new(support.landlock, sandbox.private_ipc);
        if let Some(rules) = rules.as_mut().filter(|_| sandbox.writes) {
            let scratch = SCRATCH.map(Path::new);
            let directories: Vec<&Path> = directories.iter().copied().chain(scratch).collect();
            let sysfs = if writes_sysfs { &SYSFS_FILES[..] } else { &[] };
            let files: Vec<&Path> = FILES.iter().chain(sysfs).map(Path::new).collect();
            rules.allow_writing_only(support.landlock, &directories, &files)?;
        }
        let mounts = if support.mounts { PrivateMounts::new(sandbox, devices, writes_sysfs)? } else { None };
        let filters = if support.filters { Filters::new(sandbox, capabilities) } else { None };
        Ok(Confinement { mounts, rules, filters })
    }

    /// Gives the calling process its mounts, as root. Returns the descriptor for [`Confinement::seal`].
    pub(crate) fn separate(&self) -> io::Result<Option<i32>> {
        if let Some(mounts) = &self.mounts {
            mounts.enter()?;
        }
        self.rules.as_ref().map_or(Ok(None), Rules::open)
    }

    /// Restricts the calling process irrevocably. It must have set `PR_SET_NO_NEW_PRIVS` before.
    pub(crate) fn seal(&self, ruleset: Option<i32>) -> io::Result<()> {
        if let Some(ruleset) = ruleset {
            landlock::enter(ruleset)?;
        }
        self.filters.as_ref().map_or(Ok(()), Filters::install)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_that_is_missing_is_told() {
        let full = Support { filters: true, landlock: 6, mounts: true };
        assert!(full.problems().is_empty());
        let older = Support { landlock: 5, ..full };
        assert!(older.problems()[0].contains("version 5 of Landlock"));
        let none = Support::NONE;
        let problems = none.problems();
        for (problem, word) in problems.iter().zip(["seccomp", "Landlock", "mount namespaces"]) {
            assert!(problem.contains(word), "{problem}");
        }
        assert_eq!(problems.len(), 3);
        let service = Confined {
            sandbox: Sandbox::FULL,
            capabilities: Capabilities(0),
            directories: &[],
            devices: Path::new("/run"),
            writes_sysfs: false,
        };
        let confinement = Confinement::new(&service, none).unwrap();
        assert!(confinement.mounts.is_none() && confinement.rules.is_none() && confinement.filters.is_none());
    }
}
