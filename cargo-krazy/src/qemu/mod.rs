//! `cargo krazy run-qemu`: the appliance in an emulator, booted from the disk image itself as on real hardware.
//!
//! QEMU's serial port is a pair of pipes. The guest's output is copied to standard output and searched for
//! the expected text; keys typed on the terminal go to the guest. The terminal is in raw mode meanwhile, where Ctrl-C
//! ends the machine and Ctrl-A X is QEMU's own way out (Ctrl-A H lists the others).

mod accelerator;
mod error;
mod firmware;
mod machine;
mod pi;
mod pipes;
mod process;
mod publish;
mod session;
mod stop_reason;
mod terminal;
mod transcript;

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

pub(crate) use self::accelerator::{Accelerate, Accelerator};
use self::error::RunError;
pub(crate) use self::error::{StartError, install_hint};
pub(crate) use self::firmware::FirmwareKind;
pub(crate) use self::machine::Machine;
pub(crate) use self::pi::Model;
pub(crate) use self::publish::Publish;
use self::session::Session;
use self::stop_reason::StopReason;
use self::terminal::RawTerminal;
use crate::board::Boot;
use crate::device::hosts::{self, Address, Host};
use crate::device::machines::{self, Registration};
use crate::failure::Result;
use crate::provision;
use crate::shell::{MessageFormat, Shell};

/// Time for which a machine under KVM may be silent before it is taken not to work. SeaBIOS speaks within a second.
const FIRST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(15);

/// The conditions that end a run, besides the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// Success as soon as this appears on the serial line.
    pub(crate) expect: Option<String>,
    /// Failure when it takes longer than this.
    pub(crate) timeout: Option<Duration>,
}

/// A run that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The guest powered off, or QEMU was told to quit.
    Ended,
    /// The expected text appeared; the machine was stopped.
    Expected,
}

/// The JSON message that tells the machine's name.
#[derive(Serialize)]
struct Registered<'a> {
    name: &'a str,
}

/// The last JSON message of a run.
#[derive(Serialize)]
struct Finished {
    outcome: Outcome,
    accelerator: Accelerator,
}

/// Runs `machine` until it stops, a condition of `watch` is met, or `interrupted` returns true.
///
/// The image is written to unless [`Machine::snapshot`] is set. Only the QEMU process started here is ever
/// signalled. In JSON format the serial line goes to standard error.
pub(crate) fn run(
    mut machine: Machine,
    accelerate: Accelerate,
    watch: &Watch,
    interrupted: &dyn Fn() -> bool,
    shell: Shell,
) -> Result<Outcome> {
    if let Boot::RaspberryPi { .. } = machine.board.boot {
        check_pi(&machine, accelerate)?;
    }
    let managed = machine.managed.take();
    if managed.is_some() {
        publish::ensure(&mut machine.publish, hosts::PORT);
    }
    publish::settle(&mut machine.publish)?;
    let _registration = register(managed, &machine.publish, shell)?;
    for port in &machine.publish {
        shell.status("Publishing", port.to_string());
        shell.message("port-published", &port.message())?;
    }
    let mut output: Box<dyn Write> = match shell.format() {
        MessageFormat::Human => Box::new(std::io::stdout()),
        MessageFormat::Json => Box::new(std::io::stderr()),
    };
    let terminal = RawTerminal::enter()?;
    let mut session = Session::new(watch, interrupted, &mut *output, terminal.is_some());
    let (end, accelerator) = match machine.board.boot {
        Boot::Pc { .. } => boot_pc(&machine, accelerate, &mut session, shell)?,
        Boot::RaspberryPi { .. } => (boot_pi(&machine, &mut session, shell)?, Accelerator::Tcg),
    };
    drop(session);
    drop(terminal);
    let outcome = judge(end, watch)?;
    shell.message("qemu-finished", &Finished { outcome, accelerator })?;
    Ok(outcome)
}

/// A PC, under KVM if that works. It restarts by itself.
fn boot_pc(
    machine: &Machine,
    accelerate: Accelerate,
    session: &mut Session<'_>,
    shell: Shell,
) -> Result<(StopReason, Accelerator)> {
    let mut accelerator = accelerate.first(machine.board);
    loop {
        let silence_limit = (accelerate == Accelerate::Auto && accelerator == Accelerator::Kvm)
            .then_some(FIRST_OUTPUT_TIMEOUT);
        let end =
            session.run(machine.board.qemu, &machine.command_line(accelerator), silence_limit, shell)?;
        if silence_limit.is_some() && end.accelerator_failed() {
            shell.note(format!("KVM does not work here ({}); emulating instead", end.cause()));
            accelerator = Accelerator::Tcg;
            continue;
        }
        return Ok((end, accelerator));
    }
}

/// Fails if QEMU cannot emulate the requested Raspberry Pi.
fn check_pi(machine: &Machine, accelerate: Accelerate) -> Result<(), StartError> {
    if accelerate == Accelerate::Kvm {
        return Err(StartError::OnlyEmulated);
    }
    machine.model.check(machine.board.qemu)
}

/// A Raspberry Pi, started anew after every reset, as its firmware would.
fn boot_pi(machine: &Machine, session: &mut Session<'_>, shell: Shell) -> Result<StopReason> {
    let card = pi::Card::of(&machine.image, machine.snapshot, shell)?;
    loop {
        let loaded = pi::load(card.path(), machine.model)?;
        let watch = pi::ResetWatch::new()?;
        let arguments = machine.pi_command_line(card.path(), &loaded, &watch);
        let end = session.run(machine.board.qemu, &arguments, None, shell)?;
        if !watch.was_reset() || !matches!(end, StopReason::Exited { code: Some(0), .. }) {
            return Ok(end);
        }
        shell.verbose("Restarting", "the firmware reads config.txt again");
    }
}

/// Gives the machine a name as long as the result lives, if it is an appliance that can be managed.
fn register(managed: Option<String>, ports: &[Publish], shell: Shell) -> Result<Option<Registration>> {
    let api = ports.iter().find(|publish| publish.is_for(hosts::PORT));
    let (Some(appliance), Some(api)) = (managed, api) else { return Ok(None) };
    let address = Address { host: api.reachable().to_string(), port: api.host.port() };
    let registration =
        machines::register(&provision::state_dir()?, Host { address, appliance: Some(appliance) })?;
    shell.status("Registered", format!("`{}`: try `cargo krazy status {0}`", registration.name));
    shell.message("machine-registered", &Registered { name: &registration.name })?;
    Ok(Some(registration))
}

/// Returns the outcome of a run that stopped for the requested reason, and fails for any other.
fn judge(reason: StopReason, watch: &Watch) -> Result<Outcome, RunError> {
    let expected = watch.expect.clone();
    Err(match (reason, expected) {
        (StopReason::Expected, _) => return Ok(Outcome::Expected),
        (StopReason::Exited { code: Some(0), .. }, None) => return Ok(Outcome::Ended),
        (StopReason::Exited { code: Some(0), last_lines, .. }, Some(expected)) => {
            RunError::NotExpected { expected, last_lines }
        }
        // With `auto` there was a second try without KVM; here it was requested.
        (reason @ StopReason::KvmFailed { .. }, _) => RunError::Kvm { cause: reason.cause() },
        (reason @ StopReason::Exited { .. }, _) if reason.accelerator_failed() => {
            RunError::Kvm { cause: reason.cause() }
        }
        (StopReason::Exited { code, complaint, .. }, _) => RunError::Qemu { code, complaint },
        (StopReason::TimedOut { after, last_lines }, expected) => {
            RunError::TimedOut { expected, after, last_lines }
        }
        (StopReason::Interrupted, _) => RunError::Interrupted,
        (StopReason::OutputClosed, _) => RunError::OutputClosed,
        (StopReason::Silent, _) => RunError::Silent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Exit, Explain};

    fn watch(expect: Option<&str>) -> Watch {
        Watch { expect: expect.map(str::to_owned), timeout: None }
    }

    fn exited(code: Option<i32>, complaint: &str) -> StopReason {
        StopReason::Exited { code, complaint: complaint.into(), last_lines: "last".into(), silent: false }
    }

    #[test]
    fn guest_that_powers_off_is_a_success_unless_a_text_was_expected() {
        assert_eq!(judge(exited(Some(0), ""), &watch(None)).unwrap(), Outcome::Ended);
        assert_eq!(judge(StopReason::Expected, &watch(Some("x"))).unwrap(), Outcome::Expected);
        let error = judge(exited(Some(0), ""), &watch(Some("ready"))).unwrap_err();
        assert_eq!(error.to_string(), "`ready` did not appear on the serial line before the machine ended");
        assert_eq!(error.exit(), Exit::Expect);
        assert_eq!(error.help().as_deref(), Some("last"));
    }

    #[test]
    fn timeout_names_the_expected_text() {
        let end = || StopReason::TimedOut { after: Duration::from_millis(2500), last_lines: "last".into() };
        let error = judge(end(), &watch(Some("ready"))).unwrap_err();
        assert_eq!(error.to_string(), "`ready` did not appear on the serial line within 2.5 s");
        let error = judge(end(), &watch(None)).unwrap_err();
        assert_eq!(error.to_string(), "the machine was still running after 2.5 s and was stopped");
        assert_eq!(error.exit(), Exit::Expect);
    }

    #[test]
    fn broken_kvm_that_was_asked_for_names_the_other_way() {
        let complaint = "qemu: failed to initialize kvm: Permission denied\n".to_owned();
        let end = StopReason::Exited { code: Some(1), complaint, last_lines: String::new(), silent: true };
        let error = judge(end, &watch(None)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "KVM does not work here: qemu: failed to initialize kvm: Permission denied"
        );
        assert_eq!(error.help().as_deref(), Some("use `--accel tcg`"));
    }

    #[test]
    fn qemu_speaks_for_itself_when_it_fails() {
        let error = judge(exited(Some(1), "qemu: bad option\n"), &watch(None)).unwrap_err();
        assert_eq!(error.to_string(), "QEMU ended with status 1: qemu: bad option");
        let error = judge(exited(Some(1), "Failed to get \"write\" lock"), &watch(None)).unwrap_err();
        assert!(error.help().unwrap().starts_with("another QEMU uses the image"));
        let error = judge(StopReason::Interrupted, &watch(None)).unwrap_err();
        assert_eq!(error.exit(), Exit::Interrupted);
    }
}
