//! From an archive to the directory of a bundle: chosen files, modules uncompressed, and an index of them.
//!
//! | in the archive | in the bundle |
//! |---|---|
//! | `boot/vmlinuz-RELEASE`, `vmlinuz`, `usr/lib/modules/RELEASE/vmlinuz` | `vmlinuz` |
//! | `boot/config-RELEASE`, `config`, `usr/lib/modules/RELEASE/config` | `config` |
//! | `lib/modules/RELEASE/kernel/…/X.ko[.xz, .zst]`, also below `usr/` | `lib/modules/RELEASE/kernel/…/X.ko` |
//! | `lib/modules/RELEASE/modules.builtin`, also below `usr/` | the same |
//! | `usr/lib/linux-image-RELEASE/…/X.dtb`, `dtbs/…/X.dtb[o]`, `usr/lib/modules/RELEASE/dtb/…/X.dtb` | `dtbs/…/X.dtb` |
//! | `lib/firmware/…`, also below `usr/`, `firmware/…` | `firmware/…` |
//!
//! Everything else is left out. A module's appended signature stays where it is.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::archive::{Archive, content, decompressed};
use super::error::{ModuleError, UnpackError};
use super::image;
use crate::failure::Result;
use crate::files::{MAX_FILE, io_failure};
use crate::interrupt;
use crate::kernel::index::ModuleIndex;
use crate::kernel::index::modinfo::Module;
use krazy_boot::digest::hex;

/// Modules that wait to be uncompressed; bounds the memory they take.
const QUEUE: usize = 16;

/// The content of an unpacked archive.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The kernel's release.
    pub(crate) release: String,
    /// SHA-256 of the kernel image, in hex.
    pub(crate) image_sha256: String,
    /// The modules.
    pub(crate) index: ModuleIndex,
}

/// The destination of a file of the archive.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    /// As it is, to this path in the bundle.
    File(String),
    /// Uncompressed, to this path below `lib/modules/RELEASE`.
    Module { release: String, path: String },
}

/// Unpacks `archive` into the existing, empty directory `into`, for a board of Debian's architecture `arch`.
pub(crate) fn unpack(archive: &Archive, into: &Path, arch: &str, name: &str) -> Result<Unpacked> {
    let mut releases = BTreeSet::new();
    let modules = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(QUEUE);
        let workers = scope.spawn(move || store_modules(receiver));
        let produced = distribute(archive, into, sender, &mut releases);
        // A worker that failed hangs up, and the producer then fails for that reason only.
        let stored = workers.join().map_err(|_| UnpackError::Stopped)?;
        let modules = stored?;
        produced.map(|()| modules)
    })?;

    let image_path = into.join("vmlinuz");
    let image = match std::fs::read(&image_path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(incomplete(archive, "kernel image")
                .unwrap_or_else(|| UnpackError::NoImage { name: name.to_owned() })
                .into());
        }
        Err(error) => return Err(io_failure("read", &image_path)(error)),
    };
    image::check(&image, arch, name)?;
    let release = agreed_release(releases, image::release(&image), name)?;
    let builtin_path = into.join("lib/modules").join(&release).join("modules.builtin");
    let builtin = match std::fs::read_to_string(&builtin_path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io_failure("read", &builtin_path)(error)),
    };
    if modules.is_empty()
        && let Some(error) = incomplete(archive, "modules")
    {
        return Err(error.into());
    }
    let index = ModuleIndex::new(modules, &builtin);
    Ok(Unpacked { release, image_sha256: hex(&Sha256::digest(&image)), index })
}

/// The error for packages of Debian without `what`. Other archives are told by their name, and may lack modules.
fn incomplete(archive: &Archive, what: &'static str) -> Option<UnpackError> {
    let Archive::Packages(packages) = archive else { return None };
    let packages = packages.iter().map(|(name, _)| name.clone()).collect();
    Some(UnpackError::Incomplete { packages, what })
}

/// Returns the release that all parts of a bundle agree on.
fn agreed_release(
    directories: BTreeSet<String>,
    image: Option<String>,
    name: &str,
) -> Result<String, UnpackError> {
    let name = name.to_owned();
    let mut directories = directories.into_iter();
    match (directories.next(), directories.next(), image) {
        (Some(one), Some(other), _) => Err(UnpackError::TwoReleases { name, one, other }),
        (Some(modules), None, Some(image)) if modules != image => {
            Err(UnpackError::OtherRelease { name, modules, image })
        }
        (Some(release), ..) | (None, _, Some(release)) => Ok(release),
        (None, _, None) => Err(UnpackError::NoRelease { name }),
    }
}

/// Reads the archive from start to end: small files are written, modules go to `sender`.
fn distribute(
    archive: &Archive,
    into: &Path,
    sender: SyncSender<(PathBuf, String, Vec<u8>)>,
    releases: &mut BTreeSet<String>,
) -> Result<()> {
    let mut directories = HashSet::new();
    archive.visit(&mut |path, size, reader| {
        interrupt::check()?;
        let Some(destination) = destination(path)? else { return Ok(()) };
        let target = match &destination {
            Destination::File(path) => into.join(path),
            Destination::Module { release, path } => into.join("lib/modules").join(release).join(path),
        };
        if let Some(directory) = target.parent()
            && directories.insert(directory.to_owned())
        {
            std::fs::create_dir_all(directory).map_err(io_failure("create", directory))?;
        }
        let content = content(path, size, reader)?;
        match destination {
            // A directory may have the same image at its top and beside its modules.
            Destination::File(_) if std::fs::read(&target).is_ok_and(|existing| existing == content) => {
                Ok(())
            }
            Destination::File(_) => write_new(&target, &content),
            Destination::Module { release, path } => {
                releases.insert(release);
                let sent = sender.send((target, path, content));
                sent.map_err(|_| UnpackError::Stopped.into())
            }
        }
    })
}

fn store_modules(receiver: Receiver<(PathBuf, String, Vec<u8>)>) -> Result<Vec<Module>> {
    receiver
        .into_iter()
        .par_bridge()
        .map(|(target, path, content)| store_module(&target, &path, &content))
        .collect()
}

fn store_module(target: &Path, path: &str, content: &[u8]) -> Result<Module> {
    let (module, elf) =
        read_module(path, content).map_err(|why| UnpackError::Module { path: path.to_owned(), why })?;
    write_new(target, &elf)?;
    Ok(module)
}

/// Returns a module and its uncompressed file.
fn read_module(path: &str, content: &[u8]) -> Result<(Module, Vec<u8>), ModuleError> {
    let mut elf = Vec::new();
    // One byte beyond the limit tells a file that is too large.
    decompressed(content)?.take(MAX_FILE + 1).read_to_end(&mut elf)?;
    if elf.len() as u64 > MAX_FILE {
        return Err(ModuleError::TooLarge);
    }
    Ok((Module::parse(path, &elf)?, elf))
}

/// Writes a file that must not exist yet: two of one name in an archive would hide one another.
fn write_new(target: &Path, content: &[u8]) -> Result<()> {
    let mut file = File::create_new(target).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            UnpackError::Twice { path: target.to_owned() }.into()
        } else {
            io_failure("write", target)(error)
        }
    })?;
    file.write_all(content).map_err(io_failure("write", target))
}

/// Decides by its path where a file goes; `None` for what a bundle does not keep.
///
/// Fails for a path that would leave the bundle, whether it were kept or not.
fn destination(path: &str) -> Result<Option<Destination>, UnpackError> {
    let clean = !path.is_empty()
        && !path.contains(['\\', '\0'])
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !clean {
        return Err(UnpackError::Outside { path: path.to_owned() });
    }
    let file = |to: String| Ok(Some(Destination::File(to)));
    let below = path.strip_prefix("usr/").unwrap_or(path);
    if path == "vmlinuz" || path.starts_with("boot/vmlinuz-") {
        return file("vmlinuz".to_owned());
    }
    if path == "config" || path.starts_with("boot/config-") {
        return file("config".to_owned());
    }
    if let Some((release, inner)) = below.strip_prefix("lib/modules/").and_then(|rest| rest.split_once('/')) {
        return match module_path(inner) {
            _ if !crate::lock_file::is_release(release) => {
                Err(UnpackError::BadRelease { path: path.to_owned(), release: release.to_owned() })
            }
            Some(path) => Ok(Some(Destination::Module { release: release.to_owned(), path })),
            None => Ok(match inner {
                "modules.builtin" => Some(Destination::File(format!("lib/modules/{release}/{inner}"))),
                "vmlinuz" | "config" => Some(Destination::File(inner.to_owned())),
                _ => inner
                    .strip_prefix("dtb/")
                    .filter(|tree| tree.ends_with(".dtb"))
                    .map(|tree| Destination::File(format!("dtbs/{tree}"))),
            }),
        };
    }
    if let Some((_, inner)) = path.strip_prefix("usr/lib/linux-image-").and_then(|rest| rest.split_once('/'))
    {
        return if inner.ends_with(".dtb") { file(format!("dtbs/{inner}")) } else { Ok(None) };
    }
    if path.starts_with("dtbs/") && (path.ends_with(".dtb") || path.ends_with(".dtbo")) {
        return file(path.to_owned());
    }
    if let Some(inner) = below.strip_prefix("lib/firmware/").or_else(|| path.strip_prefix("firmware/")) {
        return file(format!("firmware/{inner}"));
    }
    Ok(None)
}

/// `kernel/…/X.ko` from the path of a module below `lib/modules/RELEASE`, compressed or not.
fn module_path(inner: &str) -> Option<String> {
    let (stem, rest) = inner.rsplit_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| format!("{stem}.ko"))
}

#[cfg(test)]
mod tests;
