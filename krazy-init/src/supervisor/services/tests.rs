//! Tests of what the part does around the state machine, without processes.

use krazy_boot::manifest::{Restart, Start};

use super::super::control_server::ControlServer;
use super::super::inbox;
use super::super::journal::Journal;
use super::*;
use crate::console::Console;
use crate::control::ErrorKind;
use crate::linux::power::End;

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

/// Services of which none could be prepared.
fn unprepared() -> Services {
    let (reporter, _inbox) = inbox::channel().unwrap();
    Services::new("weather 1.0 slot A".to_owned(), vec![rules("web"), rules("db")], reporter)
}

fn handle(services: &mut Services, event: Event) -> Vec<Effect> {
    let (mut journal, mut control) = (Journal::on(Console::on(None)), ControlServer::closed());
    let mut effects = Effects::default();
    services.handle(event, &mut Audience::new(&mut journal, &mut control), &mut effects);
    effects.into_iter().collect()
}

#[test]
fn machine_ends_although_services_could_not_be_prepared() {
    let mut services = unprepared();
    let effects = handle(&mut services, Event::Begin);
    assert_eq!(effects, [Effect::Log("weather 1.0 slot A is up (0 services)".to_owned())]);
    assert_eq!(handle(&mut services, Event::Shutdown(End::Halt)), [Effect::End(End::Halt)]);
}

#[test]
fn many_services_are_spawned_in_several_turns() {
    let (reporter, _inbox) = inbox::channel().unwrap();
    let names: Vec<_> = (0..2 * MAX_LAUNCHES + 1).map(|n| rules(&format!("s{n}"))).collect();
    let mut services = Services::new("weather".to_owned(), names, reporter);
    let (mut journal, mut control) = (Journal::on(Console::on(None)), ControlServer::closed());
    handle(&mut services, Event::Begin);
    for left in [MAX_LAUNCHES + 1, 1] {
        assert_eq!(services.spawn_queue.len(), left);
        assert_eq!(services.deadline(), Some(Duration::ZERO), "the loop does not wait");
        let mut audience = Audience::new(&mut journal, &mut control);
        services.tick(kernel_clock::since_boot(), &mut audience, &mut Effects::default());
    }
    assert!(services.spawn_queue.is_empty());

    // The end of the machine does not wait for those that were left over.
    handle(&mut services, Event::Begin);
    services.spawn_queue.extend([0, 1]);
    handle(&mut services, Event::Shutdown(End::Halt));
    let mut audience = Audience::new(&mut journal, &mut control);
    services.tick(kernel_clock::since_boot(), &mut audience, &mut Effects::default());
    assert!(services.spawn_queue.is_empty() && services.pids.is_empty());
}

#[test]
fn home_that_is_prepared_too_late_starts_nothing() {
    let mut services = unprepared();
    handle(&mut services, Event::Begin);
    handle(&mut services, Event::Shutdown(End::Reboot));
    let (mut journal, mut control) = (Journal::on(Console::on(None)), ControlServer::closed());
    let mut effects = Effects::default();
    let mut audience = Audience::new(&mut journal, &mut control);
    services.home_prepared(0, Ok(()), &mut audience, &mut effects);
    assert_eq!(effects.into_iter().count(), 0);
    assert!(services.pids.is_empty());
}

#[test]
fn requests_about_unknown_services_are_refused() {
    let services = unprepared();
    let mut effects = Effects::default();
    let refused = services.order("web", Event::Start, &mut effects).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NoSuchService, "it has no unit");
    assert_eq!(refused.message, "there is no service `web`");
    assert!(services.status("web", Duration::ZERO).is_err());
    assert_eq!(services.statuses(Duration::ZERO), []);
    assert_eq!(effects.into_iter().count(), 0);
}

#[test]
fn deadline_is_the_earlier_of_state_machine_and_port_check() {
    let mut services = unprepared();
    assert_eq!(services.deadline(), None);
    services.next_port_check = Some(Duration::from_secs(5));
    assert_eq!(services.deadline(), Some(Duration::from_secs(5)));
}
