//! QEMU's monitor protocol, as far as the tests need it: buttons and plugs of a machine that runs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The time limit of a reply. QEMU replies at once; a busy machine is slow.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to a machine's monitor.
#[derive(Debug)]
pub struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Connects to a machine started with `-qmp unix:SOCKET,server=on,wait=off`.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("no QEMU at {}", socket.display()))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut qmp = Qmp(BufReader::new(stream));
        let mut greeting = String::new();
        qmp.0.read_line(&mut greeting)?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command. Fails if QEMU rejects it.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<()> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.0.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut answer = String::new();
            if self.0.read_line(&mut answer)? == 0 {
                bail!("QEMU hung up at {command}");
            }
            let answer: Value = serde_json::from_str(&answer)?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
            // Anything else is an event.
            if answer.get("return").is_some() {
                return Ok(());
            }
        }
    }

    /// Presses the power button.
    pub fn power_button(&mut self) -> Result<()> {
        self.execute("system_powerdown", json!({}))
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<()> {
        self.execute("system_reset", json!({}))
    }

    /// Lets a drive take so many bytes a second; 0 is no limit.
    pub fn throttle_writes(&mut self, drive: &str, bytes: u64) -> Result<()> {
        self.execute(
            "block_set_io_throttle",
            json!({
                "device": drive, "bps": 0, "bps_rd": 0, "bps_wr": bytes, "iops": 0, "iops_rd": 0, "iops_wr": 0
            }),
        )
    }

    /// Plugs the cable of a network adapter, by its backend's name, in or out.
    pub fn set_link(&mut self, name: &str, up: bool) -> Result<()> {
        self.execute("set_link", json!({ "name": name, "up": up }))
    }

    /// Presses keys at the same time, by QEMU's names for them.
    pub fn press(&mut self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.execute("send-key", json!({ "keys": keys }))
    }
}
