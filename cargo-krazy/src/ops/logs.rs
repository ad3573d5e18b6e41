//! The output of a service: its newest lines, and new ones as they are written.

use std::collections::VecDeque;
use std::time::Duration;

use krazy_boot::api::Endpoint;
use krazy_boot::api::logs::{LogLine, LogLines, LogQuery, LogStream};
use serde::Serialize;

use crate::device::Client;
use crate::device::events::Parser;
use crate::failure::{Exit, Explain, Result};
use crate::shell::{MessageFormat, Shell};

/// The timeout of a silent live log: a device sends at least a comment every 15 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The lines to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions<'a> {
    /// The service.
    pub(crate) service: &'a str,
    /// Standard output, standard error or both.
    pub(crate) streams: &'a [LogStream],
    /// The number of newest lines of each.
    pub(crate) lines: u32,
    /// Set when new lines are shown until the program is interrupted.
    pub(crate) follow: bool,
}

/// A log that the device ended with a problem.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct LogProblem(String);

impl Explain for LogProblem {
    fn exit(&self) -> Exit {
        Exit::Device
    }
}

/// A line for programs.
#[derive(Serialize)]
struct Message<'a> {
    service: &'a str,
    stream: LogStream,
    text: &'a str,
}

/// Prints lines of a service's log as they arrive.
pub(crate) fn print(client: &Client, options: LogOptions<'_>, shell: Shell) -> Result<()> {
    let LogOptions { service, streams, lines, follow } = options;
    if !follow {
        return print_newest(client, options, streams, shell);
    }
    // The device sends the newest lines of one stream first, and from then on the new ones of both.
    let Some((&first, before)) = streams.split_last() else { return Ok(()) };
    print_newest(client, options, before, shell)?;
    let mut parser = Parser::default();
    let mut failed = None;
    let query = LogQuery { stream: first, lines };
    let endpoint = Endpoint::FollowLogs { name: service.to_owned(), query };
    client.listen(&endpoint, SILENCE_TIMEOUT, |bytes| {
        for event in parser.feed(bytes) {
            if event.name == "problem" {
                return Err(LogProblem(event.data).into());
            }
            if let Some(&stream) = streams.iter().find(|stream| stream.name() == event.name)
                && let Err(error) = print_line(service, stream, &event.data, shell)
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

fn print_newest(client: &Client, options: LogOptions<'_>, streams: &[LogStream], shell: Shell) -> Result<()> {
    let mut logs = Vec::new();
    for &stream in streams {
        let query = LogQuery { stream, lines: options.lines };
        let LogLines { lines } = client.get(&Endpoint::Logs { name: options.service.to_owned(), query })?;
        logs.push(lines);
    }
    let mut lines = merge(logs).into_iter();
    lines.try_for_each(|line| print_line(options.service, line.stream, &line.text, shell))
}

fn print_line(service: &str, stream: LogStream, text: &str, shell: Shell) -> Result<()> {
    match shell.format() {
        MessageFormat::Human => shell.output(format!("{text}\n")),
        MessageFormat::Json => shell.message("log-line", &Message { service, stream, text }),
    }
}

/// Returns the lines of several logs in the order of their wall times, which all begin with; those of one log stay in
/// order.
fn merge(logs: Vec<Vec<LogLine>>) -> Vec<LogLine> {
    let mut logs: Vec<VecDeque<LogLine>> = logs.into_iter().map(VecDeque::from).collect();
    let mut merged = Vec::new();
    let time = |line: &LogLine| line.text.split(' ').next().unwrap_or_default().to_owned();
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
        let lines = |stream, texts: &[&str]| {
            let line = |text: &&str| LogLine { stream, text: (*text).to_owned() };
            texts.iter().map(line).collect::<Vec<_>>()
        };
        let out = lines(LogStream::Out, &["2026-01-01T00:00:01Z 1.0 a", "2026-01-01T00:00:03Z 3.0 c"]);
        // A clock that was set back: its order within the log stays.
        let err = lines(LogStream::Err, &["2026-01-01T00:00:02Z 2.0 b", "2025-01-01T00:00:02Z 2.5 x"]);
        let merged = merge(vec![out, err]);
        let last: String = merged.iter().filter_map(|line| line.text.chars().last()).collect();
        assert_eq!(last, "abxc");
    }
}
