//! Restricts where a service may write, by Landlock. Source: Linux `Documentation/userspace-api/landlock.rst`.
//!
//! The root is read-only, and the home of a service is closed to others already; this protects everything else that
//! happens to be writable from a service that was taken over.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

const WRITE_FILE: u64 = 1 << 1;
/// Remove and create all kinds of entries: directories, files, devices, sockets, pipes, links.
const CHANGE_DIRECTORY: u64 = 0x1ff0;
/// Since version 2: move between directories.
const REFER: u64 = 1 << 13;
/// Since version 3.
const TRUNCATE: u64 = 1 << 14;

/// A set of rules that a child process can apply to itself.
#[derive(Debug)]
pub(crate) struct Sandbox(OwnedFd);

/// The kernel's `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

impl Sandbox {
    /// Returns rules that allow all changes below `directories`, and writing to what exists below `files`; `None` on a
    /// kernel without Landlock.
    pub(crate) fn new(directories: &[&Path], files: &[&Path]) -> io::Result<Option<Self>> {
        // SAFETY: with this flag the call takes no attributes.
        let version = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                std::ptr::null::<u64>(),
                0usize,
                CREATE_RULESET_VERSION,
            )
        };
        let truncate = if version >= 3 { TRUNCATE } else { 0 };
        let refer = if version >= 2 { REFER } else { 0 };
        if version < 1 {
            return Ok(None);
        }
        let handled: u64 = WRITE_FILE | CHANGE_DIRECTORY | refer | truncate;
        // SAFETY: the first version of `struct landlock_ruleset_attr` is this one u64.
        let fd =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &handled, size_of_val(&handled), 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
        let sandbox = Sandbox(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        for directory in directories {
            sandbox.allow(directory, handled)?;
        }
        for file in files {
            sandbox.allow(file, WRITE_FILE | truncate)?;
        }
        Ok(Some(sandbox))
    }

    /// The descriptor for [`enter`].
    pub(crate) fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }

    fn allow(&self, path: &Path, allowed: u64) -> io::Result<()> {
        let target = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(target) => target,
            // A missing file needs no rule.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let rule = PathBeneath { allowed, parent: target.as_raw_fd() };
        // SAFETY: the structure has the kernel's layout and both descriptors are open.
        let result = unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, self.0.as_raw_fd(), RULE_PATH_BENEATH, &rule, 0)
        };
        if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Restricts the calling process irrevocably. It must have set `PR_SET_NO_NEW_PRIVS` before.
pub(crate) fn enter(descriptor: i32) -> io::Result<()> {
    // SAFETY: a system call on integers.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, descriptor, 0) };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
