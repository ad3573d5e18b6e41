//! Facts about the machine, from the kernel and from krazy-init.

use std::fs;
use std::time::Duration;

/// The state of the machine. Outside an appliance, some facts are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The host name.
    pub hostname: String,
    /// Time since the kernel started.
    pub uptime: Duration,
    /// The running slot, `A` or `B`; `None` outside an appliance.
    pub slot: Option<String>,
    /// The kernel's release, as in `uname -r`.
    pub kernel: String,
}

impl Machine {
    /// Reads the facts from /proc. A missing one is "unknown", so that the page is shown nevertheless.
    pub fn read() -> Self {
        let proc = |file: &str| fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
        Machine {
            hostname: line(&proc("sys/kernel/hostname")),
            uptime: uptime(&proc("uptime")),
            // krazy-init tells its services.
            slot: std::env::var("KRAZY_SLOT").ok(),
            kernel: line(&proc("sys/kernel/osrelease")),
        }
    }
}

/// Returns `text` trimmed, or "unknown" if it is empty.
fn line(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
}

/// Parses the first number of /proc/uptime: seconds with two decimals (proc(5)).
fn uptime(text: &str) -> Duration {
    let seconds = text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_parsed() {
        assert_eq!(uptime("3661.25 7000.00\n"), Duration::from_millis(3_661_250));
        assert_eq!(uptime(""), Duration::ZERO);
        assert_eq!(uptime("-1 x"), Duration::ZERO);
        assert_eq!(line(" \n"), "unknown");
    }

    #[test]
    fn facts_of_this_machine_are_known() {
        let machine = Machine::read();
        assert_ne!(machine.kernel, "unknown");
        assert!(machine.uptime > Duration::ZERO);
    }
}
