//! The kernel's clocks. Source: clock_gettime(2), adjtimex(2).

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, Timespec};
use time::OffsetDateTime;

/// Returns the time since the kernel started, including suspend.
pub(crate) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// Returns the time since 1970-01-01 UTC.
pub(crate) fn wall() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// Sets the wall clock.
pub(crate) fn set_wall(time: Duration) -> io::Result<()> {
    let time = Timespec {
        tv_sec: time.as_secs().try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        tv_nsec: time.subsec_nanos().into(),
    };
    Ok(rustix::time::clock_settime(ClockId::Realtime, time)?)
}

/// Slews the wall clock by `microseconds`, at 500 ppm.
pub(crate) fn slew_wall(microseconds: i64) -> io::Result<()> {
    // SAFETY: all fields are integers, for which zero is valid; only those named by `modes` are read.
    let result = unsafe {
        let mut request: libc::timex = std::mem::zeroed();
        request.modes = libc::ADJ_OFFSET_SINGLESHOT;
        request.offset = microseconds as _;
        libc::adjtimex(&mut request)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns the time since 1970-01-01 UTC by the clock that runs while the machine is off; `None` without one. Init never
/// sets that clock, so it is a witness of its own. Source: Linux `Documentation/ABI/testing/sysfs-class-rtc`.
pub(crate) fn hardware() -> Option<Duration> {
    let text = std::fs::read_to_string("/sys/class/rtc/rtc0/since_epoch").ok()?;
    // A clock without a battery may be before 1970, which is as wrong as 1970.
    Some(Duration::from_secs(text.trim().parse().unwrap_or(0)))
}

/// Formats a wall clock time as `2026-11-23T07:48:30.123Z`. Source: RFC 3339.
pub(crate) fn rfc3339(wall: Duration) -> String {
    // Years after 9999 have no such form. No clock is set to one: see `net::sntp`.
    let seconds = wall.as_secs().try_into().unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    let milliseconds = wall.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_with_leap_years_and_milliseconds() {
        let text = |seconds| rfc3339(Duration::from_secs(seconds));
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(951_868_800), "2000-03-01T00:00:00.000Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(Duration::from_millis(1_795_420_110_123)), "2026-11-23T07:48:30.123Z");
    }
}
