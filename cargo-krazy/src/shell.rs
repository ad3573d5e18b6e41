//! All output of the program: aligned verbs like cargo's, warnings, errors, progress bars, JSON messages.
//!
//! Text for people goes to standard error, so that standard output carries only results (a plan, an inspection, JSON
//! messages) and can be piped.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::{Failure, Result};

const GOOD: Style = AnsiColor::Green.on_default().bold();
const WARN: Style = AnsiColor::Yellow.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default().bold();

const UNWRITTEN: &str = "failed to write to standard output";

/// The amount of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// `-q`: warnings and errors.
    Quiet,
    /// One line per step.
    #[default]
    Normal,
    /// `-v`: also the commands that are run.
    Verbose,
}

/// `--message-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MessageFormat {
    /// Text for people.
    #[default]
    Human,
    /// One JSON object a line on standard output.
    Json,
}

/// A line of JSON.
#[derive(Serialize)]
struct Message<'a, T> {
    reason: &'static str,
    #[serde(flatten)]
    fields: &'a T,
}

/// The only way to standard output and standard error.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shell {
    verbosity: Verbosity,
    format: MessageFormat,
}

impl Shell {
    /// Returns a shell with these options. Colour is chosen by `anstream`'s global setting.
    pub(crate) fn new(verbosity: Verbosity, format: MessageFormat) -> Self {
        Shell { verbosity, format }
    }

    /// Returns the verbosity.
    pub(crate) fn verbosity(self) -> Verbosity {
        self.verbosity
    }

    /// Which form of message standard output carries.
    pub(crate) fn format(self) -> MessageFormat {
        self.format
    }

    /// A step that begins or ended: `  Installing hello v0.1.0`.
    pub(crate) fn status(self, verb: &str, text: impl AsRef<str>) {
        if self.verbosity >= Verbosity::Normal {
            self.line(format_args!("{GOOD}{verb:>12}{GOOD:#} {}", text.as_ref()));
        }
    }

    /// A step only `-v` shows, such as a command line.
    pub(crate) fn verbose(self, verb: &str, text: impl AsRef<str>) {
        if self.verbosity >= Verbosity::Verbose {
            self.line(format_args!("{GOOD}{verb:>12}{GOOD:#} {}", text.as_ref()));
        }
    }

    /// Warns of something that the user may want to change.
    pub(crate) fn warn(self, text: impl AsRef<str>) {
        self.line(format_args!("{WARN}warning{WARN:#}: {}", text.as_ref()));
    }

    /// Asks for a line on standard input, also with `-q`.
    pub(crate) fn question(self, text: impl AsRef<str>) {
        self.line(format_args!("{GOOD}{:>12}{GOOD:#} {}", "Confirm", text.as_ref()));
    }

    /// Gives a hint that needs no action.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if self.verbosity >= Verbosity::Normal {
            self.line(format_args!("{NOTE}note{NOTE:#}: {}", text.as_ref()));
        }
    }

    /// Reports the failure that ends the program: message, chain of causes, next step.
    pub(crate) fn error(self, failure: &Failure) {
        self.line(format_args!("{BAD}error{BAD:#}: {failure}"));
        for cause in failure.causes().skip(1) {
            self.line(format_args!("  {NOTE}cause{NOTE:#}: {cause}"));
        }
        if let Some(help) = failure.next_step() {
            self.line(format_args!("   {GOOD}help{GOOD:#}: {help}"));
        }
    }

    /// Writes a JSON object on a line of its own, in JSON format only. Its first field is `reason`, the kind of
    /// message; `fields` follow.
    pub(crate) fn message(self, reason: &'static str, fields: &impl Serialize) -> Result<()> {
        if self.format == MessageFormat::Json {
            let message = Message { reason, fields };
            let mut line = serde_json::to_vec(&message).context("failed to encode a message")?;
            line.push(b'\n');
            std::io::stdout().write_all(&line).context(UNWRITTEN)?;
        }
        Ok(())
    }

    /// Writes the result of a command to standard output: `text` for people, else a message of each of `items`.
    pub(crate) fn report<T: Serialize>(
        self,
        reason: &'static str,
        items: &[T],
        text: impl ToString,
    ) -> Result<()> {
        match self.format {
            MessageFormat::Human => self.output(text.to_string()),
            MessageFormat::Json => items.iter().try_for_each(|item| self.message(reason, item)),
        }
    }

    /// Writes text that was asked for to standard output.
    pub(crate) fn output(self, text: impl AsRef<str>) -> Result<()> {
        anstream::stdout().write_all(text.as_ref().as_bytes()).context(UNWRITTEN)?;
        Ok(())
    }

    /// Returns a bar over `len` bytes; hidden unless standard error is a terminal and the verbosity allows it.
    pub(crate) fn bytes_bar(self, verb: &str, len: u64) -> ProgressBar {
        let template = format!(
            "{verb:>12} [{{bar:25}}] {{bytes}}/{{total_bytes}} {{bytes_per_sec}} ETA {{eta}} {{msg}}"
        );
        self.bar(ProgressBar::new(len), &template)
    }

    /// Returns a spinner with a text, for steps whose length is not known.
    pub(crate) fn spinner(self, verb: &str, text: &str) -> ProgressBar {
        let bar = self.bar(ProgressBar::new_spinner(), &format!("{verb:>12} {{msg}} {{spinner}}"));
        bar.set_message(text.to_owned());
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        bar
    }

    /// Returns the target of bars: hidden unless standard error is a terminal and the verbosity allows it.
    pub(crate) fn draw_target(self) -> ProgressDrawTarget {
        let shown = self.verbosity >= Verbosity::Normal && std::io::stderr().is_terminal();
        if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
    }

    fn bar(self, bar: ProgressBar, template: &str) -> ProgressBar {
        bar.set_draw_target(self.draw_target());
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar
    }

    /// Writes a line to standard error. If that is closed, there is nowhere to report the error.
    fn line(self, text: std::fmt::Arguments<'_>) {
        let _closed = writeln!(anstream::stderr(), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_begins_with_its_reason() {
        #[derive(Serialize)]
        struct Fields {
            host: &'static str,
            slot: Option<u8>,
        }
        let fields = Fields { host: "kitchen", slot: None };
        let text = serde_json::to_string(&Message { reason: "device-status", fields: &fields }).unwrap();
        assert_eq!(text, r#"{"reason":"device-status","host":"kitchen","slot":null}"#);
    }
}
