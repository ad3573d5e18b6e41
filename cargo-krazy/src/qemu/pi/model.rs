//! The Raspberry Pis that QEMU has, and the changes that make a card for the real ones start in them.

use std::process::Command;

use krazy_boot::boot::device_tree::Edit;
use krazy_boot::disk::size::Bytes;

use crate::qemu::error::StartError;

/// `--machine`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Model {
    /// Raspberry Pi 3B.
    #[default]
    Raspi3b,
    /// Raspberry Pi 4B; QEMU has it since 9.0.
    Raspi4b,
}

/// The properties of a model.
#[derive(Debug)]
pub(crate) struct Facts {
    /// QEMU's name of the machine.
    pub(crate) machine: &'static str,
    /// The filters of `config.txt` that are true for it.
    pub(crate) filters: &'static [&'static str],
    /// The files of its firmware.
    pub(crate) firmware: &'static [&'static str],
    /// The device tree its firmware chooses under `upstream_kernel=1`.
    pub(crate) dtb: &'static str,
    /// Its memory, which cannot be chosen.
    pub(crate) memory: Bytes,
    /// Edits of its device tree for devices that QEMU does not have, or has otherwise.
    pub(crate) edits: &'static [Edit],
    /// The serial line that works, counted as QEMU does: 0 is the large UART, 1 the small one.
    pub(crate) serial: usize,
    /// Added to the kernel's command line, behind what is on the card: a launcher hands it on to the next kernel.
    pub(crate) parameters: &'static str,
}

/// QEMU takes the start of the watchdog for a request to reset.
const WATCHDOG_OFF: &str = "krazy.watchdog=off";

static RASPI3B: Facts = Facts {
    machine: "raspi3b",
    filters: &["all", "pi3"],
    firmware: &["bootcode.bin", "start.elf", "fixup.dat"],
    dtb: "bcm2837-rpi-3-b.dtb",
    memory: Bytes::gib(1),
    edits: &[],
    serial: 1,
    parameters: WATCHDOG_OFF,
};

/// As seen in QEMU 10.0: Linux 6.12 dies of an access to the HDMI block's registers, the card's slot is at the other
/// host controller than on the board, where the tree has the Wi-Fi chip, the only USB host is the one that is a device
/// on the board, and the small UART does not stop to interrupt. QEMU itself removes the last four nodes, with warnings.
static RASPI4B: Facts = Facts {
    machine: "raspi4b",
    filters: &["all", "pi4"],
    firmware: &["start4.elf", "fixup4.dat"],
    dtb: "bcm2711-rpi-4-b.dtb",
    memory: Bytes::gib(2),
    edits: &[
        Edit::RemoveNode("/soc/clock@7ef00000"),
        Edit::RemoveNode("/soc/interrupt-controller@7ef00100"),
        Edit::RemoveNode("/soc/hdmi@7ef00700"),
        Edit::RemoveNode("/soc/i2c@7ef04500"),
        Edit::RemoveNode("/soc/hdmi@7ef05700"),
        Edit::RemoveNode("/soc/i2c@7ef09500"),
        Edit::RemoveNode("/soc/mmc@7e300000/wifi@1"),
        Edit::RemoveNode("/wifi-pwrseq"),
        Edit::RemoveProperty("/soc/mmc@7e300000", "mmc-pwrseq"),
        Edit::SetString("/soc/usb@7e980000", "dr_mode", "host"),
        Edit::RemoveNode("/soc/serial@7e201000/bluetooth"),
        Edit::RemoveNode("/soc/serial@7e215040"),
        Edit::RemoveNode("/soc/avs-monitor@7d5d2000/thermal"),
        Edit::RemoveNode("/soc/rng@7e104000"),
        Edit::RemoveNode("/scb/pcie@7d500000"),
        Edit::RemoveNode("/scb/ethernet@7d580000"),
    ],
    serial: 0,
    parameters: "console=ttyAMA0,115200 krazy.watchdog=off",
};

impl Model {
    /// Returns its properties.
    pub(crate) fn facts(self) -> &'static Facts {
        match self {
            Model::Raspi3b => &RASPI3B,
            Model::Raspi4b => &RASPI4B,
        }
    }

    /// Fails if the installed `emulator` does not have the machine. An emulator that gives no list passes: its start
    /// reports the reason.
    pub(crate) fn check(self, emulator: &str) -> Result<(), StartError> {
        let machine = self.facts().machine;
        let ask = |question: &[&str]| {
            let answer = Command::new(emulator).args(question).output().ok()?;
            answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
        };
        let Some(machines) = ask(&["-machine", "help"]) else { return Ok(()) };
        if lists(&machines, machine) {
            return Ok(());
        }
        let version = ask(&["--version"]).unwrap_or_default();
        let version = version.lines().next().unwrap_or("this QEMU");
        Err(StartError::NoMachine { version: version.to_owned(), machine })
    }
}

/// Returns true if QEMU's list of machines has `machine`.
fn lists(machines: &str, machine: &str) -> bool {
    machines.lines().any(|line| line.split_whitespace().next() == Some(machine))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::failure::{Exit, Explain};

    #[test]
    fn qemu_without_the_machine_is_named_with_its_version() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qemu");
        let script = "#!/bin/sh\ncase $1 in --version) echo 'QEMU emulator version 7.2.22 (Debian)';; *) echo 'raspi3b  Raspberry Pi 3B';; esac\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let emulator = path.to_str().unwrap();
        Model::Raspi3b.check(emulator).unwrap();
        let error = Model::Raspi4b.check(emulator).unwrap_err();
        assert_eq!(error.to_string(), "QEMU emulator version 7.2.22 (Debian): it has no machine `raspi4b`");
        assert_eq!(error.exit(), Exit::MissingTool);
        assert!(error.help().unwrap().contains("bookworm-backports"));
        Model::Raspi4b.check("/nowhere/qemu").unwrap();
    }

    #[test]
    fn machines_name_is_the_first_word_of_a_line() {
        let machines = "Supported machines are:\nraspi4b              Raspberry Pi 4B (revision 1.5)\n";
        assert!(lists(machines, "raspi4b"));
        assert!(!lists(machines, "raspi4") && !lists(machines, "Pi"));
    }
}
