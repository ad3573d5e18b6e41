//! Ctrl-C for programs that have no terminal: SIGINT to their whole process group, as a terminal sends it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result};

use crate::process::succeed;

/// A program in a process group of its own, which is killed when this value is dropped.
#[derive(Debug)]
pub struct Foreground(Option<Child>);

impl Foreground {
    /// Starts `command` without standard input. Its output stays in pipes until it exits, so it must be short.
    pub fn start(command: &mut Command) -> Result<Self> {
        let command =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        Ok(Foreground(Some(child)))
    }

    /// Returns true while it runs.
    pub fn runs(&mut self) -> Result<bool> {
        let child = self.0.as_mut().context("the program has exited")?;
        Ok(child.try_wait()?.is_none())
    }

    /// Waits for its exit, and returns its standard error.
    pub fn end(mut self) -> Result<String> {
        let child = self.0.take().context("the program has exited")?;
        Ok(String::from_utf8_lossy(&child.wait_with_output()?.stderr).into_owned())
    }

    /// Sends SIGINT, and waits for its exit.
    pub fn interrupt(mut self) -> Result<Output> {
        let child = self.0.take().context("the program has exited")?;
        signal("-INT", child.id())?;
        Ok(child.wait_with_output()?)
    }

    /// Kills it and its children. It may have exited already.
    pub fn kill(mut self) -> Result<()> {
        let mut child = self.0.take().context("the program has exited")?;
        // Fails if the whole group is gone.
        let _gone = signal("-KILL", child.id());
        child.wait()?;
        Ok(())
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // The test has failed already; this only leaves no process behind.
            let _gone = signal("-KILL", child.id());
            let _reaped = child.wait();
        }
    }
}

fn signal(name: &str, group: u32) -> Result<()> {
    succeed(Command::new("kill").args([name, "--", &format!("-{group}")])).map(drop)
}
