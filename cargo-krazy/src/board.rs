//! The boards an appliance can be made for: one file of plain data each. A new board is a file with its `BOARD`, and a
//! row in [`BOARDS`]; CONTRIBUTING.md has the steps.

mod aarch64_rpi;
mod kernel_build;
mod modules;
mod x86_64;

pub(crate) use kernel_build::KernelBuild;

use krazy_boot::boot::uefi_loader::Loader;

use crate::failure::{Exit, Explain};

/// Lists of kernel modules, one after the other, so that boards can share some.
pub(crate) type ModuleGroups = &'static [&'static [&'static str]];

/// The properties of a kind of machine. Everything here is fixed; an appliance's own settings are added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Board {
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
    /// Modules that the first stage loads at every start; missing ones are taken to be built in.
    pub(crate) start_modules: ModuleGroups,
    /// Modules that the first stage has for the disks it may meet. It loads those of the devices that are there.
    pub(crate) disk_modules: ModuleGroups,
    /// Modules the root carries besides those of the initramfs: names, or directories below `kernel/` ending in `/`.
    pub(crate) root_modules: ModuleGroups,
    /// The build of its kernel from source.
    pub(crate) kernel_build: KernelBuild,
    /// The QEMU system emulator that runs it.
    pub(crate) qemu: &'static str,
}

/// The way of a machine from power to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    /// A BIOS starts our boot sector, which loads the files of a slot's load table, or UEFI firmware starts our loader.
    Pc {
        /// The loader.
        uefi: &'static Loader,
    },
    /// Firmware on `/boot` reads `config.txt` and loads the files it names.
    RaspberryPi {
        /// The Debian package with the firmware, from the archive's component `non-free-firmware`.
        firmware: &'static str,
        /// Device trees, as paths below the kernel's own directory of them.
        dtbs: &'static [&'static str],
    },
}

/// Every board, the default first.
pub(crate) static BOARDS: &[Board] = &[x86_64::BOARD, aarch64_rpi::BOARD];

impl Board {
    /// Returns the board called `name`.
    pub(crate) fn named(name: &str) -> Result<&'static Board, UnknownBoard> {
        BOARDS.iter().find(|board| board.name == name).ok_or_else(|| UnknownBoard(name.to_owned()))
    }
}

/// A name that no board has.
#[derive(Debug, thiserror::Error)]
#[error("unknown board `{0}`")]
pub(crate) struct UnknownBoard(String);

impl Explain for UnknownBoard {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        let names: Vec<_> = BOARDS.iter().map(|board| format!("`{}`", board.name)).collect();
        Some(format!("the boards are {}", names.join(", ")))
    }
}

impl Board {
    /// Modules of the initramfs.
    pub(crate) fn initramfs_modules(&self) -> Vec<&'static str> {
        [self.start_modules, self.disk_modules].concat().concat()
    }

    /// All modules.
    pub(crate) fn modules(&self) -> Vec<&'static str> {
        [self.initramfs_modules(), self.root_modules.concat()].concat()
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
            for entry in board.modules() {
                assert!(seen.insert(entry), "{}: {entry}", board.name);
                assert!(entry.ends_with('/') || !entry.contains(['-', '/', '.']), "{}: {entry}", board.name);
            }
        }
    }
}
