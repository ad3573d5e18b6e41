//! The header of an x86 Linux kernel image (bzImage), and the fields that a boot loader fills in.
//!
//! Source: Linux `Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header". Required is boot protocol
//! 2.10 (Linux 2.6.31, 2009), the first with the size of the memory in which the kernel unpacks itself. Not
//! supported: zImage (loaded low), EFI entry, the 64-bit entry point.

use crate::disk::size::{Bytes, SECTOR_SIZE, Sectors};

/// Load address of the protected-mode part, which the protocol fixes for a real-mode boot.
pub(crate) const PROTECTED_MODE_ADDRESS: u32 = 0x10_0000;

/// Maximum length of the real-mode part: 255 setup sectors and the boot sector.
pub const MAX_SETUP_LEN: usize = 256 * SECTOR_SIZE as usize;

const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const BOOT_FLAG: usize = 0x1fe;
const HEADER: usize = 0x202;
const VERSION: usize = 0x206;
const KERNEL_VERSION: usize = 0x20e;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const HEAP_END_PTR: usize = 0x224;
const CMD_LINE_PTR: usize = 0x228;
const INITRD_ADDR_MAX: usize = 0x22c;
const KERNEL_ALIGNMENT: usize = 0x230;
const CMDLINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;
const HEADER_END: usize = 0x264;

const LOADED_HIGH: u8 = 0x01;
const CAN_USE_HEAP: u8 = 0x80;
/// Number of a boot loader without an assigned one.
const UNDEFINED_LOADER: u8 = 0xff;
const MINIMUM_VERSION: u16 = 0x20a;
/// Limit of the release text, such as `6.12.57+deb13-cloud-amd64 (…) #1 SMP …`.
const MAX_RELEASE_LEN: usize = 256;

/// The header of a kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BzImage {
    /// Boot protocol, 0x020f for 2.15.
    pub(crate) protocol: u16,
    /// The real-mode part at the start of the file, boot sector included.
    pub(crate) setup: Sectors,
    /// Length of the protected-mode part. A signature may follow it in the file.
    pub(crate) protected_mode: Bytes,
    /// The highest address that an initramfs may occupy.
    pub(crate) initrd_addr_max: u32,
    /// The longest command line, without the terminating NUL.
    pub(crate) cmdline_size: u32,
    /// The address that the kernel unpacks itself to if it is loaded below it.
    pub(crate) pref_address: u64,
    /// Memory that it needs there before it reads the memory map.
    pub(crate) init_size: u32,
    /// Alignment of a relocated kernel.
    pub(crate) kernel_alignment: u32,
    /// The version text, which begins with the release: `6.12.57 (builder) #1 SMP …`.
    pub version_text: Option<String>,
}

/// Values of the fields that a boot loader fills in. Addresses are physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoaderFields {
    /// The end of the real-mode stack and heap, as an offset in the real-mode segment.
    pub(crate) heap_end: u16,
    /// Address of the NUL-terminated command line.
    pub(crate) cmd_line: u32,
    /// Address of the initramfs.
    pub(crate) ramdisk: u32,
    /// Length of the initramfs in bytes.
    pub(crate) ramdisk_size: u32,
}

/// A file that is not a kernel for the boot sector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BzImageError {
    /// It is an arm64 kernel.
    #[error("this is an arm64 Linux kernel, an x86 one (bzImage) is needed")]
    Arm64,
    /// It is an uncompressed kernel, or any other ELF file.
    #[error("this is an ELF file; the x86 kernel image is called bzImage or vmlinuz")]
    Elf,
    /// It has no setup header.
    #[error("this is not an x86 Linux kernel: the setup header is missing")]
    NotAKernel,
    /// Its boot protocol is too old.
    #[error("the kernel has boot protocol {}.{:02}, at least 2.10 is needed", .0 >> 8, .0 & 0xff)]
    Protocol(u16),
    /// It is a zImage.
    #[error("the kernel is a zImage, which is loaded below 1 MiB; build a bzImage")]
    LoadedLow,
    /// Its header has impossible values.
    #[error("the kernel's setup header is damaged: {0}")]
    Damaged(&'static str),
    /// It ends early.
    #[error("the kernel file is truncated: it has {have} bytes, its header requires {need}")]
    Truncated {
        /// Size of the file.
        have: u64,
        /// The size that the header gives.
        need: u64,
    },
}

impl BzImage {
    /// Parses the header in the first bytes of a file of `size`. [`MAX_SETUP_LEN`] bytes, or the whole shorter file,
    /// always suffice.
    pub fn parse(start: &[u8], size: Bytes) -> Result<Self, BzImageError> {
        // arm64: Documentation/arch/arm64/booting.rst, magic at 56.
        if start.get(56..60) == Some(b"ARM\x64") {
            return Err(BzImageError::Arm64);
        }
        if start.starts_with(b"\x7fELF") {
            return Err(BzImageError::Elf);
        }
        let header: &[u8; HEADER_END] = start.first_chunk().ok_or(BzImageError::NotAKernel)?;
        let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let long = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        if header[HEADER..HEADER + 4] != *b"HdrS" || short(BOOT_FLAG) != 0xaa55 {
            return Err(BzImageError::NotAKernel);
        }
        let protocol = short(VERSION);
        if protocol < MINIMUM_VERSION {
            return Err(BzImageError::Protocol(protocol));
        }
        if header[LOADFLAGS] & LOADED_HIGH == 0 {
            return Err(BzImageError::LoadedLow);
        }
        // "If the setup_sects field contains 0, the real value is 4."
        let setup_sects = if header[SETUP_SECTS] == 0 { 4 } else { u32::from(header[SETUP_SECTS]) };
        let setup = Sectors(setup_sects + 1);
        let protected_mode = Bytes(u64::from(long(SYSSIZE)) * 16);
        if setup.bytes().0 < HEADER_END as u64 || protected_mode == Bytes(0) {
            return Err(BzImageError::Damaged("it has no code"));
        }
        let need = setup.bytes() + protected_mode;
        if size < need {
            return Err(BzImageError::Truncated { have: size.0, need: need.0 });
        }
        let kernel_alignment = long(KERNEL_ALIGNMENT);
        if !kernel_alignment.is_power_of_two() {
            return Err(BzImageError::Damaged("kernel_alignment is not a power of two"));
        }
        Ok(BzImage {
            protocol,
            setup,
            protected_mode,
            initrd_addr_max: long(INITRD_ADDR_MAX),
            cmdline_size: long(CMDLINE_SIZE),
            pref_address: u64::from(long(PREF_ADDRESS)) | u64::from(long(PREF_ADDRESS + 4)) << 32,
            init_size: long(INIT_SIZE),
            kernel_alignment,
            version_text: version_text(start, short(KERNEL_VERSION)),
        })
    }

    /// Returns the first address above everything that the kernel occupies before it reads the memory map, if `loaded`
    /// bytes of it are at [`PROTECTED_MODE_ADDRESS`]. `None` if that exceeds 64 bits.
    pub(crate) fn memory_end(&self, loaded: Bytes) -> Option<u64> {
        let load = u64::from(PROTECTED_MODE_ADDRESS);
        // boot.rst, init_size: a relocatable kernel runs from the aligned load address; arch/x86/boot/compressed
        // raises that to LOAD_PHYSICAL_ADDR, which is pref_address. Others run from pref_address.
        let aligned = load.checked_next_multiple_of(u64::from(self.kernel_alignment))?;
        let unpacked = aligned.max(self.pref_address).checked_add(u64::from(self.init_size))?;
        Some(unpacked.max(load.checked_add(loaded.0)?))
    }
}

/// Fills in the boot loader's fields of a real-mode part whose header [`BzImage::parse`] has accepted. Returns false, and
/// changes nothing, if the slice is shorter than the header.
#[must_use]
pub(crate) fn patch(setup: &mut [u8], fields: LoaderFields) -> bool {
    let Some(header) = setup.first_chunk_mut::<HEADER_END>() else {
        return false;
    };
    header[TYPE_OF_LOADER] = UNDEFINED_LOADER;
    header[LOADFLAGS] |= CAN_USE_HEAP;
    // boot.rst: "offset from the beginning of the real-mode code … minus 0x0200".
    let heap_end = fields.heap_end.saturating_sub(0x200);
    header[HEAP_END_PTR..HEAP_END_PTR + 2].copy_from_slice(&heap_end.to_le_bytes());
    for (at, value) in [
        (RAMDISK_IMAGE, fields.ramdisk),
        (RAMDISK_SIZE, fields.ramdisk_size),
        (CMD_LINE_PTR, fields.cmd_line),
    ] {
        header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    true
}

/// Returns the NUL-terminated text that `kernel_version` points to, counted from byte 0x200.
fn version_text(start: &[u8], pointer: u16) -> Option<String> {
    let text = start.get(usize::from(pointer) + 0x200..).filter(|_| pointer != 0)?;
    let end = text.iter().take(MAX_RELEASE_LEN).position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&text[..end]).ok()?;
    (!text.is_empty() && !text.contains(|c: char| c.is_control())).then(|| text.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file with a valid header, `setup` sectors of real-mode part and `len` bytes of kernel.
    pub(crate) fn kernel(setup: u8, len: usize) -> Vec<u8> {
        let mut file = vec![0; usize::from(setup) * 512];
        file[SETUP_SECTS] = setup - 1;
        file[SYSSIZE..SYSSIZE + 4].copy_from_slice(&(len as u32 / 16).to_le_bytes());
        file[BOOT_FLAG..BOOT_FLAG + 2].copy_from_slice(&[0x55, 0xaa]);
        file[HEADER..HEADER + 4].copy_from_slice(b"HdrS");
        file[VERSION..VERSION + 2].copy_from_slice(&[0x0f, 2]);
        file[LOADFLAGS] = LOADED_HIGH;
        file[INITRD_ADDR_MAX..INITRD_ADDR_MAX + 4].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
        file[KERNEL_ALIGNMENT..KERNEL_ALIGNMENT + 4].copy_from_slice(&0x20_0000u32.to_le_bytes());
        file[CMDLINE_SIZE..CMDLINE_SIZE + 4].copy_from_slice(&2047u32.to_le_bytes());
        file[PREF_ADDRESS..PREF_ADDRESS + 8].copy_from_slice(&0x100_0000u64.to_le_bytes());
        file[INIT_SIZE..INIT_SIZE + 4].copy_from_slice(&0x3a0_1000u32.to_le_bytes());
        file[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&0x80u16.to_le_bytes());
        file[0x280..0x280 + 7].copy_from_slice(b"6.1.2 x");
        file.extend((0..len).map(|n| (n / 512 * 7 + n) as u8));
        file
    }

    fn parse(file: &[u8]) -> Result<BzImage, BzImageError> {
        BzImage::parse(file, Bytes(file.len() as u64))
    }

    #[test]
    fn header_fields_are_read_at_their_offsets() {
        let image = parse(&kernel(3, 1600)).unwrap();
        let expected = BzImage {
            protocol: 0x20f,
            setup: Sectors(3),
            protected_mode: Bytes(1600),
            initrd_addr_max: 0x7fff_ffff,
            cmdline_size: 2047,
            pref_address: 0x100_0000,
            init_size: 0x3a0_1000,
            kernel_alignment: 0x20_0000,
            version_text: Some("6.1.2 x".into()),
        };
        assert_eq!(image, expected);
        assert_eq!(image.memory_end(Bytes(1600)), Some(0x4a0_1000));
        assert_eq!(image.memory_end(Bytes::mib(90)), Some(0x5b0_0000));
        let low = BzImage { pref_address: 0, ..image };
        assert_eq!(low.memory_end(Bytes(1600)), Some(0x20_0000 + 0x3a0_1000));
    }

    #[test]
    fn zero_setup_sectors_mean_four() {
        let mut file = kernel(5, 1600);
        file[SETUP_SECTS] = 0;
        assert_eq!(parse(&file).unwrap().setup, Sectors(5));
    }

    #[test]
    fn loader_fields_are_filled_in() {
        let mut file = kernel(3, 1600);
        let before = file.clone();
        let fields =
            LoaderFields { heap_end: 0xe000, cmd_line: 0x1_e000, ramdisk: 0x500_0000, ramdisk_size: 77 };
        assert!(patch(&mut file, fields));
        let changed: Vec<_> =
            (0..file.len()).filter(|&n| file[n] != before[n]).map(|n| (n, file[n])).collect();
        let expected = [
            (0x210, 0xff),
            (0x211, 0x81),
            (0x21b, 0x05),
            (0x21c, 77),
            (0x225, 0xde),
            (0x229, 0xe0),
            (0x22a, 0x01),
        ];
        assert_eq!(changed, expected);
        assert!(!patch(&mut file[..0x263], fields));
    }

    #[test]
    fn other_kinds_of_files_are_named() {
        let mut arm = vec![0; 4096];
        arm[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(
            parse(&arm).unwrap_err().to_string(),
            "this is an arm64 Linux kernel, an x86 one (bzImage) is needed"
        );
        assert_eq!(parse(b"\x7fELF\x02"), Err(BzImageError::Elf));
        assert_eq!(parse(b"short"), Err(BzImageError::NotAKernel));
        assert_eq!(parse(&[0; 4096]), Err(BzImageError::NotAKernel));
        let mut old = kernel(3, 1600);
        old[VERSION] = 9;
        assert_eq!(
            parse(&old).unwrap_err().to_string(),
            "the kernel has boot protocol 2.09, at least 2.10 is needed"
        );
        let mut low = kernel(3, 1600);
        low[LOADFLAGS] = 0;
        assert_eq!(parse(&low), Err(BzImageError::LoadedLow));
        let cut = kernel(3, 1600);
        assert_eq!(
            parse(&cut[..cut.len() - 1]).unwrap_err().to_string(),
            "the kernel file is truncated: it has 3135 bytes, its header requires 3136"
        );
        let mut odd = kernel(3, 1600);
        odd[KERNEL_ALIGNMENT] = 1;
        assert!(matches!(parse(&odd), Err(BzImageError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic(at in 0x1f0..0x270usize, bytes in prop::collection::vec(any::<u8>(), 1..40), cut in 0..3000usize) {
            let mut file = kernel(3, 1600);
            file[at..at + bytes.len()].copy_from_slice(&bytes);
            file.truncate(cut.max(at));
            if let Ok(image) = parse(&file) {
                let _ = image.memory_end(Bytes(u64::MAX));
            }
            let _ = parse(&bytes);
        }
    }
}
