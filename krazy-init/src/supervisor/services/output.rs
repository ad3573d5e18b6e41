//! The destinations of a line that a service wrote: the console, and the clients that follow the service.

use super::super::control_server::ControlServer;
use super::super::journal::Journal;
use crate::control::{LogLine, LogStream};
use crate::output::Verdict;

/// One line of a service.
#[derive(Debug)]
pub(super) struct OutputLine<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The stream it was written to.
    pub stream: LogStream,
    /// The line as in the log file, with its times.
    pub text: &'a str,
    /// The length of the times, which the console does not show.
    pub stamp_length: usize,
    /// The throttle's decision about the console.
    pub verdict: Verdict,
}

/// The console and the clients that lines of services are shown to. They are written at once and not by effects: a service may
/// write 100 MB/s, and no line of it is worth a copy in a queue.
#[derive(Debug)]
pub(in super::super) struct Audience<'a> {
    journal: &'a mut Journal,
    control: &'a mut ControlServer,
}

impl<'a> Audience<'a> {
    /// The console and the clients of the control socket.
    pub(in super::super) fn new(journal: &'a mut Journal, control: &'a mut ControlServer) -> Self {
        Audience { journal, control }
    }

    /// Shows a line of the service with this index.
    pub(super) fn publish(&mut self, id: usize, line: &OutputLine<'_>) {
        let name = line.service;
        if let Verdict::Show(held_back) = line.verdict {
            if held_back > 0 {
                let text = format!("({held_back} lines are only in /tmp/{name}.log and .err)");
                self.journal.service_line(name, &text);
            }
            self.journal.service_line(name, &line.text[line.stamp_length..]);
        }
        // Checked first: most services are not followed, and copying a line costs more than writing it.
        if self.control.is_followed(id) {
            self.control.publish(id, &LogLine { stream: line.stream, text: line.text.to_owned() });
        }
    }
}
