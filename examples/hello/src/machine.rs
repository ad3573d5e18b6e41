//! What the kernel says about the machine.

use std::fs;
use std::time::Duration;

/// The machine at one moment. Outside an appliance some facts are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The host name.
    pub hostname: String,
    /// Time since the kernel started.
    pub uptime: Duration,
    /// The running slot, `A` or `B`; none outside an appliance.
    pub slot: Option<String>,
    /// The kernel's release, as in `uname -r`.
    pub kernel: String,
}

impl Machine {
    /// Asks the kernel. A fact that /proc does not tell is "unknown", so that the page is shown anyway.
    pub fn read() -> Self {
        let proc = |file: &str| fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
        Machine {
            hostname: line(&proc("sys/kernel/hostname")),
            uptime: uptime(&proc("uptime")),
            slot: slot(&proc("cmdline")),
            kernel: line(&proc("sys/kernel/osrelease")),
        }
    }
}

fn line(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
}

/// The first number of /proc/uptime: seconds with two decimals (proc(5)).
fn uptime(text: &str) -> Duration {
    let seconds = text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

/// The value of `krazy.slot=` on the kernel command line, as a capital letter.
fn slot(cmdline: &str) -> Option<String> {
    cmdline.split_whitespace().find_map(|word| word.strip_prefix("krazy.slot=")).map(str::to_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says() {
        assert_eq!(uptime("3661.25 7000.00\n"), Duration::from_millis(3_661_250));
        assert_eq!(uptime(""), Duration::ZERO);
        assert_eq!(uptime("-1 x"), Duration::ZERO);
        assert_eq!(slot("root=PARTUUID=1-02 krazy.slot=b quiet\n"), Some("B".into()));
        assert_eq!(slot("root=/dev/sda1 quiet"), None);
        assert_eq!(line(" \n"), "unknown");
    }

    #[test]
    fn this_machine_has_a_kernel() {
        let machine = Machine::read();
        assert_ne!(machine.kernel, "unknown");
        assert!(machine.uptime > Duration::ZERO);
    }
}
