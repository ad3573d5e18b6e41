//! `cargo figures [SUBJECT…]`: what the project promises in numbers, measured beside its peers in the same run.
//!
//! | subject | measures |
//! |---|---|
//! | [`build`] | how long the program takes when nothing has changed, beside cargo itself |
//! | [`boot`] | how long init takes to the first service, what it occupies, how fast it restarts, beside busybox and runit |
//! | [`update`] | what a push sends, and how fast it is beside a PUT to nginx |
//! | [`kernel`] | size, build time and hardening of our own kernel, and how soon an appliance answers with it |
//!
//! Image writing is measured by `cargo bench --package krazy-boot --features image`.

pub mod boot;
pub mod build;
pub mod kernel;
pub mod update;

use anyhow::{Result, bail};

/// A subject's name and what prints its figures.
type Subject = (&'static str, fn() -> Result<()>);

const SUBJECTS: [Subject; 4] =
    [("build", build::print), ("boot", boot::print), ("update", update::print), ("kernel", kernel::print)];

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
