//! The end of a certificate's validity. No other field of X.509 is parsed.
//!
//! Source: RFC 5280, section 4.1. `TBSCertificate` starts with an optional version, serial number, signature algorithm
//! and issuer; `Validity` follows, two times that are `UTCTime` or `GeneralizedTime`. DER lengths of up to 4
//! bytes are supported (X.690, section 8.1.3).

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version's tag: `[0] EXPLICIT`.
const VERSION: u8 = 0xa0;

/// Returns the end of the validity of a certificate in DER, or `None` if that cannot be parsed.
pub(crate) fn not_after(certificate: &[u8]) -> Option<OffsetDateTime> {
    let (content, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(content, SEQUENCE)?;
    if let Some((_version, tail)) = element(rest, VERSION) {
        rest = tail;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = element(rest, tag)?.1;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_not_before, rest) = time(validity)?;
    time(rest).map(|(end, _)| end)
}

/// Formats `time` as in RFC 3339: `9999-12-31T23:59:59Z`.
pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    // Fails for years that certificates cannot hold.
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// Splits the first element off `bytes`, if it has this tag. Returns its content and the rest.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(len)).flatten()
}

/// Splits a time off `bytes`.
fn time(bytes: &[u8]) -> Option<(OffsetDateTime, &[u8])> {
    let (digits, century, rest) = match element(bytes, UTC_TIME) {
        // Two digits of a year between 1950 and 2049 (RFC 5280, section 4.1.2.5.1).
        Some((text, rest)) => (text, if text.first()? >= &b'5' { "19" } else { "20" }, rest),
        None => element(bytes, GENERALIZED_TIME).map(|(text, rest)| (text, "", rest))?,
    };
    let text = format!("{century}{}", std::str::from_utf8(digits).ok()?);
    let format = format_description!("[year][month][day][hour][minute][second]Z");
    Some((PrimitiveDateTime::parse(&text, format).ok()?.assume_utc(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["device".into()]).unwrap();
        params.not_before = date_time_ymd(1990, 1, 1);
        params.not_after = date_time_ymd(year, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_types_of_time_are_parsed() {
        for (year, end) in [
            (1999, "1999-02-03T00:00:00Z"),
            (2049, "2049-02-03T00:00:00Z"),
            (2050, "2050-02-03T00:00:00Z"),
            (9999, "9999-02-03T00:00:00Z"),
        ] {
            assert_eq!(not_after(&certificate(year)).map(rfc3339).as_deref(), Some(end));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>, at: prop::sample::Index, byte: u8, len: prop::sample::Index) {
            let _ = not_after(&bytes);
            let mut damaged = certificate(2030);
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let _ = not_after(&damaged);
            damaged.truncate(len.index(damaged.len()));
            let _ = not_after(&damaged);
        }
    }
}
