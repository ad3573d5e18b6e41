//! The kernel command line of a slot: what a board and a user ask for, plus what makes the slot boot its own root.

use std::fmt;
use std::io::{Read, Seek};

use crate::disk::boot_fat::{BootFat, FatError};
use crate::disk::layout::DiskSignature;
use crate::disk::size::Bytes;
use crate::disk::slot::Slot;

/// The longest command line x86 and arm64 kernels take, without the terminating NUL.
/// Source: Linux `COMMAND_LINE_SIZE`, 2048 on both.
const MAX_LEN: usize = 2047;

/// Parameter that names the running slot: `krazy.slot=a`.
pub const SLOT_PARAMETER: &str = "krazy.slot";

/// Parameter that names the root partition: `root=PARTUUID=1a2b3c4d-02`.
pub const ROOT_PARAMETER: &str = "root";

/// Parameter of a kernel that is to start the other slot's kernel and nothing else.
pub const LAUNCH_PARAMETER: &str = "krazy.launch";

/// Parameter of a kernel that was started by such a one.
pub const LAUNCHED_PARAMETER: &str = "krazy.launched";

/// Parameter that keeps a slot from being tried with its own kernel where a launcher would start that:
/// `krazy.kexec=off`.
pub const KEXEC_PARAMETER: &str = "krazy.kexec";

/// A checked command line: one line of printable ASCII of at most [`MAX_LEN`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(String);

/// Why a text is not a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// Too long for the kernel, which would cut it silently.
    #[error("the kernel command line has {0} bytes, the kernel takes {MAX_LEN}")]
    TooLong(usize),
    /// Not printable ASCII.
    #[error("the kernel command line contains {0:?}; only printable ASCII works")]
    Character(char),
    /// The parameter belongs to the slot.
    #[error("the kernel command line must not set `{0}`, which each slot sets itself")]
    Reserved(String),
}

/// Reads the command line in the file `name` on `/boot`, without surrounding white space. Nothing else is checked.
pub fn read_text<R: Read + Seek>(fat: &mut BootFat<R>, name: &str) -> Result<String, FatError> {
    let file = fat.find(name)?;
    // An editor may have left blank lines behind; what is longer is no command line.
    let text = fat.read(&file, Bytes(2 * MAX_LEN as u64))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

impl CommandLine {
    /// The command line that boots `slot` of the disk with `signature`, with `parameters` from board and user.
    ///
    /// The slot's own parameters come first: a kernel keeps everything after `--` for init.
    pub fn for_slot<'a>(
        slot: Slot,
        signature: DiskSignature,
        parameters: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, CommandLineError> {
        let mut line = format!(
            "{ROOT_PARAMETER}=PARTUUID={} {SLOT_PARAMETER}={}",
            signature.partuuid(slot.root_partition()),
            slot.letter()
        );
        for parameter in parameters {
            let name = parameter.split('=').next().unwrap_or(parameter);
            if [ROOT_PARAMETER, SLOT_PARAMETER, LAUNCH_PARAMETER, LAUNCHED_PARAMETER].contains(&name) {
                return Err(CommandLineError::Reserved(name.to_owned()));
            }
            line.push(' ');
            line.push_str(parameter);
        }
        Self::parse(&line)
    }

    /// Checks a line, such as the content of `cmdline.txt`; white space around it is dropped.
    pub fn parse(text: &str) -> Result<Self, CommandLineError> {
        let line = text.trim();
        if let Some(wrong) = line.chars().find(|c| !(' '..='~').contains(c)) {
            return Err(CommandLineError::Character(wrong));
        }
        if line.len() > MAX_LEN {
            return Err(CommandLineError::TooLong(line.len()));
        }
        Ok(CommandLine(line.to_owned()))
    }

    /// The text without a line end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the last `name=value`, as the kernel sees it. Quoted values lose their quotes.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters()
            .filter_map(|parameter| parameter.split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.trim_matches('"'))
            .last()
    }

    /// The slot this line boots, if it names one.
    pub fn slot(&self) -> Option<Slot> {
        self.get(SLOT_PARAMETER)?.parse().ok()
    }

    /// The same line with the root and the name of `slot`, another one of the same disk: for a root that is tried with
    /// this slot's kernel. `None` if the root is not given by its PARTUUID.
    pub fn moved_to(&self, slot: Slot) -> Option<Self> {
        let root = self.get(ROOT_PARAMETER)?;
        let signature = root.strip_prefix("PARTUUID=")?.split_once('-')?.0;
        let root = format!("{ROOT_PARAMETER}=PARTUUID={signature}-{:02x}", slot.root_partition());
        let name = format!("{SLOT_PARAMETER}={}", slot.letter());
        let moved = self.parameters().map(|parameter| match parameter.split('=').next() {
            Some(ROOT_PARAMETER) => root.as_str(),
            Some(SLOT_PARAMETER) => name.as_str(),
            _ => parameter,
        });
        Some(CommandLine(moved.collect::<Vec<_>>().join(" ")))
    }

    /// The same line for a kernel that is to start the other slot's: with one processor, for a Raspberry Pi's others
    /// cannot be handed over once they run (Linux, `arch/arm64/kernel/smp.c`, `cpus_are_stuck_in_kernel`); and with a
    /// watchdog that goes on counting, so that it ends the trial of a kernel that hangs
    /// (`drivers/watchdog/watchdog_core.c`, `stop_on_reboot`).
    pub fn launcher(&self) -> Result<Self, CommandLineError> {
        Self::parse(&format!("{LAUNCH_PARAMETER} nr_cpus=1 watchdog.stop_on_reboot=0 {self}"))
    }

    /// The line of the kernel that a launcher starts, whose slot has the line `own`. `self` is what the launcher was
    /// started with, and `launcher` its part without what a firmware added, which goes on.
    pub fn launched(&self, launcher: &Self, own: &Self) -> Result<Self, CommandLineError> {
        let added = self.0.split_once(&launcher.0);
        let (before, after) = added.unwrap_or_default();
        Self::parse(&format!("{before}{LAUNCHED_PARAMETER} {own}{after}"))
    }

    /// Whether the parameter `name` is present, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.parameters().any(|parameter| parameter.split('=').next() == Some(name))
    }

    /// Parameters in order; spaces within double quotes do not separate.
    fn parameters(&self) -> impl Iterator<Item = &str> {
        let mut quoted = false;
        self.0
            .split(move |c: char| {
                quoted ^= c == '"';
                c == ' ' && !quoted
            })
            .filter(|parameter| !parameter.is_empty())
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_boots_its_own_root() {
        let line = CommandLine::for_slot(Slot::B, DiskSignature(0xbeef), ["console=ttyS0", "quiet"]).unwrap();
        assert_eq!(line.as_str(), "root=PARTUUID=0000beef-03 krazy.slot=b console=ttyS0 quiet");
        assert_eq!(line.slot(), Some(Slot::B));
        assert_eq!(line.get("root"), Some("PARTUUID=0000beef-03"));
        assert!(line.has("quiet") && !line.has("qui"));
    }

    #[test]
    fn a_launcher_hands_on_what_the_firmware_added() {
        let line = |slot| CommandLine::for_slot(slot, DiskSignature(0xbeef), ["quiet"]).unwrap();
        let launcher = line(Slot::A).launcher().unwrap();
        let own = "krazy.launch nr_cpus=1 watchdog.stop_on_reboot=0";
        assert_eq!(launcher.as_str(), format!("{own} {}", line(Slot::A)));
        let firmware = CommandLine::parse(&format!("x=1 {launcher} y=2")).unwrap();
        let launched = firmware.launched(&launcher, &line(Slot::B)).unwrap();
        assert_eq!(launched.as_str(), "x=1 krazy.launched root=PARTUUID=0000beef-03 krazy.slot=b quiet y=2");
        let unknown = line(Slot::A).launched(&launcher, &line(Slot::B)).unwrap();
        assert_eq!(unknown.as_str(), format!("krazy.launched {}", line(Slot::B)));
        assert!(CommandLine::for_slot(Slot::A, DiskSignature(1), ["krazy.launched"]).is_err());
    }

    #[test]
    fn another_slot_can_be_booted_with_the_same_parameters() {
        let parameters = ["console=ttyS1,115200", "dyndbg=\"file x.c +p\"", "quiet"];
        let line = |slot| CommandLine::for_slot(slot, DiskSignature(0xbeef), parameters).unwrap();
        assert_eq!(line(Slot::A).moved_to(Slot::B), Some(line(Slot::B)));
        for without in ["quiet", "root=/dev/sda2", "root=PARTUUID=1"] {
            assert_eq!(CommandLine::parse(without).unwrap().moved_to(Slot::B), None);
        }
    }

    #[test]
    fn the_last_value_counts_and_quotes_hold_spaces() {
        let line = CommandLine::parse("a=1 a=2 dyndbg=\"file x.c +p\" b\n").unwrap();
        assert_eq!(line.get("a"), Some("2"));
        assert_eq!(line.get("dyndbg"), Some("file x.c +p"));
        assert!(line.has("b"));
        assert_eq!(line.get("b"), None);
    }

    #[test]
    fn wrong_lines_are_refused() {
        let reserved = CommandLine::for_slot(Slot::A, DiskSignature(1), ["root=/dev/sda1"]);
        assert_eq!(reserved, Err(CommandLineError::Reserved("root".into())));
        assert_eq!(CommandLine::parse("a\nb"), Err(CommandLineError::Character('\n')));
        assert_eq!(CommandLine::parse(&"x".repeat(2048)), Err(CommandLineError::TooLong(2048)));
    }
}
