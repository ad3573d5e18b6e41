//! Everything of a bundle that is in front of its streams.

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::{BundleError, BundleManifest, FORMAT, MAX_JSON, SIGNATURE_LEN, Signed, to_json};
use crate::digest::Sha256Hash;
use crate::disk::size::Bytes;

/// The first four bytes.
const MAGIC: [u8; 4] = *b"KZUB";

/// Limit of the head, which is everything in front of the streams.
pub const MAX_HEAD: usize = FIXED_LEN + MAX_JSON + 4 + MAX_JSON;

const FIXED_LEN: usize = 12 + SIGNATURE_LEN;

/// The encoding of the parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transport {
    /// One per part, in the manifest's order.
    pub parts: Vec<PartTransport>,
}

/// The encoding of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartTransport {
    /// The length of its stream.
    pub stored: Bytes,
    /// Hash of the base that the stream copies from, which is the same part of the active slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Sha256Hash>,
}

/// Everything in front of the streams. [`Head::read`] returns one only with a valid signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The content of the slot after the update.
    pub manifest: BundleManifest,
    /// The manifest as it was signed.
    pub signed: Signed,
    /// The encoding of the parts.
    pub transport: Transport,
}

impl Head {
    /// Reads up to the first byte of the streams. `verify` returns true if a signature over a message is valid. It is called
    /// before anything is parsed, so that only the length fields of an unsigned upload are ever interpreted.
    pub fn read(
        reader: &mut impl Read,
        verify: impl FnOnce(&[u8], &[u8; SIGNATURE_LEN]) -> bool,
    ) -> Result<Self, BundleError> {
        let mut fixed = [0; FIXED_LEN];
        reader.read_exact(&mut fixed).map_err(BundleError::Read)?;
        if fixed[..4] != MAGIC {
            return Err(BundleError::Magic);
        }
        let format = u16::from_le_bytes([fixed[4], fixed[5]]);
        if format != FORMAT {
            return Err(BundleError::Format(format));
        }
        let json = read_counted(reader, "manifest", [fixed[8], fixed[9], fixed[10], fixed[11]])?;
        let mut signature = [0; SIGNATURE_LEN];
        signature.copy_from_slice(&fixed[12..]);
        let signed = Signed { json, signature };
        let manifest = signed.verified(verify)?;
        let mut len = [0; 4];
        reader.read_exact(&mut len).map_err(BundleError::Read)?;
        let transport = read_counted(reader, "transport", len)?;
        let transport = serde_json::from_slice(&transport)
            .map_err(|source| BundleError::Json { what: "transport", source })?;
        let head = Head { manifest, signed, transport };
        head.check()?;
        Ok(head)
    }

    /// Returns the bytes in front of the streams.
    pub fn to_bytes(signed: &Signed, transport: &Transport) -> Result<Vec<u8>, BundleError> {
        let transport = to_json("transport", transport)?;
        if signed.json.len() > MAX_JSON {
            return Err(BundleError::TooLong { what: "manifest", len: signed.json.len() });
        }
        let mut bytes = Vec::with_capacity(FIXED_LEN + signed.json.len() + 4 + transport.len());
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend((signed.json.len() as u32).to_le_bytes());
        bytes.extend(signed.signature);
        bytes.extend(&signed.json);
        bytes.extend((transport.len() as u32).to_le_bytes());
        bytes.extend(transport);
        Ok(bytes)
    }

    /// Returns the length of all streams together.
    pub fn stored(&self) -> Bytes {
        // `check` has limited each of at most 256 lengths, so the sum does not overflow.
        Bytes(self.transport.parts.iter().map(|part| part.stored.0).sum())
    }

    fn check(&self) -> Result<(), BundleError> {
        let (parts, streams) = (self.manifest.parts.len(), self.transport.parts.len());
        if parts != streams {
            let text = format!("it has {parts} parts and {streams} streams");
            return Err(BundleError::Content(text));
        }
        let stored = self.transport.parts.iter().map(|part| part.stored.0);
        if stored.clone().any(|len| len == 0) {
            return Err(BundleError::Content("a part has no stream".to_owned()));
        }
        let size = self.manifest.parts.iter().map(|part| part.size.0);
        // Twice the largest disk with an MBR, and far below an overflow.
        if stored.chain(size).any(|len| len > 1 << 42) {
            return Err(BundleError::Content("a part is larger than a disk".to_owned()));
        }
        Ok(())
    }
}

fn read_counted(reader: &mut impl Read, what: &'static str, len: [u8; 4]) -> Result<Vec<u8>, BundleError> {
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_JSON {
        return Err(BundleError::TooLong { what, len });
    }
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).map_err(BundleError::Read)?;
    Ok(bytes)
}
