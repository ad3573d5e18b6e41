//! The kernel command line of a slot: the parameters of board and user, and those that make the slot boot its own root.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::disk::layout::DiskSignature;
use crate::disk::size::Bytes;
use crate::disk::slot::Slot;

/// Length limit of x86 and arm64 kernels, without the terminating NUL. Source: Linux `COMMAND_LINE_SIZE`, 2048 on both.
const MAX_LEN: usize = 2047;

/// Limit of a file with a command line. An editor may have left blank lines behind; what is longer is no command line.
pub const MAX_FILE: Bytes = Bytes(2 * MAX_LEN as u64);

/// Parameter that names the running slot: `krazy.slot=a`.
pub const SLOT_PARAMETER: &str = "krazy.slot";

/// Parameter that names the root partition: `root=PARTUUID=1a2b3c4d-02`.
pub const ROOT_PARAMETER: &str = "root";

/// Parameter of a launcher: a kernel that only starts the kernel of the other slot.
pub const LAUNCH_PARAMETER: &str = "krazy.launch";

/// Parameter of a kernel that a launcher started.
pub const LAUNCHED_PARAMETER: &str = "krazy.launched";

/// Parameter by which a boot loader tells why the other slot, which should have started, could not be loaded.
pub const UNSTARTED_PARAMETER: &str = "krazy.unstarted";

/// Parameter that turns launchers off, so that a trial uses the running kernel: `krazy.kexec=off`.
pub const KEXEC_PARAMETER: &str = "krazy.kexec";

/// Parameters that a slot or its loader sets.
const RESERVED: [&str; 5] =
    [ROOT_PARAMETER, SLOT_PARAMETER, LAUNCH_PARAMETER, LAUNCHED_PARAMETER, UNSTARTED_PARAMETER];

/// A checked command line: one line of printable ASCII of at most 2047 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(String);

/// A text that is not a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// The kernel would silently cut it.
    #[error("the kernel command line has {0} bytes, the kernel takes {MAX_LEN}")]
    TooLong(usize),
    /// It contains something else than printable ASCII.
    #[error("the kernel command line contains {0:?}; only printable ASCII works")]
    Character(char),
    /// It sets a parameter that belongs to the slot.
    #[error("the kernel command line must not set `{0}`, which each slot sets itself")]
    Reserved(String),
}

impl CommandLine {
    /// Returns the command line that boots `slot` of the disk with `signature`, with `parameters` of board and user.
    ///
    /// The slot's own parameters come first: the kernel passes everything behind `--` to init.
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
            if RESERVED.contains(&name) {
                return Err(CommandLineError::Reserved(name.to_owned()));
            }
            line.push(' ');
            line.push_str(parameter);
        }
        Self::parse(&line)
    }

    /// Checks a line, such as the content of `cmdline.txt`. Surrounding white space is dropped.
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

    /// Returns the text without a line end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value of the last `name=value`, which is the one that the kernel uses. Quotes are removed.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters()
            .filter_map(|parameter| parameter.split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.trim_matches('"'))
            .last()
    }

    /// Returns this line with the reason why the other slot could not be loaded. Characters that the value cannot have are
    /// replaced. A line that would be too long stays as it is: booting comes first.
    #[must_use]
    pub fn after_failure(self, reason: &str) -> Self {
        let value = |c: char| match c {
            '"' => '\'',
            ' '..='~' => c,
            _ => ' ',
        };
        let reason: String = reason.chars().map(value).collect();
        // In front: the kernel passes everything behind `--` to init.
        Self::parse(&format!("{UNSTARTED_PARAMETER}=\"{reason}\" {self}")).unwrap_or(self)
    }

    /// Returns the reason why the other slot could not be loaded, if a loader has told one.
    pub fn unstarted(&self) -> Option<&str> {
        self.get(UNSTARTED_PARAMETER)
    }

    /// Returns the slot that this line boots, if it names one.
    pub fn slot(&self) -> Option<Slot> {
        self.get(SLOT_PARAMETER)?.parse().ok()
    }

    /// Returns this line with root and name of `slot` on the same disk, for a trial of its root with the running kernel.
    /// `None` if the root is not given by its PARTUUID.
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

    /// Returns this line for a launcher. It uses one processor, because the others of a Raspberry Pi cannot be handed to
    /// another kernel once they run (Linux, `arch/arm64/kernel/smp.c`, `cpus_are_stuck_in_kernel`). Its watchdog keeps
    /// counting during the kexec, so that it resets the machine if the kernel on trial hangs
    /// (`drivers/watchdog/watchdog_core.c`, `stop_on_reboot`).
    pub fn launcher(&self) -> Result<Self, CommandLineError> {
        Self::parse(&format!("{LAUNCH_PARAMETER} nr_cpus=1 watchdog.stop_on_reboot=0 {self}"))
    }

    /// Returns the line of the kernel that a launcher starts and whose slot has the line `own`. `self` is the line that
    /// the launcher was started with: `launcher`, and what the firmware added around it, which the result keeps.
    pub fn launched(&self, launcher: &Self, own: &Self) -> Result<Self, CommandLineError> {
        let added = self.0.split_once(&launcher.0);
        let (before, after) = added.unwrap_or_default();
        Self::parse(&format!("{before}{LAUNCHED_PARAMETER} {own}{after}"))
    }

    /// Returns true if the parameter `name` is present, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.parameters().any(|parameter| parameter.split('=').next() == Some(name))
    }

    /// Returns the parameters in order. Spaces within double quotes do not separate.
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
    fn command_line_of_a_slot_boots_its_own_root() {
        let line = CommandLine::for_slot(Slot::B, DiskSignature(0xbeef), ["console=ttyS0", "quiet"]).unwrap();
        assert_eq!(line.as_str(), "root=PARTUUID=0000beef-03 krazy.slot=b console=ttyS0 quiet");
        assert_eq!(line.slot(), Some(Slot::B));
        assert_eq!(line.get("root"), Some("PARTUUID=0000beef-03"));
        assert!(line.has("quiet") && !line.has("qui"));
    }

    #[test]
    fn launched_kernel_keeps_the_parameters_of_the_firmware() {
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
    fn moved_line_keeps_the_parameters_for_another_slot() {
        let parameters = ["console=ttyS1,115200", "dyndbg=\"file x.c +p\"", "quiet"];
        let line = |slot| CommandLine::for_slot(slot, DiskSignature(0xbeef), parameters).unwrap();
        assert_eq!(line(Slot::A).moved_to(Slot::B), Some(line(Slot::B)));
        for without in ["quiet", "root=/dev/sda2", "root=PARTUUID=1"] {
            assert_eq!(CommandLine::parse(without).unwrap().moved_to(Slot::B), None);
        }
    }

    #[test]
    fn last_value_counts_and_quotes_hold_spaces() {
        let line = CommandLine::parse("a=1 a=2 dyndbg=\"file x.c +p\" b\n").unwrap();
        assert_eq!(line.get("a"), Some("2"));
        assert_eq!(line.get("dyndbg"), Some("file x.c +p"));
        assert!(line.has("b"));
        assert_eq!(line.get("b"), None);
    }

    #[test]
    fn unusable_lines_are_refused() {
        let reserved = CommandLine::for_slot(Slot::A, DiskSignature(1), ["root=/dev/sda1"]);
        assert_eq!(reserved, Err(CommandLineError::Reserved("root".into())));
        assert_eq!(CommandLine::parse("a\nb"), Err(CommandLineError::Character('\n')));
        assert_eq!(CommandLine::parse(&"x".repeat(2048)), Err(CommandLineError::TooLong(2048)));
    }
}
