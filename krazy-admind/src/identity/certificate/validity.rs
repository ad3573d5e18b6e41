//! The dates in a certificate, as far as they are needed: nothing of X.509 but the way to them.
//!
//! Source: RFC 5280, section 4.1. `TBSCertificate` begins with an optional version, serial number, signature algorithm
//! and issuer; then comes `Validity`, two times that are `UTCTime` or `GeneralizedTime`. DER lengths of up to 4 bytes
//! are read (X.690, section 8.1.3).

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version's tag: `[0] EXPLICIT`.
const VERSION: u8 = 0xa0;

/// The end of the validity of a certificate in DER, as `9999-12-31T23:59:59Z`; `None` if it is not where it should be.
pub(super) fn not_after(certificate: &[u8]) -> Option<String> {
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

/// The content of the element that `bytes` begin with, if it has this tag, and what follows it.
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

fn time(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (digits, century, rest) = match element(bytes, UTC_TIME) {
        // Two digits of a year between 1950 and 2049 (RFC 5280, section 4.1.2.5.1).
        Some((text, rest)) => (text, if text.first()? >= &b'5' { "19" } else { "20" }, rest),
        None => element(bytes, GENERALIZED_TIME).map(|(text, rest)| (text, "", rest))?,
    };
    let text = format!("{century}{}", std::str::from_utf8(digits.strip_suffix(b"Z")?).ok()?);
    if text.len() != 14 || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let at = |from: usize| text.get(from..from + 2).unwrap_or_default();
    let year = text.get(..4).unwrap_or_default();
    Some((format!("{year}-{}-{}T{}:{}:{}Z", at(4), at(6), at(8), at(10), at(12)), rest))
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
    fn both_forms_of_time_are_read() {
        for (year, end) in [
            (1999, "1999-02-03T00:00:00Z"),
            (2049, "2049-02-03T00:00:00Z"),
            (2050, "2050-02-03T00:00:00Z"),
            (9999, "9999-02-03T00:00:00Z"),
        ] {
            assert_eq!(not_after(&certificate(year)).as_deref(), Some(end));
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>, at: prop::sample::Index, byte: u8, len: prop::sample::Index) {
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
