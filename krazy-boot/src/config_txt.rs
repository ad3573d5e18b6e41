//! `config.txt` on the `/boot` of a Raspberry Pi: which slot's files the firmware loads.
//!
//! Source: Raspberry Pi documentation, "config.txt", sections on `os_prefix` and `include`.
//!
//! The file says two things, `os_prefix=a-` and `include a-config.txt`; everything else is in the included file,
//! which belongs to the slot. It is [`LEN`] bytes long, one sector at the start of a cluster, so that the switch to
//! the other slot is one write of one sector, which a disk does whole or not at all. Nothing else of the file system
//! changes with it: not the FAT, not the folder, not the file's length.
//!
//! The firmware is told of a slot only when that is confirmed. A trial stands in the [selector](crate::selector) alone:
//! the kernel of the confirmed slot starts, and its first stage goes on with the other slot's root, once.

use std::io::{Read, Seek};

use crate::boot_fat::{BootFat, FatError};
use crate::ordered_write::SectorWrite;
use crate::selector::Selector;
use crate::size::{Bytes, SECTOR_SIZE, Sectors};
use crate::slot::{Slot, boot_file};

/// The file's name.
pub const FILE: &str = "config.txt";

/// The file's length in bytes: one sector.
pub const LEN: usize = SECTOR_SIZE as usize;

/// Name of a slot's own settings on `/boot`, to be given to [`Slot::boot_file`].
pub const SLOT_FILE: &str = "config.txt";

/// The setting that names the slot.
const PREFIX: &str = "os_prefix=";

/// Why `config.txt` cannot be switched.
#[derive(Debug, thiserror::Error)]
pub enum ConfigTxtError {
    /// It cannot be found or read.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// Somebody else wrote it.
    #[error("{FILE} on the boot partition is not as cargo krazy made it: {0}")]
    Foreign(&'static str),
}

/// The whole file that makes the firmware load `slot`.
pub fn encode(slot: Slot) -> [u8; LEN] {
    let text = format!(
        "# The slot the firmware loads. krazy-init switches it in place: one sector, {LEN} bytes.\n\
         # Settings are in the included file.\n{PREFIX}{}\ninclude {}\n",
        slot.boot_prefix(),
        slot.boot_file(SLOT_FILE)
    );
    let mut sector = [b'\n'; LEN];
    for (to, from) in sector.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    sector
}

/// The slot that a `config.txt` names. A later setting overrides an earlier one, as in the firmware.
pub fn decode(content: &[u8]) -> Result<Slot, ConfigTxtError> {
    let foreign = ConfigTxtError::Foreign;
    if content.len() != LEN {
        return Err(foreign("its length has changed"));
    }
    let text = str::from_utf8(content).map_err(|_| foreign("it is not text"))?;
    let prefix = text.lines().rev().find_map(|line| line.trim().strip_prefix(PREFIX));
    let slot = Slot::ALL.into_iter().find(|slot| Some(slot.boot_prefix()) == prefix);
    slot.ok_or(foreign("it names no slot"))
}

/// The slot that the `config.txt` of `fat` names.
pub fn read<R: Read + Seek>(fat: &mut BootFat<R>) -> Result<Slot, ConfigTxtError> {
    let file = fat.find(FILE)?;
    decode(&fat.read(&file, Bytes(LEN as u64))?)
}

/// A file that the firmware needs to boot `slot` and that is not there, by its name without the slot's prefix.
///
/// An update that was cut off lacks the command line, which it removes first and writes last.
pub fn missing<R: Read + Seek>(
    fat: &mut BootFat<R>,
    slot: Slot,
) -> Result<Option<&'static str>, ConfigTxtError> {
    let files = fat.files()?;
    let is_there = |file: &str| {
        let name = slot.boot_file(file);
        files.iter().any(|found| found.name.eq_ignore_ascii_case(&name) && found.size > Bytes(0))
    };
    let needed = [boot_file::CMDLINE, boot_file::KERNEL, boot_file::INITRAMFS, SLOT_FILE];
    Ok(needed.into_iter().find(|file| !is_there(file)))
}

/// The one write to the disk that makes the firmware load `slot` from now on; none if it does so already.
pub fn switch<R: Read + Seek>(
    fat: &mut BootFat<R>,
    slot: Slot,
) -> Result<Option<SectorWrite>, ConfigTxtError> {
    let file = fat.find(FILE)?;
    if decode(&fat.read(&file, Bytes(LEN as u64))?)? == slot {
        return Ok(None);
    }
    match fat.extents(&file)?[..] {
        [extent] if extent.len == Sectors(1) => {
            Ok(Some(SectorWrite { at: extent.start, bytes: encode(slot).to_vec() }))
        }
        _ => Err(ConfigTxtError::Foreign("it is not one sector")),
    }
}

/// What confirms `slot`, in order: the firmware is told, which decides, and then `selector` follows. After a power cut
/// in between, [`Selector::following`] makes up for the rest.
pub fn confirm<R: Read + Seek>(
    fat: &mut BootFat<R>,
    selector: &Selector,
    slot: Slot,
) -> Result<Vec<SectorWrite>, ConfigTxtError> {
    Ok(switch(fat, slot)?.into_iter().chain(selector.confirm(slot).writes()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_text() {
        let sector = encode(Slot::B);
        let text = str::from_utf8(&sector).unwrap();
        assert_eq!(
            text.trim_end(),
            "# The slot the firmware loads. krazy-init switches it in place: one sector, 512 bytes.\n\
             # Settings are in the included file.\nos_prefix=b-\ninclude b-config.txt"
        );
        // The firmware reads lines of at most 98 characters.
        assert!(text.lines().all(|line| line.len() <= 98), "{text}");
    }

    #[test]
    fn what_was_written_is_read() {
        for slot in Slot::ALL {
            assert_eq!(decode(&encode(slot)).unwrap(), slot);
        }
        let mut edited = encode(Slot::A);
        edited[500..].copy_from_slice(b"os_prefix=b-");
        assert_eq!(decode(&edited).unwrap(), Slot::B);
        assert!(matches!(decode(b"os_prefix=a-\n"), Err(ConfigTxtError::Foreign("its length has changed"))));
        assert!(matches!(decode(&[b'x'; LEN]), Err(ConfigTxtError::Foreign("it names no slot"))));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _any = decode(&bytes);
        }
    }
}
