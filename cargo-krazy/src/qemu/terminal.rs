//! The terminal while a guest has it.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};

use crate::interrupt::{self, Cleanup};

/// Colours off, cursor visible, line wrapping on: SeaBIOS and guests leave these as they like.
const SANE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?7h\r\n";

/// Keys go to the guest one by one and unseen. Dropping it restores what was before, also while panicking.
/// An interrupt that ends the program at once restores it, too.
pub(crate) struct RawTerminal {
    before: Termios,
    _cleanup: Cleanup,
}

impl RawTerminal {
    /// Takes the terminal of standard input, if it is one and this program is in its foreground.
    pub(crate) fn enter() -> Result<Option<Self>> {
        let stdin = io::stdin();
        // Changing the terminal from the background would stop this program.
        if !stdin.is_terminal() || tcgetpgrp(&stdin).ok() != Some(rustix::process::getpgrp()) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin).context("failed to read the terminal's settings")?;
        let mut raw = before.clone();
        // Output processing stays: our own messages end their lines with a line feed alone.
        raw.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        raw.input_modes &= !(InputModes::ICRNL | InputModes::INLCR | InputModes::IXON);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &raw).context("failed to set the terminal to raw mode")?;
        let again = before.clone();
        Ok(Some(RawTerminal { before, _cleanup: interrupt::cleanup(move || restore(&again)) }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

/// A terminal that went away needs nothing any more, so errors end here.
fn restore(before: &Termios) {
    let _gone = tcsetattr(io::stdin(), OptionalActions::Now, before);
    if io::stdout().is_terminal() {
        let mut stdout = io::stdout();
        let _gone = stdout.write_all(SANE).and_then(|()| stdout.flush());
    }
}
