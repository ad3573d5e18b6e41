//! Update bundles for the device of the tests.

use krazy_boot::api::credentials::UpdateKey;
use krazy_boot::digest::Hex;
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::bundle::{
    BundleManifest, FORMAT, Head, PROTOCOL, Part, PartKind, PartTransport, Signed, Transport,
};
use krazy_boot::update::delta::encode;
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

use crate::disk::{OLD_ROOT_LEN, file_system, kernel};

/// A bundle in transfer form.
pub struct Bundle {
    pub manifest: BundleManifest,
    pub transport: Transport,
    pub streams: Vec<u8>,
}

/// The seed of the key that the device trusts.
pub const SEED: u8 = 3;

fn key_pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

/// The public key of `seed`.
pub fn update_key(seed: u8) -> UpdateKey {
    UpdateKey(key_pair(seed).public_key().as_ref().try_into().unwrap())
}

/// Signs `message` with the key of `seed`.
pub fn sign(seed: u8, message: &[u8]) -> [u8; 64] {
    key_pair(seed).sign(message).as_ref().try_into().unwrap()
}

pub fn hash(bytes: &[u8]) -> Hex<32> {
    Hex(Sha256::digest(bytes).into())
}

/// The new root that bundles contain.
pub fn new_root() -> Vec<u8> {
    let mut root = file_system(OLD_ROOT_LEN + 4000);
    root[100_000..100_100].fill(0xcc);
    root
}

impl Bundle {
    /// A bundle with [`new_root`], as a delta to the device's root if `delta`.
    pub fn new(delta: bool) -> Self {
        let old = if delta { file_system(OLD_ROOT_LEN) } else { Vec::new() };
        Self::of(&new_root(), &old)
    }

    /// A bundle with `root`, as a delta to `base` unless that is empty.
    pub fn of(root: &[u8], base: &[u8]) -> Self {
        let mut bundle = Bundle {
            manifest: BundleManifest {
                format: FORMAT,
                appliance: "weather".into(),
                board: "x86_64".into(),
                build_id: "ab".repeat(32),
                version: "1.3.0".into(),
                protocol: PROTOCOL,
                cmdline: vec!["quiet".into()],
                instructions: Vec::new(),
                parts: Vec::new(),
            },
            transport: Transport { parts: Vec::new() },
            streams: Vec::new(),
        };
        bundle.add(PartKind::Root, root, base);
        bundle.add(PartKind::Kernel, &kernel(5000), &[]);
        bundle.add(PartKind::Initramfs, &[9; 3000], &[]);
        bundle
    }

    fn add(&mut self, kind: PartKind, content: &[u8], base: &[u8]) {
        let stored = encode(content, base, 1, &mut self.streams).unwrap().stored;
        let base = (!base.is_empty()).then(|| hash(base));
        self.transport.parts.push(PartTransport { stored, base });
        let size = Bytes(content.len() as u64);
        self.manifest.parts.push(Part { kind, size, sha256: hash(content) });
    }

    /// The head, which starts an update.
    pub fn head(&self) -> Vec<u8> {
        self.head_signed(SEED)
    }

    /// The head with a signature by the key of `seed`.
    pub fn head_signed(&self, seed: u8) -> Vec<u8> {
        let json = self.manifest.to_json().unwrap();
        let signature = sign(seed, &Signed::message(&json));
        Head::to_bytes(&Signed { json, signature }, &self.transport).unwrap()
    }
}
