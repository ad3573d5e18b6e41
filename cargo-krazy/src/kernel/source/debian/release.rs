//! `InRelease`: the index files of a suite, and the hash of each (Debian repository format).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use krazy_boot::digest::is_sha256;

/// The greatest age of a suite's index. Debian makes point releases of its stable suites every few months, and sets no
/// `Valid-Until` there, so an old index that a mirror repeats would be accepted for ever.
const MAX_AGE: Duration = Duration::from_secs(2 * 365 * 86_400);

/// The greatest error of this machine's clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(86_400);

/// The fields of a suite's `InRelease` that are used, after its signature was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Release {
    /// The name that moves on to the next release, such as `stable`.
    pub(crate) suite: String,
    /// The name of this release for good, such as `trixie`.
    pub(crate) codename: String,
    /// True if files may be asked for by their hash.
    pub(crate) by_hash: bool,
    /// The end of its validity; Debian's stable suites set none.
    pub(crate) valid_until: Option<SystemTime>,
    files: Vec<IndexFile>,
}

/// An index file below the suite's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexFile {
    /// Such as `main/binary-amd64/Packages.xz`.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
    /// SHA-256 in hex.
    pub(crate) sha256: String,
}

/// The reason that a Release file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReleaseError {
    /// Its `Valid-Until` is unreadable; taking that for none would accept it forever.
    #[error("its Valid-Until `{0}` is not a date")]
    ValidUntil(String),
    /// It is out of date.
    #[error("it was valid until {0} only")]
    Expired(String),
    /// Its `Date` is unreadable.
    #[error("its Date `{0}` is not a date")]
    Date(String),
    /// It is too old to be the present one.
    #[error("it is of {0}, more than two years ago")]
    Old(String),
    /// This machine's clock is behind it, so that nothing can be said about its age.
    #[error("it is of {0}, which is in the future")]
    Future(String),
    /// It is of another suite, served in place of the right one.
    #[error("it is of the suite `{suite}` ({codename}), not `{wanted}`")]
    OtherSuite {
        /// The suite it names.
        suite: String,
        /// Its code name.
        codename: String,
        /// The URL.
        wanted: String,
    },
}

impl Release {
    /// Reads the signed text and checks that it is the suite `wanted`, and valid at `now`.
    pub(crate) fn parse(text: &str, wanted: &str, now: SystemTime) -> Result<Self, ReleaseError> {
        let mut release = Release::default();
        let mut section = "";
        for line in text.lines() {
            if let Some(entry) = line.strip_prefix(' ') {
                if section == "SHA256" {
                    release.files.extend(IndexFile::parse(entry));
                }
                continue;
            }
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            section = key;
            match key {
                "Suite" => release.suite = value.to_owned(),
                "Codename" => release.codename = value.to_owned(),
                "Acquire-By-Hash" => release.by_hash = value == "yes",
                "Date" => {
                    let made = date(value).ok_or_else(|| ReleaseError::Date(value.to_owned()))?;
                    if made > now + CLOCK_TOLERANCE {
                        return Err(ReleaseError::Future(value.to_owned()));
                    }
                    if made + MAX_AGE < now {
                        return Err(ReleaseError::Old(value.to_owned()));
                    }
                }
                "Valid-Until" => {
                    let until = date(value).ok_or_else(|| ReleaseError::ValidUntil(value.to_owned()))?;
                    if until < now {
                        return Err(ReleaseError::Expired(value.to_owned()));
                    }
                    release.valid_until = Some(until);
                }
                _ => {}
            }
        }
        if wanted != release.codename && wanted != release.suite {
            let Release { suite, codename, .. } = release;
            return Err(ReleaseError::OtherSuite { suite, codename, wanted: wanted.to_owned() });
        }
        Ok(release)
    }

    /// The index file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&IndexFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl IndexFile {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (sha256, size, path) = (words.next()?, words.next()?, words.next()?);
        is_sha256(sha256).then_some(())?;
        Some(IndexFile { path: path.to_owned(), size: size.parse().ok()?, sha256: sha256.to_owned() })
    }

    /// Its path below the suite's directory when asked for by hash.
    pub(crate) fn by_hash(&self) -> String {
        let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{directory}/by-hash/SHA256/{}", self.sha256)
    }
}

/// A date as in mail (RFC 5322), always UTC in Release files: `Sat, 12 Sep 2026 07:55:41 UTC`.
fn date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(',').map_or(text, |(_, rest)| rest).split_whitespace();
    let day: u64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let zone = words.next()?;
    let sane = (1..=31).contains(&day) && (1970..=9999).contains(&year);
    // The second 60 is a leap second.
    if !sane || hour > 23 || minute > 59 || second > 60 || !matches!(zone, "UTC" | "GMT" | "+0000") {
        return None;
    }
    // Days since 1970-01-01 of the proleptic Gregorian calendar, with years that begin in March, so that the
    // leap day is a year's last.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates() {
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 UTC"), Some(at(0)));
        assert_eq!(date("Thu, 29 Feb 2024 12:00:01 UTC"), Some(at(1_709_208_001)));
        assert_eq!(date("Sat, 12 Sep 2026 07:55:41 UTC"), Some(at(1_789_199_741)));
        for wrong in
            ["", "tomorrow", "Sat, 12 Sep 2026", "Sat, 12 Sep 2026 07:55:41 CEST", "0 Jan 1 1:1:1 UTC"]
        {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn reads_the_sha256_section_only() {
        let sum = "0a".repeat(32);
        let text = format!(
            "Suite: stable\r\nCodename: trixie\r\nAcquire-By-Hash: yes\r\nMD5Sum:\r\n 00 9 main/P\r\n\
             SHA256:\r\n {sum}  42 main/binary-amd64/Packages.xz\r\n"
        );
        let release = Release::parse(&text, "trixie", at(0)).unwrap();
        let file = release.file("main/binary-amd64/Packages.xz").unwrap();
        assert_eq!((file.size, &file.sha256), (42, &sum));
        assert_eq!(file.by_hash(), format!("main/binary-amd64/by-hash/SHA256/{sum}"));
        assert!(release.by_hash && release.file("main/P").is_none());
        assert!(Release::parse(&text, "stable", at(0)).is_ok());
        assert_eq!(
            Release::parse(&text, "forky", at(0)).unwrap_err().to_string(),
            "it is of the suite `stable` (trixie), not `forky`"
        );
    }

    #[test]
    fn expired_release_is_rejected() {
        let text = |until| format!("Codename: t\nValid-Until: {until}\n");
        let until = "Sat, 12 Sep 2026 07:55:41 UTC";
        assert!(Release::parse(&text(until), "t", at(1_789_199_741)).is_ok());
        assert_eq!(
            Release::parse(&text(until), "t", at(1_789_199_742)).unwrap_err().to_string(),
            format!("it was valid until {until} only")
        );
        assert_eq!(
            Release::parse(&text("soon"), "t", at(0)).unwrap_err().to_string(),
            "its Valid-Until `soon` is not a date"
        );
    }

    #[test]
    fn release_of_the_future_or_of_long_ago_is_rejected() {
        let day = "Sat, 12 Sep 2026 07:55:41 UTC";
        let text = |date| format!("Codename: t\nDate: {date}\n");
        let parsed = |now| Release::parse(&text(day), "t", at(now)).map(|_| ());
        let made = 1_789_199_741;
        assert_eq!(parsed(made - 86_400), Ok(()));
        assert_eq!(parsed(made - 86_401), Err(ReleaseError::Future(day.into())));
        assert_eq!(parsed(made + 730 * 86_400), Ok(()));
        assert_eq!(parsed(made + 730 * 86_400 + 1), Err(ReleaseError::Old(day.into())));
        assert_eq!(Release::parse(&text("soon"), "t", at(0)).unwrap_err(), ReleaseError::Date("soon".into()));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(SHA256:|Valid-Until:|Date:|Suite:|[0-9a-f]{64}| |\n|\\PC|9999|Feb){0,40}") {
            let _ = Release::parse(&text, "x", at(0));
            let _ = date(&text);
        }
    }
}
