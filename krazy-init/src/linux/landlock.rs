//! Restricts where a service may write, and whom it reaches, by Landlock. Source: Linux
//! `Documentation/userspace-api/landlock.rst`.
//!
//! The root is read-only, and the home of a service is closed to others already; this protects everything else that
//! happens to be writable from a service that was taken over.
//!
//! Reading is not restricted: everything outside the root that a service could read is either another account's, hidden by
//! its mounts, or was placed on `/data` for services to read.
//!
//! [`deny_everything`] is for processes that need no files at all.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

const WRITE_FILE: u64 = 1 << 1;
/// Remove and create all kinds of entries: directories, files, devices, sockets, pipes, links.
const CHANGE_DIRECTORY: u64 = 0x1ff0;
/// Since version 2: move between directories.
const REFER: u64 = 1 << 13;
/// Since version 3.
const TRUNCATE: u64 = 1 << 14;
/// Since version 5: requests to devices.
const IOCTL_DEVICE: u64 = 1 << 15;
/// All rights of the first version: those above, execute, read files, and read directories.
const FIRST_RIGHTS: u64 = 0x1fff;
/// Since version 4: bind and connect TCP sockets.
const TCP: u64 = 0b11;
/// Since version 6: abstract Unix sockets, and signals, to processes outside.
const SCOPES: u64 = 0b11;

/// The version that has [`SCOPES`].
const SCOPES_VERSION: i64 = 6;

/// Rules that a child process can apply to itself.
#[derive(Debug)]
pub(crate) struct Rules {
    ruleset: Ruleset,
    /// Paths, and what is allowed below them.
    paths: Vec<(CString, u64)>,
}

/// The kernel's `struct landlock_ruleset_attr`. Earlier versions have a prefix of it.
#[repr(C)]
#[derive(Debug, Default)]
struct Ruleset {
    files: u64,
    network: u64,
    scopes: u64,
}

/// The kernel's `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// Returns the version of the kernel's interface; none is 0 or less.
pub(crate) fn version() -> i64 {
    // SAFETY: with this flag the call takes no attributes.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u64>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    }
}

/// Returns true if this version restricts abstract sockets and signals.
pub(crate) fn has_scopes(version: i64) -> bool {
    version >= SCOPES_VERSION
}

impl Rules {
    /// Rules for a kernel of this `version`; `None` if they would restrict nothing there.
    pub(crate) fn new(version: i64, is_scoped: bool) -> Option<Self> {
        let scopes = if is_scoped && has_scopes(version) { SCOPES } else { 0 };
        let rules = Rules { ruleset: Ruleset { scopes, ..Ruleset::default() }, paths: Vec::new() };
        (version >= 1).then_some(rules)
    }

    /// Allows all changes below `directories`, and writing to what exists below `files`, and denies other changes. A path
    /// that does not exist needs no rule.
    pub(crate) fn allow_writing_only(
        &mut self,
        version: i64,
        directories: &[&Path],
        files: &[&Path],
    ) -> io::Result<()> {
        let truncate = if version >= 3 { TRUNCATE } else { 0 };
        let refer = if version >= 2 { REFER } else { 0 };
        self.ruleset.files = WRITE_FILE | CHANGE_DIRECTORY | refer | truncate;
        let all = directories.iter().map(|path| (path, self.ruleset.files));
        for (path, allowed) in all.chain(files.iter().map(|path| (path, WRITE_FILE | truncate))) {
            self.paths.push((CString::new(path.as_os_str().as_bytes())?, allowed));
        }
        Ok(())
    }

    /// Returns the descriptor of these rules in the mounts that the calling process has, for [`enter`]. By system calls
    /// only: it runs between fork and exec, as root. The descriptor closes on exec.
    pub(crate) fn open(&self) -> io::Result<Option<i32>> {
        let Ruleset { files, scopes, .. } = self.ruleset;
        if files == 0 && scopes == 0 {
            return Ok(None);
        }
        // The first version knows the first field only.
        let size = if scopes == 0 { size_of_val(&files) } else { size_of::<Ruleset>() };
        // SAFETY: the structure has the kernel's layout and `size` bytes of it are valid.
        let ruleset = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &self.ruleset, size, 0) };
        let ruleset =
            i32::try_from(ruleset).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        for (path, allowed) in &self.paths {
            // SAFETY: the path ends with NUL.
            let parent = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
            if parent < 0 {
                match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::ENOENT) => continue,
                    error => return Err(error),
                }
            }
            let rule = PathBeneath { allowed: *allowed, parent };
            // SAFETY: the structure has the kernel's layout and both descriptors are open.
            let result =
                unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the descriptor is this function's.
            unsafe { libc::close(parent) };
        }
        Ok(Some(ruleset))
    }
}

/// Takes all rights that this version knows from the calling process: to files, to TCP ports, and to reach processes
/// outside. It must have set `PR_SET_NO_NEW_PRIVS` before.
pub(crate) fn deny_everything(version: i64) -> io::Result<()> {
    let since = |first, rights| if version >= first { rights } else { 0 };
    let files = FIRST_RIGHTS | since(2, REFER) | since(3, TRUNCATE) | since(5, IOCTL_DEVICE);
    let ruleset = Ruleset { files, network: since(4, TCP), scopes: since(SCOPES_VERSION, SCOPES) };
    // Earlier versions know the first fields only.
    let size = match version {
        ..4 => 8,
        4 | 5 => 16,
        _ => size_of::<Ruleset>(),
    };
    // SAFETY: the structure has the kernel's layout and `size` bytes of it are valid.
    let ruleset = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &ruleset, size, 0) };
    let ruleset = i32::try_from(ruleset).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    let entered = enter(ruleset);
    // SAFETY: the descriptor is this function's.
    unsafe { libc::close(ruleset) };
    entered
}

/// Restricts the calling process irrevocably. It must have set `PR_SET_NO_NEW_PRIVS` before.
pub(crate) fn enter(ruleset: i32) -> io::Result<()> {
    // SAFETY: a system call on integers.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
