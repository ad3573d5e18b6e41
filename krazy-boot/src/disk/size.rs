//! Amounts of storage. Bytes and sectors are different types, so that they cannot be mixed up.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::ops::{Add, Sub};
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes in a sector. Disks with logical sectors of 4096 bytes are not supported: an MBR counts in logical sectors, so
/// the same partition table would mean other places.
pub const SECTOR_SIZE: u64 = 512;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A number of 512-byte sectors, or the address of one (LBA).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sectors(pub u32);

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write a number of bytes or one with KiB, MiB, GiB or TiB, such as `256 MiB`")]
pub struct ParseBytesError(String);

impl Bytes {
    /// `n` × 1024 bytes.
    pub const fn kib(n: u64) -> Self {
        Bytes(n << 10)
    }

    /// `n` × 1024² bytes.
    pub const fn mib(n: u64) -> Self {
        Bytes(n << 20)
    }

    /// `n` × 1024³ bytes.
    pub const fn gib(n: u64) -> Self {
        Bytes(n << 30)
    }

    /// Returns the number of sectors that hold this many bytes, the last one possibly in part.
    /// `None` from 2 TiB on, which an MBR cannot address.
    pub(crate) fn sectors_ceil(self) -> Option<Sectors> {
        u32::try_from(self.0.div_ceil(SECTOR_SIZE)).ok().map(Sectors)
    }

    /// Returns the number of whole sectors within this many bytes; `None` from 2 TiB on.
    pub fn sectors_floor(self) -> Option<Sectors> {
        u32::try_from(self.0 / SECTOR_SIZE).ok().map(Sectors)
    }
}

impl Sectors {
    /// Returns the same amount in bytes.
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0 as u64 * SECTOR_SIZE)
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Bytes(self.0 + other.0)
    }
}

impl Sub for Bytes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Bytes(self.0 - other.0)
    }
}

impl Add for Sectors {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Sectors(self.0 + other.0)
    }
}

impl Sub for Sectors {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Sectors(self.0 - other.0)
    }
}

/// Prints the amount in its largest binary unit, with at most one decimal: `512 B`, `1.5 MiB`, `256 MiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let unit = (self.0.max(1).ilog2() as usize / 10).min(UNITS.len() - 1);
        let size = 1u128 << (10 * unit);
        // Rounded to tenths, in integers: `core` has no functions of floating-point numbers.
        let tenths = (u128::from(self.0) * 10 + size / 2) / size;
        let text = match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{whole} {}", UNITS[unit]),
            (whole, tenth) => format!("{whole}.{tenth} {}", UNITS[unit]),
        };
        f.pad(&text)
    }
}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    /// Parses `123`, `64KiB`, `1.5 GiB`. Units are binary, with or without `iB` (`64M` is 64 MiB).
    fn from_str(text: &str) -> Result<Self, ParseBytesError> {
        let error = || ParseBytesError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(error()),
        };
        let number = number.trim();
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Bytes).ok_or_else(error);
        }
        let parsed: f64 = number.parse().map_err(|_| error())?;
        let bytes = parsed * factor as f64;
        if !(0.0..=(1u64 << 53) as f64).contains(&bytes) {
            return Err(error());
        }
        Ok(Bytes(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_with_and_without_units() {
        assert_eq!("512".parse(), Ok(Bytes(512)));
        assert_eq!("256MiB".parse(), Ok(Bytes::mib(256)));
        assert_eq!(" 1.5 GiB".parse(), Ok(Bytes(3 << 29)));
        assert_eq!("2g".parse(), Ok(Bytes::gib(2)));
        for wrong in ["", "GiB", "-1", "1 parsec", "99999999999999999999", "20000000 TiB", "NaN", "inf"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sector_counts_end_at_2_tib() {
        assert_eq!(Bytes(513).sectors_ceil(), Some(Sectors(2)));
        assert_eq!(Bytes(513).sectors_floor(), Some(Sectors(1)));
        assert_eq!(Bytes(2 << 40).sectors_floor(), None);
    }

    #[test]
    fn sizes_print_in_their_largest_unit() {
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes::mib(256).to_string(), "256 MiB");
        assert_eq!(Bytes(1_572_864).to_string(), "1.5 MiB");
    }
}
