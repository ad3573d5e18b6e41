//! Starting a kernel from a kernel: kexec_load(2) on arm64.
//!
//! The parts of the next kernel are placed in free memory ([`memory`]), and its device tree is that of the firmware, with
//! another command line and initramfs. kexec_file_load(2) would do most of this, but Debian's arm64 kernel lacks it.
//! Source: Linux `Documentation/arch/arm64/booting.rst`.
//!
//! A launcher runs with one processor, because Linux refuses to load a kernel while others run that it cannot switch off
//! ([`CommandLine::launcher`]).

mod memory;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::boot::device_tree::{self, Edit, TreeError};

use self::memory::FreeMemory;

/// Exists if the kernel can start another one.
const KEXEC_LOADED: &str = "/sys/kernel/kexec_loaded";
/// The device tree from the firmware.
const DEVICE_TREE: &str = "/sys/firmware/fdt";
/// The map of the physical memory.
const MEMORY: &str = "/proc/iomem";

/// Segments start and end at page boundaries; 64 KiB is the largest page size of arm64.
const PAGE_SIZE: u64 = 64 << 10;
/// A kernel starts at a multiple of this, plus its own offset.
const KERNEL_ALIGNMENT: u64 = 2 << 20;

/// A kernel to start.
#[derive(Clone, Debug)]
pub(crate) struct NextKernel {
    /// The uncompressed kernel.
    pub(crate) kernel: Vec<u8>,
    /// Its initramfs.
    pub(crate) initramfs: Vec<u8>,
    /// Its command line.
    pub(crate) command_line: CommandLine,
}

/// The reason why a kernel cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KexecError {
    /// A file of the running kernel cannot be read.
    #[error("{0}: {1}")]
    Read(&'static str, #[source] io::Error),
    /// The kernel is compressed, or for another architecture.
    #[error("it is not an uncompressed arm64 kernel")]
    Kernel,
    /// The device tree is malformed.
    #[error("the device tree cannot be changed: {0}")]
    DeviceTree(#[from] TreeError),
    /// No free memory is large enough for a part.
    #[error("there is no room in memory for {0} bytes")]
    Memory(u64),
    /// The running kernel rejects the segments.
    #[error("the running kernel refuses to load it: {0}")]
    Load(#[source] io::Error),
    /// The running kernel does not start the loaded one.
    #[error("the running kernel refuses to start it: {0}")]
    Start(#[source] io::Error),
}

/// A part of the next kernel in memory.
struct Segment {
    content: Vec<u8>,
    /// Its physical address.
    address: u64,
    /// The length of its memory in bytes, at least that of the content.
    len: u64,
}

/// Returns true if the running kernel can start another one.
pub(crate) fn is_possible() -> bool {
    cfg!(target_arch = "aarch64") && Path::new(KEXEC_LOADED).exists()
}

/// Loads `next`, which [`start`] then starts.
pub(crate) fn load(next: NextKernel) -> Result<(), KexecError> {
    let read = |path: &'static str| fs::read(path).map_err(|error| KexecError::Read(path, error));
    let iomem = read(MEMORY)?;
    let memory = FreeMemory::parse(&String::from_utf8_lossy(&iomem));
    let (entry, segments) = lay_out(next, &read(DEVICE_TREE)?, memory)?;
    load_segments(entry, &segments)
}

/// Stops this kernel and starts the loaded one. Returns only if that fails.
pub(crate) fn start() -> KexecError {
    // reboot(2) does not sync, and the next kernel starts with empty caches.
    rustix::fs::sync();
    match rustix::system::reboot(rustix::system::RebootCommand::Kexec) {
        Ok(()) => KexecError::Start(io::Error::other("the system call returned")),
        Err(error) => KexecError::Start(error.into()),
    }
}

/// Returns the address of the first instruction, and the segments.
fn lay_out(
    next: NextKernel,
    device_tree: &[u8],
    mut memory: FreeMemory,
) -> Result<(u64, Vec<Segment>), KexecError> {
    let image = Image::parse(&next.kernel).ok_or(KexecError::Kernel)?;
    let mut take = |len: u64, alignment: u64, offset: u64| {
        let len = len.max(1).next_multiple_of(PAGE_SIZE);
        memory.take(len, alignment, offset).map(|address| (address, len)).ok_or(KexecError::Memory(len))
    };
    let (kernel, kernel_len) = take(image.size, KERNEL_ALIGNMENT, image.offset)?;
    let initramfs_len = next.initramfs.len() as u64;
    let (initramfs, initramfs_memory) = take(initramfs_len, PAGE_SIZE, 0)?;
    let line = next.command_line.as_str();
    let device_tree = device_tree_with(device_tree, line, initramfs..initramfs + initramfs_len)?;
    // The kernel maps the tree as one block of 2 MiB, so it must not cross a boundary of that size.
    let (tree, tree_len) = take(device_tree.len() as u64, KERNEL_ALIGNMENT, 0)?;
    let (entry, entry_len) = take(PAGE_SIZE, PAGE_SIZE, 0)?;
    let segment = |content, address, len| Segment { content, address, len };
    let segments = vec![
        segment(next.kernel, kernel, kernel_len),
        segment(next.initramfs, initramfs, initramfs_memory),
        segment(device_tree, tree, tree_len),
        segment(trampoline(kernel, tree).to_vec(), entry, entry_len),
    ];
    Ok((entry, segments))
}

/// Returns `tree` with this command line and the addresses of the initramfs. Source: Devicetree Specification 0.4, section
/// 3.6; the properties of the initramfs are those of Linux.
fn device_tree_with(tree: &[u8], line: &str, initramfs: Range<u64>) -> Result<Vec<u8>, TreeError> {
    const NODE: &str = "/chosen";
    let line = [line.as_bytes(), &[0]].concat();
    let [start, end] = [initramfs.start, initramfs.end].map(u64::to_be_bytes);
    let properties: [(&'static str, &[u8]); 3] =
        [("bootargs", &line), ("linux,initrd-start", &start), ("linux,initrd-end", &end)];
    let mut tree = tree.to_vec();
    device_tree::edit(&mut tree, &properties.map(|(name, _)| Edit::RemoveProperty(NODE, name)))?;
    device_tree::insert(&tree, NODE, &properties)
}

/// The header of an arm64 kernel. Source: booting.rst, "Call the kernel image".
struct Image {
    /// The offset of its start from a multiple of 2 MiB.
    offset: u64,
    /// The memory that it needs from its start, in bytes.
    size: u64,
}

/// Offsets in the header.
const TEXT_OFFSET: usize = 8;
const IMAGE_SIZE: usize = 16;
const IMAGE_MAGIC: usize = 56;

/// No kernel needs more memory.
const MAX_IMAGE_SIZE: u64 = 1 << 32;

impl Image {
    fn parse(kernel: &[u8]) -> Option<Self> {
        let number = |offset: usize| Some(u64::from_le_bytes(*kernel.get(offset..)?.first_chunk()?));
        if kernel.get(IMAGE_MAGIC..IMAGE_MAGIC + 4)? != b"ARM\x64" {
            return None;
        }
        let (offset, size) = (number(TEXT_OFFSET)?, number(IMAGE_SIZE)?);
        let plausible =
            offset < KERNEL_ALIGNMENT && offset.is_multiple_of(PAGE_SIZE) && size < MAX_IMAGE_SIZE;
        (plausible && size >= kernel.len() as u64).then_some(Image { offset, size })
    }
}

/// Returns the first instructions: the address of the device tree in x0, zero in x1 to x3, and a jump to the kernel. The
/// addresses follow the code. Source: booting.rst.
fn trampoline(kernel: u64, device_tree: u64) -> [u8; 40] {
    let code: [u32; 6] = [
        0x5800_00c0, // ldr x0, 24 bytes on
        0x5800_00f1, // ldr x17, 28 bytes on
        0xaa1f_03e1, // mov x1, xzr
        0xaa1f_03e2, // mov x2, xzr
        0xaa1f_03e3, // mov x3, xzr
        0xd61f_0220, // br x17
    ];
    let mut bytes = [0; 40];
    let instructions = code.iter().flat_map(|word| word.to_le_bytes());
    let all = instructions.chain(device_tree.to_le_bytes()).chain(kernel.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(all) {
        *to = from;
    }
    bytes
}

/// Loads the segments. Fails on every architecture but arm64.
fn load_segments(entry: u64, segments: &[Segment]) -> Result<(), KexecError> {
    /// `struct kexec_segment` of linux/kexec.h.
    #[repr(C)]
    struct Raw {
        content: *const u8,
        content_len: usize,
        address: usize,
        len: usize,
    }
    /// `KEXEC_ARCH_AARCH64` of linux/kexec.h.
    const ARCHITECTURE: libc::c_ulong = 183 << 16;
    let raw: Vec<Raw> = segments
        .iter()
        .map(|segment| Raw {
            content: segment.content.as_ptr(),
            content_len: segment.content.len(),
            address: segment.address as usize,
            len: segment.len as usize,
        })
        .collect();
    // SAFETY: the kernel reads as many segments as the call specifies, and of each the content that is borrowed here.
    let failed = unsafe {
        libc::syscall(libc::SYS_kexec_load, entry as libc::c_ulong, raw.len(), raw.as_ptr(), ARCHITECTURE)
    };
    match failed {
        0 => Ok(()),
        _ => Err(KexecError::Load(io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests;
