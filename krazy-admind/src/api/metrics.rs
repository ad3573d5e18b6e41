//! Figures for Prometheus, in its text format 0.0.4.

use std::fmt::{self, Write};
use std::sync::Arc;

use krazy_boot::api::services::{ServiceState, ServiceStatus};
use krazy_boot::api::status::Status;
use warp::reply::Response;

use crate::api::status;
use crate::api::{Admin, content};
use crate::problem::{Kind, Problem};

/// The media type with the format's version.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(admin: &Arc<Admin>) -> Result<Response, Problem> {
    let status = status::status(admin).await?;
    // Without init, the kernel still has its own figures.
    let services = match admin.control.list().await {
        Ok(services) => services,
        Err(problem) if problem.kind() == Kind::InitUnreachable => Vec::new(),
        Err(problem) => return Err(problem),
    };
    let mut text = String::new();
    render(&mut text, &status, &services)
        .map_err(|error| Problem::new(Kind::Internal, format!("failed to write the metrics: {error}")))?;
    Ok(content(text, MEDIA_TYPE))
}

fn render(text: &mut String, status: &Status, services: &[ServiceStatus]) -> fmt::Result {
    let info = format!(
        "{{name=\"{}\",version=\"{}\",board=\"{}\",slot=\"{}\",kernel=\"{}\"}}",
        Label(&status.name),
        Label(&status.version),
        Label(&status.board),
        status.slot.map_or("", |slot| slot.letter()),
        Label(&status.kernel)
    );
    let plain = String::new();
    let memory = status.memory;
    for (name, kind, help, labels, value) in [
        ("info", "gauge", "The running system; always 1", &info, 1),
        ("uptime_seconds", "gauge", "Since the kernel started", &plain, status.uptime),
        ("trial", "gauge", "1 while the running slot is on trial", &plain, status.trial.is_some().into()),
        (
            "fallback",
            "gauge",
            "1 while the running slot is the fallback from the confirmed one",
            &plain,
            status.fallback.is_some().into(),
        ),
        (
            "degraded",
            "gauge",
            "Number of deviations from the expected condition",
            &plain,
            status.degraded.len() as u64,
        ),
        ("memory_total_bytes", "gauge", "Memory", &plain, memory.total),
        ("memory_available_bytes", "gauge", "Memory available to programs", &plain, memory.available),
        ("data_total_bytes", "gauge", "Space of /data", &plain, status.data.total),
        ("data_available_bytes", "gauge", "Space left on /data", &plain, status.data.available),
    ] {
        head(text, name, kind, help)?;
        writeln!(text, "krazy_{name}{labels} {value}")?;
    }
    type Figure = fn(&ServiceStatus) -> Option<u64>;
    let figures: [(&str, &str, &str, Figure); 4] = [
        ("service_up", "gauge", "1 while the service runs", |service| {
            Some((service.state == ServiceState::Running).into())
        }),
        ("service_stable", "gauge", "1 if it has run long enough, or exited successfully", |service| {
            Some(service.stable.into())
        }),
        (
            "service_restarts_total",
            "counter",
            "Restarts after its main process exited by itself",
            |service| Some(service.restarts.into()),
        ),
        ("service_resident_bytes", "gauge", "Memory of its main process", |service| service.rss),
    ];
    for (name, kind, help, figure) in figures {
        head(text, name, kind, help)?;
        for service in services {
            if let Some(value) = figure(service) {
                writeln!(text, "krazy_{name}{{service=\"{}\"}} {value}", Label(&service.name))?;
            }
        }
    }
    Ok(())
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP krazy_{name} {help}\n# TYPE krazy_{name} {kind}")
}

/// A label's value within its quotes.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stay_within_their_quotes() {
        assert_eq!(Label("a\"b\\c\nd").to_string(), "a\\\"b\\\\c\\nd");
    }
}
