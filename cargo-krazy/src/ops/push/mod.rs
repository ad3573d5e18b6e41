//! A new build pushed to running devices, so that each of them runs the new build or the one it ran before.
//!
//! ```text
//! ask every device → make the bundle once a board → per device: upload, arm, restart, wait, confirm → report
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`preflight`] | the state of a device, and whether it can take an update now |
//! | [`boards`] | devices by board, each of which gets a build of its own |
//! | [`upload`] | a bundle sent to the inactive slot, across broken connections |
//! | [`trial`] | the restart, and the trial until its end |
//! | [`outcome`] | the result on one device, for people and programs |
//!
//! Nothing here can make a device unbootable: the device arms nothing that it has not read back, and goes back by
//! itself unless it is confirmed.

mod boards;
mod outcome;
mod preflight;
mod trial;
mod upload;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use indicatif::MultiProgress;
use krazy_boot::disk::slot::Slot;
use serde::Serialize;

use self::outcome::{Outcome, Report, Reports};
use self::preflight::Preflight;
use super::bundle::make;
use super::identity;
use super::key::Signers;
use super::prepare::{DiskIds, prepare};
use crate::board::Board;
use crate::bundle::store::Store;
use crate::bundle::transfer::Packer;
use crate::bundle::{self, Bundle};
use crate::config::{self, Request};
use crate::device::{Client, Credentials, Target, credentials};
use crate::failure::{Failure, Result, chain};
use crate::plan::Plan;
use crate::provision::{self, Secrets};
use crate::shell::Shell;

/// A push to some devices.
#[derive(Debug)]
pub(crate) struct PushRequest {
    /// The devices, as the user calls them.
    pub(crate) hosts: Vec<String>,
    /// The build.
    pub(crate) source: BundleSource,
    /// The appliance whose credentials the devices take; that of the build if it is not given.
    pub(crate) appliance: Option<String>,
    /// Set when devices are only asked.
    pub(crate) dry_run: bool,
    /// The steps to take.
    pub(crate) options: Options,
}

/// The origin of the bundle.
#[derive(Debug)]
pub(crate) enum BundleSource {
    /// A file that `cargo krazy bundle` wrote.
    File(PathBuf),
    /// Built for the board of each device, which must be `target` if that is given.
    Build {
        /// The appliance.
        build: Request,
        /// The board that was asked for.
        target: Option<&'static Board>,
    },
}

/// The steps of a push.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Set when the new build is confirmed as soon as it is stable.
    pub(crate) confirm: bool,
    /// Set when the device restarts into the new build. Otherwise only its slot is filled.
    pub(crate) restart: bool,
    /// Set when a device takes a build that it rejected, runs already, or that is another appliance's; and when an
    /// update in progress is ended.
    pub(crate) force: bool,
    /// The time from the restart to the end of the trial.
    pub(crate) limit: Duration,
}

/// A device that can take the update.
struct Ready<'a> {
    client: &'a Client,
    preflight: Preflight,
}

/// A device of a dry run, for programs.
#[derive(Serialize)]
struct Planned<'a> {
    host: &'a str,
    version: &'a str,
    build_id: &'a str,
    slot: Slot,
}

/// Pushes to all devices at once. Fails if that cannot begin; a device that fails has a report.
pub(crate) fn run(request: PushRequest, shell: Shell) -> Result<Reports> {
    let PushRequest { hosts, source, appliance, dry_run, options } = request;
    let state = provision::state_dir()?;
    let store = Store::of_user()?;
    let (bundle, own) = match &source {
        BundleSource::File(path) => {
            let bundle = bundle::open(path, &store)?;
            let appliance = bundle.manifest.appliance.clone();
            (Some(bundle), appliance)
        }
        BundleSource::Build { build, .. } => (None, config::load(build)?.name),
    };
    let appliance = appliance.unwrap_or(own);
    let credentials = Credentials::find(&appliance, &state)?;
    // Who has only a token of their own cannot give credentials.
    let secrets = match credentials::given() {
        true => None,
        false => Some(provision::load(&appliance, &state)?),
    };
    let secrets = secrets.as_ref();
    let client = |host: &String| Client::new(&Target::find(host, &state)?, &appliance, &credentials);
    let clients: Vec<_> = hosts.iter().map(client).collect::<Result<_>>()?;
    // Before anything is built: a device that cannot be updated is reported at once.
    let (ready, mut reports) = survey(&clients);
    if dry_run {
        ready.iter().try_for_each(|device| announce_plan(device, shell))?;
        return Ok(Reports(reports));
    }
    if let Some(bundle) = bundle {
        reports.extend(push(&ready, &bundle, None, secrets, &store, options, shell));
    } else if let BundleSource::Build { build, target } = source {
        let (groups, others) = boards::by_board(ready, target);
        reports.extend(others);
        for (board, ready) in groups {
            let plan = Plan::new(config::load(&Request { board, ..build.clone() })?, None)?;
            let bundle = build_bundle(&plan, &store, shell)?;
            // A file is sent as it was signed: who changed it must not get a new signature.
            let signers = Signers::of(&bundle.manifest.appliance)?;
            reports.extend(push(&ready, &bundle, Some(&signers), secrets, &store, options, shell));
        }
    }
    Ok(Reports(reports))
}

fn build_bundle(plan: &Plan, store: &Store, shell: Shell) -> Result<Bundle> {
    let bundle = make(&prepare(plan, DiskIds::Appliance, shell)?, store)?;
    let manifest = &bundle.manifest;
    let text =
        format!("{} v{} for {} ({})", manifest.appliance, manifest.version, manifest.board, bundle.size());
    shell.status("Built", text);
    Ok(bundle)
}

fn announce_plan(device: &Ready<'_>, shell: Shell) -> Result<()> {
    let Preflight { version, build_id, slot, .. } = &device.preflight;
    let host = device.client.device();
    shell.status("Would push", format!("to `{host}`, slot {}; slot {slot} runs v{version}", !*slot));
    shell.message("push-planned", &Planned { host, version, build_id, slot: !*slot })
}

/// Asks all `clients` at once. The second list has the reports of those that cannot take an update.
fn survey(clients: &[Client]) -> (Vec<Ready<'_>>, Vec<Report>) {
    let asked = each(clients, |client| (client, preflight::ask(client)));
    let (mut ready, mut failed) = (Vec::new(), Vec::new());
    for (client, answer) in asked {
        match answer {
            Ok(preflight) => ready.push(Ready { client, preflight }),
            Err(error) => failed.push(Report::new(client, Outcome::failed("preflight", error))),
        }
    }
    (ready, failed)
}

/// Pushes `bundle` to the devices, all at once.
fn push(
    ready: &[Ready<'_>],
    bundle: &Bundle,
    signers: Option<&Signers>,
    secrets: Option<&Secrets>,
    store: &Store,
    options: Options,
    shell: Shell,
) -> Vec<Report> {
    let packer = Packer::new(bundle, store.clone());
    let bars = MultiProgress::with_draw_target(shell.draw_target());
    each(ready, |ready| {
        let outcome = one(ready, bundle, signers, &packer, options, shell, &bars);
        outcome.announce(ready.client.device(), shell);
        if outcome.is_settled() {
            give_own_credentials(ready.client, secrets, shell);
        }
        Report::new(ready.client, outcome)
    })
}

/// Gives the device a certificate and a token of its own if it has those that new images share. A failure does not undo
/// the update.
fn give_own_credentials(client: &Client, secrets: Option<&Secrets>, shell: Shell) {
    let host = client.device();
    let Some(secrets) = secrets else {
        // A failure to ask it was the push's.
        if client.id().is_ok_and(|id| id.is_none()) {
            shell.note(format!(
                "`{host}` has the certificate and the token of its image, which other devices may share; a push with the \
                 appliance's own token gives it its own",
            ));
        }
        return;
    };
    let given = client.id().map_err(Failure::from).and_then(|id| match id {
        Some(_) => identity::settle(client, id, secrets),
        None => identity::give(client, secrets).map(|_| true),
    });
    match given {
        Ok(true) => shell.status("Secured", format!("`{host}`: its certificate and token are its own now")),
        Ok(false) => {}
        Err(error) => {
            let text = format!("the credentials of `{host}` are not exchanged completely: {}", chain(&error));
            shell.warn(text);
            shell.note("the next push to it goes on with that");
        }
    }
}

/// One device from the upload to the confirmation.
fn one(
    ready: &Ready<'_>,
    bundle: &Bundle,
    signers: Option<&Signers>,
    packer: &Packer<'_>,
    options: Options,
    shell: Shell,
    bars: &MultiProgress,
) -> Outcome {
    let Ready { client, preflight } = ready;
    let build_id = &bundle.manifest.build_id;
    // Also a device that runs this build already gets the present key.
    let sign = |signers: &Signers| signers.sign(client, &preflight.keys, bundle, shell);
    let signed = match signers.map_or_else(|| Ok(vec![bundle.signed.clone()]), sign) {
        Ok(signed) => signed,
        Err(error) => return Outcome::failed("upload", error),
    };
    if preflight.build_id == *build_id && !options.force {
        return Outcome::Unchanged { slot: preflight.slot };
    }
    let upload = || -> Result<_, Failure> {
        let transfer = packer.pack(&preflight.running)?;
        let heads = signed.iter().map(|signed| transfer.head(signed)).collect::<Result<Vec<_>>>()?;
        upload::upload(client, bundle, &heads, &transfer, options.force, shell, bars)
    };
    let sent = match upload() {
        Ok(sent) => sent,
        Err(error) => return Outcome::failed("upload", error),
    };
    if !options.restart {
        return match upload::leave(client) {
            Ok(()) => Outcome::Staged { slot: !preflight.slot, sent },
            Err(error) => Outcome::failed("upload", error),
        };
    }
    match trial::run(client, preflight, bundle, options, shell) {
        Ok(end) => end.into_outcome(sent),
        Err(error) => Outcome::failed("restart", error),
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
