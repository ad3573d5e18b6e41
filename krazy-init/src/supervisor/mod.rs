//! PID 1 on the real root: a loop that routes, and parts that own their fields.
//!
//! The loop waits for an event and hands it to the part that it concerns, with what that part needs as arguments. The
//! part changes its own fields and returns [`effects`](effect): messages, and requests to other parts. The loop
//! carries these out in their order. Decisions are functions without side effects, tested without a machine.
//!
//! | module | is |
//! |---|---|
//! | `runtime`, [`effect`] | the loop, and what parts return to it |
//! | `poller`, `inbox` | what the loop waits for: descriptors, reports of threads |
//! | `boot` | the preparation of the machine until it can run services |
//! | `services` | part: processes, their output, their readiness; decided by [`state`] |
//! | [`state`], `event`, [`backoff`] | decisions: which service runs when |
//! | `trial` | part: trials of a slot, their deadline, confirmation and record |
//! | `wall_clock` | part: the wall clock; decided by [`clock`] |
//! | `links` | part: the network |
//! | `devices` | part: announcements of devices, owners of their nodes, power buttons |
//! | `watchdog` | part: the hardware watchdog |
//! | `control_server` | part: connections to the control socket |
//! | `requests`, `refusal` | the meaning of requests, and refusals |
//! | `journal` | part: the console, and the list of problems |
//! | `shutdown` | part: the end of the previous boot and of this one |
//! | [`plan`], [`device_groups`] | from the manifest to what is run, under which account, with which devices |
//! | `disk_queue`, `late` | thread: work that waits for a disk; its first task, which services need not wait for |
//! | `driver_loader` | thread: modules for devices |

mod backoff;
mod boot;
mod clock;
mod control_server;
mod device_directories;
mod device_groups;
mod devices;
mod disk_queue;
mod driver_loader;
mod effect;
mod event;
mod format_data;
mod inbox;
mod journal;
mod late;
mod links;
pub(crate) mod plan;
mod poller;
mod refusal;
mod requests;
mod runtime;
mod services;
mod shutdown;
mod state;
mod trial;
mod wall_clock;
mod watchdog;

use std::time::Duration;

use crate::linux::crash;
use crate::linux::power::{self, End};
use journal::Journal;
use runtime::Runtime;

/// The pause before the restart of a machine that cannot be supervised: time to read the message.
const FAILED_START_PAUSE: Duration = Duration::from_secs(10);

/// Runs the machine until it ends.
pub(crate) fn run() -> ! {
    crash::install_handlers();
    let mut journal = Journal::open();
    let machine = boot::start(&mut journal);
    match Runtime::new(machine, journal) {
        Ok(runtime) => runtime.run(),
        Err(error) => {
            // Without epoll or signals nothing can be supervised; only a restart may help.
            let seconds = FAILED_START_PAUSE.as_secs();
            crash::print(&format!("init cannot run: {error}; restarting in {seconds} seconds"));
            std::thread::sleep(FAILED_START_PAUSE);
            power::end(End::Reboot)
        }
    }
}
