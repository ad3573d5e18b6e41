//! Bytes that text carries as lower-case hexadecimal digits: hashes, salts, keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `N` bytes, written as `2 * N` lower-case digits. Each value has one spelling, so upper case is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex<const N: usize>(pub [u8; N]);

/// A SHA-256 hash.
pub type Sha256Hash = Hex<32>;

/// Why a text is not hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0} hexadecimal digits in lower case")]
pub struct ParseHexError(usize);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
    fn every_value_has_one_spelling() {
        assert_eq!("00ff1a".parse(), Ok(Hex([0, 0xff, 0x1a])));
        assert_eq!(Hex([0, 0xff, 0x1a]).to_string(), "00ff1a");
        for wrong in ["", "00ff1", "00ff1a00", "00FF1A", "00ff1g", "0ö"] {
            assert!(wrong.parse::<Hex<3>>().is_err(), "{wrong}");
        }
    }
}
