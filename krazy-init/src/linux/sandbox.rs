//! What a service may write, by Landlock. Source: Linux `Documentation/userspace-api/landlock.rst`.
//!
//! The root is read-only and other services' homes are closed to strangers already; this keeps a service that
//! was taken over from everything else that happens to be writable.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

const WRITE_FILE: u64 = 1 << 1;
/// Remove and make everything there is: folders, files, devices, sockets, pipes, links.
const CHANGE_FOLDER: u64 = 0x1ff0;
/// Since version 2: move between folders.
const REFER: u64 = 1 << 13;
/// Since version 3.
const TRUNCATE: u64 = 1 << 14;

/// A set of rules, ready for a child to take upon itself.
#[derive(Debug)]
pub(crate) struct Sandbox(OwnedFd);

/// The kernel's `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

impl Sandbox {
    /// Rules that allow all changes below `folders`, and writing to what exists below `files`. `None` on a kernel
    /// without Landlock.
    pub(crate) fn new(folders: &[&Path], files: &[&Path]) -> io::Result<Option<Self>> {
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
        let handled: u64 = WRITE_FILE | CHANGE_FOLDER | refer | truncate;
        // SAFETY: the first version of `struct landlock_ruleset_attr` is this one u64.
        let fd =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &handled, size_of_val(&handled), 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave this descriptor, and it fits, being one.
        let sandbox = Sandbox(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        for folder in folders {
            sandbox.allow(folder, handled)?;
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
        let folder = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(folder) => folder,
            // What is not there needs no rule.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let rule = PathBeneath { allowed, parent: folder.as_raw_fd() };
        // SAFETY: the structure has the kernel's layout and both descriptors are open.
        let result = unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, self.0.as_raw_fd(), RULE_PATH_BENEATH, &rule, 0)
        };
        if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Confines the calling process for good. It must have given up gaining rights before.
pub(crate) fn enter(descriptor: i32) -> io::Result<()> {
    // SAFETY: a system call on integers.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, descriptor, 0) };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
