//! Tests of the state machine: single cases, and random histories checked against invariants.

use std::time::Duration;

use krazy_boot::manifest::{Restart, Start};
use proptest::prelude::*;

use super::*;

fn rules(name: &str) -> Rules {
    Rules {
        name: name.into(),
        after: Vec::new(),
        start: Start::Automatic,
        restart: Restart::Always,
        stop_timeout: Duration::from_secs(10),
        required: true,
        announces_ready: false,
        watchdog: None,
        is_checked: false,
        stable_after: Duration::from_secs(10),
    }
}

/// Applies an event and returns what is to be done, without messages.
fn act(supervisor: &mut Supervisor, ms: u64, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    supervisor.handle(Duration::from_millis(ms), event, &mut actions);
    actions.retain(|action| !matches!(action, Action::Log(..)));
    actions
}

fn running(all: Vec<Rules>) -> Supervisor {
    let count = all.len();
    let mut supervisor = Supervisor::new(all);
    act(&mut supervisor, 0, Event::Begin);
    for id in 0..count {
        act(&mut supervisor, 0, Event::Started(id));
    }
    supervisor
}

const FAILED: ExitReason = ExitReason::Code(1);

#[test]
fn machine_is_up_once_every_service_was_started() {
    let mut supervisor = Supervisor::new(vec![rules("a"), rules("b")]);
    assert_eq!(act(&mut supervisor, 1, Event::Tick), []);
    assert_eq!(act(&mut supervisor, 2, Event::Begin), [Action::Spawn(0), Action::Spawn(1)]);
    assert_eq!(act(&mut supervisor, 3, Event::Started(0)), []);
    assert_eq!(act(&mut supervisor, 4, Event::StartFailed(1, "no such file".into())), [Action::Up]);
    assert_eq!(supervisor.deadline(), Some(Duration::from_millis(104)));
    assert_eq!(act(&mut supervisor, 104, Event::Tick), [Action::Spawn(1)]);
    assert!(!supervisor.is_stable(Duration::from_secs(60)));
}

#[test]
fn machine_without_services_is_up_at_once() {
    assert_eq!(act(&mut Supervisor::new(Vec::new()), 0, Event::Begin), [Action::Up]);
}

#[test]
fn back_off_starts_anew_after_a_stable_run() {
    let mut supervisor = running(vec![rules("a")]);
    for (at, pause) in [(1000, 100), (2000, 200), (3000, 400), (20_000, 100)] {
        assert_eq!(act(&mut supervisor, at, Event::Exited(0, FAILED)), [Action::Sweep(0)]);
        assert_eq!(supervisor.deadline(), Some(Duration::from_millis(at + pause)));
        assert_eq!(act(&mut supervisor, at + pause, Event::Tick), [Action::Spawn(0)]);
        act(&mut supervisor, at + pause, Event::Started(0));
    }
    assert_eq!(supervisor.view(0, Duration::ZERO).unwrap().restarts, 4);
}

#[test]
fn blockers_name_every_unstable_required_service() {
    let second = Duration::from_secs(1);
    let after = vec![After::Service(0), After::Milestone(Milestone::Clock)];
    let optional = Rules { required: false, ..rules("optional") };
    let all = vec![
        rules("a"),
        Rules { after, ..rules("b") },
        Rules { announces_ready: true, ..rules("c") },
        optional,
    ];
    let mut supervisor = running(all);
    let blockers = |supervisor: &Supervisor, at: Duration| supervisor.blockers(at).join("; ");
    assert_eq!(
        blockers(&supervisor, second),
        "service a has not run for 10 s; service b waits for clock; service c is not ready (`ready`)"
    );
    act(&mut supervisor, 2000, Event::Exited(0, ExitReason::Signal(9)));
    act(&mut supervisor, 2000, Event::Stop(2));
    assert_eq!(
        blockers(&supervisor, 2 * second),
        "service a exited: signal 9; service b waits for a, clock; service c was stopped"
    );
}

#[test]
fn service_without_keep_alive_messages_is_aborted_and_has_its_own_reason() {
    let watchdog = Some(Duration::from_secs(3));
    let with_watchdog =
        Rules { watchdog, announces_ready: true, stop_timeout: Duration::from_secs(1), ..rules("a") };
    let mut supervisor = running(vec![with_watchdog]);
    // It need not send before it is ready.
    assert_eq!(supervisor.deadline(), None);
    assert_eq!(act(&mut supervisor, 9000, Event::Tick), []);
    act(&mut supervisor, 9000, Event::Ready(0));
    assert_eq!(supervisor.deadline(), Some(Duration::from_secs(12)));
    act(&mut supervisor, 11_000, Event::Alive(0));
    assert_eq!(act(&mut supervisor, 13_999, Event::Tick), []);
    // A message may wait behind whatever else the loop learns of after a long time.
    assert_eq!(act(&mut supervisor, 14_000, Event::Reached(Milestone::Network)), []);
    assert_eq!(act(&mut supervisor, 14_000, Event::Tick), [Action::Abort(0)]);
    assert_eq!(supervisor.deadline(), Some(Duration::from_secs(15)));
    assert_eq!(act(&mut supervisor, 15_000, Event::Tick), [Action::Kill(0)]);
    assert_eq!(act(&mut supervisor, 15_000, Event::Exited(0, ExitReason::Signal(9))), [Action::Sweep(0)]);
    let view = supervisor.view(0, Duration::from_secs(15)).unwrap();
    assert_eq!((view.last_exit, view.restarts), (Some(ExitReason::Watchdog(3)), 1));
    assert_eq!(
        supervisor.blockers(Duration::from_secs(15)),
        ["service a exited: no WATCHDOG=1 within 3 s (`watchdog`)"]
    );
    assert_eq!(act(&mut supervisor, 15_100, Event::Tick), [Action::Spawn(0)]);
}

#[test]
fn service_is_stable_when_it_was_ready_and_healthy_for_its_time() {
    let second = Duration::from_secs(1);
    let checked = Rules { is_checked: true, announces_ready: true, stable_after: 20 * second, ..rules("a") };
    let mut supervisor = running(vec![checked]);
    let blocker = |supervisor: &Supervisor, at: u32| supervisor.blockers(at * second).join("; ");
    assert_eq!(blocker(&supervisor, 9), "service a is not ready (`ready`)");
    act(&mut supervisor, 10_000, Event::Ready(0));
    assert_eq!(blocker(&supervisor, 99), "service a has not been checked yet (`health`)");
    act(&mut supervisor, 12_000, Event::Healthy(0));
    assert_eq!(blocker(&supervisor, 31), "service a has not run for 20 s");
    assert!(supervisor.is_stable(32 * second));
    act(&mut supervisor, 33_000, Event::Unhealthy(0, "`/bin/a -h` exit status 1".to_owned()));
    assert_eq!(blocker(&supervisor, 34), "service a is not healthy (`health`): `/bin/a -h` exit status 1");
    act(&mut supervisor, 35_000, Event::Healthy(0));
    act(&mut supervisor, 40_000, Event::Healthy(0));
    assert!(!supervisor.is_stable(54 * second) && supervisor.is_stable(55 * second));
    let reason = ExitReason::Unhealthy("`/bin/a -h` exit status 1, 3 times".to_owned());
    assert_eq!(act(&mut supervisor, 60_000, Event::Broken(0, reason.clone())), [Action::Terminate(0)]);
    // In order, as if nothing were wrong: it is a failure all the same.
    act(&mut supervisor, 60_500, Event::Exited(0, ExitReason::Code(0)));
    assert_eq!(supervisor.view(0, 61 * second).unwrap().last_exit, Some(reason));
    assert_eq!(act(&mut supervisor, 60_600, Event::Tick), [Action::Spawn(0)]);
}

#[test]
fn service_that_fails_its_checks_again_and_again_has_failed() {
    let mut supervisor = running(vec![Rules { is_checked: true, ..rules("a") }]);
    let mut at = 0;
    for _ in 0..backoff::FINAL_FAILURES {
        assert_eq!(supervisor.failed_service(), None);
        // Later than ten seconds, but never healthy.
        at += 15_000;
        act(&mut supervisor, at, Event::Broken(0, ExitReason::Unhealthy("ill".to_owned())));
        act(&mut supervisor, at, Event::Exited(0, ExitReason::Signal(15)));
        at += 30_000;
        act(&mut supervisor, at, Event::Tick);
        act(&mut supervisor, at, Event::Started(0));
    }
    let (id, why) = supervisor.failed_service().unwrap();
    assert_eq!((id, why.as_str()), (0, "service a keeps exiting: unhealthy (`health`): ill"));
}

#[test]
fn stop_of_a_service_that_is_ended_for_its_health_lasts() {
    let mut supervisor = running(vec![Rules { is_checked: true, ..rules("a") }]);
    act(&mut supervisor, 1000, Event::Broken(0, ExitReason::Unhealthy("ill".to_owned())));
    act(&mut supervisor, 1000, Event::Stop(0));
    act(&mut supervisor, 2000, Event::Exited(0, ExitReason::Signal(15)));
    assert_eq!(supervisor.view(0, Duration::ZERO).unwrap().state, ServiceState::Stopped);
}

#[test]
fn required_service_in_a_long_crash_loop_has_failed() {
    let fail_often = |required: bool, times: usize| {
        let mut supervisor = running(vec![Rules { required, ..rules("a") }]);
        let mut at = 0;
        for _ in 0..times {
            act(&mut supervisor, at, Event::Exited(0, ExitReason::Code(3)));
            at = u64::try_from(supervisor.deadline().unwrap().as_millis()).unwrap();
            act(&mut supervisor, at, Event::Tick);
            act(&mut supervisor, at, Event::Started(0));
        }
        (supervisor.failed_service().map(|(_, why)| why), at)
    };
    assert_eq!(fail_often(false, 20).0, None, "an optional service fails nothing");
    assert_eq!(fail_often(true, 9).0, None);
    let (why, at) = fail_often(true, 10);
    assert_eq!(why.as_deref(), Some("service a keeps exiting: exit status 3"));
    assert!((40_000..90_000).contains(&at), "{at} ms");
}

#[test]
fn restart_policy_decides_about_another_start() {
    for (restart, reason, again) in [
        (Restart::Always, ExitReason::Code(0), true),
        (Restart::OnFailure, ExitReason::Code(0), false),
        (Restart::OnFailure, ExitReason::Code(3), true),
        (Restart::OnFailure, ExitReason::Signal(11), true),
        (Restart::Never, ExitReason::Code(3), false),
    ] {
        let mut supervisor = running(vec![Rules { restart, ..rules("a") }]);
        act(&mut supervisor, 5, Event::Exited(0, reason.clone()));
        assert_eq!(
            act(&mut supervisor, 99_000, Event::Tick) == [Action::Spawn(0)],
            again,
            "{restart:?} {reason:?}"
        );
    }
}

#[test]
fn service_waits_for_its_dependencies() {
    let waiter =
        Rules { after: vec![After::Service(1), After::Milestone(Milestone::Network)], ..rules("waiter") };
    let mut supervisor = Supervisor::new(vec![waiter, rules("first")]);
    assert_eq!(act(&mut supervisor, 0, Event::Begin), [Action::Spawn(1)]);
    assert_eq!(act(&mut supervisor, 1, Event::Reached(Milestone::Network)), []);
    assert_eq!(supervisor.view(0, Duration::ZERO).unwrap().waiting_for, [After::Service(1)]);
    assert_eq!(act(&mut supervisor, 2, Event::Started(1)), [Action::Spawn(0)]);
    assert_eq!(act(&mut supervisor, 3, Event::Started(0)), [Action::Up]);
}

#[test]
fn dependents_wait_for_readiness() {
    let first = Rules { announces_ready: true, ..rules("first") };
    let second = Rules { after: vec![After::Service(0)], ..rules("second") };
    let mut supervisor = Supervisor::new(vec![first, second]);
    act(&mut supervisor, 0, Event::Begin);
    assert_eq!(act(&mut supervisor, 1, Event::Started(0)), []);
    assert_eq!(act(&mut supervisor, 2, Event::Ready(0)), [Action::Spawn(1)]);
}

#[test]
fn waiting_for_a_dependency_times_out_with_a_message() {
    let waiter = Rules { after: vec![After::Milestone(Milestone::Clock)], ..rules("waiter") };
    let mut supervisor = Supervisor::new(vec![waiter]);
    act(&mut supervisor, 1000, Event::Begin);
    assert_eq!(supervisor.deadline(), Some(Duration::from_secs(61)));
    let mut actions = Vec::new();
    supervisor.handle(Duration::from_secs(61), Event::Tick, &mut actions);
    let text = "started without clock, which did not come within 60 s".to_owned();
    assert_eq!(actions, [Action::Log(0, text), Action::Spawn(0)]);
}

#[test]
fn stopped_service_stays_stopped_and_is_killed_after_its_timeout() {
    let mut supervisor = running(vec![rules("a")]);
    assert_eq!(act(&mut supervisor, 100, Event::Stop(0)), [Action::Terminate(0)]);
    assert_eq!(act(&mut supervisor, 10_099, Event::Tick), []);
    assert_eq!(act(&mut supervisor, 10_100, Event::Tick), [Action::Kill(0)]);
    act(&mut supervisor, 10_200, Event::Exited(0, ExitReason::Signal(9)));
    assert_eq!(act(&mut supervisor, 999_999, Event::Tick), []);
    assert_eq!(supervisor.view(0, Duration::ZERO).unwrap().state, ServiceState::Stopped);
    assert_eq!(act(&mut supervisor, 999_999, Event::Start(0)), [Action::Spawn(0)]);
}

#[test]
fn restart_stops_and_starts_without_a_pause() {
    let mut supervisor = running(vec![rules("a")]);
    assert_eq!(act(&mut supervisor, 1, Event::Restart(0)), [Action::Terminate(0)]);
    let exited = Event::Exited(0, ExitReason::Signal(15));
    assert_eq!(act(&mut supervisor, 2, exited), [Action::Sweep(0), Action::Spawn(0)]);
}

#[test]
fn shutdown_waits_for_every_service_with_a_limit() {
    let mut supervisor = running(vec![rules("a"), rules("b"), rules("c")]);
    act(&mut supervisor, 1, Event::Exited(2, FAILED));
    let stop = act(&mut supervisor, 2, Event::Shutdown(End::Reboot));
    assert_eq!(stop, [Action::Terminate(0), Action::Terminate(1)]);
    act(&mut supervisor, 3, Event::Exited(0, ExitReason::Signal(15)));
    assert_eq!(act(&mut supervisor, 4, Event::Start(0)), []);
    assert_eq!(act(&mut supervisor, 10_002, Event::Tick), [Action::Kill(1)]);
    assert_eq!(act(&mut supervisor, 15_002, Event::Tick), [Action::End(End::Reboot)]);
}

#[test]
fn machine_is_stable_when_required_services_are() {
    let mut supervisor = running(vec![rules("a"), Rules { required: false, ..rules("b") }]);
    act(&mut supervisor, 5, Event::Exited(1, FAILED));
    assert!(!supervisor.is_stable(Duration::from_secs(9)));
    assert!(supervisor.is_stable(Duration::from_secs(10)));
}

/// An event as a test's random choice.
fn any_event(count: usize) -> impl Strategy<Value = Event> {
    let id = 0..count;
    prop_oneof![
        8 => Just(Event::Tick),
        1 => Just(Event::Reached(Milestone::Network)),
        1 => Just(Event::Reached(Milestone::Clock)),
        3 => (id.clone(), any::<bool>()).prop_map(|(id, ok)| Event::Exited(id, ExitReason::Code(i32::from(!ok)))),
        1 => id.clone().prop_map(Event::Start),
        1 => id.clone().prop_map(Event::Stop),
        1 => id.clone().prop_map(Event::Restart),
        1 => id.clone().prop_map(Event::Ready),
        1 => id.clone().prop_map(Event::Alive),
        1 => id.clone().prop_map(Event::Healthy),
        1 => id.clone().prop_map(|id| Event::Unhealthy(id, "ill".to_owned())),
        1 => id.prop_map(|id| Event::Broken(id, ExitReason::Watchdog(1))),
    ]
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let after = prop_oneof![
        (0usize..4).prop_map(After::Service),
        Just(After::Milestone(Milestone::Network)),
        Just(After::Milestone(Milestone::Clock))
    ];
    let restart = prop_oneof![Just(Restart::Always), Just(Restart::OnFailure), Just(Restart::Never)];
    (proptest::collection::vec(after, 0..3), restart, 0u64..20, any::<bool>()).prop_map(
        |(after, restart, stop, announces_ready)| Rules {
            after,
            restart,
            stop_timeout: Duration::from_secs(stop),
            announces_ready,
            ..rules("any")
        },
    )
}

/// A world that carries actions out at once: it knows which services have a process.
struct World {
    supervisor: Supervisor,
    alive: Vec<bool>,
    asked_to_stop: Vec<bool>,
    ended: bool,
    up: u32,
}

impl World {
    /// Feeds an event and all that follows from it; an exit is only reported for a process that exists. `starts`
    /// decides whether a spawn works.
    fn feed(&mut self, now: Duration, event: Event, starts: bool) -> Result<(), TestCaseError> {
        if let Event::Exited(id, _) = &event
            && !std::mem::take(&mut self.alive[*id])
        {
            return Ok(());
        }
        let mut actions = Vec::new();
        self.supervisor.handle(now, event, &mut actions);
        for action in actions {
            match action {
                Action::Spawn(id) => {
                    prop_assert!(!self.alive[id], "a second process of service {id}");
                    prop_assert!(!self.supervisor.is_ending(), "a start during the end");
                    self.alive[id] = starts;
                    self.asked_to_stop[id] = false;
                    let outcome =
                        if starts { Event::Started(id) } else { Event::StartFailed(id, "no".into()) };
                    self.feed(now, outcome, starts)?;
                }
                Action::Terminate(id) | Action::Abort(id) => {
                    prop_assert!(self.alive[id], "a stop signal without a process");
                    self.asked_to_stop[id] = true;
                }
                Action::Kill(id) => {
                    prop_assert!(self.asked_to_stop[id], "killed without having been asked");
                    self.feed(now, Event::Exited(id, ExitReason::Signal(9)), starts)?;
                }
                Action::Sweep(id) => prop_assert!(!self.alive[id]),
                Action::Log(..) => {}
                Action::Up => self.up += 1,
                Action::End(_) => {
                    prop_assert!(!self.ended && self.alive.iter().all(|alive| !alive));
                    self.ended = true;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn shutdown_does_not_wait_for_a_start_without_an_outcome() {
    let mut supervisor = Supervisor::new(vec![rules("a")]);
    let mut actions = Vec::new();
    let now = Duration::from_secs(1);
    supervisor.handle(now, Event::Begin, &mut actions);
    supervisor.handle(now, Event::Shutdown(End::Reboot), &mut actions);
    let deadline = supervisor.deadline().unwrap();
    supervisor.handle(deadline, Event::Tick, &mut actions);
    assert_eq!(actions.last(), Some(&Action::End(End::Reboot)));
    assert_eq!(supervisor.deadline(), None);
}

proptest! {
    #[test]
    fn random_histories_keep_the_invariants(
        all in proptest::collection::vec(any_rules(), 4),
        history in proptest::collection::vec((any_event(4), 0u64..20_000, any::<bool>()), 0..120),
    ) {
        let mut world = World {
            supervisor: Supervisor::new(all),
            alive: vec![false; 4],
            asked_to_stop: vec![false; 4],
            ended: false,
            up: 0,
        };
        let mut now = Duration::from_secs(1);
        world.feed(now, Event::Begin, true)?;
        for (event, pause, starts) in history {
            now += Duration::from_millis(pause);
            world.feed(now, event, starts)?;
            // A deadline in the past would make the loop spin.
            world.feed(now, Event::Tick, starts)?;
            prop_assert!(world.supervisor.deadline().is_none_or(|deadline| deadline > now));
        }
        // No service waits longer than the timeout.
        now += DEPENDENCY_TIMEOUT;
        world.feed(now, Event::Tick, true)?;
        prop_assert_eq!(world.up, 1);
        // The machine ends, whatever the services do.
        world.feed(now, Event::Shutdown(End::Poweroff), true)?;
        while let Some(deadline) = world.supervisor.deadline() {
            prop_assert!(deadline < now + Duration::from_secs(60));
            world.feed(deadline, Event::Tick, true)?;
        }
        prop_assert!(world.ended);
    }
}

#[test]
fn service_for_hands_starts_when_it_is_asked_for_only() {
    let manual = Rules { start: Start::Manual, restart: Restart::Never, required: false, ..rules("tool") };
    let mut supervisor = Supervisor::new(vec![rules("a"), manual]);
    assert_eq!(act(&mut supervisor, 1, Event::Begin), [Action::Spawn(0)]);
    assert_eq!(act(&mut supervisor, 2, Event::Started(0)), [Action::Up]);
    assert!(supervisor.is_stable(Duration::from_secs(60)));
    assert_eq!(act(&mut supervisor, 3, Event::Start(1)), [Action::Spawn(1)]);
    act(&mut supervisor, 4, Event::Started(1));
    assert_eq!(act(&mut supervisor, 5, Event::Exited(1, FAILED)), [Action::Sweep(1)]);
    assert_eq!(act(&mut supervisor, 90_000, Event::Tick), []);
}
