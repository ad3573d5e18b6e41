//! Updates with the real `cargo krazy push` onto a machine that boots from the real image, and everything that can go
//! wrong with them. Whatever does: the device answers, runs a complete old or new build, has its `/data`, and tells why.
//!
//! A machine serves many faults one after another, because every boot costs seconds.
//!
//! | module | is about |
//! |---|---|
//! | `connections` | updates, broken connections, unknown clients |
//! | `refusals` | bundles that no device may take, and two pushes at once |
//! | `trials` | builds that do not start, and the ways back |
//! | `disks` | a `/data` that is damaged or lost, and two copies of one disk |
//! | `fallback` | a confirmed slot that cannot start |
//! | `first_version` | a device whose whole system is the first version's |
//! | `power` | power that is cut, and builds that do not hold |
//! | `uefi` | the UEFI loader in place of the boot sector |

mod connections;
mod disks;
mod fallback;
mod first_version;
mod power;
mod refusals;
mod trials;
mod uefi;

use anyhow::{Result, ensure};
use krazy_tests::device::Device;
use krazy_tests::outcome::Outcome;

/// So many bytes of the new root cannot be taken from the old one: enough for a line to break while they travel.
const NEW: usize = 16 << 20;

/// Pushes what ends back in slot A, as [`is_reverted`] says. QEMU's emulation now and then crashes a kernel at its start,
/// which ends a trial too; such a one is repeated, so that the push has to insist.
fn reverts(device: &Device, push: impl Fn() -> Result<Outcome>, mode: &str, words: &str) -> Result<()> {
    let ended = push()?;
    let spoiled = |cause: &str| cause.contains(NOT_STARTED) && !cause.contains(words);
    match ended.last("cause").as_str().is_some_and(spoiled) {
        true => is_reverted(device, &push()?, mode, words),
        false => is_reverted(device, &ended, mode, words),
    }
}

/// The reason given for a kernel that did not start.
const NOT_STARTED: &str = "the kernel did not reach its first stage";

/// The push ended back in slot A, where `mode` runs, for a reason with these words, which `status` tells as well.
fn is_reverted(device: &Device, push: &Outcome, mode: &str, words: &str) -> Result<()> {
    push.expect(9, "reverted")?;
    let cause = push.last("cause");
    ensure!(cause.as_str().is_some_and(|cause| cause.contains(words)), "no `{words}`: {push:#?}");
    device.wait_for_failed_trial("a", words)?;
    device.check("a", mode)?;
    Ok(())
}
