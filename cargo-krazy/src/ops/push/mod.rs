//! `cargo krazy push`: a new build onto running devices, so that each of them runs the new one or the old one.
//!
//! ```text
//! ask every device → make the bundle once → per device: send, arm, restart, wait, confirm → report
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`preflight`] | what a device runs, and whether it can take an update now |
//! | [`boards`] | devices by the board they are, each of which gets a build of its own |
//! | [`upload`] | a bundle into the slot that does not run, across broken connections |
//! | [`trial`] | the restart, and what comes of it |
//! | [`outcome`] | how it ended on one device, for people and programs |
//!
//! Nothing here can make a device unbootable: that is the device's side, which arms nothing that it has not read back,
//! and goes back by itself unless it is confirmed.

pub mod boards;
pub mod outcome;
pub mod preflight;
pub mod trial;
pub mod upload;

use std::thread;
use std::time::Duration;

use indicatif::MultiProgress;

use self::outcome::{Outcome, Report};
use self::preflight::Preflight;
use crate::bundle::Bundle;
use crate::bundle::store::Store;
use crate::bundle::transfer::Packer;
use crate::device::Client;
use crate::shell::Shell;

/// How to push.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether the new build is confirmed when it is stable.
    pub confirm: bool,
    /// Whether the device restarts into the new build. Otherwise its slot is filled, and that is all.
    pub restart: bool,
    /// Whether a device takes a build that it rejected, runs already, or that is another appliance's; and whether
    /// an update that is under way is ended.
    pub force: bool,
    /// How long a device may take from the restart to the end of its trial.
    pub limit: Duration,
}

/// A device that can take the update.
pub struct Ready<'a> {
    /// How to reach it.
    pub client: &'a Client,
    /// What it said about itself.
    pub preflight: Preflight,
}

/// Asks all `clients` at once. Those that cannot take an update are told in the second list.
pub fn survey(clients: &[Client]) -> (Vec<Ready<'_>>, Vec<Report>) {
    let asked = each(clients, |client| (client, preflight::ask(client)));
    let (mut ready, mut failed) = (Vec::new(), Vec::new());
    for (client, answer) in asked {
        match answer {
            Ok(preflight) => ready.push(Ready { client, preflight }),
            Err(error) => failed.push(Report::new(client, Outcome::failed("preflight", error.into()))),
        }
    }
    (ready, failed)
}

/// Brings `bundle` onto the devices, all at once.
pub fn push(
    ready: &[Ready<'_>],
    bundle: &Bundle,
    store: &Store,
    options: Options,
    shell: Shell,
) -> Vec<Report> {
    let packer = Packer::new(bundle, store.clone());
    let bars = MultiProgress::with_draw_target(shell.draw_target());
    each(ready, |ready| {
        let outcome = one(ready, bundle, &packer, options, shell, &bars);
        outcome.announce(ready.client.device(), shell);
        Report::new(ready.client, outcome)
    })
}

/// One device from the upload to the confirmation.
fn one(
    ready: &Ready<'_>,
    bundle: &Bundle,
    packer: &Packer<'_>,
    options: Options,
    shell: Shell,
    bars: &MultiProgress,
) -> Outcome {
    let Ready { client, preflight } = ready;
    let build_id = &bundle.manifest.build_id;
    if preflight.build_id == *build_id && !options.force {
        return Outcome::Unchanged { slot: preflight.slot };
    }
    let upload = || {
        let shipment = packer.pack(&preflight.running)?;
        Ok(upload::upload(client, bundle, &shipment, options.force, shell, bars)?)
    };
    let sent = match upload() {
        Ok(sent) => sent,
        Err(error) => return Outcome::failed("upload", error),
    };
    if !options.restart {
        return match upload::leave(client) {
            Ok(()) => Outcome::Staged { slot: !preflight.slot, sent },
            Err(error) => Outcome::failed("upload", error.into()),
        };
    }
    match trial::run(client, preflight, bundle, options, shell) {
        Ok(end) => end.into_outcome(sent),
        Err(error) => Outcome::failed("restart", error.into()),
    }
}

/// `work` on every item, in threads of their own; the results in order.
fn each<'a, T: Sync, R: Send>(items: &'a [T], work: impl Fn(&'a T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
