//! The kernel's log. Source: Linux `Documentation/ABI/testing/dev-kmsg`: `PRIORITY,NUMBER,MICROSECONDS,…;TEXT`.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// Returns the time of the kernel's first message that `wanted` accepts, counted from its start.
pub fn find(wanted: impl Fn(&str) -> bool) -> Option<Duration> {
    let mut kmsg = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let mut record = [0; 8192];
    loop {
        // The end of the log is an error here: nothing is to be waited for.
        let length = kmsg.read(&mut record).ok()?;
        let text = String::from_utf8_lossy(&record[..length]).into_owned();
        if let Some((header, message)) = text.split_once(';')
            && wanted(message)
        {
            return Some(Duration::from_micros(header.split(',').nth(2)?.parse().ok()?));
        }
    }
}
