//! From a [`Plan`] to a delivered image: the stages in order, each with the value of the one before.

mod freshness;

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use krazy_boot::disk::layout::DiskLayout;
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;
use krazy_boot::image::squashfs::SquashfsStats;
use krazy_boot::manifest::Manifest;

pub use self::freshness::Data;
use self::freshness::Stamp;
use crate::bundle::store::Store;
use crate::config;
use crate::failure::{Exit, Failure};
use crate::image::Composition;
use crate::image::disk::{self, DiskOptions};
use crate::install;
use crate::interrupt;
use crate::kernel::source;
use crate::output::{self, Destination, Scratch, deliver, write_failure};
use crate::plan::Plan;
use crate::provision::{self, Secrets};
use crate::shell::Shell;
use crate::toolchain::Toolchain;

/// The time in images unless `SOURCE_DATE_EPOCH` is set: 1980-01-01, the earliest that FAT can express.
const DEFAULT_EPOCH: u64 = 315_532_800;

/// An image that is where it should be.
#[derive(Debug)]
pub struct Built {
    /// The file or device.
    pub path: PathBuf,
    /// Its length.
    pub bytes: Bytes,
    /// What it holds.
    pub manifest: Manifest,
    /// Whether it was there already, made from the same inputs.
    pub fresh: bool,
}

/// Everything an image or an update is made from, installed and fetched; nothing is written yet.
pub struct Recipe {
    /// What they hold.
    pub composition: Composition,
    /// The appliance's secrets.
    pub secrets: Secrets,
    layout: DiskLayout,
    level: i32,
    epoch: u64,
    folder: PathBuf,
    /// The programs stay as they are until they have been read.
    _held: File,
}

impl Recipe {
    fn options(&self) -> DiskOptions<'_> {
        DiskOptions { layout: &self.layout, level: self.level, mtime: self.epoch, cache: &self.folder }
    }

    /// Writes the root file system from the start of `out` on.
    pub fn write_root<W: Write + Seek>(&self, out: W) -> Result<SquashfsStats> {
        disk::write_root(out, &self.composition, &self.options())
    }

    /// Writes the initramfs, and returns `out` at its end.
    pub fn write_initramfs<W: Write>(&self, out: W) -> Result<W> {
        disk::write_initramfs(out, &self.composition)
    }
}

/// Installs and fetches what `plan` needs.
pub fn prepare(plan: &Plan, shell: Shell) -> Result<Recipe> {
    let appliance = &plan.appliance;
    let epoch = source_date_epoch()?;
    let folder = folder(plan);
    make_folder(&folder)?;
    let package = appliance.manifest_path.parent().unwrap_or(Path::new("."));
    let toolchain = Toolchain::ready(appliance.board, package, &folder, shell, appliance.offline)?;
    let held = install::hold(appliance, shell)?;
    Scratch::sweep(&folder).with_context(|| format!("failed to tidy up {}", folder.display()))?;
    let installation = install::install_all(appliance, &toolchain, shell)?;
    config::check_services(appliance, &installation.bins.iter().map(|binary| binary.bin.clone()).collect())?;
    interrupt::check()?;

    let bundle = source::of_appliance(appliance, shell)?;
    let firmware = source::firmware_of_appliance(appliance, shell)?;
    interrupt::check()?;

    let secrets = provision::provision(&appliance.name, &provision::state_dir()?)?;
    let composition = Composition::new(appliance, &installation, &bundle, firmware.as_ref(), &secrets)?;
    let (layout, level) = (plan.layout, appliance.compression_level);
    Ok(Recipe { composition, secrets, layout, level, epoch, folder, _held: held })
}

/// Carries `plan` out. `yes` is the consent to overwrite a block device; without it the user is asked.
pub fn build(plan: &Plan, yes: bool, data: Data, shell: Shell) -> Result<Built> {
    let begin = Instant::now();
    // Before any work is done for it.
    let bytes = plan.layout.disk().bytes();
    make_folder(&folder(plan))?;
    let destination = &Destination::open(&plan.output, bytes, yes, shell)?;
    let recipe = prepare(plan, shell)?;
    let Recipe { composition, secrets, folder, epoch, .. } = &recipe;
    let stamp = Stamp::of(composition, plan, *epoch)?;
    let stamps = folder.join("stamps");
    let built = |bytes, fresh| Built {
        path: destination.path().to_owned(),
        bytes,
        manifest: composition.manifest.clone(),
        fresh,
    };
    if let Destination::File(path) = destination
        && stamp.matches(&stamps, path, data)
    {
        shell.status("Fresh", format!("{} ({bytes})", path.display()));
        return Ok(built(bytes, true));
    }

    if let Destination::File(path) = destination {
        output::refuse_if_running(path)?;
        if data == Data::New && freshness::was_written(&stamps, path) {
            shell.warn(format!(
                "what a machine wrote to the /data of `{}` is lost: an image's /data is new (`run-qemu` keeps it)",
                path.display()
            ));
        }
    }
    let scratch = destination.scratch(folder)?;
    let spinner = shell.spinner("Writing", &destination.path().display().to_string());
    let options = recipe.options();
    let kept = match data {
        Data::New => None,
        Data::Kept => disk::with_same_data(destination.path(), &plan.layout, secrets.disk_signature()),
    };
    let root = disk::write(scratch.as_file(), composition, secrets, kept.as_ref(), &options)
        .map_err(|error| unwritten(error, destination.path()))?;
    spinner.finish_and_clear();
    interrupt::check()?;
    // The first update of this image's devices need not send what they have.
    if let Err(error) = keep_root(scratch.as_file(), &plan.layout) {
        shell.warn(format!("the first push to a device of this image will be a whole one: {error:#}"));
    }
    let delivered = deliver(scratch.path(), destination, shell)?;
    if !delivered.device {
        stamp.save(&stamps, &delivered.path, data)?;
    }
    shell.status(
        "Finished",
        format!(
            "{} in {:.1} s: root of {}, disk of {}",
            delivered.path.display(),
            begin.elapsed().as_secs_f64(),
            root.bytes,
            delivered.bytes
        ),
    );
    Ok(built(delivered.bytes, false))
}

fn keep_root(image: &File, layout: &DiskLayout) -> Result<()> {
    Store::of_user()?.add_root(image, layout.root(Slot::A)).map(drop)
}

/// `SOURCE_DATE_EPOCH` as reproducible-builds.org specifies it, or the default.
fn source_date_epoch() -> Result<u64> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(DEFAULT_EPOCH) };
    let seconds = value.to_str().and_then(|text| text.parse().ok());
    Ok(seconds.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("SOURCE_DATE_EPOCH is `{}`, not a number of seconds", value.display()),
        )
        .help("set it to seconds since 1970-01-01, or unset it")
    })?)
}

/// A full disk has a next step of its own; everything else keeps its causes.
fn unwritten(error: anyhow::Error, path: &Path) -> anyhow::Error {
    let full = |cause: &&io::Error| cause.kind() == io::ErrorKind::StorageFull;
    match error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).find(full) {
        Some(cause) => write_failure(path, cause).into(),
        None if error.is::<Failure>() => error,
        None => error.context(Failure::new(Exit::Image, format!("failed to make `{}`", path.display()))),
    }
}

/// Where everything of ours is in the target directory.
fn folder(plan: &Plan) -> PathBuf {
    plan.appliance.target_directory.join("krazy")
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to make the folder {}", folder.display()))
}
