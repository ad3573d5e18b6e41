//! Damaged bundles with a valid signature: the result of a broken build, or of an owner's mistake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use krazy_boot::digest::Hex;
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::bundle::{BundleManifest, Head, PartKind, PartTransport, Signed, Transport};
use krazy_boot::update::delta::{Decoder, Step, encode};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use sha2::{Digest, Sha256};

use crate::process::{self, succeed};
use crate::setup::judges;

/// A bundle taken apart.
#[derive(Clone, Debug)]
pub struct BundleEditor {
    /// Its manifest, not yet signed again.
    pub manifest: BundleManifest,
    parts: Vec<Vec<u8>>,
}

/// Writes `script` as the program `name` below `tree`, with busybox as its interpreter.
pub fn install_script(tree: &Path, name: &str, script: &str) -> Result<()> {
    fs::copy(process::find("busybox").context("no busybox")?, tree.join("bin/busybox"))?;
    let path = tree.join(name);
    fs::write(&path, format!("#!/bin/busybox sh\n{script}"))?;
    Ok(fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?)
}

/// The length of the head of `bundle`: everything before the streams.
pub fn head_len(bundle: &[u8]) -> Result<usize> {
    let mut rest = bundle;
    Head::read(&mut rest, |_, _| true)?;
    Ok(bundle.len() - rest.len())
}

impl BundleEditor {
    /// Reads the bundle at `path`.
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
        Ok(BundleEditor { manifest: head.manifest, parts })
    }

    /// The bytes of a part.
    pub fn part(&mut self, kind: &PartKind) -> Result<&mut Vec<u8>> {
        let found = self.manifest.parts.iter().position(|part| part.kind == *kind);
        found.and_then(|at| self.parts.get_mut(at)).with_context(|| format!("there is no {kind}"))
    }

    /// Damages the beginning of the root's first file, `/bin/init`: it cannot be unpacked any more. Superblock,
    /// directories and the fragment blocks of small files stay intact.
    pub fn damage_root(&mut self) -> Result<()> {
        let root = self.part(&PartKind::Root)?;
        // Behind superblock and compression options, within the first block.
        root.get_mut(4096..8192).context("a small root")?.fill(0xa5);
        Ok(())
    }

    /// Replaces the initramfs by busybox with a script as `/init`, packed by `cpio`.
    pub fn replace_first_stage(&mut self, directory: &Path, script: &str) -> Result<()> {
        let tree = directory.join("initramfs");
        for name in ["bin", "dev"] {
            fs::create_dir_all(tree.join(name))?;
        }
        install_script(&tree, "init", script)?;
        self.pack_initramfs(directory, &tree)
    }

    /// Unpacks the initramfs, applies `change`, and packs it again, with foreign tools.
    pub fn change_initramfs(
        &mut self,
        directory: &Path,
        change: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let tree = directory.join("initramfs");
        fs::create_dir_all(&tree)?;
        let (packed, archive) = (directory.join("initramfs.zst"), directory.join("unpacked.cpio"));
        fs::write(&packed, self.part(&PartKind::Initramfs)?)?;
        succeed(
            judges::command("zstd")?.args(["--quiet", "--force", "-d"]).arg(&packed).arg("-o").arg(&archive),
        )?;
        let mut cpio = judges::command("cpio")?;
        cpio.args(["--extract", "--quiet", "--make-directories"]).current_dir(&tree);
        succeed(cpio.stdin(fs::File::open(&archive)?))?;
        change(&tree)?;
        self.pack_initramfs(directory, &tree)
    }

    /// Makes `tree` the initramfs, not compressed.
    fn pack_initramfs(&mut self, directory: &Path, tree: &Path) -> Result<()> {
        let names = succeed(Command::new("find").arg(".").current_dir(tree))?.stdout;
        let list = directory.join("initramfs.list");
        fs::write(&list, names)?;
        let archive = directory.join("initramfs.cpio");
        let mut cpio = judges::command("cpio")?;
        cpio.args(["--create", "--quiet", "--format=newc", "--owner=0:0", "--file"]).arg(&archive);
        succeed(cpio.current_dir(tree).stdin(fs::File::open(&list)?))?;
        *self.part(&PartKind::Initramfs)? = fs::read(&archive)?;
        Ok(fs::remove_dir_all(tree)?)
    }

    /// Unpacks the root, applies `change`, and packs it again with foreign tools.
    pub fn change_root(&mut self, directory: &Path, change: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let (image, tree) = (directory.join("bundle_editor.squashfs"), directory.join("bundle_editor"));
        fs::write(&image, self.part(&PartKind::Root)?)?;
        succeed(judges::command("unsquashfs")?.args(["-no-progress", "-d"]).arg(&tree).arg(&image))?;
        change(&tree)?;
        let options = ["-noappend", "-no-progress", "-quiet", "-all-root", "-comp", "zstd"];
        let mut pack = judges::command("mksquashfs")?;
        succeed(pack.arg(&tree).arg(&image).args(options).args(["-Xcompression-level", "1"]))?;
        let mut bytes = fs::read(&image)?;
        // `bytes_used` of the superblock, without the padding.
        let used: [u8; 8] = bytes.get(40..48).context("no superblock")?.try_into()?;
        bytes.truncate(usize::try_from(u64::from_le_bytes(used))?);
        *self.part(&PartKind::Root)? = bytes;
        fs::remove_dir_all(&tree)?;
        Ok(fs::remove_file(&image)?)
    }

    /// Writes the bundle as `name` into `directory`, signed with `key`, a PEM file.
    pub fn save(mut self, directory: &Path, name: &str, key: &Path) -> Result<PathBuf> {
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
        let path = directory.join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }
}
