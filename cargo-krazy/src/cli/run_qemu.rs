//! `cargo krazy run-qemu`.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use krazy_boot::disk::size::Bytes;

use crate::board::Boot;
use crate::cli::build_args::BuildArgs;
use crate::config;
use crate::failure::{Exit, Failure};
use crate::interrupt;
use crate::ops::image::{self, Data};
use crate::ops::inspect;
use crate::plan::Plan;
use crate::qemu::{self, Accelerate, Machine, Model, Publish, Watch};
use crate::shell::Shell;

/// The least memory that holds kernel, initramfs and a few services.
const MINIMUM_MEMORY: Bytes = Bytes::mib(64);

/// Boots the appliance in QEMU
///
/// Builds its image first, as `cargo krazy image` does, but keeps the /data of the image that is there.
///
/// The firmware boots the disk image as a real machine would. The serial console is this terminal: Ctrl-C stops the
/// machine, Ctrl-A X quits QEMU, Ctrl-A H lists its other keys. A guest that powers off ends the command with
/// success.
///
/// While it runs, `qemu` is its name for `cargo krazy status` and the other commands that take a device.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy run-qemu --publish 8080:80                  the guest's port 80 on http://127.0.0.1:8080/
  cargo krazy run-qemu --image a.img --snapshot           a given image, which is left as it is
  cargo krazy run-qemu --image a.img --expect ready --timeout 60
  cargo krazy run-qemu --target aarch64-rpi --machine raspi4b
  cargo krazy run-qemu --image a.img -- -device e1000     arguments after -- go to QEMU")]
pub struct Args {
    /// Boot this image instead of the package's
    #[arg(long, value_name = "FILE", help_heading = "Image")]
    image: Option<PathBuf>,
    /// Boot the package's image as it is, without building
    #[arg(long, help_heading = "Image", conflicts_with = "image")]
    no_build: bool,
    /// Forget what the guest writes to the disk
    #[arg(long, help_heading = "Image")]
    snapshot: bool,
    /// Forward a port of the host to the guest; host port 0 finds a free one
    #[arg(long, value_name = "[ADDR:]HOST:GUEST[/udp]", help_heading = "Machine")]
    publish: Vec<Publish>,
    /// The guest's memory
    #[arg(long, value_name = "SIZE", default_value = "512MiB", help_heading = "Machine")]
    memory: Bytes,
    /// The guest's processors; where they are emulated, QEMU 7.2 gets more than one wrong now and then
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Machine")]
    cpus: NonZeroU32,
    /// Use hardware virtualisation or emulate
    #[arg(long, value_name = "HOW", value_enum, default_value_t, help_heading = "Machine")]
    accel: Accelerate,
    /// Succeed as soon as TEXT appears on the serial line; exit code 8 if it does not
    #[arg(long, value_name = "TEXT", help_heading = "End", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    expect: Option<String>,
    /// Stop after this time, with exit code 8
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "End")]
    timeout: Option<Duration>,
    /// What to build.
    #[command(flatten)]
    build: BuildArgs,
    /// Which Raspberry Pi QEMU is to be
    #[arg(long, value_name = "MODEL", value_enum, help_heading = "Machine")]
    machine: Option<Model>,
    /// Further arguments for QEMU
    #[arg(last = true, value_name = "QEMU_ARGS")]
    extra: Vec<OsString>,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        if self.memory < MINIMUM_MEMORY {
            let text = format!("a memory of {} is too small", self.memory);
            return Err(Failure::new(Exit::Usage, text)
                .help(format!("give `--memory` at least {MINIMUM_MEMORY}"))
                .into());
        }
        let request = self.build.resolve();
        let board = request.board;
        if self.machine.is_some() && !matches!(board.boot, Boot::RaspberryPi { .. }) {
            let text = format!("`--machine` chooses a Raspberry Pi, and the board is {}", board.name);
            return Err(Failure::new(Exit::Usage, text).help("add `--target aarch64-rpi`").into());
        }
        let (image, appliance) = match self.image {
            Some(image) => (image, None),
            None => {
                let plan = Plan::new(config::load(&request)?, None)?;
                if !self.no_build {
                    image::build(&plan, false, Data::Kept, shell)?;
                }
                (plan.output, Some(plan.appliance))
            }
        };
        if !image.is_file() {
            let failure = Failure::new(Exit::Failed, format!("there is no image `{}`", image.display()));
            return Err(failure.help("`cargo krazy image` makes it").into());
        }
        let managed = match appliance {
            Some(appliance) => appliance.has_admind().then_some(appliance.name),
            None => managed_appliance(&image),
        };
        let machine = Machine {
            board,
            model: self.machine.unwrap_or_default(),
            image,
            memory: self.memory,
            cpus: self.cpus.get(),
            publish: self.publish,
            snapshot: self.snapshot,
            extra: self.extra,
            managed,
        };
        let watch = Watch { expect: self.expect, timeout: self.timeout };
        qemu::run(machine, self.accel, &watch, &|| interrupt::check().is_err(), shell)?;
        Ok(())
    }
}

/// The name of the appliance on `image` if it can be managed over the network. A disk that we did not make boots, too.
fn managed_appliance(image: &Path) -> Option<String> {
    let report = inspect::inspect(image).ok()?;
    let manifest = report.slots.into_iter().find_map(|slot| slot.manifest)?;
    manifest.services.iter().any(|service| service.name == config::OWN_ADMIND).then_some(manifest.name)
}

/// A time in seconds, possibly with a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "write a number of seconds above 0, such as 60 or 2.5".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, String> {
        let words = std::iter::once("run-qemu").chain(words.iter().copied());
        Command::try_parse_from(words).map(|command| command.args).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_its_arguments() {
        let args = parse(&[
            "--image",
            "a.img",
            "--publish",
            "8080:80",
            "--publish",
            "5353:53/udp",
            "--timeout",
            "2.5",
            "--",
            "-s",
            "-S",
        ])
        .unwrap();
        assert_eq!(args.publish.len(), 2);
        assert_eq!(args.timeout, Some(Duration::from_millis(2500)));
        assert_eq!(args.extra, ["-s", "-S"]);
    }

    #[test]
    fn wrong_values_are_explained() {
        for (words, text) in [
            (vec!["--image", "a", "--timeout=-1"], "a number of seconds above 0"),
            (vec!["--image", "a", "--timeout=0"], "a number of seconds above 0"),
            (vec!["--image", "a", "--publish", "80"], "`80` is not a pair of ports"),
            (vec!["--image", "a", "--cpus", "0"], "invalid value '0'"),
            (vec!["--image", "a", "--expect", ""], "a value is required for '--expect"),
            (vec!["--image", "a", "--no-build"], "cannot be used with"),
        ] {
            let error = parse(&words).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_missing_image_says_how_to_make_it() {
        let error = parse(&["--image", "/nowhere/a.img"]).unwrap().exec(Shell::default()).unwrap_err();
        assert_eq!(error.to_string(), "there is no image `/nowhere/a.img`");
        assert_eq!(Failure::help_of(&error), Some("`cargo krazy image` makes it"));
        let error = parse(&["--image", "a", "--memory", "1MiB"]).unwrap().exec(Shell::default()).unwrap_err();
        assert_eq!(error.to_string(), "a memory of 1 MiB is too small");
    }
}
