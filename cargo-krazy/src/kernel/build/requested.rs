//! The options that the fragments of a board request.

use super::error::ConfigurationError;
use super::fragment::RequestedOptions;
use crate::board::KernelBuild;

impl KernelBuild {
    /// Returns the options that our fragments request.
    pub(super) fn requested(&self) -> Result<RequestedOptions, ConfigurationError> {
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

    use crate::board::{BOARDS, Board};

    #[test]
    fn every_board_has_a_configuration_that_can_be_read() {
        for board in BOARDS {
            let requested = board.kernel_build.requested().unwrap();
            assert_eq!(requested.get("SQUASHFS_ZSTD").unwrap().value, "y", "{}", board.name);
            assert_eq!(requested.get("MODULES").unwrap().value, "n", "{}", board.name);
        }
    }

    #[test]
    fn no_fragment_asks_twice_for_the_same() {
        for board in BOARDS {
            let mut seen = BTreeSet::new();
            for (name, text) in board.kernel_build.fragments {
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
            let build = &Board::named(board).unwrap().kernel_build;
            let excused: BTreeSet<_> = build.fragments.iter().flat_map(|(_, text)| excused(text)).collect();
            assert!(report.lines().count() > 30, "{board}");
            for option in report.lines().skip(1) {
                assert!(excused.contains(option), "no reason for {option} on {board}");
            }
            let stale: Vec<_> = excused.difference(&failed).collect();
            assert!(stale.is_empty(), "reasons on {board} for what is no exception: {stale:?}");
        }
    }
}
