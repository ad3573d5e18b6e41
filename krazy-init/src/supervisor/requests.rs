//! Requests over the control socket: each goes to the part that it concerns.

use std::time::Duration;

use krazy_boot::api::data::DataSource;

use super::boot::Machine;
use super::control_server::ControlServer;
use super::disk_queue::{Answer, DiskTask};
use super::effect::{Effect, Effects};
use super::format_data;
use super::refusal::{refused, too_slow};
use super::services::Services;
use super::state::{Event, Milestone};
use super::trial::Trial;
use crate::control::{BootInfo, Command, ErrorKind, Milestones, Reply, RequestError};
use crate::linux::data::{self, DataMount};
use crate::linux::power::End;
use crate::linux::{boot_mount, identity};

/// Facts about this boot that no part keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct BootFacts<'a> {
    /// The time since the kernel's start.
    pub now: Duration,
    /// The machine as it was found.
    pub machine: &'a Machine,
    /// All problems so far.
    pub problems: &'a [String],
    /// The end of the previous boot.
    pub previous_end: Option<&'a str>,
    /// True if another request may wait for the disk.
    pub has_room: bool,
}

/// Carries out the request of this client, or rejects it.
pub(super) fn execute(
    command: Command,
    client: u32,
    facts: BootFacts<'_>,
    services: &mut Services,
    trial: &mut Trial,
    control: &mut ControlServer,
    effects: &mut Effects,
) -> Result<Answer, RequestError> {
    let now = facts.now;
    // First: a part that has agreed to a request counts on its outcome.
    if command.waits_for_disk() && !facts.has_room {
        return Err(too_slow());
    }
    let reply = match command {
        Command::Boot => Ok(Reply::Boot(Box::new(boot_info(facts, services, trial)))),
        Command::List => Ok(Reply::Services(services.statuses(now))),
        Command::Status { service } => Ok(Reply::Service(Box::new(services.status(&service, now)?))),
        Command::Start { service } => services.order(&service, Event::Start, effects),
        Command::Stop { service } => services.order(&service, Event::Stop, effects),
        Command::Restart { service } => services.order(&service, Event::Restart, effects),
        Command::Signal { service, signal } => services.signal(&service, &signal),
        Command::Logs { service, stream, lines, follow } => {
            let id = services.named(&service)?;
            if services.keeps_output(id) && !facts.has_room {
                return Err(too_slow());
            }
            if follow && !control.may_follow(client) {
                return Err(refused(ErrorKind::NotNow, "too many logs are followed already"));
            }
            // In one turn of the loop: between these lines and those that follow none is missed or sent twice.
            let log = services.logs(id, stream, lines)?;
            if follow {
                control.follow(client, id);
            }
            return Ok(log);
        }
        Command::RemountBoot { writable } => {
            return trial.remount_boot(writable, services.state()).map(Answer::Later);
        }
        Command::RepairBoot { slot } => return trial.repair_boot(slot, services.state()).map(Answer::Later),
        Command::Confirm => return trial.confirm(now, services.state()).map(Answer::Later),
        Command::Arm { slot, build_id } => {
            return trial.arm(slot, Some(build_id), services.state()).map(Answer::Later);
        }
        Command::Switch { slot } => return trial.arm(slot, None, services.state()).map(Answer::Later),
        Command::Disarm => return trial.disarm(services.state()).map(Answer::Later),
        Command::Rollback => return trial.roll_back(services.state()).map(Answer::Later),
        Command::FormatData { name } => {
            return format_data::request(&name, facts.machine, services.state()).map(Answer::Later);
        }
        Command::CopyCredentials => match copy_credentials(facts.machine) {
            Some(task) => return Ok(Answer::Later(task)),
            None => Ok(Reply::Done),
        },
        Command::Reboot => Ok(shut_down(End::Reboot, effects)),
        Command::Poweroff => Ok(shut_down(End::Poweroff, effects)),
        Command::Halt => Ok(shut_down(End::Halt, effects)),
    };
    reply.map(Answer::Now)
}

/// A copy that is not the newest one would bring back revoked tokens, so a failure is a lasting problem.
fn copy_credentials(machine: &Machine) -> Option<DiskTask> {
    let disk = machine.disk.clone()?;
    Some(DiskTask::answering("copying the credentials", move |effects| {
        identity::copy(&disk).map(|()| Reply::Done).map_err(|error| {
            let text = format!("the credentials are not copied outside /data: {error}");
            effects.degrade(text.clone());
            refused(ErrorKind::Failed, text)
        })
    }))
}

fn shut_down(end: End, effects: &mut Effects) -> Reply {
    effects.push(Effect::ShutDown(end, "requested over the control socket".to_owned()));
    Reply::Done
}

fn boot_info(facts: BootFacts<'_>, services: &Services, trial: &Trial) -> BootInfo {
    let BootFacts { now, machine, problems, previous_end, .. } = facts;
    let manifest = &machine.manifest;
    let state = services.state();
    BootInfo {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        board: manifest.board.clone(),
        build_id: manifest.build_id.clone(),
        hostname: machine.hostname.clone(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        init: env!("CARGO_PKG_VERSION").to_owned(),
        slot: machine.slot,
        disk: machine.disk.as_ref().map(|disk| disk.node().display().to_string()),
        twin_disks: machine.twins.iter().map(|disk| disk.node().display().to_string()).collect(),
        trial: trial.info(now),
        armed: trial.armed_slot(),
        failed_trial: trial.failed().cloned(),
        fallback: trial.fallback().cloned(),
        uptime: now.as_secs(),
        stable: state.is_stable(now),
        degraded: problems.iter().cloned().chain(trial.fallback_problem()).collect(),
        milestones: Milestones {
            network: state.has_reached(Milestone::Network),
            clock: state.has_reached(Milestone::Clock),
            data: matches!(machine.data, DataMount::Disk(_)),
        },
        boot_writable: boot_mount::is_writable(),
        previous_end: previous_end.map(str::to_owned),
        data: Some(data_source(machine)),
    }
}

fn data_source(machine: &Machine) -> DataSource {
    let on_disk = || machine.disk.as_ref().and_then(|disk| disk.partition(data::PARTITION));
    let (partition, temporary) = match &machine.data {
        DataMount::Disk(node) => (Some(node.clone()), None),
        DataMount::Temporary(why) => (on_disk(), Some(why.clone())),
    };
    let partition = partition.map(|node| node.display().to_string());
    DataSource { partition, temporary, formatted: machine.data_formatted }
}

#[cfg(test)]
pub(super) mod tests {
    use krazy_boot::disk::slot::Slot;

    use super::*;
    use crate::linux::modules::Parameters;
    use crate::supervisor::watchdog::WatchdogTimer;
    use crate::supervisor::{inbox, plan};

    /// A machine without a disk.
    pub(in super::super) fn machine() -> Machine {
        Machine {
            manifest: plan::empty_manifest(),
            slot: None,
            disk: None,
            twins: Vec::new(),
            data: DataMount::Temporary("no disk".to_owned()),
            data_formatted: false,
            hostname: "weather".to_owned(),
            trial_limit: None,
            launched: false,
            use_watchdog: false,
            parameters: Parameters::from_command_line(""),
        }
    }

    /// Executes a request on a machine without slots and services.
    fn request(command: Command) -> (Result<Answer, RequestError>, Vec<Effect>) {
        let (reporter, _inbox) = inbox::channel().unwrap();
        let mut services = Services::new(String::new(), Vec::new(), reporter);
        let machine = machine();
        let mut effects = Effects::default();
        let mut watchdog = WatchdogTimer::new(false, Duration::ZERO);
        let mut trial = Trial::begin(&machine, &mut watchdog, &mut effects);
        let problems = ["no disk".to_owned()];
        let now = Duration::from_secs(9);
        let previous_end = Some("halting");
        let facts = BootFacts { now, machine: &machine, problems: &problems, previous_end, has_room: true };
        let mut control = ControlServer::closed();
        let answer = execute(command, 0, facts, &mut services, &mut trial, &mut control, &mut effects);
        (answer, effects.into_iter().collect())
    }

    #[test]
    fn orders_to_end_the_machine_shut_it_down() {
        for (command, expected) in
            [(Command::Reboot, End::Reboot), (Command::Poweroff, End::Poweroff), (Command::Halt, End::Halt)]
        {
            let (answer, effects) = request(command);
            assert_eq!(answer, Ok(Answer::Now(Reply::Done)));
            assert!(matches!(&effects[..], [Effect::ShutDown(end, _)] if *end == expected), "{effects:?}");
        }
    }

    #[test]
    fn requests_about_slots_are_refused_without_slots() {
        for command in
            [Command::Confirm, Command::Rollback, Command::Disarm, Command::RepairBoot { slot: Slot::B }]
        {
            let (answer, effects) = request(command);
            assert_eq!(answer.unwrap_err().message, "this machine has no slots");
            assert_eq!(effects, []);
        }
    }

    #[test]
    fn boot_information_has_the_problems_and_the_previous_end() {
        let (Ok(Answer::Now(Reply::Boot(info))), _) = request(Command::Boot) else { panic!() };
        assert_eq!((info.hostname.as_str(), info.uptime), ("weather", 9));
        assert_eq!(info.degraded, ["no disk"]);
        assert_eq!(info.previous_end.as_deref(), Some("halting"));
        assert!(!info.milestones.data && !info.stable);
    }
}
