//! The appliance of the supervisor's test, made by `cargo krazy` like any other.
//!
//! | module | is |
//! |---|---|
//! | [`faults`] | services that misbehave, and some that do not |
//! | [`rights`] | services that try permitted and forbidden operations |
//! | [`ports`] | services that bind ports |
//! | [`hostile`] | a service that tries to break out |
//! | [`judge`] | the service that observes init and prints a line for each case |
//! | [`kernel_log`] | the kernel's log |
//! | [`checked`] | services whose health init checks |
//! | [`traps`] | a service that sets traps for those who read logs |
//! | [`probe`] | measures an init from within |
//!
//! A service that would disturb the boot waits for the judge's signal, a file in the judge's directory in `/run`.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "services speak to their logs")]

pub mod checked;
pub mod faults;
pub mod hostile;
pub mod judge;
pub mod kernel_log;
pub mod ports;
pub mod probe;
pub mod rights;
pub mod traps;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Returns the path of the judge's signal to `service`.
pub fn word(service: &str) -> PathBuf {
    Path::new("/run/judge").join(format!("go-{service}"))
}

/// Sleeps for ever.
fn rest() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Waits for the judge's signal.
fn await_word(service: &str) {
    while !word(service).exists() {
        std::thread::sleep(Duration::from_millis(100));
    }
}
