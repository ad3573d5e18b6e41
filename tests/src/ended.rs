//! How a `cargo krazy` ended, and a push that has not.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

/// How long a push may take: an update and a boot or two under emulation on a busy machine.
pub const PUSH_LIMIT: Duration = Duration::from_secs(600);

/// How a `cargo krazy` ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it said.
    pub stderr: String,
    /// Its messages.
    pub messages: Vec<Value>,
}

/// A push under way. Dropped, it goes on.
#[derive(Debug)]
pub struct Pushing(Child);

impl Pushing {
    pub(crate) fn begin(mut command: Command) -> Result<Self> {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        Ok(Pushing(child))
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<Ended> {
        let end = Instant::now() + PUSH_LIMIT;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > end {
                self.0.kill()?;
                bail!("the push goes on and on: {:?}", Ended::of(self.0.wait_with_output()?)?);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ended::of(self.0.wait_with_output()?)
    }

    /// Takes the host away.
    pub fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Ended {
    /// Reads what it left.
    pub(crate) fn of(output: Output) -> Result<Self> {
        let messages = String::from_utf8(output.stdout)?;
        let messages = messages.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Ended { code: output.status.code(), stderr, messages })
    }

    /// The field `name` of the last message.
    pub fn last(&self, name: &str) -> Value {
        self.messages.last().map_or(Value::Null, |message| message[name].clone())
    }

    /// Checks how a push ended.
    pub fn expect(&self, code: i32, outcome: &str) -> Result<()> {
        ensure!(self.code == Some(code) && self.last("outcome") == outcome, "not {outcome}: {self:#?}");
        Ok(())
    }

    /// Checks that the program failed with exit code 9 and these words.
    pub fn refused(&self, words: &str) -> Result<()> {
        self.ended_with(9, words)
    }

    /// Checks the exit code of a failure, its words, and that a next step is told.
    pub fn ended_with(&self, code: i32, words: &str) -> Result<()> {
        let told = self.stderr.contains(words) && self.stderr.contains("help:");
        ensure!(self.code == Some(code) && told, "no `{words}` with help: {self:#?}");
        Ok(())
    }
}
