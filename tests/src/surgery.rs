//! Bundles that are not what they should be, signed with the appliance's key all the same: what a broken build, or an
//! owner's mistake, would bring onto a device.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use krazy_boot::hex::Hex;
use krazy_boot::size::Bytes;
use krazy_boot::update::bundle::{BundleManifest, Head, PartKind, PartTransport, Signed, Transport};
use krazy_boot::update::delta::{Decoder, Step, encode};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use sha2::{Digest, Sha256};

/// A bundle taken apart.
#[derive(Clone, Debug)]
pub struct Surgery {
    /// What it says about itself.
    pub manifest: BundleManifest,
    parts: Vec<Vec<u8>>,
}

/// The length of the head of `bundle`: everything before the streams.
pub fn head_len(bundle: &[u8]) -> Result<usize> {
    let mut rest = bundle;
    Head::read(&mut rest, |_, _| true)?;
    Ok(bundle.len() - rest.len())
}

impl Surgery {
    /// Takes the bundle at `path` apart.
    pub fn open(path: &Path) -> Result<Self> {
        let bundle = fs::read(path)?;
        let mut streams = &bundle[..];
        let head = Head::read(&mut streams, |_, _| true)?;
        let mut parts = Vec::new();
        for (part, transport) in head.manifest.parts.iter().zip(&head.transport.parts) {
            let (stream, rest) = streams.split_at(usize::try_from(transport.stored.0)?);
            streams = rest;
            let mut content = Vec::new();
            let mut decoder = Decoder::new(part.size, Bytes(0));
            decoder.feed(stream, &mut |step| {
                match step {
                    Step::Data(bytes) => content.extend_from_slice(bytes),
                    Step::Zero(len) => content.resize(content.len() + len as usize, 0),
                    Step::Copy { .. } => return Err(std::io::Error::other("the bundle is not whole")),
                }
                Ok(())
            })?;
            decoder.finish()?;
            parts.push(content);
        }
        Ok(Surgery { manifest: head.manifest, parts })
    }

    /// The bytes of a part.
    pub fn part(&mut self, kind: &PartKind) -> Result<&mut Vec<u8>> {
        let found = self.manifest.parts.iter().position(|part| part.kind == *kind);
        found.and_then(|at| self.parts.get_mut(at)).with_context(|| format!("there is no {kind}"))
    }

    /// Puts it together again as `name` in `folder`, signed with `key`, a PEM file.
    pub fn save(mut self, folder: &Path, name: &str, key: &Path) -> Result<PathBuf> {
        for (part, content) in self.manifest.parts.iter_mut().zip(&self.parts) {
            part.size = Bytes(content.len() as u64);
            part.sha256 = Hex(Sha256::digest(content).into());
        }
        let json = self.manifest.to_json()?;
        let key = KeyPair::from_pem_and_sign_algo(&fs::read_to_string(key)?, &PKCS_ED25519)?;
        let signature = key.sign(&Signed::message(&json))?.try_into();
        let signature = signature.map_err(|_| anyhow!("not an Ed25519 signature"))?;
        let mut streams = Vec::new();
        let mut transport = Transport { parts: Vec::new() };
        for content in &self.parts {
            let stored = encode(content, &[], 1, &mut streams)?.stored;
            transport.parts.push(PartTransport { stored, base: None });
        }
        let mut bytes = Head::to_bytes(&Signed { json, signature }, &transport)?;
        bytes.extend(streams);
        let path = folder.join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }
}
