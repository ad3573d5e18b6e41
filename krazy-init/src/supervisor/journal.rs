//! Messages of init: the console, and the list of problems in the boot information.

use std::time::Duration;

use krazy_boot::error_chain::with_system_texts;

use super::poller::{Poller, Source};
use crate::console::Console;

/// The most problems that are listed. The list is for people; a problem whose text changes every time must not fill the
/// memory.
const MAX_PROBLEMS: usize = 100;

/// The console and the problems that were reported on it.
#[derive(Debug)]
pub(super) struct Journal {
    console: Console,
    problems: Vec<String>,
    is_quiet: bool,
    is_registered: bool,
}

impl Journal {
    /// Opens the console. Without a console nothing is printed.
    pub(super) fn open() -> Self {
        Self::on(Console::open())
    }

    /// A journal on an open console.
    pub(super) fn on(console: Console) -> Self {
        Journal { console, problems: Vec::new(), is_quiet: false, is_registered: false }
    }

    /// Opens the console again if there was none: before `/dev` was mounted there may have been no node to open.
    pub(super) fn retry_open(&mut self) {
        if self.console.descriptor().is_none() {
            self.console = Console::open();
        }
    }

    /// Hides routine messages from now on, as `quiet` on the kernel command line requests.
    pub(super) fn set_quiet(&mut self, is_quiet: bool) {
        self.is_quiet = is_quiet;
    }

    /// Writes a line of init's own.
    pub(super) fn log(&mut self, text: &str) {
        self.console.log(&with_system_texts(text.to_owned()));
    }

    /// Writes a line of init's own about something routine.
    pub(super) fn note(&mut self, text: &str) {
        if !self.is_quiet {
            self.log(text);
        }
    }

    /// Writes a line of init's own that also shows in the boot information.
    pub(super) fn degrade(&mut self, text: String) {
        let text = with_system_texts(text);
        // The console is a log: it shows every occurrence. The list is a state: it names each problem once.
        self.log(&text);
        if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }

    /// Writes a line of the service `name`.
    pub(super) fn service_line(&mut self, name: &str, text: &str) {
        self.console.line(name, text);
    }

    /// All problems so far, oldest first.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Writes what the console takes now.
    pub(super) fn drain(&mut self) {
        self.console.drain();
    }

    /// Registers the console while lines wait for it. It is not registered otherwise: it is always writable then, and
    /// the loop would never sleep.
    pub(super) fn watch(&mut self, poller: &Poller) {
        let is_behind = self.console.is_behind();
        if is_behind == self.is_registered {
            return;
        }
        if let Some(descriptor) = self.console.descriptor() {
            let outcome = if is_behind {
                poller.add_writing(descriptor, Source::Console)
            } else {
                poller.remove(descriptor)
            };
            if outcome.is_ok() {
                self.is_registered = is_behind;
            }
        }
    }

    /// Waits until everything is written, at most `limit`; for the end of the machine.
    pub(super) fn flush(&mut self, limit: Duration) {
        self.console.flush(limit);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn journal() -> (tempfile::TempDir, std::path::PathBuf, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let console = Console::on(Some(fs::File::create(&path).unwrap()));
        (dir, path, Journal::on(console))
    }

    #[test]
    fn problems_are_listed_once_and_bounded() {
        let (_dir, path, mut journal) = journal();
        journal.degrade("no network".to_owned());
        journal.degrade("no network".to_owned());
        journal.log("slot A is confirmed");
        assert_eq!(journal.problems(), ["no network"]);
        let console = fs::read_to_string(path).unwrap();
        assert_eq!(console, "krazy: no network\nkrazy: no network\nkrazy: slot A is confirmed\n");
        for number in 0..2 * MAX_PROBLEMS {
            journal.degrade(format!("problem {number}"));
        }
        assert_eq!(journal.problems().len(), MAX_PROBLEMS);
    }

    #[test]
    fn damaged_file_system_is_named_whatever_formatted_the_error() {
        let (_dir, path, mut journal) = journal();
        journal.degrade("/data: No error information (os error 117)".to_owned());
        journal.log("/data/web: No error information (os error 117)");
        assert_eq!(journal.problems(), ["/data: the file system is damaged (os error 117)"]);
        assert!(!fs::read_to_string(path).unwrap().contains("No error information"));
    }

    #[test]
    fn quiet_hides_routine_messages_only() {
        let (_dir, path, mut journal) = journal();
        journal.note("eth0 has an address");
        journal.set_quiet(true);
        journal.note("eth0 has another address");
        journal.log("slot A is confirmed");
        journal.degrade("eth0: no route".to_owned());
        let console = fs::read_to_string(path).unwrap();
        assert_eq!(console.lines().count(), 3, "{console}");
        assert!(!console.contains("another"), "{console}");
    }
}
