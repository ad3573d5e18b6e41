//! The outcome of a `cargo krazy`, and a push that still runs.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

/// The time limit of a push: an update and a boot or two under emulation on a busy machine.
pub const PUSH_LIMIT: Duration = Duration::from_secs(1500);

/// The outcome of a `cargo krazy`.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard error.
    pub stderr: String,
    /// Its JSON messages.
    pub messages: Vec<Value>,
}

/// A running push. It continues when this value is dropped.
#[derive(Debug)]
pub struct RunningPush(Child);

impl RunningPush {
    pub(crate) fn begin(mut command: Command) -> Result<Self> {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        Ok(RunningPush(child))
    }

    /// Waits for its exit.
    pub fn wait(mut self) -> Result<Outcome> {
        let end = Instant::now() + PUSH_LIMIT;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > end {
                self.0.kill()?;
                bail!("the push has not finished: {:?}", Outcome::of(self.0.wait_with_output()?)?);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Outcome::of(self.0.wait_with_output()?)
    }

    /// Kills it.
    pub fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Outcome {
    /// Reads its output.
    pub(crate) fn of(output: Output) -> Result<Self> {
        let messages = String::from_utf8(output.stdout)?;
        let messages = messages.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Outcome { code: output.status.code(), stderr, messages })
    }

    /// The field `name` of the last message.
    pub fn last(&self, name: &str) -> Value {
        self.messages.last().map_or(Value::Null, |message| message[name].clone())
    }

    /// Checks the outcome of a push.
    pub fn expect(&self, code: i32, outcome: &str) -> Result<()> {
        ensure!(self.code == Some(code) && self.last("outcome") == outcome, "not {outcome}: {self:#?}");
        Ok(())
    }

    /// Checks that the program failed with exit code 9 and this text.
    pub fn refused(&self, words: &str) -> Result<()> {
        self.ended_with(9, words)
    }

    /// Checks exit code and text of a failure, and that it names a next step.
    pub fn ended_with(&self, code: i32, words: &str) -> Result<()> {
        let told = self.stderr.contains(words) && self.stderr.contains("help:");
        ensure!(self.code == Some(code) && told, "no `{words}` with help: {self:#?}");
        Ok(())
    }
}
