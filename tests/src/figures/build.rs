//! The duration of `cargo krazy image` when nothing has changed, beside `cargo build`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::krazy::Krazy;
use crate::setup::workspace;

/// Rounds; each runs both commands, so that a noisy machine disturbs both.
const ROUNDS: usize = 15;

/// Prints medians, minima and the difference.
pub fn print() -> Result<()> {
    let krazy = Krazy::new()?;
    let image = || krazy.command(["image", "-p", "hello", "-q"]);
    let build = || -> Result<Command> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--release", "-p", "hello", "-q"]).current_dir(workspace());
        Ok(command)
    };
    // The first run of each does the work that the others find done.
    run(image()?)?;
    run(build()?)?;
    let (mut images, mut builds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        images.push(run(image()?)?);
        builds.push(run(build()?)?);
    }
    let (image, build) = (median(&mut images), median(&mut builds));
    println!("nothing changed, {ROUNDS} rounds   median      minimum");
    println!(
        "  cargo krazy image         {:>7.3} s   {:>7.3} s",
        image.as_secs_f64(),
        images[0].as_secs_f64()
    );
    println!(
        "  cargo build               {:>7.3} s   {:>7.3} s",
        build.as_secs_f64(),
        builds[0].as_secs_f64()
    );
    println!(
        "  difference of medians     {:>+7.3} s   (goal: image ≤ 1.0 s, difference ≤ 0.5 s)",
        image.as_secs_f64() - build.as_secs_f64()
    );
    Ok(())
}

fn run(mut command: Command) -> Result<Duration> {
    let begin = Instant::now();
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("failed to run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(begin.elapsed())
}

/// Sorts, and returns the middle one.
pub(super) fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
