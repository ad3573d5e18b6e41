//! The firmware of a Raspberry Pi: QEMU emulates the machine without it, so this program reads
//! `config.txt` from the image's own FAT and hands QEMU the files it names. After a reset it does so again.
//!
//! | module | does |
//! |---|---|
//! | `config` | reads `config.txt` as the firmware would |
//! | `model` | knows the Raspberry Pis that QEMU has |
//! | `reset` | tells a guest that restarts from one that powers off |
//!
//! Not emulated: `tryboot.txt` (nothing of ours arms it; a trial is the first stage's business), overlays and `dtparam`
//! (QEMU's machine has no pins to speak of), and the files of the firmware itself, which are only looked for.

mod config;
mod model;
mod reset;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use krazy_boot::boot::config_txt;
use krazy_boot::boot::device_tree;
use krazy_boot::disk::boot_fat::{BootFat, FatError};
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};
use tempfile::{NamedTempFile, TempDir};

use self::config::Config;
use self::model::Facts;
pub(crate) use self::model::Model;
pub(super) use self::reset::ResetWatch;
use super::error::{CardError, StartError};
use crate::failure::Result;
use crate::output::sparse;
use crate::shell::Shell;

/// The files that the firmware has loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// The device tree.
    pub(crate) dtb: PathBuf,
    /// The initramfs, if the configuration has one.
    pub(crate) initramfs: Option<PathBuf>,
    /// The kernel's command line.
    pub(crate) cmdline: String,
    /// The directory of the files, as long as they are needed.
    _directory: TempDir,
}

/// Reads the card as the firmware of `model` would after a reset.
pub(super) fn load(card: &Path, model: Model) -> Result<Loaded> {
    let mut disk =
        File::open(card).with_context(|| format!("failed to open the image {}", card.display()))?;
    let mut sector = [0; SECTOR_SIZE as usize];
    disk.read_exact(&mut sector).with_context(|| format!("failed to read the image {}", card.display()))?;
    let would_not_start = |why: CardError| StartError::Card { card: card.to_owned(), why };
    let extent = Mbr::decode(&sector).map_err(|error| would_not_start(error.into()))?.layout.boot;
    let mut fat =
        BootFat::open(disk, extent.start.bytes(), extent).map_err(|error| would_not_start(error.into()))?;
    load_from(&mut fat, model.facts()).map_err(|error| match error.downcast::<FatError>() {
        Ok(error) => would_not_start(error.into()).into(),
        Err(error) => error.into(),
    })
}

fn load_from<R: Read + std::io::Seek>(fat: &mut BootFat<R>, facts: &Facts) -> anyhow::Result<Loaded> {
    for name in facts.firmware {
        fat.find(name)?;
    }
    let config = Config::read(config_txt::FILE, facts.filters, &mut |name| {
        let file = fat.find(name)?;
        fat.read(&file, Bytes::kib(64))
    })?;
    let kernel = config.get("kernel").unwrap_or("kernel8.img");
    // The firmware ignores a prefix that does not lead to a kernel and a device tree (documentation of config.txt).
    let prefix = config.get("os_prefix").unwrap_or_default();
    let leads = [kernel, facts.dtb].iter().all(|name| fat.find(&format!("{prefix}{name}")).is_ok());
    let prefix = if leads { prefix } else { "" };

    let directory = tempfile::tempdir().context("failed to make a directory for the kernel")?;
    let mut read = |name: &str| {
        let file = fat.find(&format!("{prefix}{name}"))?;
        fat.read(&file, facts.memory)
    };
    let write = |name: &str, content: Vec<u8>| -> anyhow::Result<PathBuf> {
        let path = directory.path().join(name.replace('/', "-"));
        std::fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    };
    let cmdline = read(config.get("cmdline").unwrap_or("cmdline.txt"))?;
    let cmdline = format!("{} {}", String::from_utf8_lossy(&cmdline).trim(), facts.parameters);
    let mut dtb = read(facts.dtb)?;
    device_tree::edit(&mut dtb, facts.edits)
        .with_context(|| format!("failed to use the device tree {}", facts.dtb))?;
    let initramfs = config.initramfs().map(|name| write(name, read(name)?)).transpose()?;
    Ok(Loaded {
        kernel: write(kernel, read(kernel)?)?,
        dtb: write(facts.dtb, dtb)?,
        initramfs,
        cmdline,
        _directory: directory,
    })
}

/// The card in the machine's slot: the image, or a copy of it.
#[derive(Debug)]
pub(super) enum Card {
    /// The image itself; what the guest writes stays.
    Image(PathBuf),
    /// A copy that is discarded.
    Copy(NamedTempFile),
}

impl Card {
    /// A card with the content of `image`. QEMU's card reader wants a power of two of bytes, so that an image of
    /// another size is copied and padded.
    pub(crate) fn of(image: &Path, snapshot: bool, shell: Shell) -> anyhow::Result<Self> {
        let len =
            std::fs::metadata(image).with_context(|| format!("failed to look at {}", image.display()))?.len();
        if len.is_power_of_two() && !snapshot {
            return Ok(Card::Image(image.to_owned()));
        }
        if !snapshot {
            shell.note(format!(
                "an emulated card has a power of two of bytes, {} has {}: booting a copy, whose changes are forgotten",
                image.display(),
                Bytes(len)
            ));
        }
        let copy = || -> std::io::Result<NamedTempFile> {
            let mut copy = NamedTempFile::new()?;
            sparse::copy(&File::open(image)?, copy.as_file())?;
            copy.as_file().set_len(len.next_power_of_two())?;
            copy.flush()?;
            Ok(copy)
        };
        Ok(Card::Copy(copy().with_context(|| format!("failed to copy {}", image.display()))?))
    }

    /// The file QEMU opens.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Card::Image(path) => path,
            Card::Copy(file) => file.path(),
        }
    }
}
