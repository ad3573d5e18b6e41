//! The boards an appliance can be made for: one row of plain data each.

mod x86_64;

use crate::failure::{Exit, Failure};

/// What differs between machines. Everything here is fixed; an appliance's own wishes are added on top.
#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// The name behind `--target`.
    pub name: &'static str,
    /// What it covers, in a few words.
    pub description: &'static str,
    /// The Rust target of every binary in the image.
    pub triple: &'static str,
    /// The architecture's name in the Debian archive.
    pub debian_arch: &'static str,
    /// The Debian meta package whose kernel is the default.
    pub debian_kernel: &'static str,
    /// Kernel parameters the board needs, before the appliance's own.
    pub cmdline: &'static [&'static str],
    /// Modules the first stage loads to reach the root; missing ones are taken to be built in.
    pub initramfs_modules: &'static [&'static str],
    /// Modules the root carries besides those of the initramfs: names, or folders below `kernel/` ending in `/`.
    pub root_modules: &'static [&'static str],
    /// The QEMU system emulator that runs it.
    pub qemu: &'static str,
}

/// Every board, the default first.
pub static BOARDS: &[Board] = &[Board {
    name: "x86_64",
    description: "64-bit PC or virtual machine that boots from an MBR (BIOS or CSM)",
    triple: "x86_64-unknown-linux-musl",
    debian_arch: "amd64",
    debian_kernel: "linux-image-amd64",
    cmdline: &["console=tty0", "console=ttyS0,115200", "panic=10", "quiet"],
    initramfs_modules: x86_64::INITRAMFS,
    root_modules: x86_64::ROOT,
    qemu: "qemu-system-x86_64",
}];

impl Board {
    /// The board called `name`.
    pub fn named(name: &str) -> Result<&'static Board, Failure> {
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
    fn an_unknown_board_names_the_known_ones() {
        let failure = Board::named("pdp-11").unwrap_err();
        assert_eq!(failure.to_string(), "unknown board `pdp-11`");
        assert_eq!(Board::named("x86_64").map(|board| board.debian_arch).unwrap(), "amd64");
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
