//! The three forms of the page.

use std::fmt::Write;
use std::time::Duration;

use crate::machine::Machine;

/// Returns the HTML page. It is self-contained: no scripts, images or fonts.
pub fn html(machine: &Machine, visits: u64) -> String {
    include_str!("page.html")
        .replace("{hostname}", &escape_html(&machine.hostname))
        .replace("{uptime}", &uptime(machine.uptime))
        .replace("{slot}", &escape_html(machine.slot.as_deref().unwrap_or("none")))
        .replace("{kernel}", &escape_html(&machine.kernel))
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{visits}", &visits.to_string())
}

/// Returns a JSON object: `hostname`, `uptime` in seconds, `slot` or null, `kernel`, `version`, `visits`.
pub fn json(machine: &Machine, visits: u64) -> String {
    let slot = machine.slot.as_deref().map_or("null".to_owned(), quote_json);
    format!(
        "{{\"hostname\":{},\"uptime\":{},\"slot\":{slot},\"kernel\":{},\"version\":\"{}\",\"visits\":{visits}}}\n",
        quote_json(&machine.hostname),
        machine.uptime.as_secs(),
        quote_json(&machine.kernel),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Returns one `name: value` per line.
pub fn text(machine: &Machine, visits: u64) -> String {
    format!(
        "hostname: {}\nuptime: {}\nslot: {}\nkernel: {}\nversion: {}\nvisits: {visits}\n",
        machine.hostname,
        uptime(machine.uptime),
        machine.slot.as_deref().unwrap_or("none"),
        machine.kernel,
        env!("CARGO_PKG_VERSION"),
    )
}

/// Formats a duration in its two largest units: `12 s`, `3 min 5 s`, `4 h 0 min`, `9 d 23 h`.
fn uptime(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Escapes `text` for HTML.
fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Returns `text` as a JSON string (RFC 8259, section 7).
fn quote_json(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Writing to a String cannot fail.
            c if c.is_control() => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            hostname: "a<b>\"\\\u{1}".into(),
            uptime: Duration::from_secs(3_661),
            slot: Some("A".into()),
            kernel: "6.12".into(),
        }
    }

    #[test]
    fn html_is_complete_and_escaped() {
        let html = html(&machine(), 42);
        for part in ["a&lt;b&gt;&quot;", "1 h 1 min", ">42<", ">A<", "6.12"] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("a<b>"));
        for name in ["{hostname}", "{uptime}", "{slot}", "{kernel}", "{version}", "{visits}"] {
            assert!(!html.contains(name), "{name} is not replaced");
        }
    }

    #[test]
    fn json_is_valid() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            r#"{{"hostname":"a<b>\"\\\u0001","uptime":3661,"slot":"A","kernel":"6.12","version":"{version}","visits":7}}"#
        );
        assert_eq!(json(&machine(), 7).trim_end(), expected);
        assert!(json(&Machine { slot: None, ..machine() }, 7).contains(r#""slot":null"#));
    }

    #[test]
    fn text_names_the_slot() {
        assert!(text(&machine(), 7).contains("\nslot: A\n"));
        assert!(text(&Machine { slot: None, ..machine() }, 7).ends_with("visits: 7\n"));
    }

    #[test]
    fn uptimes_have_two_units() {
        let cases = [(59, "59 s"), (185, "3 min 5 s"), (14_400, "4 h 0 min"), (863_999, "9 d 23 h")];
        for (seconds, shown) in cases {
            assert_eq!(uptime(Duration::from_secs(seconds)), shown);
        }
    }
}
