//! Images in the formats of hypervisors and clouds. `qemu-img` writes all but the compressed one.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use krazy_boot::digest::{Sha256Hash, sha256_of};
use krazy_boot::disk::size::Bytes;
use serde::Serialize;

use crate::failure::{Exit, Explain, Result};
use crate::interrupt;
use crate::output::{Destination, Scratch, directory_of, write_failure};
use crate::shell::Shell;

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// The disk itself
    Raw,
    /// The disk, compressed by zstd
    #[value(name = "raw.zst")]
    #[serde(rename = "raw.zst")]
    RawZst,
    /// QEMU, KVM, Proxmox, OpenStack
    Qcow2,
    /// VMware, VirtualBox
    Vmdk,
    /// Hyper-V, Azure: of fixed length
    Vhd,
}

/// A file in another format than [`Format::Raw`].
#[derive(Debug, Serialize)]
pub(crate) struct Converted {
    image: PathBuf,
    format: Format,
    bytes: Bytes,
    sha256: Sha256Hash,
}

/// The place of a file that is still to be made.
#[derive(Debug)]
pub(crate) struct Conversion {
    format: Format,
    output: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum ConvertError {
    #[error("`{QEMU_IMG}` is not installed, which writes images in this format")]
    NotInstalled,
    #[error("`{}` is the disk itself, and cannot be in another format, too", .0.display())]
    SameFile(PathBuf),
    #[error("{QEMU_IMG} failed: {0}")]
    Failed(String),
}

const QEMU_IMG: &str = "qemu-img";

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

impl Explain for ConvertError {
    fn exit(&self) -> Exit {
        match self {
            ConvertError::NotInstalled => Exit::MissingTool,
            ConvertError::SameFile(_) => Exit::Usage,
            ConvertError::Failed(_) => Exit::Image,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            ConvertError::NotInstalled => Some(
                "install it: `sudo apt install qemu-utils` (Debian, Ubuntu), `sudo dnf install qemu-img` (Fedora), `brew \
                 install qemu` (macOS); `--format raw` and `raw.zst` need nothing"
                    .to_owned(),
            ),
            ConvertError::SameFile(_) => Some("give another name by `-o`".to_owned()),
            ConvertError::Failed(_) => None,
        }
    }
}

impl Format {
    /// The end of a file's name.
    fn extension(self) -> &'static str {
        match self {
            Format::Raw => "img",
            Format::RawZst => "img.zst",
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "vmdk",
            Format::Vhd => "vhd",
        }
    }

    /// The arguments of `qemu-img convert`; `None` for what needs no such program.
    fn qemu_img(self) -> Option<&'static [&'static str]> {
        match self {
            Format::Raw | Format::RawZst => None,
            Format::Qcow2 => Some(&["-O", "qcow2"]),
            Format::Vmdk => Some(&["-O", "vmdk"]),
            // Azure takes no other length than a multiple of 1 MiB, and by default QEMU rounds to cylinders.
            Format::Vhd => Some(&["-O", "vpc", "-o", "subformat=fixed,force_size=on"]),
        }
    }
}

impl Conversion {
    /// Checks, before anything is built, that the disk `raw` can be written to `output` in this format; without `output`,
    /// beside it.
    pub(crate) fn new(format: Format, raw: &Path, output: Option<&Path>) -> Result<Self> {
        if format.qemu_img().is_some() && Command::new(QEMU_IMG).arg("--version").output().is_err() {
            return Err(ConvertError::NotInstalled.into());
        }
        let output = match output {
            None => raw.with_extension(format.extension()),
            Some(output) => Destination::file(output)?,
        };
        let is_same = output == raw
            || raw.canonicalize().is_ok_and(|raw| output.canonicalize().is_ok_and(|own| own == raw));
        if is_same {
            return Err(ConvertError::SameFile(output).into());
        }
        Ok(Conversion { format, output })
    }

    /// Converts the disk `raw`. The file appears as a whole, for its owner only: an image holds the appliance's keys.
    pub(crate) fn run(&self, raw: &Path, shell: Shell) -> Result<()> {
        let Conversion { format, output } = self;
        let failed = |error: io::Error| write_failure(output, &error);
        let spinner = shell.spinner("Converting", &output.display().to_string());
        let mut scratch = Scratch::in_directory(directory_of(output))?;
        match format.qemu_img() {
            Some(arguments) => qemu_img(arguments, raw, scratch.path())?,
            None => {
                let mut disk = File::open(raw).map_err(|error| write_failure(raw, &error))?;
                zstd::stream::copy_encode(&mut disk, scratch.as_file_mut(), ZSTD_LEVEL).map_err(failed)?;
            }
        }
        spinner.finish_and_clear();
        interrupt::check()?;
        scratch.persist(output).map_err(failed)?;
        let mut file = File::open(output).map_err(failed)?;
        let bytes = Bytes(file.metadata().map_err(failed)?.len());
        shell.status("Converted", format!("{} ({bytes})", output.display()));
        let sha256 = sha256_of(&mut file).map_err(failed)?;
        shell.message("image-converted", &Converted { image: output.clone(), format: *format, bytes, sha256 })
    }
}

fn qemu_img(arguments: &[&str], raw: &Path, output: &Path) -> Result<()> {
    let mut command = Command::new(QEMU_IMG);
    command.args(["convert", "-f", "raw"]).args(arguments).args([
        OsStr::new("--"),
        raw.as_os_str(),
        output.as_os_str(),
    ]);
    let ended = command.output().map_err(|_| ConvertError::NotInstalled)?;
    if !ended.status.success() {
        return Err(ConvertError::Failed(String::from_utf8_lossy(&ended.stderr).trim().to_owned()).into());
    }
    Ok(())
}
