//! Ctrl-C for programs that have no terminal: SIGINT to their whole process group, as a terminal sends it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result};

use crate::process::succeed;

/// A program in a process group of its own, which is killed when this value is dropped.
#[derive(Debug)]
pub struct Foreground(Option<Child>);

impl Foreground {
    /// Starts `command` without standard input; what it says is kept until then. A program that says much would fill the pipe.
    pub fn start(command: &mut Command) -> Result<Self> {
        let command =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        Ok(Foreground(Some(child)))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool> {
        let child = self.0.as_mut().context("it has ended")?;
        Ok(child.try_wait()?.is_none())
    }

    /// Waits for the end, and returns what it said on standard error.
    pub fn end(mut self) -> Result<String> {
        let child = self.0.take().context("it has ended")?;
        Ok(String::from_utf8_lossy(&child.wait_with_output()?.stderr).into_owned())
    }

    /// Presses Ctrl-C, and waits for the end.
    pub fn interrupt(mut self) -> Result<Output> {
        let child = self.0.take().context("it has ended")?;
        signal("-INT", child.id())?;
        Ok(child.wait_with_output()?)
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // A test failed, and says so itself; this only leaves nothing behind.
            let _gone = signal("-KILL", child.id());
            let _reaped = child.wait();
        }
    }
}

fn signal(name: &str, group: u32) -> Result<()> {
    succeed(Command::new("kill").args([name, "--", &format!("-{group}")])).map(drop)
}
