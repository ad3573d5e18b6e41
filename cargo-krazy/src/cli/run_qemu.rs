//! `cargo krazy run-qemu`.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use krazy_boot::disk::size::Bytes;

use crate::cli::build_args::BuildArgs;
use crate::failure::Result;
use crate::ops::run_qemu::{ImageChoice, RunRequest, run};
use crate::qemu::{Accelerate, FirmwareKind, Model, Publish, Watch};
use crate::shell::Shell;

/// Boots the appliance in QEMU
///
/// Builds its image first, as `cargo krazy image` does, but keeps the /data of the image that is there.
///
/// The firmware boots the disk image as a real machine would. The serial console is this terminal: Ctrl-C stops the
/// machine, Ctrl-A X quits QEMU, Ctrl-A H lists its other keys. A guest that powers off ends the command with
/// success.
///
/// While the machine runs, `cargo krazy status` and the other commands that take a device know it by the name `qemu`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy run-qemu --publish 8080:80                  the guest's port 80 on http://127.0.0.1:8080/
  cargo krazy run-qemu --image a.img --snapshot           a given image, which does not change
  cargo krazy run-qemu --image a.img --expect ready --timeout 60
  cargo krazy run-qemu --firmware uefi                    as a PC without a BIOS starts it
  cargo krazy run-qemu --target aarch64-rpi --machine raspi4b
  cargo krazy run-qemu --image a.img -- -device e1000     arguments after -- go to QEMU")]
pub(super) struct Args {
    /// Boot this image instead of the package's
    #[arg(long, value_name = "FILE", help_heading = "Image")]
    image: Option<PathBuf>,
    /// Boot the package's image as it is, without building
    #[arg(long, help_heading = "Image", conflicts_with = "image")]
    no_build: bool,
    /// Drop the guest's writes to the disk at the end
    #[arg(long, help_heading = "Image")]
    snapshot: bool,
    /// Forward a port of the host to the guest; host port 0 finds a free one
    #[arg(long, value_name = "[ADDR:]HOST:GUEST[/udp]", help_heading = "Machine")]
    publish: Vec<Publish>,
    /// The firmware of a PC
    #[arg(long, value_name = "KIND", value_enum, default_value_t, help_heading = "Machine")]
    firmware: FirmwareKind,
    /// The guest's memory
    #[arg(long, value_name = "SIZE", default_value = "512MiB", help_heading = "Machine")]
    memory: Bytes,
    /// The guest's processors; QEMU 7.2 does not emulate more than one reliably
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
    /// The model of Raspberry Pi that QEMU emulates
    #[arg(long, value_name = "MODEL", value_enum, help_heading = "Machine")]
    machine: Option<Model>,
    /// Further arguments for QEMU
    #[arg(last = true, value_name = "QEMU_ARGS")]
    extra: Vec<OsString>,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        run(self.resolve(), shell)
    }

    fn resolve(self) -> RunRequest {
        RunRequest {
            image: match self.image {
                Some(image) => ImageChoice::File(image),
                None if self.no_build => ImageChoice::Existing,
                None => ImageChoice::Build,
            },
            build: self.build.resolve(),
            model: self.machine,
            firmware: self.firmware,
            memory: self.memory,
            cpus: self.cpus.get(),
            accelerate: self.accel,
            publish: self.publish,
            snapshot: self.snapshot,
            extra: self.extra,
            watch: Watch { expect: self.expect, timeout: self.timeout },
        }
    }
}

/// A time in seconds, possibly with a fraction.
fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or("write a number of seconds above 0, such as 60 or 2.5")
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
        assert_eq!(error.next_step(), Some("`cargo krazy image` makes it"));
        let error = parse(&["--image", "a", "--memory", "1MiB"]).unwrap().exec(Shell::default()).unwrap_err();
        assert_eq!(error.to_string(), "a memory of 1 MiB is too small");
    }
}
