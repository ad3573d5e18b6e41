//! The status page: one HTML document without scripts or further requests.

use std::fmt::{self, Write};
use std::sync::Arc;

use krazy_boot::api::services::ServiceStatus;
use krazy_boot::api::status::Status;
use krazy_boot::update::history::Outcome;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use warp::reply::Response;

use crate::api::status;
use crate::api::{Admin, content};
use crate::problem::{Kind, Problem};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0}.bad{color:#b00020}\
    @media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8ab4f8}.bad{color:#ff8a80}}";

/// Returns the page.
pub(super) async fn page(admin: &Arc<Admin>) -> Result<Response, Problem> {
    let status = status::status(admin).await?;
    // The status already reports an init that does not reply; the rest of the page must still be shown.
    let services = match admin.control.list().await {
        Ok(services) => services,
        Err(problem) if problem.kind() == Kind::InitUnreachable => Vec::new(),
        Err(problem) => return Err(problem),
    };
    let mut html = String::new();
    render(&mut html, &status, &services)
        .map_err(|error| Problem::new(Kind::Internal, format!("failed to write the page: {error}")))?;
    Ok(content(html, "text/html; charset=utf-8"))
}

fn render(html: &mut String, status: &Status, services: &[ServiceStatus]) -> fmt::Result {
    let name = Escaped(&status.name);
    write!(
        html,
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>{name}</title><style>{STYLE}</style><h1>{name} {}</h1>",
        Escaped(&status.version)
    )?;
    for sentence in &status.degraded {
        write!(html, "<p class=bad>{}</p>", Escaped(sentence))?;
    }
    html.push_str("<table>");
    let slot = match (status.slot, &status.trial) {
        (Some(slot), Some(trial)) => format!("{slot}, on trial for {} more", duration(trial.deadline)),
        (Some(slot), None) => slot.to_string(),
        (None, _) => "unknown".to_owned(),
    };
    let space = |used: u64, of: u64| format!("{} free of {}", mib(used), mib(of));
    let Status { memory, data, .. } = status;
    for (label, value) in [
        ("host name", status.hostname.clone()),
        ("slot", slot),
        ("board", status.board.clone()),
        ("build", status.build_id.chars().take(16).collect()),
        ("kernel", status.kernel.clone()),
        ("up for", duration(status.uptime)),
        ("memory", space(memory.available, memory.total)),
        ("/data", space(data.available, data.total)),
    ] {
        write!(html, "<tr><th>{label}<td>{}", Escaped(&value))?;
    }
    if let Some(attempt) = &status.last_attempt {
        let bad = if attempt.outcome == Outcome::Failed { " class=bad" } else { "" };
        write!(html, "<tr><th>last update<td{bad}>{}", Escaped(&attempt.to_string()))?;
    }
    html.push_str(
        "</table><h2>Services</h2><table><tr><th>service<th>state<th>up for<th>restarts<th>last exit<th>logs",
    );
    for service in services {
        let url = utf8_percent_encode(&service.name, NON_ALPHANUMERIC);
        let exit = service.last_exit.as_ref().map(ToString::to_string).unwrap_or_default();
        write!(
            html,
            "<tr><td>{}<td{}>{}<td>{}<td>{}<td>{}<td>\
             <a href=\"/api/v1/services/{url}/logs/out\">out</a> <a href=\"/api/v1/services/{url}/logs/err\">err</a>",
            Escaped(&service.name),
            if service.stable { "" } else { " class=bad" },
            Escaped(&format!("{:?}", service.state).to_lowercase()),
            service.uptime.map(duration).unwrap_or_default(),
            service.restarts,
            Escaped(&exit),
        )?;
    }
    html.push_str(
        "</table><p><a href=\"/api/v1/status\">status</a> <a href=\"/api/v1/openapi.json\">API</a>",
    );
    Ok(())
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Text with the special characters of HTML escaped, for use between tags and in quoted attributes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_escaped() {
        assert_eq!(Escaped("<script>'\"&").to_string(), "&lt;script&gt;&#39;&quot;&amp;");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let shown: Vec<_> = [59, 61, 3700, 90_000].into_iter().map(duration).collect();
        assert_eq!(shown, ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
