//! The kernel's programs for cgroups, as far as filters of ports need them. Source: bpf(2), Linux
//! `include/uapi/linux/bpf.h`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Commands of the system call.
const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;

/// A map whose keys are the numbers of its values.
const ARRAY: u32 = 2;
/// Since Linux 5.5: the values of an array can be mapped.
const MMAPABLE: u32 = 1 << 10;

/// A program that sees the address of a socket's system call.
const CGROUP_SOCK_ADDR: u32 = 18;

/// Programs of the groups above and below apply too.
const ALLOW_MULTI: u32 = 2;

/// The license. The program calls no function of the kernel, so any does.
const LICENSE: &std::ffi::CStr = c"MIT OR Apache-2.0";

/// One instruction. Source: RFC 9669, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    /// The operation.
    pub(crate) code: u8,
    /// The source register in the high half, the destination in the low one.
    pub(crate) registers: u8,
    /// An offset in memory, or the number of instructions to skip.
    pub(crate) offset: i16,
    /// A constant.
    pub(crate) constant: i32,
}

/// The hook that a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Hook {
    /// bind(2) of IPv4 sockets.
    Inet4Bind = 8,
    /// bind(2) of IPv6 sockets.
    Inet6Bind = 9,
}

/// Numbers that programs write and init reads: a map with one value, which is mapped.
#[derive(Debug)]
pub(crate) struct Cells {
    map: OwnedFd,
    start: *mut AtomicU32,
    count: usize,
}

impl Cells {
    /// Makes `count` cells, all zero.
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        #[derive(Default)]
        #[repr(C)]
        struct Attributes {
            kind: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            flags: u32,
        }
        let count = count.max(1);
        let value_size = u32::try_from(count.next_multiple_of(2) * 4).map_err(io::Error::other)?;
        let attributes = Attributes { kind: ARRAY, key_size: 4, value_size, max_entries: 1, flags: MMAPABLE };
        let map = bpf(MAP_CREATE, &attributes)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, which is no one else's.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                value_size as usize,
                protection,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Cells { map, start: start.cast(), count })
    }

    /// Returns the number of cell `index`, which is zero afterwards.
    pub(crate) fn take(&self, index: usize) -> u32 {
        if index >= self.count {
            return 0;
        }
        // SAFETY: the mapping has `count` cells and stays as long as this value.
        unsafe { &*self.start.add(index) }.swap(0, Ordering::Relaxed)
    }

    /// The map for the two instructions that load the address of a cell.
    pub(crate) fn descriptor(&self) -> i32 {
        self.map.as_raw_fd()
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.count.next_multiple_of(2) * 4) };
    }
}

/// Loads a program for `hook` and attaches it to a cgroup, where it stays as long as the cgroup.
pub(crate) fn attach(program: &[Instruction], hook: Hook, cgroup: &File) -> io::Result<()> {
    #[repr(C)]
    struct Load {
        kind: u32,
        length: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        expected_hook: u32,
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        hook: u32,
        flags: u32,
    }
    let mut name = [0; 16];
    name[..5].copy_from_slice(b"ports");
    let program = bpf(
        PROG_LOAD,
        &Load {
            kind: CGROUP_SOCK_ADDR,
            length: u32::try_from(program.len()).map_err(io::Error::other)?,
            instructions: program.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name,
            interface: 0,
            expected_hook: hook as u32,
        },
    )?;
    let descriptor = |file: i32| u32::try_from(file).map_err(io::Error::other);
    let attributes = Attach {
        target: descriptor(cgroup.as_raw_fd())?,
        program: descriptor(program.as_raw_fd())?,
        hook: hook as u32,
        flags: ALLOW_MULTI,
    };
    call(PROG_ATTACH, &attributes).map(drop)
}

/// Makes the system call for a command whose result is a descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: the structures of this module are beginnings of the kernel's, without padding; what they point to outlives
    // the call, and the kernel only reads it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}
