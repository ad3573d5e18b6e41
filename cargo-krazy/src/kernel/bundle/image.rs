//! The format of a kernel image, and the release it names.

use crate::failure::{Exit, Explain};
use crate::lock_file::is_release;

/// Offset of the setup header's magic in a bzImage (Linux `Documentation/arch/x86/boot.rst`).
const X86_MAGIC_AT: usize = 0x202;
/// Offset in a bzImage of the offset, less 0x200, of its version string.
const X86_VERSION_AT: usize = 0x20e;
/// Offset of the magic in an arm64 `Image` (Linux `Documentation/arch/arm64/booting.rst`).
const ARM64_MAGIC_AT: usize = 56;
/// A release is at most 64 bytes with its NUL (`uname(2)`, `__NEW_UTS_LEN`).
const LONGEST_RELEASE: usize = 64;

/// The machine a kernel image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    X86,
    Arm64,
    /// Compressed, so that its start does not tell the machine.
    Unknown,
}

/// An image that a board cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// It has none of the known formats.
    #[error("`{name}` is not a Linux kernel image")]
    Unknown {
        /// The image or its archive.
        name: String,
    },
    /// It is for another machine.
    #[error("the kernel image `{name}` is an {is} one, the board needs {needs}")]
    OtherMachine {
        /// The image or its archive.
        name: String,
        /// The machine of the image.
        is: &'static str,
        /// The machine of the board.
        needs: &'static str,
    },
}

impl Explain for ImageError {
    fn exit(&self) -> Exit {
        Exit::Fetch
    }

    fn help(&self) -> Option<String> {
        match self {
            ImageError::Unknown { .. } => Some(
                "x86 boards take a bzImage (arch/x86/boot/bzImage), arm64 boards an Image or Image.gz"
                    .to_owned(),
            ),
            ImageError::OtherMachine { .. } => None,
        }
    }
}

/// Checks that `image` is a kernel a board of Debian's architecture `arch` can start.
pub(crate) fn check(image: &[u8], arch: &str, name: &str) -> Result<(), ImageError> {
    let machine = machine(image).ok_or_else(|| ImageError::Unknown { name: name.to_owned() })?;
    let wanted = if arch == "arm64" { Machine::Arm64 } else { Machine::X86 };
    if machine != wanted && !(machine == Machine::Unknown && wanted == Machine::Arm64) {
        let (is, needs) = match wanted {
            Machine::Arm64 => ("x86", "arm64"),
            _ => ("arm64 or compressed", "x86"),
        };
        return Err(ImageError::OtherMachine { name: name.to_owned(), is, needs });
    }
    Ok(())
}

fn machine(image: &[u8]) -> Option<Machine> {
    if image.get(X86_MAGIC_AT..X86_MAGIC_AT + 4) == Some(b"HdrS") {
        Some(Machine::X86)
    } else if image.get(ARM64_MAGIC_AT..ARM64_MAGIC_AT + 4) == Some(b"ARM\x64") {
        Some(Machine::Arm64)
    } else if image.starts_with(&[0x1f, 0x8b]) || image.get(4..8) == Some(b"zimg") {
        Some(Machine::Unknown)
    } else {
        None
    }
}

/// The release an image names, such as `6.12.107+deb13-amd64`; `None` where it is compressed away.
pub(crate) fn release(image: &[u8]) -> Option<String> {
    let text = match machine(image)? {
        Machine::X86 => {
            let offset = image.get(X86_VERSION_AT..X86_VERSION_AT + 2)?;
            let at = usize::from(u16::from_le_bytes([offset[0], offset[1]]));
            image.get(at + 0x200..)?
        }
        Machine::Arm64 => {
            const BANNER: &[u8] = b"Linux version ";
            let at = image.windows(BANNER.len()).position(|window| window == BANNER)?;
            &image[at + BANNER.len()..]
        }
        Machine::Unknown => return None,
    };
    let end = text.iter().take(LONGEST_RELEASE).position(|&byte| byte == b' ' || byte == 0)?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    is_release(release).then(|| release.to_owned())
}

#[cfg(test)]
pub(crate) mod testing {
    /// The start of a bzImage of `release`.
    pub(crate) fn bzimage(release: &str) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        let text = format!("{release} (someone@somewhere) #1 SMP\0");
        image[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
        image
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_both_machines() {
        let x86 = testing::bzimage("6.12.107+deb13-amd64");
        assert_eq!(release(&x86).as_deref(), Some("6.12.107+deb13-amd64"));
        assert!(check(&x86, "amd64", "vmlinuz").is_ok());
        assert_eq!(
            check(&x86, "arm64", "vmlinuz").unwrap_err().to_string(),
            "the kernel image `vmlinuz` is an x86 one, the board needs arm64"
        );

        let mut arm = vec![0; 64];
        arm[56..60].copy_from_slice(b"ARM\x64");
        arm.extend_from_slice(b"....Linux version 6.12.1-v8 (gcc)");
        assert_eq!(release(&arm).as_deref(), Some("6.12.1-v8"));
        assert!(check(&arm, "arm64", "Image").is_ok());
        assert!(check(&[0x1f, 0x8b, 8], "arm64", "Image.gz").is_ok());
        assert_eq!(
            check(b"#!/bin/sh\n", "amd64", "vmlinuz").unwrap_err().to_string(),
            "`vmlinuz` is not a Linux kernel image"
        );
    }

    #[test]
    fn release_cannot_leave_its_directory() {
        assert_eq!(release(&testing::bzimage("../../etc")), None);
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..1024), x86: bool) {
            if x86 && bytes.len() > 0x206 {
                bytes[0x202..0x206].copy_from_slice(b"HdrS");
            }
            let _ = release(&bytes);
            let _ = check(&bytes, "amd64", "x");
        }
    }
}
