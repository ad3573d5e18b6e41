//! The file system of a device's `/data`: its condition, and its replacement by a new one.

use std::fmt;
use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use krazy_boot::api::Endpoint;
use krazy_boot::api::data::{DataError, DataReport, DataState, FormatQuery};
use krazy_boot::disk::size::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::device::Client;
use crate::device::power::{self, Power};
use crate::device::status::{Status, span};
use crate::failure::{Exit, Explain, Result};
use crate::interrupt;
use crate::shell::Shell;

/// Between two requests to a device that restarts.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The time that a restart may take, with the writing of a new file system to a slow card.
const RESTART_TIMEOUT: Duration = Duration::from_secs(300);

/// The reply of a device as it sent it, for programs.
#[derive(Serialize)]
pub(crate) struct RawReport<'a> {
    host: &'a str,
    data: Value,
}

/// The condition of a device's `/data`, for people.
pub(crate) struct Condition<'a> {
    host: &'a str,
    report: DataReport,
    now: SystemTime,
}

/// The options of formatting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// Set when the user need not be asked.
    pub(crate) yes: bool,
    /// Set when the device is restarted, and awaited.
    pub(crate) restart: bool,
}

/// A `/data` that was not formatted.
#[derive(Debug, thiserror::Error)]
enum FormatError {
    #[error("every file on the /data of `{0}` would be lost")]
    NeedsConsent(String),
    #[error("the /data of `{0}` was left as it is")]
    Declined(String),
    #[error("`{device}` did not come back within {} s: {last}", RESTART_TIMEOUT.as_secs())]
    NotBack { device: String, last: String },
    #[error("`{device}` has restarted without formatting its /data{reason}")]
    NotFormatted { device: String, reason: String },
}

impl Explain for FormatError {
    fn exit(&self) -> Exit {
        match self {
            FormatError::NeedsConsent(_) | FormatError::Declined(_) => Exit::Usage,
            FormatError::NotBack { .. } | FormatError::NotFormatted { .. } => Exit::Device,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            FormatError::NeedsConsent(_) => Some("add `--yes` to format it".to_owned()),
            FormatError::Declined(_) => None,
            FormatError::NotBack { device, .. } => Some(format!(
                "the request is kept on its disk; when it is reachable again: `cargo krazy data check {device}`"
            )),
            FormatError::NotFormatted { device, .. } => {
                Some(format!("`cargo krazy data check {device}` shows its condition"))
            }
        }
    }
}

#[derive(Serialize)]
struct Done<'a> {
    host: &'a str,
    formatted: bool,
}

/// Asks the device of `client` for the condition of its `/data`.
pub(crate) fn check(client: &Client) -> Result<RawReport<'_>> {
    Ok(RawReport { host: client.device(), data: client.get(&Endpoint::CheckData)? })
}

/// Reads what the device of `client` sent.
pub(crate) fn read<'a>(client: &'a Client, raw: &RawReport<'_>) -> Result<Condition<'a>> {
    let report =
        DataReport::deserialize(&raw.data).map_err(|error| client.foreign(format!("/data: {error}")))?;
    Ok(Condition { host: client.device(), report, now: SystemTime::now() })
}

/// Has the device of `client` format its `/data` at its next start, and restarts it for that.
pub(crate) fn format(client: &Client, options: Format, shell: Shell) -> Result<()> {
    let host = client.device();
    let status: Status = client.get(&Endpoint::Status)?;
    if !options.yes {
        ask(host, &status.name, shell)?;
    }
    client.call(&Endpoint::FormatData { query: FormatQuery { name: status.name } })?;
    if !options.restart {
        shell.status("Ordered", format!("`{host}` formats its /data at its next start"));
        return shell.message("data-format", &Done { host, formatted: false });
    }
    let begin = Instant::now();
    power::order(client, Power::Reboot)?;
    shell.status("Restarting", host);
    let status = wait_for_restart(client, begin)?;
    if !status.data_source.is_some_and(|source| source.formatted) {
        let reason = status.degraded.into_iter().find(|text| text.starts_with("/data"));
        let reason = reason.map(|text| format!(": {text}")).unwrap_or_default();
        return Err(FormatError::NotFormatted { device: host.to_owned(), reason }.into());
    }
    shell.status("Formatted", format!("/data of `{host}`, {} free", Bytes(status.data.available)));
    shell.message("data-format", &Done { host, formatted: true })
}

/// Waits until the device answers after a restart that began at `begin`, and returns its status.
fn wait_for_restart(client: &Client, begin: Instant) -> Result<Status> {
    let mut last = String::from("it still runs");
    while begin.elapsed() < RESTART_TIMEOUT {
        interrupt::check()?;
        thread::sleep(POLL_INTERVAL);
        match client.get::<Status>(&Endpoint::Status) {
            // A device that has not restarted has been up since before `begin`.
            Ok(status) if status.uptime < begin.elapsed().as_secs() => return Ok(status),
            Ok(_) => {}
            Err(error) if error.is_transient() => last = error.to_string(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(FormatError::NotBack { device: client.device().to_owned(), last }.into())
}

/// Asks the user at the terminal to type the appliance's name.
fn ask(host: &str, appliance: &str, shell: Shell) -> Result<()> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(FormatError::NeedsConsent(host.to_owned()).into());
    }
    shell.warn(format!("every file on the /data of `{host}` will be lost"));
    shell.question(format!("type `{appliance}`, the appliance's name, to go on, anything else to stop"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("failed to read the answer")?;
    match answer.trim() == appliance {
        true => Ok(()),
        false => Err(FormatError::Declined(host.to_owned()).into()),
    }
}

impl fmt::Display for Condition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Condition { host, report, now } = self;
        writeln!(f, "/data of {host}")?;
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "  {name:<12} {value}");
        if let Some(source) = &report.source {
            let partition = source.partition.as_deref().unwrap_or("no partition");
            match report.partition_size {
                Some(size) => line("partition", &format_args!("{partition}, {}", Bytes(size)))?,
                None => line("partition", &partition)?,
            }
            if let Some(why) = &source.temporary {
                line("in use", &format_args!("memory, lost at the next start: {why}"))?;
            }
        }
        let state = match report.state {
            Some(DataState::Clean) => "clean, as far as the kernel has seen",
            Some(DataState::Errors) => "damaged: the kernel has found errors",
            Some(DataState::NotMounted) => "not mounted",
            None => "unknown",
        };
        let read_only = if report.read_only { ", read-only" } else { "" };
        line("state", &format_args!("{state}{read_only}"))?;
        let space = report.space;
        line("space", &format_args!("{} of {} free", Bytes(space.available), Bytes(space.total)))?;
        if let Some(errors) = report.errors {
            line("errors", &errors)?;
        }
        for (name, error) in [("first error", &report.first_error), ("last error", &report.last_error)] {
            if let Some(error) = error {
                line(name, &recorded(error, *now))?;
            }
        }
        report.kernel_log.iter().try_for_each(|text| line("kernel", text))?;
        if report.format_requested {
            line("next start", &"formats it, as requested")?;
        } else if report.state != Some(DataState::Clean) {
            line(
                "full check",
                &"needs e2fsck, which devices do not have: `e2fsck -f` on partition 4 of its disk in \
                                another machine",
            )?;
            line(
                "new /data",
                &format_args!("`cargo krazy data format {host}`, which keeps the credentials"),
            )?;
        }
        Ok(())
    }
}

/// Returns a recorded error in words.
fn recorded(error: &DataError, now: SystemTime) -> String {
    let DataError { time, function, line, inode, block } = error;
    let mut text = format!("{function}:{line}");
    for (name, number) in [("inode", u64::from(*inode)), ("block", *block)] {
        if number != 0 {
            text.push_str(&format!(", {name} {number}"));
        }
    }
    let age = now.duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(*time));
    // A device without a clock records errors in 1970, or in the future.
    if *time != 0
        && let Ok(age) = age
    {
        text.push_str(&format!(", {} ago", span(age.as_secs())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::testing::{Device, answer};
    use crate::failure::Failure;

    const DAMAGED: &str = r#"{"state":"errors","source":{"partition":"/dev/vda4","new":1},"read_only":true,
        "partition_size":1073741824,"space":{"total":1048576,"available":1024},"errors":2,
        "first_error":{"time":1000,"function":"ext4_lookup","line":1855,"inode":2,"block":0},"last_error":null,
        "kernel_log":["EXT4-fs error (device vda4): ext4_lookup:1855"],"format_requested":false}"#;

    #[test]
    fn damage_is_shown_in_the_words_of_the_kernel_with_the_next_step() {
        let report = serde_json::from_str(DAMAGED).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_061);
        let text = Condition { host: "kitchen", report, now }.to_string();
        for line in [
            "  partition    /dev/vda4, 1 GiB",
            "  state        damaged: the kernel has found errors, read-only",
            "  errors       2",
            "  first error  ext4_lookup:1855, inode 2, 1 min 1 s ago",
            "  kernel       EXT4-fs error (device vda4): ext4_lookup:1855",
            "  new /data    `cargo krazy data format kitchen`, which keeps the credentials",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is missing in\n{text}");
        }
    }

    #[test]
    fn nothing_is_formatted_without_consent() {
        let status = r#"{"name":"weather","version":"1.0.0","board":"x86_64","build_id":"","hostname":"weather",
            "kernel":"6.12","slot":"a","trial":null,"failed_trial":null,"last_attempt":null,"uptime":9,"stable":true,
            "milestones":null,"previous_end":null,"memory":{"total":1,"available":1},
            "data":{"total":1,"available":1},"admind":"0.1.0"}"#;
        let device = Device::start(Box::new(move |_, _| answer("200 OK", status)));
        let format = |yes| format(&device.client(), Format { yes, restart: false }, Shell::default());
        let failure: Failure = format(false).unwrap_err();
        assert_eq!((failure.exit(), failure.next_step()), (Exit::Usage, Some("add `--yes` to format it")));
        assert_eq!(device.heads.lock().unwrap().len(), 1);
        format(true).unwrap();
        let head = device.heads.lock().unwrap().last().unwrap().clone();
        assert!(head.starts_with("POST /api/v1/data/format?name=weather "), "{head}");
    }
}
