//! `cargo krazy push`.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::bundle::{self, Bundle, store::Store};
use crate::cli::build_args::BuildArgs;
use crate::config::{self, Request};
use crate::device::{Client, Credentials, Target};
use crate::failure::{Exit, Failure};
use crate::ops::push::outcome::Report;
use crate::ops::push::{self, Options, Ready, boards};
use crate::ops::{self, image};
use crate::plan::Plan;
use crate::provision;
use crate::shell::{MessageFormat, Shell};
use crate::table::Table;

/// Updates running devices
///
/// Builds the appliance for the board that each device is, sends what differs from what each device runs into the slot that does not run, restarts the
/// device into it on trial, and confirms it when the required services are stable. A device that does not get there
/// goes back to the build it ran, by itself, and tells why. /data is not touched.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy push 10.0.0.5
  cargo krazy push kitchen attic garage          several at once
  cargo krazy push qemu --no-confirm             look at it first; then `cargo krazy confirm qemu`
  cargo krazy push kitchen --bundle w.krazy      what `cargo krazy bundle` made")]
pub struct Args {
    /// The devices: addresses, names from hosts.toml, or `qemu` for the machine of `run-qemu`
    #[arg(value_name = "HOST[:PORT]", required = true)]
    hosts: Vec<String>,
    /// Push this bundle instead of building
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Leave the new build on trial; `cargo krazy confirm` makes it stay
    #[arg(long)]
    no_confirm: bool,
    /// Only fill the slot that does not run; `cargo krazy switch` tries it later
    #[arg(long, conflicts_with = "no_confirm")]
    stage: bool,
    /// Push what was rejected before, runs already or is another appliance's; end an update that is under way
    #[arg(long)]
    force: bool,
    /// Ask the devices and print what would be done
    #[arg(long)]
    dry_run: bool,
    /// How long a device may take to restart and become stable
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    timeout: NonZeroU64,
    /// The appliance whose credentials the devices take [default: the one that is pushed]
    #[arg(long, value_name = "NAME")]
    appliance: Option<String>,
    // Last, for its headings hold for every option after them.
    /// What to build.
    #[command(flatten)]
    build: BuildArgs,
}

/// One device of a dry run.
#[derive(Serialize)]
struct Planned<'a> {
    reason: &'static str,
    host: &'a str,
    version: &'a str,
    build_id: &'a str,
    slot: krazy_boot::disk::slot::Slot,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> Result<()> {
        let state = provision::state_dir()?;
        let store = Store::of_user()?;
        let wanted = self.build.board();
        let request = self.build.resolve();
        let (given, own) = match &self.bundle {
            Some(path) => {
                let bundle = bundle::open(path, &store)?;
                let appliance = bundle.manifest.appliance.clone();
                (Some(bundle), appliance)
            }
            None => (None, config::load(&request)?.name),
        };
        let appliance = self.appliance.unwrap_or(own);
        let credentials = Credentials::find(&appliance, &state)?;
        let clients = self
            .hosts
            .iter()
            .map(|host| Client::new(&Target::find(host, &state)?.located()?, &appliance, &credentials));
        let clients: Vec<_> = clients.collect::<Result<_>>()?;
        // Before anything is built: who cannot be updated should say so at once.
        let (ready, mut reports) = push::survey(&clients);
        if self.dry_run {
            for device in &ready {
                let (host, preflight) = (device.client.device(), &device.preflight);
                shell.status(
                    "Would push",
                    format!(
                        "to `{host}`, slot {}; slot {} runs v{}",
                        !preflight.slot, preflight.slot, preflight.version
                    ),
                );
                let (version, build_id) = (preflight.version.as_str(), preflight.build_id.as_str());
                shell.message(&Planned {
                    reason: "push-planned",
                    host,
                    version,
                    build_id,
                    slot: !preflight.slot,
                })?;
            }
        } else {
            let options = Options {
                confirm: !self.no_confirm,
                restart: !self.stage,
                force: self.force,
                limit: Duration::from_secs(self.timeout.get()),
            };
            let push =
                |ready: &[Ready<'_>], bundle: &Bundle| push::push(ready, bundle, &store, options, shell);
            match given {
                Some(bundle) => reports.extend(push(&ready, &bundle)),
                None => {
                    let (groups, others) = boards::by_board(ready, wanted);
                    reports.extend(others);
                    for (board, ready) in groups {
                        let request = Request { board, ..request.clone() };
                        let bundle = made(&Plan::new(config::load(&request)?, None)?, &store, shell)?;
                        reports.extend(push(&ready, &bundle));
                    }
                }
            }
        }
        for report in &reports {
            shell.message(&report.message())?;
        }
        conclude(reports, shell)
    }
}

fn made(plan: &Plan, store: &Store, shell: Shell) -> Result<Bundle> {
    let bundle = ops::bundle::make(&image::prepare(plan, shell)?, store)?;
    let manifest = &bundle.manifest;
    let text =
        format!("{} v{} for {} ({})", manifest.appliance, manifest.version, manifest.board, bundle.size());
    shell.status("Built", text);
    Ok(bundle)
}

/// The summary, and the error if a device does not run what was pushed.
fn conclude(mut reports: Vec<Report>, shell: Shell) -> Result<()> {
    let several = reports.len() > 1;
    if several && shell.format() == MessageFormat::Human {
        let mut table = Table::new(["HOST", "OUTCOME", "DETAIL"]);
        for report in &reports {
            table.row([report.host.clone(), report.outcome.word().to_owned(), report.outcome.detail()]);
        }
        shell.output(table.to_string())?;
    }
    let failed = reports.iter().filter(|report| !report.outcome.is_success()).count();
    if several && failed > 0 {
        let text = format!("{failed} of {} devices do not run what was pushed", reports.len());
        let help = "see above; `cargo krazy push` with one of them tells what to do";
        return Err(Failure::new(Exit::Device, text).help(help).into());
    }
    reports.pop().and_then(Report::into_error).map_or(Ok(()), Err)
}
