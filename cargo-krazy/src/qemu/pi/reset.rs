//! Resets of a machine, by the guest or by a `system_reset` at QEMU's monitor.
//!
//! Source: QEMU's QMP reference, the event `SHUTDOWN`.
//!
//! With `-no-reboot` QEMU ends in both cases with the same exit code, but reports the reason on its control connection.
//! That is a socket in a directory of our own, which QEMU connects to.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

/// Reasons for an end that is a reset.
const RESETS: [&str; 2] = ["guest-reset", "host-qmp-system-reset"];

/// Bytes of QEMU's messages that are read at most; a run has a few hundred.
const MAX_MESSAGES_LEN: u64 = 16 << 20;

/// A control connection to a QEMU that is about to start.
pub(crate) struct ResetWatch {
    path: PathBuf,
    listener: JoinHandle<bool>,
    _directory: TempDir,
}

impl ResetWatch {
    /// Waits for QEMU to connect, in the background.
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::tempdir().context("failed to make a directory for a socket")?;
        let path = directory.path().join("qmp");
        let listener = UnixListener::bind(&path).context("failed to listen for QEMU")?;
        let listener =
            std::thread::spawn(move || listener.accept().is_ok_and(|(stream, _)| ends_in_reset(stream)));
        Ok(ResetWatch { path, listener, _directory: directory })
    }

    /// Returns QEMU's argument behind `-qmp`.
    pub(crate) fn argument(&self) -> OsString {
        let mut argument = OsString::from("unix:");
        argument.push(&self.path);
        argument
    }

    /// Returns true if the QEMU that has just ended did so because of a reset.
    pub(crate) fn was_reset(self) -> bool {
        // A QEMU that never connected leaves the listener waiting; this connection ends at once.
        drop(UnixStream::connect(&self.path));
        self.listener.join().unwrap_or(false)
    }
}

/// Follows QEMU's events to the end.
fn ends_in_reset(stream: UnixStream) -> bool {
    let Ok(mut writer) = stream.try_clone() else { return false };
    let mut reset = false;
    for line in BufReader::new(stream.take(MAX_MESSAGES_LEN)).lines() {
        let Ok(line) = line else { break };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message.get("QMP").is_some() && writeln!(writer, r#"{{"execute":"qmp_capabilities"}}"#).is_err() {
            break;
        }
        let reason = message["data"]["reason"].as_str().unwrap_or_default();
        reset |= message["event"] == "SHUTDOWN" && RESETS.contains(&reason);
    }
    reset
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a QEMU that stops for `reason`.
    fn talk(reason: &str) -> bool {
        let watch = ResetWatch::new().unwrap();
        let mut qemu = UnixStream::connect(&watch.path).unwrap();
        writeln!(qemu, r#"{{"QMP": {{"version": {{}}}}}}"#).unwrap();
        let mut answer = String::new();
        BufReader::new(qemu.try_clone().unwrap()).read_line(&mut answer).unwrap();
        assert_eq!(answer, "{\"execute\":\"qmp_capabilities\"}\n");
        writeln!(qemu, r#"{{"return": {{}}}}"#).unwrap();
        writeln!(qemu, r#"{{"event": "SHUTDOWN", "data": {{"guest": true, "reason": "{reason}"}}}}"#)
            .unwrap();
        drop(qemu);
        watch.was_reset()
    }

    #[test]
    fn reset_is_told_from_a_power_off() {
        assert!(talk("guest-reset") && talk("host-qmp-system-reset"));
        assert!(!talk("guest-shutdown"));
        assert!(!ResetWatch::new().unwrap().was_reset(), "nobody connected");
    }
}
