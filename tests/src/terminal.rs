//! A program at a terminal. The terminal is made by `script` of util-linux.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest::Guest;
use crate::setup::judges;

/// The byte that Ctrl-C sends.
pub const CTRL_C: &str = "\x03";

/// A terminal with one program. Both are closed when this value is dropped.
#[derive(Debug)]
pub struct Terminal {
    screen: Guest,
    keyboard: ChildStdin,
}

/// The state after the program has exited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aftermath {
    /// The program's exit code.
    pub code: i32,
    /// Everything on the screen, the settings included.
    pub screen: String,
    /// The terminal's settings as `stty` prints them, such as `icanon` or `-echo`.
    pub settings: Vec<String>,
}

impl Terminal {
    /// Starts `command` with its arguments, directory and environment.
    pub fn start(command: &Command) -> Result<Self> {
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
        let line = words.into_iter().map(quoted).collect::<Result<Vec<_>>>()?.join(" ");
        // The shell has to outlive a Ctrl-C to print the exit code.
        let line = format!("trap : INT; {line}; echo \"code: $?\"; stty -a");
        let mut script = judges::command("script")?;
        script.args(["--quiet", "--command", &line, "/dev/null"]).stdin(Stdio::piped());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        command.get_current_dir().iter().for_each(|directory| {
            script.current_dir(directory);
        });
        // With `CI` set, a terminal of any kind counts as one with colours.
        let mut screen =
            Guest::watch(script.env("SHELL", "/bin/sh").env("TERM", "dumb").env("NO_COLOR", "1"))?;
        let keyboard = screen.take_stdin().context("script has no standard input")?;
        Ok(Terminal { screen, keyboard })
    }

    /// Waits until a line on the screen contains `text` and returns it.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        self.screen.wait_for(text, limit)
    }

    /// Types `keys`.
    pub fn enter(&mut self, keys: &str) -> Result<()> {
        self.keyboard
            .write_all(keys.as_bytes())
            .and_then(|()| self.keyboard.flush())
            .context("failed to type")
    }

    /// Waits for the program to exit.
    pub fn end(self, limit: Duration) -> Result<Aftermath> {
        // Closing the keyboard earlier would send Ctrl-D.
        let Terminal { screen, keyboard } = self;
        let (_, screen) = screen.wait(limit)?;
        drop(keyboard);
        let (_, after) = screen.split_once("code: ").with_context(|| format!("no exit code:\n{screen}"))?;
        let (code, settings) = after.split_once('\n').context("no settings of the terminal")?;
        Ok(Aftermath {
            code: code.trim().parse()?,
            settings: settings.split_whitespace().map(|word| word.trim_end_matches(';').to_owned()).collect(),
            screen,
        })
    }
}

impl Aftermath {
    /// Returns true if lines are edited and echoed, and keys such as Ctrl-C work, as a shell's user expects.
    pub fn is_usable(&self) -> bool {
        ["icanon", "echo", "isig", "icrnl"].iter().all(|name| self.settings.iter().any(|word| word == name))
    }
}

fn quoted(word: &OsStr) -> Result<String> {
    let word = word.to_str().with_context(|| format!("{} is not UTF-8", word.display()))?;
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}
