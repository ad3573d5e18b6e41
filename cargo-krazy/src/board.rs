//! The boards an appliance can be made for: one row of plain data each.

mod aarch64_rpi;
mod x86_64;

use crate::failure::{Exit, Failure};

/// The properties of a kind of machine. Everything here is fixed; an appliance's own settings are added.
#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// The name behind `--target`.
    pub(crate) name: &'static str,
    /// The covered machines, in a few words.
    pub(crate) description: &'static str,
    /// The Rust target of every binary in the image.
    pub(crate) triple: &'static str,
    /// The architecture's name in the Debian archive.
    pub(crate) debian_arch: &'static str,
    /// The Debian meta package whose kernel is the default.
    pub(crate) debian_kernel: &'static str,
    /// The way from power to the kernel.
    pub(crate) boot: Boot,
    /// Kernel parameters the board needs, before the appliance's own.
    pub(crate) cmdline: &'static [&'static str],
    /// The parameter of the serial console, which an appliance may do without.
    pub(crate) serial_console: &'static str,
    /// Modules the first stage loads to reach the root; missing ones are taken to be built in.
    pub(crate) initramfs_modules: &'static [&'static str],
    /// Modules the root carries besides those of the initramfs: names, or directories below `kernel/` ending in `/`.
    pub(crate) root_modules: &'static [&'static str],
    /// The QEMU system emulator that runs it.
    pub(crate) qemu: &'static str,
}

/// The way of a machine from power to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// A BIOS starts our boot sector, which loads what a slot's load table says.
    Bios,
    /// Firmware on `/boot` reads `config.txt` and loads the files it names.
    RaspberryPi {
        /// The Debian package with the firmware, from the archive's component `non-free-firmware`.
        firmware: &'static str,
        /// Device trees, as paths below the kernel's own directory of them.
        dtbs: &'static [&'static str],
    },
}

/// Every board, the default first.
pub(crate) static BOARDS: &[Board] = &[
    Board {
        name: "x86_64",
        description: "64-bit PC or virtual machine that boots from an MBR (BIOS or CSM)",
        triple: "x86_64-unknown-linux-musl",
        debian_arch: "amd64",
        debian_kernel: "linux-image-amd64",
        boot: Boot::Bios,
        cmdline: &["console=tty0", "console=ttyS0,115200", "panic=10", "quiet"],
        serial_console: "console=ttyS0,115200",
        initramfs_modules: x86_64::INITRAMFS,
        root_modules: x86_64::ROOT,
        qemu: "qemu-system-x86_64",
    },
    Board {
        name: "aarch64-rpi",
        description: "Raspberry Pi 3, 4, Compute Module 3 and 4, Zero 2 W (64-bit)",
        triple: "aarch64-unknown-linux-musl",
        debian_arch: "arm64",
        debian_kernel: "linux-image-arm64",
        boot: Boot::RaspberryPi { firmware: "raspi-firmware", dtbs: aarch64_rpi::DTBS },
        // The small UART, which the device trees put on the pins: the other one speaks to the Bluetooth chip.
        cmdline: &["console=tty0", "console=ttyS1,115200", "panic=10", "quiet"],
        serial_console: "console=ttyS1,115200",
        initramfs_modules: aarch64_rpi::INITRAMFS,
        root_modules: aarch64_rpi::ROOT,
        qemu: "qemu-system-aarch64",
    },
];

impl Board {
    /// The board called `name`.
    pub(crate) fn named(name: &str) -> Result<&'static Board, Failure> {
        BOARDS.iter().find(|board| board.name == name).ok_or_else(|| {
            let names: Vec<_> = BOARDS.iter().map(|board| format!("`{}`", board.name)).collect();
            Failure::new(Exit::Usage, format!("unknown board `{name}`"))
                .help(format!("the boards are {}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_board_names_the_known_ones() {
        let failure = Board::named("pdp-11").unwrap_err();
        assert_eq!(failure.to_string(), "unknown board `pdp-11`");
        assert_eq!(Board::named("x86_64").map(|board| board.debian_arch).unwrap(), "amd64");
    }

    #[test]
    fn serial_console_is_one_of_the_parameters() {
        for board in BOARDS {
            assert!(board.cmdline.contains(&board.serial_console), "{}", board.name);
        }
    }

    #[test]
    fn no_module_is_listed_twice_or_in_another_spelling() {
        for board in BOARDS {
            let mut seen = std::collections::HashSet::new();
            for entry in board.initramfs_modules.iter().chain(board.root_modules) {
                assert!(seen.insert(entry), "{}: {entry}", board.name);
                assert!(entry.ends_with('/') || !entry.contains(['-', '/', '.']), "{}: {entry}", board.name);
            }
        }
    }
}
