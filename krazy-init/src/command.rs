//! `/bin/init` as a command, which is also `/sbin/krazy`: requests of root, and of services in the group `krazy`, to the
//! running init.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::control::{Client, ClientError, Command, LogStream, ServiceStatus};

const USAGE: &str = "\
usage: krazy COMMAND
  boot                          the booted slot, its condition and its problems
  list                          all services
  status SERVICE                one service
  start|stop|restart SERVICE
  signal SERVICE SIGNAL
  log|err SERVICE [LINES]       the newest lines of its standard output or error
  follow SERVICE                its output as it is written
  boot-rw|boot-ro               mount /boot writable or read-only
  confirm                       keep the slot that is on trial
  rollback                      on trial: restart into the confirmed slot; otherwise: switch to the other slot
  switch a|b                    try this slot once at the next start
  disarm                        cancel the switch
  reboot|poweroff|halt
";

/// The number of lines that `log` shows by default.
const DEFAULT_LINES: u32 = 50;

/// The meaning of the arguments.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Boot,
    List,
    Status(String),
    Logs(String, LogStream, u32),
    Follow(String),
    Order(Command),
}

/// Runs one command. Exit status: 0 done, 1 refused or init cannot be reached, 2 wrong usage.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let arguments: Option<Vec<&str>> = arguments.iter().skip(1).map(|argument| argument.to_str()).collect();
    let Some(parsed) = arguments.and_then(|arguments| parse(&arguments)) else {
        let _closed = io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    };
    match execute(parsed, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[&str]) -> Option<Parsed> {
    let own = |service: &&str| (*service).to_owned();
    Some(match arguments {
        ["boot"] => Parsed::Boot,
        ["list"] => Parsed::List,
        ["status", service] => Parsed::Status(own(service)),
        ["log", service] => Parsed::Logs(own(service), LogStream::Out, DEFAULT_LINES),
        ["err", service] => Parsed::Logs(own(service), LogStream::Err, DEFAULT_LINES),
        ["log", service, lines] => Parsed::Logs(own(service), LogStream::Out, lines.parse().ok()?),
        ["err", service, lines] => Parsed::Logs(own(service), LogStream::Err, lines.parse().ok()?),
        ["follow", service] => Parsed::Follow(own(service)),
        ["start", service] => Parsed::Order(Command::Start { service: own(service) }),
        ["stop", service] => Parsed::Order(Command::Stop { service: own(service) }),
        ["restart", service] => Parsed::Order(Command::Restart { service: own(service) }),
        ["signal", service, signal] => {
            Parsed::Order(Command::Signal { service: own(service), signal: own(signal) })
        }
        ["boot-rw"] => Parsed::Order(Command::RemountBoot { writable: true }),
        ["boot-ro"] => Parsed::Order(Command::RemountBoot { writable: false }),
        ["confirm"] => Parsed::Order(Command::Confirm),
        ["rollback"] => Parsed::Order(Command::Rollback),
        ["switch", slot] => Parsed::Order(Command::Switch { slot: slot.parse().ok()? }),
        ["disarm"] => Parsed::Order(Command::Disarm),
        ["reboot"] => Parsed::Order(Command::Reboot),
        ["poweroff"] => Parsed::Order(Command::Poweroff),
        ["halt"] => Parsed::Order(Command::Halt),
        _ => return None,
    })
}

fn execute(parsed: Parsed, out: &mut impl Write) -> Result<(), ClientError> {
    let mut client = Client::connect()?;
    match parsed {
        Parsed::Boot => {
            let info = client.boot()?;
            let slot = info.slot.map_or_else(|| "none".to_owned(), |slot| slot.to_string());
            writeln!(out, "{} {} on {}, slot {slot}", info.name, info.version, info.hostname)?;
            writeln!(out, "kernel {}, init {}, up {} s", info.kernel, info.init, info.uptime)?;
            if let Some(trial) = info.trial {
                writeln!(out, "on trial, {} s left", trial.deadline)?;
            }
            if let Some(slot) = info.armed {
                writeln!(out, "the next start tries slot {slot}")?;
            }
            if let Some(failed) = info.failed_trial {
                writeln!(out, "slot {} was tried and not confirmed: {}", failed.slot, failed.reason)?;
            }
            if let Some(end) = info.previous_end {
                writeln!(out, "the previous boot ended {end}")?;
            }
            writeln!(out, "{}", if info.stable { "stable" } else { "not stable" })?;
            for text in info.degraded {
                writeln!(out, "degraded: {text}")?;
            }
        }
        Parsed::List => {
            for status in client.list()? {
                writeln!(out, "{}", line(&status))?;
            }
        }
        Parsed::Status(service) => writeln!(out, "{}", line(&client.status(&service)?))?,
        Parsed::Logs(service, stream, lines) => {
            for line in client.logs(&service, stream, lines)? {
                writeln!(out, "{}", line.text)?;
            }
        }
        Parsed::Follow(service) => {
            let (_, follower) = client.follow(&service, LogStream::Out, 0)?;
            for line in follower {
                writeln!(out, "{}", line?.text)?;
                out.flush()?;
            }
        }
        Parsed::Order(command) => client.order(command)?,
    }
    Ok(())
}

/// One service on one line.
fn line(status: &ServiceStatus) -> String {
    let state = format!("{:?}", status.state).to_lowercase();
    let mut text = format!("{:<20} {state:<9} uid {}", status.name, status.uid);
    if let (Some(pid), Some(uptime)) = (status.pid, status.uptime) {
        text.push_str(&format!(", pid {pid}, up {uptime} s"));
    }
    if let Some(rss) = status.rss {
        text.push_str(&format!(", {} KiB", rss / 1024));
    }
    if status.restarts > 0 {
        text.push_str(&format!(", {} restarts", status.restarts));
    }
    if let Some(exit) = &status.last_exit {
        text.push_str(&format!(", last {exit}"));
    }
    if !status.waiting_for.is_empty() {
        text.push_str(&format!(", waits for {}", status.waiting_for.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arguments_are_refused() {
        assert_eq!(parse(&["err", "web", "5"]), Some(Parsed::Logs("web".into(), LogStream::Err, 5)));
        let signal = Command::Signal { service: "web".into(), signal: "HUP".into() };
        assert_eq!(parse(&["signal", "web", "HUP"]), Some(Parsed::Order(signal)));
        for wrong in [&[][..], &["status"], &["log", "web", "many"], &["dance"], &["reboot", "now"]] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn missing_socket_is_reported_with_its_path() {
        let error = execute(Parsed::List, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("cannot talk to init over /run/krazy/control.sock: "), "{error}");
    }
}
