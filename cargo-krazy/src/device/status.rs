//! The condition of devices and services in words.

use krazy_boot::api::services::ServiceStatus;
pub(crate) use krazy_boot::api::services::ServiceStatus as Service;
pub(crate) use krazy_boot::api::status::{FailedTrial, Slots, Status};

/// Returns a service's state, its reason, and the exit of its last process.
pub(crate) fn condition(service: &ServiceStatus) -> String {
    let mut text = service.state.name().to_owned();
    if !service.waiting_for.is_empty() {
        text.push_str(&format!(" for {}", service.waiting_for.join(", ")));
    }
    if service.crash_loop {
        text.push_str(", keeps ending");
    }
    if let Some(exit) = &service.last_exit {
        text.push_str(&format!(" (last {exit})"));
    }
    text
}

/// Seconds as `3 d 4 h`, `5 min`, `7 s`: the two largest units.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size || (unit == "s" && parts.is_empty()) {
            parts.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_has_two_units_at_most() {
        for (seconds, text) in [(0, "0 s"), (61, "1 min 1 s"), (3_600, "1 h"), (273_661, "3 d 4 h")] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn condition_tells_state_and_last_exit() {
        let condition = |exit: &str| {
            let text = format!(
                r#"{{"name":"a","state":"backoff","uid":1,"restarts":2,"required":true,"stable":false,
                    "crash_loop":true,"last_exit":{exit},"new":1}}"#
            );
            super::condition(&serde_json::from_str(&text).unwrap())
        };
        assert_eq!(condition(r#"{"code":3}"#), "backoff, keeps ending (last exit status 3)");
        assert_eq!(condition(r#"{"signal":9}"#), "backoff, keeps ending (last signal 9)");
        assert_eq!(condition(r#"{"not-started":"no"}"#), "backoff, keeps ending (last not started: no)");
        assert_eq!(condition("null"), "backoff, keeps ending");
    }
}
