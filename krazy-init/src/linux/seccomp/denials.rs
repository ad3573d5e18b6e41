//! The kernel's log of denied system calls. Source: Linux `Documentation/ABI/testing/dev-kmsg`, `kernel/auditsc.c`,
//! `audit_seccomp`: without an audit daemon, a record of type 1326 is a message of the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use libc::c_long;

use super::{calls, unsigned};

/// The kernel's log.
const KMSG: &str = "/dev/kmsg";

/// The setting with the verdicts that filters may log.
const ACTIONS_LOGGED: &str = "/proc/sys/kernel/seccomp/actions_logged";

/// Its verdicts without the one that filters of services give.
const WITHOUT_ERRNO: &str = "kill_process kill_thread trap user_notif trace log";

/// The longest record of `/dev/kmsg`. Source: Linux `include/linux/printk.h`, `CONSOLE_EXT_LOG_MAX`.
const MAX_RECORD: usize = 8 << 10;

/// Records read before init's loop serves its other descriptors.
const MAX_BATCH: usize = 64;

/// The reader of the kernel's log.
#[derive(Debug)]
pub(crate) struct DenialLog(File);

/// A denied system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// The process that made it, which may have exited.
    pub(crate) pid: i32,
    /// Its account.
    pub(crate) uid: u32,
    /// The number of the call.
    pub(crate) number: u32,
}

impl DenialLog {
    /// Opens the log at its end.
    pub(crate) fn open() -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(KMSG)?;
        file.seek(SeekFrom::End(0))?;
        Ok(DenialLog(file))
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &File {
        &self.0
    }

    /// Reads what has come, at most a batch, and hands on each denial.
    pub(crate) fn read(&mut self, mut each: impl FnMut(Denial)) {
        let mut record = [0; MAX_RECORD];
        for _ in 0..MAX_BATCH {
            match self.0.read(&mut record) {
                Ok(length) => {
                    if let Some(denial) = parse(&String::from_utf8_lossy(&record[..length])) {
                        each(denial);
                    }
                }
                // Records were overwritten before they were read; the next read goes on after the gap.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Denial {
    /// The name of the call; its number if it has none here.
    pub(crate) fn name(self) -> String {
        let named = calls::denied().find(|call| u32::from(call.number) == self.number);
        let others: [(c_long, &str); 5] = [
            (libc::SYS_clone, "clone"),
            (libc::SYS_unshare, "unshare"),
            (libc::SYS_setns, "setns"),
            (libc::SYS_socket, "socket"),
            (libc::SYS_personality, "personality"),
        ];
        let other = || others.into_iter().find(|(number, _)| unsigned(*number) == self.number);
        match named.map(|call| call.name).or_else(|| other().map(|(_, name)| name)) {
            Some(name) => name.to_owned(),
            None => format!("number {}", self.number),
        }
    }

    /// The key of `sandbox` that lifts the restriction.
    pub(crate) fn key(self) -> &'static str {
        let is = |numbers: &[c_long]| numbers.iter().any(|number| unsigned(*number) == self.number);
        if is(&[libc::SYS_clone, libc::SYS_unshare, libc::SYS_setns]) {
            "namespaces"
        } else if is(&[libc::SYS_socket]) {
            "socket-families"
        } else {
            "system-calls"
        }
    }

    /// The capability that allows the call.
    pub(crate) fn capability(self) -> Option<&'static str> {
        calls::denied().find(|call| u32::from(call.number) == self.number)?.capability()
    }
}

/// Stops the logging of denied calls until the next boot: each of them is a message in the kernel's log, where it displaces
/// others.
pub(crate) fn stop_logging() -> io::Result<()> {
    fs::write(ACTIONS_LOGGED, WITHOUT_ERRNO)
}

/// Parses a record: `PRIORITY,SEQUENCE,TIME,FLAGS;audit: type=1326 audit(…): … uid=1 … pid=2 comm="x" … syscall=3 …`.
/// A name that could be taken for another field is written in hex by the kernel.
fn parse(record: &str) -> Option<Denial> {
    let (prefix, text) = record.split_once(';')?;
    // What is written to /dev/kmsg has the facility of its writer, 1 and higher.
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    if priority > 7 {
        return None;
    }
    let fields = text.lines().next()?.strip_prefix("audit: type=1326 ")?;
    let field = |name: &str| fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    Some(Denial {
        pid: field("pid")?.parse().ok()?,
        uid: field("uid")?.parse().ok()?,
        number: field("syscall")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "5,923,8123456,-;audit: type=1326 audit(1764444444.123:4): auid=4294967295 uid=10003 gid=10003 \
        ses=4294967295 subj=unconfined pid=77 comm=\"web\" exe=\"/bin/web\" sig=0 arch=c000003e syscall=165 compat=0 \
        ip=0x7f0 code=0x50001\n SUBSYSTEM=x\n";

    #[test]
    fn records_of_denied_calls_are_told_from_others() {
        assert_eq!(parse(RECORD), Some(Denial { pid: 77, uid: 10_003, number: 165 }));
        for other in [
            RECORD.replacen("5,", "13,", 1),
            RECORD.replacen("1326", "1300", 1),
            RECORD.replacen("syscall=165", "syscall=x", 1),
            "6,1,0,-;Linux version 6.12".to_owned(),
            String::new(),
        ] {
            assert_eq!(parse(&other), None, "{other}");
        }
    }

    #[test]
    fn denial_names_call_key_and_capability() {
        let denial = |number| Denial { pid: 1, uid: 1, number: unsigned(number) };
        let told = |number| (denial(number).name(), denial(number).key(), denial(number).capability());
        assert_eq!(told(libc::SYS_clock_settime), ("clock_settime".into(), "system-calls", Some("sys-time")));
        assert_eq!(told(libc::SYS_keyctl), ("keyctl".into(), "system-calls", None));
        assert_eq!(told(libc::SYS_unshare), ("unshare".into(), "namespaces", None));
        assert_eq!(told(libc::SYS_socket), ("socket".into(), "socket-families", None));
        assert_eq!(denial(4095).name(), "number 4095");
    }
}
