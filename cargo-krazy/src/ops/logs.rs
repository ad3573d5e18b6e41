//! The output of a service: its newest lines, and new ones as they are written.

use std::collections::VecDeque;
use std::time::Duration;

use krazy_boot::api::Endpoint;
use krazy_boot::api::logs::{LogQuery, LogStream};
use serde::{Deserialize, Serialize};

use crate::device::Client;
use crate::device::events::Parser;
use crate::failure::{Exit, Failure, Result};
use crate::shell::{MessageFormat, Shell};

/// How long a live log may be silent: a device sends at least a comment every 15 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The lines to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions<'a> {
    /// The service.
    pub(crate) service: &'a str,
    /// `out`, `err` or both.
    pub(crate) streams: &'a [&'a str],
    /// How many of the newest lines of each.
    pub(crate) lines: u32,
    /// Set when new lines are shown until the program is interrupted.
    pub(crate) follow: bool,
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
struct LogLine<'a> {
    service: &'a str,
    stream: &'a str,
    text: &'a str,
}

/// Prints lines of a service's log as they arrive.
pub(crate) fn print(client: &Client, options: LogOptions<'_>, shell: Shell) -> Result<()> {
    let LogOptions { service, streams, lines, follow } = options;
    if !follow {
        return print_newest(client, options, streams, shell);
    }
    // The device sends the newest lines of one stream first, and from then on the new ones of both.
    let (before, first) = streams.split_at(streams.len() - 1);
    print_newest(client, options, before, shell)?;
    let mut parser = Parser::default();
    let mut failed = None;
    let stream = if first == ["err"] { LogStream::Err } else { LogStream::Out };
    let endpoint = Endpoint::FollowLogs { name: service.to_owned(), query: LogQuery { stream, lines } };
    client.listen(&endpoint, SILENCE_TIMEOUT, |bytes| {
        for event in parser.feed(bytes) {
            if event.name == "problem" {
                return Err(Failure::new(Exit::Device, event.data));
            }
            if streams.contains(&event.name.as_str())
                && let Err(error) = print_line(service, &event.name, &event.data, shell)
            {
                // The reader of standard output is gone.
                failed = Some(error);
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    failed.map_or(Ok(()), Err)
}

fn print_newest(client: &Client, options: LogOptions<'_>, streams: &[&str], shell: Shell) -> Result<()> {
    let mut logs = Vec::new();
    for stream in streams {
        let stream = if *stream == "err" { LogStream::Err } else { LogStream::Out };
        let query = LogQuery { stream, lines: options.lines };
        let Lines { lines } = client.get(&Endpoint::Logs { name: options.service.to_owned(), query })?;
        logs.push(lines);
    }
    let mut lines = merge(logs).into_iter();
    lines.try_for_each(|line| print_line(options.service, &line.stream, &line.text, shell))
}

fn print_line(service: &str, stream: &str, text: &str, shell: Shell) -> Result<()> {
    match shell.format() {
        MessageFormat::Human => shell.output(format!("{text}\n")),
        MessageFormat::Json => shell.message("log-line", &LogLine { service, stream, text }),
    }
}

/// Returns the lines of several logs in the order of their wall times, which all begin with; those of one log stay in
/// order.
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
    fn two_logs_merge_in_the_order_of_their_times() {
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
