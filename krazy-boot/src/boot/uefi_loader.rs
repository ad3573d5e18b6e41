//! The UEFI loader as a file: its places on `/boot` and in the root, its version, and its compiled bytes.
//!
//! Its source is the package in `loader`, whose decisions are those of [`crate::boot::start`]. `cargo suite loader` compiles
//! it and compares it with the bytes here.
//!
//! Firmware starts `EFI/BOOT/BOOTX64.EFI` of a disk's EFI system partition if it knows nothing else (UEFI Specification
//! 2.10, 3.5.1.1). Beside it is a spare file. Both have [`FILE_LEN`] bytes, so that an update writes the spare one and then
//! exchanges the names.

#[cfg(feature = "image")]
use alloc::vec::Vec;
#[cfg(feature = "std")]
use std::io::{Read, Seek};

#[cfg(feature = "std")]
use crate::disk::boot_fat::BootFat;
#[cfg(feature = "std")]
use crate::disk::size::Bytes;

/// The version of the loader's source. A device replaces a loader of a lower version, and never one of a higher.
pub const VERSION: u16 = 1;

/// Length of the loader as a file: its bytes, then zeros.
pub const FILE_LEN: usize = 128 << 10;

/// Its directory on `/boot`.
pub const DIRECTORY: &str = "EFI/BOOT";

/// The name of the spare file.
pub const SPARE: &str = "SPARE.EFI";

/// The directory of the root that has the loader which belongs to it, by the name that firmware looks for.
pub const ROOT_DIRECTORY: &str = "/lib/krazy/uefi";

/// The text in front of the version within a loader.
const MARK: [u8; 26] = *b"cargo krazy loader version";

/// The mark of a loader of [`VERSION`].
pub const fn mark() -> [u8; MARK.len() + 2] {
    let mut mark = [0; MARK.len() + 2];
    let mut at = 0;
    while at < MARK.len() {
        mark[at] = MARK[at];
        at += 1;
    }
    [mark[at], mark[at + 1]] = VERSION.to_le_bytes();
    mark
}

/// Returns the version of the loader in `file`; `None` if it is none of ours.
pub fn version_of(file: &[u8]) -> Option<u16> {
    let at = file.windows(MARK.len() + 2).position(|window| window.starts_with(&MARK))? + MARK.len();
    Some(u16::from_le_bytes([file[at], file[at + 1]]))
}

/// The names that firmware looks for: on x86_64 and on arm64.
#[cfg(feature = "std")]
const NAMES: [&str; 2] = ["BOOTX64.EFI", "BOOTAA64.EFI"];

/// Returns the version of the loader on `/boot`; `None` if there is none that can be read.
#[cfg(feature = "std")]
pub fn installed_version<R: Read + Seek>(fat: &mut BootFat<R>) -> Option<u16> {
    NAMES.into_iter().find_map(|name| {
        let file = fat.find_path(&format!("{DIRECTORY}/{name}")).ok()?;
        version_of(&fat.read(&file, Bytes(2 * FILE_LEN as u64)).ok()?)
    })
}

/// A compiled loader.
#[cfg(feature = "image")]
#[derive(Debug, PartialEq, Eq)]
pub struct Loader {
    /// The name that firmware of this architecture looks for.
    pub name: &'static str,
    bytes: &'static [u8],
}

/// The loader for x86_64.
#[cfg(feature = "image")]
pub static X86_64: Loader = Loader { name: "BOOTX64.EFI", bytes: include_bytes!("uefi_loader/BOOTX64.EFI") };

#[cfg(feature = "image")]
impl Loader {
    /// Returns it as a file.
    pub fn file(&self) -> Vec<u8> {
        let mut file = self.bytes.to_vec();
        file.resize(FILE_LEN, 0);
        file
    }
}

#[cfg(all(test, feature = "image"))]
mod tests {
    use super::*;

    #[test]
    fn compiled_loader_is_an_efi_program_of_this_version_that_fits() {
        let file = X86_64.file();
        assert!(X86_64.bytes.len() <= FILE_LEN, "{} bytes", X86_64.bytes.len());
        assert_eq!(version_of(&file), Some(VERSION));
        // PE/COFF: "MZ", the header's offset at 0x3c, machine x86-64, and the subsystem of EFI applications.
        let header = u32::from_le_bytes(file[0x3c..0x40].try_into().unwrap()) as usize;
        assert_eq!((&file[..2], &file[header..header + 6]), (&b"MZ"[..], &b"PE\0\0\x64\x86"[..]));
        assert_eq!(file[header + 24 + 68], 10);
    }

    #[test]
    fn foreign_programs_have_no_version() {
        assert_eq!(version_of(b"MZ"), None);
        assert_eq!(version_of(&[&[0; 9][..], &mark(), &[7]].concat()), Some(VERSION));
        assert_eq!(version_of(&MARK), None, "cut off");
    }
}
