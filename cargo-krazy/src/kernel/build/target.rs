//! The boards' kernels: one row of plain data each.

use super::error::ConfigurationError;
use super::fragment::RequestedOptions;
use crate::board::Board;

/// The build of a board's kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The board's name.
    pub(crate) board: &'static str,
    /// `ARCH` of the kernel's Makefile.
    pub(crate) arch: &'static str,
    /// Goals of make: the image, and device trees where the board has some.
    pub(crate) goals: &'static [&'static str],
    /// The image in the build directory.
    pub(crate) image: &'static str,
    /// Directories of device trees in the build directory, each with the vendor's name last.
    pub(crate) dtbs: &'static [&'static str],
    /// The start of the names of the gcc cross compiler's programs, on a host of another architecture.
    pub(crate) gcc_prefix: &'static str,
    /// The Debian package of that compiler.
    pub(crate) gcc_package: &'static str,
    /// The host architecture (as in [`std::env::consts::ARCH`]) whose own gcc builds it.
    pub(crate) native: &'static str,
    /// Our fragments and their names, in order.
    fragments: &'static [(&'static str, &'static str)],
}

const COMMON: (&str, &str) = ("common.config", include_str!("config/common.config"));
const HARDENING: (&str, &str) = ("hardening.config", include_str!("config/hardening.config"));

static TARGETS: &[Target] = &[
    Target {
        board: "x86_64",
        arch: "x86",
        goals: &["bzImage"],
        image: "arch/x86/boot/bzImage",
        dtbs: &[],
        gcc_prefix: "x86_64-linux-gnu-",
        gcc_package: "gcc-x86-64-linux-gnu",
        native: "x86_64",
        fragments: &[COMMON, ("x86_64.config", include_str!("config/x86_64.config")), HARDENING],
    },
    Target {
        board: "aarch64-rpi",
        arch: "arm64",
        goals: &["Image", "dtbs"],
        image: "arch/arm64/boot/Image",
        dtbs: &["arch/arm64/boot/dts/broadcom"],
        gcc_prefix: "aarch64-linux-gnu-",
        gcc_package: "gcc-aarch64-linux-gnu",
        native: "aarch64",
        fragments: &[COMMON, ("aarch64-rpi.config", include_str!("config/aarch64-rpi.config")), HARDENING],
    },
];

impl Target {
    /// Returns the build of the kernel of `board`.
    pub(crate) fn of(board: &Board) -> Result<&'static Target, ConfigurationError> {
        TARGETS.iter().find(|target| target.board == board.name).ok_or_else(|| {
            let known = TARGETS.iter().map(|target| target.board).collect();
            ConfigurationError::Board { board: board.name, known }
        })
    }

    /// Returns the options that our fragments request.
    pub(crate) fn requested(&self) -> Result<RequestedOptions, ConfigurationError> {
        let mut requested = RequestedOptions::default();
        for (name, text) in self.fragments {
            requested.add(name, text)?;
        }
        Ok(requested)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::board::BOARDS;

    #[test]
    fn every_board_has_a_configuration_that_can_be_read() {
        for board in BOARDS {
            let requested = Target::of(board).unwrap().requested().unwrap();
            assert_eq!(requested.get("SQUASHFS_ZSTD").unwrap().value, "y", "{}", board.name);
            assert_eq!(requested.get("MODULES").unwrap().value, "n", "{}", board.name);
        }
    }

    #[test]
    fn no_fragment_asks_twice_for_the_same() {
        for target in TARGETS {
            let mut seen = BTreeSet::new();
            for (name, text) in target.fragments {
                for (option, _) in
                    text.lines().filter_map(|line| super::super::fragment::parse(line).unwrap())
                {
                    assert!(seen.insert(option), "{name}: CONFIG_{option}");
                }
            }
        }
    }
    /// The report of kernel-hardening-checker on the kernel of each board, an option a line.
    const REPORTS: [(&str, &str); 2] = [
        ("x86_64", include_str!("testdata/hardening-x86_64.txt")),
        ("aarch64-rpi", include_str!("testdata/hardening-aarch64-rpi.txt")),
    ];

    /// The options with a reason in the comments of a fragment: `#   CONFIG_A, CONFIG_B: because …`, or such a list
    /// ended by a full stop below the reason of all of them.
    fn excused(text: &str) -> BTreeSet<&str> {
        let mut excused = BTreeSet::new();
        let mut list = Vec::new();
        for word in text.lines().filter(|line| line.starts_with('#')).flat_map(str::split_whitespace) {
            match (word.strip_suffix(','), word.strip_suffix([':', '.'])) {
                (Some(name), _) if name.starts_with("CONFIG_") => list.push(name),
                (_, Some(name)) if name.starts_with("CONFIG_") => {
                    excused.insert(name);
                    excused.extend(list.drain(..));
                }
                // A comment line's own sign may stand within a list.
                _ if word == "#" => {}
                _ => list.clear(),
            }
        }
        excused
    }

    #[test]
    fn every_hardening_option_that_is_not_set_has_its_reason() {
        let failed: BTreeSet<_> = REPORTS.iter().flat_map(|(_, report)| report.lines().skip(1)).collect();
        for (board, report) in REPORTS {
            let target = Target::of(Board::named(board).unwrap()).unwrap();
            let excused: BTreeSet<_> = target.fragments.iter().flat_map(|(_, text)| excused(text)).collect();
            assert!(report.lines().count() > 30, "{board}");
            for option in report.lines().skip(1) {
                assert!(excused.contains(option), "no reason for {option} on {board}");
            }
            let stale: Vec<_> = excused.difference(&failed).collect();
            assert!(stale.is_empty(), "reasons on {board} for what is no exception: {stale:?}");
        }
    }
}
