//! What runs in the machine of the supervisor's test: an appliance made by `cargo krazy` like any other.
//!
//! | module | is |
//! |---|---|
//! | [`faults`] | services that do what services should not, and some that behave |
//! | [`rights`] | services that try what they may and may not do, and tell |
//! | [`judge`] | the service that watches init deal with them and prints a line a case |
//! | [`kernel_log`] | what the kernel said |
//! | [`probe`] | measures an init from within |
//!
//! A service that would disturb the boot waits for the judge's word, a file in `/tmp`.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "services speak to their logs")]

pub mod faults;
pub mod judge;
pub mod kernel_log;
pub mod probe;
pub mod rights;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The judge's word for `service`.
pub fn word(service: &str) -> PathBuf {
    Path::new("/tmp").join(format!("go-{service}"))
}

/// Sleeps for ever.
fn rest() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Waits for the judge's word.
fn await_word(service: &str) {
    while !word(service).exists() {
        std::thread::sleep(Duration::from_millis(100));
    }
}
