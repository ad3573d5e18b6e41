//! Input and output of the services' state machine: plain data.

use std::time::Duration;

use krazy_boot::manifest::{Restart, Start};

use crate::control::{ExitReason, ServiceState};
use crate::linux::power::End;

/// A state of the machine that services can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Milestone {
    /// An interface has an address and a default route.
    Network,
    /// The clock is right.
    Clock,
    /// `/data` is mounted, or it is certain that it will not be.
    Data,
}

/// Something in a service's `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The service with this index is ready.
    Service(usize),
    /// A milestone was reached.
    Milestone(Milestone),
}

/// The settings of a service that decide when it runs.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// For messages.
    pub name: String,
    /// Its dependencies at boot.
    pub after: Vec<After>,
    /// Set when it starts with the machine.
    pub start: Start,
    /// The policy about another start when it exited.
    pub restart: Restart,
    /// The time between the stop signal and SIGKILL.
    pub stop_timeout: Duration,
    /// True if the machine is stable only if this service is.
    pub required: bool,
    /// True if it announces that it is ready, instead of being ready once it runs.
    pub announces_ready: bool,
    /// The longest time between two keep-alive messages, from the time at which it is ready.
    pub watchdog: Option<Duration>,
    /// True if checks tell that it is healthy, instead of being healthy once it runs.
    pub is_checked: bool,
    /// The time for which it must be ready and healthy to be stable.
    pub stable_after: Duration,
}

/// An event that the state machine takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The machine is ready for services.
    Begin,
    /// Time has passed.
    Tick,
    /// A milestone was reached.
    Reached(Milestone),
    /// [`Action::Spawn`] succeeded.
    Started(usize),
    /// [`Action::Spawn`] failed.
    StartFailed(usize, String),
    /// A service is ready.
    Ready(usize),
    /// A service has sent a keep-alive message.
    Alive(usize),
    /// A check of a service succeeded.
    Healthy(usize),
    /// A check of a service failed, for this reason.
    Unhealthy(usize, String),
    /// A service does not work any more, although it runs: it is to be ended, with this as the reason of its exit.
    Broken(usize, ExitReason),
    /// A service's main process exited.
    Exited(usize, ExitReason),
    /// Its start was requested.
    Start(usize),
    /// Its stop was requested.
    Stop(usize),
    /// A stop and another start were requested.
    Restart(usize),
    /// The end of the machine was requested.
    Shutdown(End),
}

/// An action that the state machine orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start the service's main process and report [`Event::Started`] or [`Event::StartFailed`].
    Spawn(usize),
    /// Send the service its stop signal.
    Terminate(usize),
    /// Send the service SIGABRT.
    Abort(usize),
    /// Kill everything the service has started.
    Kill(usize),
    /// The main process is gone: kill what it left behind.
    Sweep(usize),
    /// Write a line about a service to the console.
    Log(usize, String),
    /// Every service was started once.
    Up,
    /// All services are down: end the machine.
    End(End),
}

/// The state of a service, for status requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Its state.
    pub state: ServiceState,
    /// The time of its start, while it runs.
    pub running_since: Option<Duration>,
    /// The number of starts after it exited by itself.
    pub restarts: u32,
    /// The last exit.
    pub last_exit: Option<ExitReason>,
    /// The time of the next start.
    pub next_start: Option<Duration>,
    /// True if it has run long enough, or exited successfully.
    pub stable: bool,
    /// True if it keeps exiting.
    pub crash_loop: bool,
    /// True if the machine is stable only if this service is.
    pub required: bool,
    /// The dependencies that it still waits for.
    pub waiting_for: Vec<After>,
}
