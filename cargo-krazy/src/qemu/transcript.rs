//! The guest's output on the serial line: searched for a text as it comes in, the end of it kept.

use std::collections::VecDeque;

/// Bytes kept for the error message.
const KEPT: usize = 4 << 10;

/// Lines shown of them.
const LINES: usize = 12;

/// A serial line's output so far.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    expect: Vec<u8>,
    /// The end of the output, at most [`KEPT`] bytes and never less than the expected text needs.
    tail: VecDeque<u8>,
    found: bool,
    silent: bool,
}

impl Transcript {
    /// An empty transcript that looks for `expect`; an empty text is never found.
    pub(crate) fn new(expect: &str) -> Self {
        Transcript { expect: expect.into(), tail: VecDeque::new(), found: false, silent: true }
    }

    /// Adds new output. Returns true if the text has appeared, in one piece or several.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        self.silent &= bytes.is_empty();
        for byte in bytes {
            self.tail.push_back(*byte);
            self.found |= self.ends_as_expected();
            if self.tail.len() > KEPT.max(self.expect.len()) {
                self.tail.pop_front();
            }
        }
        self.found
    }

    /// Returns true if nothing has come in yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Returns true if the last line has no end yet.
    pub(crate) fn is_within_a_line(&self) -> bool {
        self.tail.back().is_some_and(|byte| *byte != b'\n')
    }

    /// The last lines for a message, without control characters and escape sequences.
    pub(crate) fn last_lines(&self) -> String {
        if self.silent {
            return "the serial line was silent".to_owned();
        }
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        let text = plain(&String::from_utf8_lossy(&bytes));
        let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        format!("the serial line ended with:\n  | {}", last.join("\n  | "))
    }

    fn ends_as_expected(&self) -> bool {
        let Some(last) = self.expect.last() else { return false };
        self.tail.back() == Some(last)
            && self.tail.len() >= self.expect.len()
            && self.tail.range(self.tail.len() - self.expect.len()..).eq(&self.expect)
    }
}

/// Drops control characters but line ends, and terminal control sequences (ECMA-48, 5.4).
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                if chars.next() == Some('[') {
                    // Parameters up to the final byte.
                    chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\n' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_a_text_cut_anywhere() {
        let text = b"booting\r\nkrazy: ready\r\n";
        for cut in 0..text.len() {
            let mut transcript = Transcript::new("krazy: ready");
            assert!(!transcript.push(&text[..cut.min(20)]));
            assert!(transcript.push(&text[cut.min(20)..]), "{cut}");
        }
        assert!(!Transcript::new("").push(b"anything"));
    }

    #[test]
    fn tells_the_last_lines_without_colours() {
        let mut transcript = Transcript::new("x");
        assert!(transcript.is_silent());
        assert_eq!(transcript.last_lines(), "the serial line was silent");
        for line in 0..100 {
            transcript.push(format!("\x1b[1;32mline {line}\x1b[0m\r\n\r\n").as_bytes());
        }
        assert!(!transcript.is_silent());
        let lines = transcript.last_lines();
        assert!(lines.starts_with("the serial line ended with:\n  | line 88\n  | line 89\n"), "{lines}");
        assert!(lines.ends_with("  | line 99"), "{lines}");
    }

    proptest! {
        #[test]
        fn any_output_is_bounded_and_harmless(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
            let mut transcript = Transcript::new("\u{1}never\u{2}");
            transcript.push(&bytes);
            prop_assert!(transcript.tail.len() <= KEPT);
            let lines = transcript.last_lines();
            prop_assert!(lines.chars().all(|c| c == '\n' || !c.is_control()));
        }
    }
}
