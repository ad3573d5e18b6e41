//! PID 1 on the real root.
//!
//! | module | does |
//! |---|---|
//! | [`state`], [`event`], [`backoff`] | decide which service runs when; no side effects |
//! | [`plan`], [`accounts`], [`device_groups`] | turn the manifest into what is run, as whom, and with which devices |
//! | `boot`, `late` | mounts, settings, `/data`; what services need not wait for |
//! | `unit` | a service's process, cgroup, pipes and log files |
//! | `runtime` | the loop: waits, tells the state machine what happened |
//! | `services`, `online`, `hardware` | what the loop does for services, network and clock, devices |
//! | `requests`, `control_server` | the control socket |
//! | `devices`, [`wake`] | module loading in a thread, and how threads report |
//! | [`clock`] | when the wall clock is believed and set |
//! | `trial`, `attempts` | trials of a slot: arming, deadline, confirmation, why one failed |
//! | `shutdown` | the end |

pub mod accounts;
mod attempts;
pub mod backoff;
mod boot;
pub mod clock;
mod control_server;
pub mod device_groups;
mod devices;
pub mod event;
mod hardware;
mod late;
mod online;
pub mod plan;
mod poller;
mod requests;
mod runtime;
mod services;
mod shutdown;
pub mod state;
mod trial;
mod unit;
pub mod wake;

use std::time::Duration;

use crate::console::Console;
use crate::linux::crash;
use crate::linux::power::{self, End};

/// Runs the machine until it ends.
pub fn run() -> ! {
    crash::guard();
    let mut console = Console::open();
    let machine = boot::start(&mut console);
    match runtime::Runtime::new(machine, console) {
        Ok(runtime) => runtime.run(),
        Err(error) => {
            // Without epoll or signals there is no supervising; a restart is all that may help.
            crash::last_words(&format!("init cannot run: {error}; restarting in 10 seconds"));
            std::thread::sleep(Duration::from_secs(10));
            power::end(End::Reboot)
        }
    }
}
