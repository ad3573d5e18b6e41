//! The mounts of a service that is not root, in a namespace of its own. Source: mount_namespaces(7), proc(5), tmpfs(5).

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use krazy_boot::manifest::sandbox::Sandbox;
use libc::{MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, c_ulong};

/// An empty file that nobody may read, in place of files of `/proc`.
pub(crate) const EMPTY: &str = "/run/krazy/empty";

/// Files of `/proc` that tell about others: the kernel's command line, which may hold secrets, and keys.
const MASKED: [&CStr; 2] = [c"/proc/cmdline", c"/proc/keys"];

/// A private tmpfs may take this much. What is in it counts as memory of the service.
const TMP_OPTIONS: &CStr = c"mode=1777,size=25%";

const QUIET: c_ulong = MS_NOSUID | MS_NODEV | MS_NOEXEC;

/// Calls of mount(2), in order.
#[derive(Debug)]
pub(crate) struct PrivateMounts(Vec<Call>);

/// The arguments of one call.
#[derive(Debug)]
struct Call {
    source: CString,
    target: CString,
    kind: &'static CStr,
    flags: c_ulong,
    options: &'static CStr,
}

impl Call {
    fn new(
        source: &CStr,
        target: &CStr,
        kind: &'static CStr,
        flags: c_ulong,
        options: &'static CStr,
    ) -> Self {
        Call { source: source.to_owned(), target: target.to_owned(), kind, flags, options }
    }

    fn bind(source: &CStr, target: &CStr) -> Self {
        Call::new(source, target, c"", MS_BIND | MS_REC, c"")
    }

    fn remount(target: &CStr, flags: c_ulong) -> Self {
        Call::new(c"", target, c"", MS_REMOUNT | MS_BIND | flags, c"")
    }
}

impl PrivateMounts {
    /// The mounts of a service with these restrictions, whose device nodes are in `devices`. `None` if it shares those of
    /// init.
    pub(crate) fn new(sandbox: Sandbox, devices: &Path, writes_sysfs: bool) -> io::Result<Option<Self>> {
        if !sandbox.has_own_mounts() {
            return Ok(None);
        }
        // Nothing that is mounted here later shows elsewhere, and the reverse.
        let mut calls = vec![Call::new(c"", c"/", c"", MS_REC | MS_PRIVATE, c"")];
        if sandbox.hidden_processes {
            calls.push(Call::new(c"proc", c"/proc", c"proc", QUIET, c"hidepid=invisible"));
            let empty = CString::new(EMPTY)?;
            calls.extend(MASKED.map(|file| Call::bind(&empty, file)));
        }
        if sandbox.writes && !writes_sysfs {
            calls.push(Call::remount(c"/sys", MS_RDONLY | QUIET));
            calls.push(Call::remount(c"/sys/fs/cgroup", MS_RDONLY | QUIET));
        }
        if sandbox.private_devices {
            let devices = devices.as_os_str().as_bytes();
            if !sandbox.private_tmp {
                let shm = CString::new([devices, b"/shm"].concat())?;
                calls.push(Call::bind(c"/dev/shm", &shm));
            }
            calls.push(Call::bind(&CString::new(devices)?, c"/dev"));
            // Init adds nodes of devices that are plugged in later. `/run`, where they are, has no devices otherwise.
            calls.push(Call::remount(c"/dev", MS_RDONLY | MS_NOSUID | MS_NOEXEC));
            let options = c"newinstance,mode=0620,ptmxmode=0666";
            calls.push(Call::new(c"devpts", c"/dev/pts", c"devpts", MS_NOSUID | MS_NOEXEC, options));
        }
        if sandbox.private_tmp {
            let scratch = MS_NOSUID | MS_NODEV;
            calls.push(Call::new(c"tmpfs", c"/tmp", c"tmpfs", scratch, TMP_OPTIONS));
            calls.push(Call::new(c"tmpfs", c"/dev/shm", c"tmpfs", scratch, TMP_OPTIONS));
        }
        Ok(Some(PrivateMounts(calls)))
    }

    /// Gives the calling process these mounts, as root. By system calls only: it runs between fork and exec.
    pub(crate) fn enter(&self) -> io::Result<()> {
        // SAFETY: system calls on flags and on texts that end with NUL.
        unsafe {
            if libc::unshare(libc::CLONE_NEWNS) != 0 {
                return Err(io::Error::last_os_error());
            }
            for call in &self.0 {
                let Call { source, target, kind, flags, options } = call;
                let (source, kind) = (source.as_ptr(), kind.as_ptr());
                if libc::mount(source, target.as_ptr(), kind, *flags, options.as_ptr().cast()) != 0 {
                    match io::Error::last_os_error() {
                        // A file that this kernel lacks, such as /proc/keys, and a tree that is not mounted.
                        error if is_optional(call, &error) => {}
                        error => return Err(error),
                    }
                }
            }
            // It would keep init from repairing /boot, and services cannot read it anyway. It may not be mounted yet.
            libc::umount2(c"/boot".as_ptr(), libc::MNT_DETACH);
        }
        Ok(())
    }
}

/// Returns true if a service starts without this mount.
fn is_optional(call: &Call, error: &io::Error) -> bool {
    let is_masked = MASKED.contains(&call.target.as_c_str());
    // A kernel without terminals of this kind.
    let is_missing = call.kind == c"devpts" && error.raw_os_error() == Some(libc::ENODEV);
    let is_remount = call.flags & MS_REMOUNT != 0 && call.target.as_c_str() != c"/dev";
    is_missing
        || is_masked && error.raw_os_error() == Some(libc::ENOENT)
        || is_remount && error.raw_os_error() == Some(libc::EINVAL)
}
