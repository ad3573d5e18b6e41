//! `config.txt` on the `/boot` of a Raspberry Pi, which names the slot whose files the firmware loads.
//!
//! Source: Raspberry Pi documentation, "config.txt", sections on `os_prefix` and `include`.
//!
//! The file has two settings, `os_prefix=a-` and `include a-config.txt`; everything else is in the included file, which
//! belongs to the slot. It is 512 bytes long, one sector at the start of a cluster, so that the switch to the other slot
//! is one write of one sector, which a disk does atomically. Nothing else of the file system changes with it: neither the
//! FAT nor the directory nor the file's length.
//!
//! The file names the confirmed slot only. A trial is armed in the [selector](crate::disk::selector): the firmware starts
//! the confirmed slot, and its first stage starts the other one, once. It does so with the other slot's kernel if
//! `config.txt` makes the confirmed slot a **launcher**: the line `cmdline=launch.txt` selects a command line
//! ([`CommandLine::launcher`](crate::boot::cmdline::CommandLine::launcher)) with which a kernel can start another one.
//! Otherwise the running kernel continues with the other slot's root.
//!
//! | step | writes, in order |
//! |---|---|
//! | [`arm`] | launcher, selector |
//! | [`start_trial`] | selector without the trial, no launcher |
//! | [`disarm`] | selector without the trial, no launcher |
//! | [`confirm`] | the other slot, selector |
//!
//! The order is that of [`arm`] and its reverse: so a power cut may leave a launcher without a trial, which starts nothing,
//! but never a trial that a launcher starts twice. [`confirm`] writes `config.txt` first because it decides; the selector
//! catches up at the next start ([`Selector::adopt_confirmed`]).

use std::io::{Read, Seek};

use crate::boot::cmdline::{self, CommandLine};
use crate::disk::boot_fat::{BootFat, FatError};
use crate::disk::layout::StateSectors;
use crate::disk::ordered_write::SectorWrite;
use crate::disk::selector::Selector;
use crate::disk::size::{Bytes, SECTOR_SIZE, Sectors};
use crate::disk::slot::{Slot, boot_file};

/// Name of the file.
pub const FILE: &str = "config.txt";

/// Length of the file in bytes: one sector.
const LEN: usize = SECTOR_SIZE as usize;

/// Name of a slot's own settings on `/boot`, as an argument of [`Slot::boot_file`].
pub const SLOT_FILE: &str = "config.txt";

/// The setting that names the slot.
const PREFIX: &str = "os_prefix=";

/// The setting that makes the slot a launcher. It is behind the slot's own settings, which it overrides.
const LAUNCH: &str = "cmdline=";

/// The choice that a `config.txt` makes for the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The slot whose files are loaded.
    pub slot: Slot,
    /// Set when it is loaded as a launcher of the other slot.
    pub launcher: bool,
}

/// A failure to read or change `config.txt`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigTxtError {
    /// It is missing or cannot be read.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// It was not written by this program.
    #[error("{FILE} on the boot partition is not as cargo krazy made it: {0}")]
    Foreign(&'static str),
}

impl From<Slot> for Choice {
    fn from(slot: Slot) -> Self {
        Choice { slot, launcher: false }
    }
}

/// Returns the whole file that makes the firmware start `choice`.
pub fn encode(choice: Choice) -> [u8; LEN] {
    let slot = choice.slot;
    let mut text = format!(
        "# The slot the firmware loads. krazy-init switches it in place: one sector, {LEN} bytes.\n\
         # Settings are in the included file.\n{PREFIX}{}\ninclude {}\n",
        slot.boot_prefix(),
        slot.boot_file(SLOT_FILE)
    );
    if choice.launcher {
        text.push_str(&format!("# It starts the other slot, once.\n{LAUNCH}{}\n", boot_file::LAUNCH));
    }
    // Padded with line ends, which the firmware skips: the length in the directory never changes.
    let mut sector = [b'\n'; LEN];
    for (to, from) in sector.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    sector
}

/// Returns the choice of a `config.txt`. A later setting overrides an earlier one, as in the firmware.
fn decode(content: &[u8]) -> Result<Choice, ConfigTxtError> {
    let foreign = ConfigTxtError::Foreign;
    // A file of another length was replaced by an editor, and may occupy other sectors.
    if content.len() != LEN {
        return Err(foreign("its length has changed"));
    }
    let text = str::from_utf8(content).map_err(|_| foreign("it is not text"))?;
    let last = |key| text.lines().rev().find_map(|line| line.trim().strip_prefix(key));
    let slot = Slot::ALL.into_iter().find(|slot| Some(slot.boot_prefix()) == last(PREFIX));
    let launcher = last(LAUNCH) == Some(boot_file::LAUNCH);
    slot.map(|slot| Choice { slot, launcher }).ok_or(foreign("it names no slot"))
}

/// Reads the choice of the `config.txt` on `fat`.
pub fn read<R: Read + Seek>(fat: &mut BootFat<R>) -> Result<Choice, ConfigTxtError> {
    let file = fat.find(FILE)?;
    decode(&fat.read(&file, Bytes(LEN as u64))?)
}

/// Reads the command lines of `slot`: its own, and that of the launcher. The second is missing in a slot that an earlier
/// version wrote, and one that does not agree with the first counts as missing: nothing may start with it.
pub fn command_lines<R: Read + Seek>(
    fat: &mut BootFat<R>,
    slot: Slot,
) -> Result<(CommandLine, Option<CommandLine>), ConfigTxtError> {
    let mut read =
        |name| fat.read_text(&slot.boot_file(name), cmdline::MAX_FILE).map(|text| CommandLine::parse(&text));
    let foreign = |_| ConfigTxtError::Foreign("a command line beside it cannot be used");
    let own = read(boot_file::CMDLINE)?.map_err(foreign)?;
    let launcher = match read(boot_file::LAUNCH) {
        Ok(line) => line.ok().filter(|line| Ok(line) == own.launcher().as_ref()),
        Err(FatError::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok((own, launcher))
}

/// Returns the name, without the slot's prefix, of a missing file that the firmware needs to boot `slot`.
///
/// An interrupted update lacks the command line, which it removes first and writes last.
pub fn missing<R: Read + Seek>(
    fat: &mut BootFat<R>,
    slot: Slot,
) -> Result<Option<&'static str>, ConfigTxtError> {
    let files = fat.files()?;
    let is_there = |file: &str| {
        let name = slot.boot_file(file);
        files.iter().any(|found| found.name.eq_ignore_ascii_case(&name) && found.size > Bytes(0))
    };
    // The command line first: its absence is the sign of an interrupted update.
    let needed = [boot_file::CMDLINE, boot_file::KERNEL, boot_file::INITRAMFS, SLOT_FILE];
    Ok(needed.into_iter().find(|file| !is_there(file)))
}

/// Returns the one write that makes the firmware start `choice` from now on; `None` if it does so already.
pub(crate) fn switch<R: Read + Seek>(
    fat: &mut BootFat<R>,
    choice: Choice,
) -> Result<Option<SectorWrite>, ConfigTxtError> {
    let file = fat.find(FILE)?;
    if decode(&fat.read(&file, Bytes(LEN as u64))?)? == choice {
        return Ok(None);
    }
    // More than one sector could not be replaced atomically.
    match fat.extents(&file)?[..] {
        [extent] if extent.len == Sectors(1) => {
            Ok(Some(SectorWrite { at: extent.start, bytes: encode(choice).to_vec() }))
        }
        _ => Err(ConfigTxtError::Foreign("it is not one sector")),
    }
}

/// Returns the writes that confirm `slot`, in order: `config.txt`, which decides, and then the selector. After a power cut
/// in between, [`Selector::adopt_confirmed`] completes the change.
pub fn confirm<R: Read + Seek>(
    fat: &mut BootFat<R>,
    selector: &Selector,
    sectors: StateSectors,
    slot: Slot,
) -> Result<Vec<SectorWrite>, ConfigTxtError> {
    Ok(switch(fat, slot.into())?.into_iter().chain(selector.confirm(slot).writes(sectors)).collect())
}

/// Returns the writes that put `armed`, a selector that makes the slot that is not confirmed start once, in force, in
/// order; with that slot's own kernel if `launcher`.
pub fn arm<R: Read + Seek>(
    fat: &mut BootFat<R>,
    armed: &Selector,
    sectors: StateSectors,
    launcher: bool,
) -> Result<Vec<SectorWrite>, ConfigTxtError> {
    let slot = armed.confirmed;
    Ok(switch(fat, Choice { slot, launcher })?.into_iter().chain(armed.writes(sectors)).collect())
}

/// Returns the writes that drop an armed or failed trial, in order.
pub fn disarm<R: Read + Seek>(
    fat: &mut BootFat<R>,
    selector: &Selector,
    sectors: StateSectors,
) -> Result<Vec<SectorWrite>, ConfigTxtError> {
    let dropped = selector.disarm().writes(sectors);
    Ok(dropped.into_iter().chain(switch(fat, selector.confirmed.into())?).collect())
}

/// Returns the slot of the armed trial, if there is one, and the writes that clear the trial, in order. They must be
/// durable before anything of that slot starts.
pub fn start_trial<R: Read + Seek>(
    fat: &mut BootFat<R>,
    selector: &Selector,
    sectors: StateSectors,
) -> Result<(Option<Slot>, Vec<SectorWrite>), ConfigTxtError> {
    let (slot, cleared) = selector.start_trial(sectors).unzip();
    Ok((slot, cleared.into_iter().chain(switch(fat, selector.confirmed.into())?).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encoded_choice_has_the_golden_text() {
        let head = "# The slot the firmware loads. krazy-init switches it in place: one sector, 512 bytes.\n\
                    # Settings are in the included file.\nos_prefix=b-\ninclude b-config.txt";
        let launcher = Choice { slot: Slot::B, launcher: true };
        let tail = "\n# It starts the other slot, once.\ncmdline=launch.txt";
        for (choice, expected) in [(Slot::B.into(), head.to_owned()), (launcher, format!("{head}{tail}"))] {
            let sector = encode(choice);
            let text = str::from_utf8(&sector).unwrap();
            assert_eq!(text.trim_end(), expected);
            // The firmware reads lines of at most 98 characters.
            assert!(text.lines().all(|line| line.len() <= 98), "{text}");
        }
    }

    #[test]
    fn choices_survive_a_round_trip() {
        for slot in Slot::ALL {
            for launcher in [false, true] {
                let choice = Choice { slot, launcher };
                assert_eq!(decode(&encode(choice)).unwrap(), choice);
            }
        }
        let mut edited = encode(Slot::A.into());
        edited[500..].copy_from_slice(b"os_prefix=b-");
        assert_eq!(decode(&edited).unwrap(), Slot::B.into());
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
