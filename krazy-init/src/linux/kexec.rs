//! Starting a kernel from a kernel: kexec_load(2) on arm64.
//!
//! `memory` says where there is room for the parts of the next kernel. Its device tree is the one that the firmware made,
//! with another command line and initramfs.
//!
//! kexec_file_load(2) would do most of this, and Debian's arm64 kernel does not have it.
//! Source: Linux, `Documentation/arch/arm64/booting.rst`.

mod memory;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::boot::device_tree::{self, Edit, TreeError};

use self::memory::Rooms;

/// There when the kernel can start another one.
const SUPPORTED: &str = "/sys/kernel/kexec_loaded";
/// What the firmware handed over.
const DEVICE_TREE: &str = "/sys/firmware/fdt";
/// What is where in memory.
const MEMORY: &str = "/proc/iomem";

/// Segments begin and end at pages; 64 KiB are pages of every size.
const PAGE: u64 = 64 << 10;
/// A kernel begins here, plus its own offset.
const KERNEL_ALIGNMENT: u64 = 2 << 20;

/// What is started.
#[derive(Clone, Debug)]
pub(crate) struct NextKernel {
    /// The kernel, uncompressed.
    pub(crate) kernel: Vec<u8>,
    /// Its initramfs.
    pub(crate) initramfs: Vec<u8>,
    /// Its command line.
    pub(crate) command_line: CommandLine,
}

/// Why a kernel cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KexecError {
    /// Something that is read cannot be.
    #[error("{0}: {1}")]
    Read(&'static str, #[source] io::Error),
    /// The kernel is for something else, or compressed.
    #[error("it is not an uncompressed arm64 kernel")]
    Kernel,
    /// The device tree is not as the specification has it.
    #[error("the device tree cannot be changed: {0}")]
    DeviceTree(#[from] TreeError),
    /// There is no place for a part.
    #[error("there is no room in memory for {0} bytes")]
    Memory(u64),
    /// The kernel that runs refuses.
    #[error("the kernel that runs refuses to load it: {0}")]
    Load(#[source] io::Error),
    /// The kernel that runs refuses.
    #[error("the kernel that runs refuses to start it: {0}")]
    Start(#[source] io::Error),
}

/// A piece of memory of the next kernel.
struct Segment {
    content: Vec<u8>,
    /// Where it is to be.
    at: u64,
    /// How much memory is its own, in bytes.
    len: u64,
}

/// Whether the kernel that runs could start another one.
pub(crate) fn is_possible() -> bool {
    cfg!(target_arch = "aarch64") && Path::new(SUPPORTED).exists()
}

/// Makes `next` what [`start`] starts.
pub(crate) fn load(next: NextKernel) -> Result<(), KexecError> {
    let read = |path: &'static str| fs::read(path).map_err(|error| KexecError::Read(path, error));
    let iomem = read(MEMORY)?;
    let rooms = Rooms::parse(&String::from_utf8_lossy(&iomem));
    let (entry, segments) = lay_out(next, &read(DEVICE_TREE)?, rooms)?;
    hand_over(entry, &segments)
}

/// Ends this kernel and starts the one that was loaded. Comes back only if that cannot be.
pub(crate) fn start() -> KexecError {
    rustix::fs::sync();
    match rustix::system::reboot(rustix::system::RebootCommand::Kexec) {
        Ok(()) => KexecError::Start(io::Error::other("it came back")),
        Err(error) => KexecError::Start(error.into()),
    }
}

/// Where the processor begins, and what is in memory then.
fn lay_out(
    next: NextKernel,
    device_tree: &[u8],
    mut rooms: Rooms,
) -> Result<(u64, Vec<Segment>), KexecError> {
    let image = Image::parse(&next.kernel).ok_or(KexecError::Kernel)?;
    let mut take = |len: u64, alignment: u64, offset: u64| {
        let len = len.max(1).next_multiple_of(PAGE);
        rooms.take(len, alignment, offset).map(|at| (at, len)).ok_or(KexecError::Memory(len))
    };
    let (kernel, kernel_len) = take(image.size, KERNEL_ALIGNMENT, image.offset)?;
    let initramfs_len = next.initramfs.len() as u64;
    let (initramfs, initramfs_room) = take(initramfs_len, PAGE, 0)?;
    let line = next.command_line.as_str();
    let device_tree = device_tree_with(device_tree, line, initramfs..initramfs + initramfs_len)?;
    // A tree must not cross a border of 2 MiB twice: it is mapped in one piece of that size.
    let (tree, tree_len) = take(device_tree.len() as u64, KERNEL_ALIGNMENT, 0)?;
    let (entry, entry_len) = take(PAGE, PAGE, 0)?;
    let segment = |content, at, len| Segment { content, at, len };
    let segments = vec![
        segment(next.kernel, kernel, kernel_len),
        segment(next.initramfs, initramfs, initramfs_room),
        segment(device_tree, tree, tree_len),
        segment(trampoline(kernel, tree).to_vec(), entry, entry_len),
    ];
    Ok((entry, segments))
}

/// `tree` with this command line, and the initramfs at these addresses. Source: Devicetree Specification 0.4, section
/// 3.6; the names of the initramfs are Linux's.
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

/// What an arm64 kernel says about itself in its first 64 bytes.
struct Image {
    /// Where it begins behind a multiple of 2 MiB.
    offset: u64,
    /// The memory it needs from there on, in bytes.
    size: u64,
}

impl Image {
    fn parse(kernel: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*kernel.get(at..)?.first_chunk()?));
        if kernel.get(56..60)? != b"ARM\x64" {
            return None;
        }
        let (offset, size) = (number(8)?, number(16)?);
        let plausible = offset < KERNEL_ALIGNMENT && offset.is_multiple_of(PAGE) && size < 1 << 32;
        (plausible && size >= kernel.len() as u64).then_some(Image { offset, size })
    }
}

/// The first instructions: the address of the device tree in x0, nothing in x1 to x3, and on to the kernel.
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
    let words = code.iter().flat_map(|word| word.to_le_bytes());
    let all = words.chain(device_tree.to_le_bytes()).chain(kernel.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(all) {
        *to = from;
    }
    bytes
}

/// A kernel for another processor refuses.
fn hand_over(entry: u64, segments: &[Segment]) -> Result<(), KexecError> {
    /// `struct kexec_segment` of linux/kexec.h.
    #[repr(C)]
    struct Raw {
        content: *const u8,
        content_len: usize,
        at: usize,
        len: usize,
    }
    /// `KEXEC_ARCH_AARCH64` of linux/kexec.h.
    const ARCHITECTURE: libc::c_ulong = 183 << 16;
    let raw: Vec<Raw> = segments
        .iter()
        .map(|segment| Raw {
            content: segment.content.as_ptr(),
            content_len: segment.content.len(),
            at: segment.at as usize,
            len: segment.len as usize,
        })
        .collect();
    // SAFETY: the kernel reads as many segments as it is told of, and of each the content that is borrowed here.
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
