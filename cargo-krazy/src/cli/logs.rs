//! `cargo krazy logs`.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::device::events::Parser;
use crate::device::{DeviceArgs, DeviceError, paths};
use crate::failure::{Exit, Failure};
use crate::shell::{MessageFormat, Shell};

/// The device says something at least every 15 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shows what a service wrote
///
/// The newest lines of its standard output and standard error in the order of their times, each with wall time and time
/// since the start. `-f` goes on with new ones until it is interrupted.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy logs 10.0.0.5 weather
  cargo krazy logs qemu hello -f --err")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The service: a name that `cargo krazy ps` lists
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Go on with new lines as they are written
    #[arg(short, long, help_heading = "Log")]
    follow: bool,
    /// Standard output only
    #[arg(long, help_heading = "Log", conflicts_with = "err")]
    out: bool,
    /// Standard error only
    #[arg(long, help_heading = "Log")]
    err: bool,
    /// How many of the newest lines of each, at most 1000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, help_heading = "Log")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1000))]
    lines: u32,
}

#[derive(Deserialize)]
struct Lines {
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    stream: String,
    text: String,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    service: &'a str,
    stream: &'a str,
    text: &'a str,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let streams: &[&str] = match (self.out, self.err) {
            (false, false) => &["out", "err"],
            (_, false) => &["out"],
            (_, true) => &["err"],
        };
        let print = |stream: &str, text: &str| match shell.format() {
            MessageFormat::Human => shell.output(format!("{text}\n")),
            MessageFormat::Json => {
                shell.message(&Message { reason: "log-line", service: &self.service, stream, text })
            }
        };
        let newest = |streams: &[&str]| -> anyhow::Result<()> {
            let mut all = Vec::new();
            for stream in streams {
                let query = format!("?stream={stream}&lines={}", self.lines);
                let path = paths::service(&self.service, "logs") + &query;
                let Lines { lines } = client.get(&path).map_err(DeviceError::into_failure)?;
                all.push(lines);
            }
            merge(all).iter().try_for_each(|line| print(&line.stream, &line.text))
        };
        if !self.follow {
            return newest(streams);
        }
        // The device sends the newest lines of one stream first, and from then on the new ones of both.
        let (before, first) = streams.split_at(streams.len() - 1);
        newest(before)?;
        let mut parser = Parser::default();
        let mut failed = None;
        let query = format!("?stream={}&lines={}", first.concat(), self.lines);
        let path = paths::service(&self.service, "tail") + &query;
        let ended = client.listen(&path, PATIENCE, |bytes| {
            for event in parser.feed(bytes) {
                if event.name == "problem" {
                    return Err(Failure::new(Exit::Device, event.data));
                }
                if streams.contains(&event.name.as_str())
                    && let Err(error) = print(&event.name, &event.data)
                {
                    // Nobody listens any more.
                    failed = Some(error);
                    return Ok(false);
                }
            }
            Ok(true)
        });
        ended.map_err(DeviceError::into_failure)?;
        failed.map_or(Ok(()), Err)
    }
}

/// The lines of several logs in the order of their wall times, which all begin with; those of one log stay in order.
fn merge(logs: Vec<Vec<Line>>) -> Vec<Line> {
    let mut logs: Vec<VecDeque<Line>> = logs.into_iter().map(VecDeque::from).collect();
    let mut merged = Vec::new();
    let time = |line: &Line| line.text.split(' ').next().unwrap_or_default().to_owned();
    loop {
        let next = logs.iter_mut().filter(|log| !log.is_empty()).min_by_key(|log| log.front().map(time));
        match next.and_then(VecDeque::pop_front) {
            Some(line) => merged.push(line),
            None => return merged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_logs_become_one_in_the_order_of_their_times() {
        let lines = |stream: &str, texts: &[&str]| {
            let line = |text: &&str| Line { stream: stream.to_owned(), text: (*text).to_owned() };
            texts.iter().map(line).collect::<Vec<_>>()
        };
        let out = lines("out", &["2026-01-01T00:00:01Z 1.0 a", "2026-01-01T00:00:03Z 3.0 c"]);
        // A clock that was set back: its order within the log stays.
        let err = lines("err", &["2026-01-01T00:00:02Z 2.0 b", "2025-01-01T00:00:02Z 2.5 x"]);
        let merged = merge(vec![out, err]);
        let last: String = merged.iter().filter_map(|line| line.text.chars().last()).collect();
        assert_eq!(last, "abxc");
    }
}
