//! What the state machine of the services is told and what it orders: plain data.

use std::time::Duration;

use krazy_boot::manifest::Restart;

use crate::control::{ExitReason, ServiceState};
use crate::linux::power::End;

/// What services can wait for besides each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// An interface has an address and a default route.
    Network,
    /// The clock is right.
    Clock,
    /// `/data` is there, or it is certain that it will not be.
    Data,
}

/// Something in a service's `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The service with this index is ready.
    Service(usize),
    /// A milestone was reached.
    Milestone(Milestone),
}

/// What the state machine needs to know of a service.
#[derive(Clone, Debug)]
pub struct Rules {
    /// For messages.
    pub name: String,
    /// What it waits for at boot.
    pub after: Vec<After>,
    /// When it is started again.
    pub restart: Restart,
    /// Between the stop signal and SIGKILL.
    pub stop_timeout: Duration,
    /// Whether the machine is stable only if this service is.
    pub required: bool,
    /// Whether it says itself when it is ready, instead of being so once it runs.
    pub announces_ready: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
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
    /// A service says it is ready.
    Ready(usize),
    /// A service's main process ended.
    Exited(usize, ExitReason),
    /// Someone wants it started.
    Start(usize),
    /// Someone wants it stopped.
    Stop(usize),
    /// Someone wants it stopped and started.
    Restart(usize),
    /// The machine is to end.
    Shutdown(End),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the service's main process and report [`Event::Started`] or [`Event::StartFailed`].
    Spawn(usize),
    /// Send the service its stop signal.
    Terminate(usize),
    /// Kill everything the service has started.
    Kill(usize),
    /// The main process is gone: end whatever it left behind.
    Sweep(usize),
    /// Write a line about a service to the console.
    Log(usize, String),
    /// Every service was started once.
    Up,
    /// All services are down: end the machine.
    End(End),
}

/// What can be asked about a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What it is doing.
    pub state: ServiceState,
    /// Since when it runs.
    pub running_since: Option<Duration>,
    /// How often it was started again after it ended by itself.
    pub restarts: u32,
    /// How it last ended.
    pub last_exit: Option<ExitReason>,
    /// When it will be started.
    pub next_start: Option<Duration>,
    /// Whether it has run long enough, or ended as it should.
    pub stable: bool,
    /// Whether it keeps ending.
    pub crash_loop: bool,
    /// Whether the machine is stable only if this service is.
    pub required: bool,
    /// What it still waits for.
    pub waiting_for: Vec<After>,
}
