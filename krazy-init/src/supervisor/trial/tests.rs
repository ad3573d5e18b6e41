//! Tests of trials on a disk of a few sectors, and of the rules alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use krazy_boot::disk::layout::StateSectors;
use krazy_boot::disk::mbr;
use krazy_boot::disk::selector::Selector;
use krazy_boot::disk::size::SECTOR_SIZE;
use krazy_boot::manifest::{Restart, Start};
use krazy_boot::update::history::History;

use super::rules::{may_arm, may_confirm, may_disarm, readiness, verdict};
use super::*;
use crate::control::{ErrorKind, ExitReason, Reply, RequestError};
use crate::linux::block::Disk;
use crate::slots::TrialKernel;
use crate::supervisor::disk_queue::DiskTask;
use crate::supervisor::inbox;
use crate::supervisor::state::{Event, Rules, Supervisor};

const DEADLINE: Duration = Duration::from_secs(300);

/// Comes late enough for a service that was started at once to be stable.
const LATER: Duration = Duration::from_secs(60);

/// One required service that was started `since` the kernel's start.
fn started() -> Supervisor {
    let rules = Rules {
        name: "web".into(),
        after: Vec::new(),
        start: Start::Automatic,
        restart: Restart::Always,
        stop_timeout: Duration::from_secs(10),
        required: true,
        announces_ready: false,
        watchdog: None,
        is_checked: false,
        stable_after: Duration::from_secs(10),
    };
    let mut services = Supervisor::new(vec![rules]);
    for event in [Event::Begin, Event::Started(0)] {
        services.handle(Duration::ZERO, event, &mut Vec::new());
    }
    services
}

/// A service that exits as often as it is started, until it is given up.
fn failing() -> Supervisor {
    let mut services = started();
    let mut now = Duration::from_millis(1);
    while services.failed_service().is_none() {
        services.handle(now, Event::Exited(0, ExitReason::Code(3)), &mut Vec::new());
        now = services.deadline().unwrap();
        services.handle(now, Event::Tick, &mut Vec::new());
        services.handle(now, Event::Started(0), &mut Vec::new());
    }
    services
}

fn ending() -> Supervisor {
    let mut services = started();
    services.handle(LATER, Event::Shutdown(End::Reboot), &mut Vec::new());
    services
}

/// A disk with this selector, found as `/dev/NAME` like a real one.
struct TestDisk {
    dir: tempfile::TempDir,
    path: PathBuf,
    _keeper: MutexGuard<'static, ()>,
}

impl TestDisk {
    fn new(selector: Selector) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let mut bytes = vec![0; 2048 * SECTOR_SIZE as usize];
        // Code of a boot sector, and the format.
        (bytes[0], bytes[439]) = (0xfa, mbr::FORMAT);
        for write in selector.writes(StateSectors::CURRENT) {
            let start = write.at.0 as usize * SECTOR_SIZE as usize;
            bytes[start..][..write.bytes.len()].copy_from_slice(&write.bytes);
        }
        fs::write(&path, bytes).unwrap();
        TestDisk { dir, path, _keeper: crash::lock_recorder() }
    }

    /// A disk whose slot B was armed and is on trial: the boot sector has cleared the trial.
    fn on_trial() -> Self {
        let disk = Self::new(Selector::confirmed(Slot::A));
        disk.slots(Slot::A).arm("cafe", TrialKernel::Own).unwrap();
        let mut bytes = fs::read(&disk.path).unwrap();
        bytes[StateSectors::CURRENT.selector.bytes().0 as usize + 9] = 0xff;
        fs::write(&disk.path, bytes).unwrap();
        disk
    }

    fn slots(&self, running: Slot) -> Slots {
        let disk = Disk { name: format!("..{}", self.path.display()) };
        Slots::of(&disk, running).unwrap().unwrap()
    }

    fn history(&self) -> PathBuf {
        self.dir.path().join("updates.json")
    }

    /// The part at the start of a boot of this slot, and what it reports.
    fn boot(&self, running: Slot) -> (Trial, Vec<Effect>) {
        let state = BootState {
            slots: self.slots(running),
            history: UpdateHistory::File(self.history()),
            build_id: "cafe".to_owned(),
            is_launched: false,
            boot_was_writable: Arc::default(),
        };
        let mut trial = Trial { armed: state.armed_slot(), ..Trial::default() };
        let mut effects = Effects::default();
        let mut watchdog = WatchdogTimer::new(false, Duration::ZERO);
        trial.examine(&state, DEADLINE, &mut watchdog, &mut effects);
        trial.boot_state = Some(state);
        (trial, effects.into_iter().collect())
    }
}

/// Carries out the tasks of the thread that waits for the disk.
fn run(effects: Effects) {
    for effect in effects {
        if let Effect::Disk(task) = effect {
            task.run(&mut Effects::default()).unwrap();
        }
    }
}

/// Carries out a task, and lets the part take what the disk has taken.
fn finish(task: DiskTask, trial: &mut Trial) -> Result<Reply, RequestError> {
    let mut effects = Effects::default();
    let answer = task.run(&mut effects);
    for effect in effects {
        if let Effect::Trial(change) = effect {
            trial.changed(change);
        }
    }
    answer
}

fn outcomes(history: &Path) -> Vec<Outcome> {
    History::read(history).unwrap().attempts.iter().map(|attempt| attempt.outcome).collect()
}

#[test]
fn trial_ends_at_its_deadline_with_the_blockers() {
    let services = started();
    assert_eq!(verdict(DEADLINE, DEADLINE - Duration::from_millis(1), &services), None);
    let nobody = Verdict::TimedOut("nobody confirmed the trial in time".to_owned());
    assert_eq!(verdict(DEADLINE, DEADLINE, &services), Some(nobody));
    let early = Duration::from_secs(1);
    let Some(Verdict::TimedOut(reason)) = verdict(early, early, &services) else { panic!() };
    let blocker = "service web has not run for 10 s";
    assert_eq!(reason, format!("not stable when the trial's time was up: {blocker}"));
}

#[test]
fn trial_ends_early_when_a_required_service_cannot_become_stable() {
    let reason = "service web keeps exiting: exit status 3".to_owned();
    assert_eq!(verdict(DEADLINE, LATER, &failing()), Some(Verdict::ServiceFailed(0, reason)));
}

#[test]
fn confirmation_needs_a_stable_machine_that_stays() {
    let confirm = |state, now, services: &Supervisor| may_confirm(state, readiness(now, services));
    let kind = |state, now, services: &Supervisor| confirm(state, now, services).map_err(|why| why.kind);
    for state in [SlotState::OnTrial, SlotState::Fallback] {
        assert_eq!(kind(state, LATER, &started()), Ok(true));
        assert_eq!(kind(state, Duration::ZERO, &started()), Err(ErrorKind::NotStable));
        assert_eq!(kind(state, LATER, &ending()), Err(ErrorKind::NotNow));
    }
    for state in [SlotState::Confirmed, SlotState::Armed, SlotState::Reverted] {
        assert_eq!(kind(state, Duration::ZERO, &ending()), Ok(false), "{state:?} is confirmed already");
    }
    let error = confirm(SlotState::OnTrial, LATER, &failing()).unwrap_err();
    assert_eq!(error.message, "not confirmed: service web keeps exiting: exit status 3");
}

#[test]
fn arming_needs_a_confirmed_slot_and_the_other_one() {
    let refusal = |state, slot| may_arm(state, Slot::A, slot).err().map(|why| why.message);
    for state in [SlotState::Confirmed, SlotState::Armed, SlotState::Reverted] {
        assert_eq!(refusal(state, Slot::B), None, "{state:?}");
        assert_eq!(refusal(state, Slot::A).as_deref(), Some("slot A is the running one"));
    }
    assert_eq!(
        refusal(SlotState::OnTrial, Slot::B).as_deref(),
        Some("slot A runs on trial; confirm it or roll it back first")
    );
    assert_eq!(
        refusal(SlotState::Fallback, Slot::B).as_deref(),
        Some("slot A runs as the fallback; confirm it first")
    );
}

#[test]
fn disarming_forgets_only_what_has_not_run() {
    assert!(may_disarm(SlotState::Armed, Slot::A).unwrap());
    assert!(!may_disarm(SlotState::Confirmed, Slot::A).unwrap());
    assert!(!may_disarm(SlotState::Reverted, Slot::A).unwrap());
    let error = may_disarm(SlotState::OnTrial, Slot::B).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::NotNow, "slot B is running already"));
}

#[test]
fn confirmed_trial_has_no_deadline_and_is_recorded() {
    let disk = TestDisk::on_trial();
    let (mut trial, _) = disk.boot(Slot::B);
    assert_eq!(trial.deadline(), Some(DEADLINE));
    let early = trial.confirm(Duration::ZERO, &started()).unwrap();
    assert_eq!(finish(early, &mut trial).unwrap_err().kind, ErrorKind::NotStable);
    assert_eq!(trial.deadline(), Some(DEADLINE), "a refusal changes nothing");
    let confirmation = trial.confirm(LATER, &started()).unwrap();
    assert_eq!(trial.deadline(), Some(DEADLINE), "not on the disk yet");
    assert_eq!(finish(confirmation, &mut trial), Ok(Reply::Done));
    assert_eq!(trial.deadline(), None);
    assert_eq!(disk.slots(Slot::B).boot_status().unwrap().confirmed, Slot::B);
    assert_eq!(outcomes(&disk.history()), [Outcome::Confirmed]);
}

#[test]
fn trial_that_ended_is_explained_by_the_next_boot_and_disarmed() {
    let disk = TestDisk::on_trial();
    let (mut trial, _) = disk.boot(Slot::B);
    let mut effects = Effects::default();
    trial.end("nobody came", &mut effects);
    run(effects);
    assert_eq!(trial.deadline(), None);
    let (trial, effects) = disk.boot(Slot::A);
    assert_eq!(effects[0], Effect::Log("slot B was tried and not confirmed: nobody came".to_owned()));
    assert_eq!(trial.failed().unwrap().reason, "nobody came");
    assert_eq!(disk.slots(Slot::A).boot_status().unwrap().slot_state, SlotState::Confirmed);
    assert_eq!(outcomes(&disk.history()), [Outcome::Failed]);
}

#[test]
fn failed_trial_stays_on_the_disk_until_it_is_recorded() {
    let disk = TestDisk::on_trial();
    fs::create_dir(disk.history()).unwrap();
    let (_, effects) = disk.boot(Slot::A);
    assert!(matches!(effects.last(), Some(Effect::Degrade(_))), "{effects:?}");
    assert_eq!(disk.slots(Slot::A).boot_status().unwrap().slot_state, SlotState::Reverted);
}

#[test]
fn rollback_of_a_trial_restarts_the_machine() {
    let disk = TestDisk::on_trial();
    let (trial, _) = disk.boot(Slot::B);
    assert_eq!(trial.roll_back(&ending()).unwrap_err().kind, ErrorKind::NotNow);
    let mut effects = Effects::default();
    assert_eq!(trial.roll_back(&started()).unwrap().run(&mut effects), Ok(Reply::Done));
    let effects: Vec<Effect> = effects.into_iter().collect();
    assert!(matches!(effects[0], Effect::ShutDown(End::Reboot, _)), "{effects:?}");
}

#[test]
fn confirmation_that_waits_for_the_disk_delays_the_end_of_a_trial_but_not_for_ever() {
    let disk = TestDisk::on_trial();
    let (mut trial, _) = disk.boot(Slot::B);
    let (reporter, _inbox) = inbox::channel().unwrap();
    let services = Services::new("appliance".to_owned(), Vec::new(), reporter);
    let early = DEADLINE - Duration::from_secs(50);
    let ends = |trial: &Trial, now| {
        let mut effects = Effects::default();
        trial.tick(now, &services, &mut effects);
        effects.into_iter().count() > 0
    };
    let waiting = trial.confirm(early, &started()).unwrap();
    let repeated = trial.confirm(DEADLINE, &started()).unwrap();
    let limit = early + Duration::from_secs(60);
    assert_eq!(trial.deadline(), Some(limit));
    assert!(!ends(&trial, DEADLINE) && ends(&trial, limit), "the second request adds no time");
    assert_eq!(finish(waiting, &mut trial), Ok(Reply::Done));
    assert_eq!(finish(repeated, &mut trial), Ok(Reply::Done));
    assert!(!ends(&trial, 2 * DEADLINE));
    assert_eq!(outcomes(&disk.history()), [Outcome::Confirmed]);
}

#[test]
fn deadline_of_a_trial_shuts_the_machine_down() {
    let disk = TestDisk::on_trial();
    let (trial, _) = disk.boot(Slot::B);
    let (reporter, _inbox) = inbox::channel().unwrap();
    let services = Services::new("appliance".to_owned(), Vec::new(), reporter);
    let mut effects = Effects::default();
    trial.tick(DEADLINE - Duration::from_millis(1), &services, &mut effects);
    trial.tick(DEADLINE, &services, &mut effects);
    let effects: Vec<Effect> = effects.into_iter().collect();
    let reason = "nobody confirmed the trial in time".to_owned();
    assert_eq!(effects, [Effect::ShutDown(End::Reboot, reason)]);
}

#[test]
fn withdrawn_trial_is_recorded() {
    let disk = TestDisk::new(Selector::confirmed(Slot::A));
    disk.slots(Slot::A).arm("cafe", TrialKernel::Own).unwrap();
    let (mut trial, _) = disk.boot(Slot::A);
    assert_eq!(trial.armed_slot(), Some(Slot::B));
    assert_eq!(trial.disarm(&ending()).unwrap_err().kind, ErrorKind::NotNow);
    let order = trial.disarm(&started()).unwrap();
    assert_eq!(finish(order, &mut trial), Ok(Reply::Done));
    assert_eq!(trial.armed_slot(), None);
    assert_eq!(outcomes(&disk.history()), [Outcome::Withdrawn]);
}

#[test]
fn machine_without_slots_refuses_everything_about_them() {
    let trial = Trial::default();
    let refused = trial.arm(Slot::B, None, &started()).unwrap_err();
    assert_eq!((refused.kind, refused.message.as_str()), (ErrorKind::Failed, "this machine has no slots"));
    assert_eq!(trial.armed_slot(), None);
}
