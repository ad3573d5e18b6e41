//! Identifiers of an appliance's disks, the same at every build: derived from 16 random bytes that are made once.

use std::fmt;
use std::str::FromStr;

use krazy_boot::disk::layout::DiskSignature;
use sha2::{Digest, Sha256};

/// An appliance's identity: 16 random bytes. Prints as 32 lower-case hexadecimal digits.
///
/// It is not a secret: disk signatures and UUIDs are readable by everybody on the device, and SHA-256 does
/// not lead from them back to it, or from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ApplianceId(pub [u8; 16]);

impl ApplianceId {
    /// Returns the MBR disk signature. Never 0, which Linux and Windows take for "none".
    pub(crate) fn disk_signature(self) -> DiskSignature {
        DiskSignature(self.number("disk signature").max(1))
    }

    /// Returns a UUID for what `label` names, such as the `/data` file system. Version 8, for vendors' own schemes
    /// (RFC 9562, section 5.8), in the order of its printed bytes.
    pub(crate) fn uuid(self, label: &str) -> [u8; 16] {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&self.derive(label)[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }

    /// Returns a 32-bit number for what `label` names, such as the serial number of a FAT volume.
    pub(crate) fn number(self, label: &str) -> u32 {
        let [a, b, c, d, ..] = self.derive(label);
        u32::from_le_bytes([a, b, c, d])
    }

    /// SHA-256 over a domain, the identity and the label. The first two have a fixed length, so no two
    /// labels meet.
    fn derive(self, label: &str) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"krazy appliance\0")
            .chain_update(self.0)
            .chain_update(label)
            .finalize()
            .into()
    }
}

impl fmt::Display for ApplianceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is not an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an appliance id is 32 hexadecimal digits")]
pub(crate) struct ParseApplianceIdError;

impl FromStr for ApplianceId {
    type Err = ParseApplianceIdError;
    fn from_str(text: &str) -> Result<Self, ParseApplianceIdError> {
        let digits = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(|number| ApplianceId(number.to_be_bytes())).ok_or(ParseApplianceIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_values_never_change() {
        let id: ApplianceId = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
        // printf 'krazy appliance\0' plus the 16 bytes plus the label, through sha256sum.
        assert_eq!(id.disk_signature(), DiskSignature(0x93d2_ba15));
        assert_eq!(
            id.uuid("data"),
            [0x43, 0x51, 0xea, 0xda, 0xac, 0xd7, 0x8f, 0xdc, 0x87, 0xab, 0xb0, 0xf7, 0x7b, 0x50, 0x69, 0x71]
        );
    }

    #[test]
    fn labels_and_appliances_differ() {
        let (one, two) = (ApplianceId([1; 16]), ApplianceId([2; 16]));
        assert_ne!(one.disk_signature(), two.disk_signature());
        assert_ne!(one.uuid("data"), two.uuid("data"));
        assert_ne!(one.uuid("data"), one.uuid("boot"));
    }

    #[test]
    fn survives_a_round_trip_and_refuses_the_rest() {
        let id = ApplianceId([0xa5; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "a5", "+0102030405060708090a0b0c0d0e0f0", "zz0102030405060708090a0b0c0d0e0f"] {
            assert_eq!(wrong.parse::<ApplianceId>(), Err(ParseApplianceIdError), "{wrong}");
        }
    }
}
