//! `cargo figures [SUBJECT…]`: the project's figures, measured beside its peers in the same run.
//!
//! | subject | measures |
//! |---|---|
//! | [`build`] | the duration of an image when nothing has changed, beside cargo itself |
//! | [`boot`] | time to the first service, memory and restart time of init, beside busybox and runit |
//! | [`uefi`] | the time of a boot by the UEFI loader, beside systemd-boot |
//! | [`update`] | bytes and rate of a push, beside a PUT to nginx |
//! | [`kernel`] | size, build time and hardening of our own kernel, and the time until an appliance answers with it |
//!
//! Image writing is measured by `cargo bench --package krazy-boot --features image`.

pub mod boot;
pub mod build;
pub mod kernel;
pub mod uefi;
pub mod update;

use anyhow::{Result, bail};

/// A subject's name and what prints its figures.
type Subject = (&'static str, fn() -> Result<()>);

const SUBJECTS: [Subject; 5] = [
    ("build", build::print),
    ("boot", boot::print),
    ("uefi", uefi::print),
    ("update", update::print),
    ("kernel", kernel::print),
];

/// Prints the figures of the subjects named on the command line, or of all.
pub fn main() -> Result<()> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        wanted = SUBJECTS.map(|(name, _)| name.to_owned()).into();
    }
    for name in wanted {
        match SUBJECTS.iter().find(|(known, _)| *known == name) {
            Some((_, print)) => print()?,
            None => bail!("no subject `{name}`; there are {}", SUBJECTS.map(|(name, _)| name).join(", ")),
        }
    }
    Ok(())
}
