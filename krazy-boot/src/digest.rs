//! SHA-256, and bytes written as lower-case hexadecimal digits: hashes, salts, keys.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};
use core::str::FromStr;
#[cfg(feature = "std")]
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// `N` bytes, written as `2 * N` lower-case digits. Each value has one spelling, so upper case is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex<const N: usize>(pub [u8; N]);

/// A SHA-256 hash.
pub type Sha256Hash = Hex<32>;

/// A text that is not hexadecimal, or not of the expected length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0} hexadecimal digits in lower case")]
pub struct ParseHexError(usize);

/// Returns the lower-case hexadecimal digits of `bytes`, for those whose number is not known to the compiler.
pub fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Returns the SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Sha256Hash {
    Hex(Sha256::digest(bytes).into())
}

/// Returns the SHA-256 of everything that is left in `reader`.
#[cfg(feature = "std")]
pub fn sha256_of(reader: &mut impl Read) -> io::Result<Sha256Hash> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Hex(hasher.finalize().into())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns true if `text` is a SHA-256 as [`Sha256Hash`] is written.
pub fn is_sha256(text: &str) -> bool {
    text.parse::<Sha256Hash>().is_ok()
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(feature = "schema")]
impl<const N: usize> schemars::JsonSchema for Hex<N> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        format!("Hex{N}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": format!("^[0-9a-f]{{{}}}$", 2 * N) })
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = ParseHexError;

    fn from_str(digits: &str) -> Result<Self, ParseHexError> {
        fn nibble(digit: u8) -> Option<u8> {
            match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            }
        }
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if pairs.len() != N || !rest.is_empty() {
            return Err(ParseHexError(2 * N));
        }
        let mut bytes = [0; N];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let value = nibble(*high).zip(nibble(*low)).map(|(high, low)| high << 4 | low);
            *byte = value.ok_or(ParseHexError(2 * N))?;
        }
        Ok(Hex(bytes))
    }
}

impl<const N: usize> From<Hex<N>> for String {
    fn from(bytes: Hex<N>) -> String {
        bytes.to_string()
    }
}

impl<const N: usize> TryFrom<String> for Hex<N> {
    type Error = ParseHexError;

    fn try_from(text: String) -> Result<Self, ParseHexError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_hex_of_full_length_is_a_digest() {
        assert!(is_sha256(&hex(&[0xab; 32])));
        for wrong in ["".to_owned(), "ab".repeat(31), "AB".repeat(32), "é".repeat(32)] {
            assert!(!is_sha256(&wrong), "{wrong}");
        }
    }

    /// FIPS 180-4's example, as published by NIST.
    #[test]
    fn sha256_matches_the_published_example() {
        let published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").to_string(), published);
        assert_eq!(sha256_of(&mut b"abc".as_slice()).unwrap().to_string(), published);
    }

    #[test]
    fn every_value_has_one_spelling() {
        assert_eq!("00ff1a".parse(), Ok(Hex([0, 0xff, 0x1a])));
        assert_eq!(Hex([0, 0xff, 0x1a]).to_string(), "00ff1a");
        for wrong in ["", "00ff1", "00ff1a00", "00FF1A", "00ff1g", "0ö"] {
            assert!(wrong.parse::<Hex<3>>().is_err(), "{wrong}");
        }
    }
}
