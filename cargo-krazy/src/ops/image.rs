//! From a [`Plan`] to a delivered image: the stages in order, each with the value of the one before.

mod freshness;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use krazy_boot::digest::{Sha256Hash, sha256_of};
use krazy_boot::disk::layout::DiskLayout;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};
use krazy_boot::disk::slot::Slot;
use krazy_boot::manifest::Manifest;
use serde::Serialize;

pub(crate) use self::freshness::Data;
use self::freshness::Stamp;
use super::prepare::{DiskIds, Prepared, make_directory, prepare};
use crate::bundle::store::Store;
use crate::failure::{Exit, Explain, Failure, Result, chain};
use crate::image::disk::{self, DiskError, DiskOptions};
use crate::interrupt;
use crate::output::{self, Destination, OutputError, deliver};
use crate::plan::Plan;
use crate::shell::Shell;

/// A delivered image.
#[derive(Debug)]
pub(crate) struct Built {
    /// The file or device.
    pub(crate) path: PathBuf,
    /// Its length.
    pub(crate) bytes: Bytes,
    /// The description in its root.
    pub(crate) manifest: Manifest,
    /// True if it was there already, made from the same inputs.
    pub(crate) fresh: bool,
}

/// A delivered image with its hash.
#[derive(Serialize)]
pub(crate) struct HashedImage<'a> {
    image: &'a Path,
    bytes: Bytes,
    /// Of the first `bytes` bytes of the file or device.
    sha256: Sha256Hash,
    fresh: bool,
    name: &'a str,
    version: &'a str,
    board: &'a str,
    build_id: &'a str,
}

impl Built {
    /// Reads the image back for its hash.
    pub(crate) fn hashed(&self) -> Result<HashedImage<'_>> {
        let Built { path, bytes, manifest, fresh } = self;
        Ok(HashedImage {
            image: path,
            bytes: *bytes,
            sha256: File::open(path)
                .and_then(|file| sha256_of(&mut file.take(bytes.0)))
                .with_context(|| format!("failed to read back {}", path.display()))?,
            fresh: *fresh,
            name: &manifest.name,
            version: &manifest.version,
            board: &manifest.board,
            build_id: &manifest.build_id,
        })
    }
}

/// Carries `plan` out. `yes` is the consent to overwrite a block device; without it the user is asked.
pub(crate) fn build(plan: &Plan, yes: bool, data: Data, shell: Shell) -> Result<Built> {
    let begin = Instant::now();
    // Before any work is done for it.
    let bytes = plan.layout.disk().bytes();
    make_directory(plan)?;
    let destination = &Destination::open(&plan.output, bytes, yes, shell)?;
    let (ids, sectors) = match destination {
        Destination::File(_) => (DiskIds::Appliance, None),
        Destination::Device(disk) => (DiskIds::Own, Some(disk.size.0 / SECTOR_SIZE)),
    };
    let prepared = prepare(plan, ids, shell)?;
    let Prepared { composition, secrets, directory, epoch, .. } = &prepared;
    let stamp = Stamp::of(composition, plan, *epoch)?;
    let stamps = directory.join("stamps");
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
        output::check_not_running(path)?;
        if data == Data::New && freshness::was_written(&stamps, path) {
            shell.warn(format!(
                "what a machine wrote to the /data of `{}` is lost: an image's /data is new (`run-qemu` keeps it)",
                path.display()
            ));
        }
    }
    let scratch = destination.scratch(directory)?;
    let spinner = shell.spinner("Writing", &destination.path().display().to_string());
    let options = DiskOptions { disk: sectors, ..prepared.options() };
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
        shell
            .warn(format!("the first push to a device of this image will be a whole one: {}", chain(&error)));
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

/// An image that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make `{}`", path.display())]
struct ImageError {
    path: PathBuf,
    #[source]
    cause: DiskError,
}

impl Explain for ImageError {
    fn exit(&self) -> Exit {
        Exit::Image
    }
}

/// A full disk has a next step of its own; an error that has an exit code keeps it.
fn unwritten(error: DiskError, path: &Path) -> Failure {
    match error.exit() {
        _ if error.is_storage_full() => OutputError::NoSpace(path.to_owned()).into(),
        Exit::Failed => ImageError { path: path.to_owned(), cause: error }.into(),
        _ => error.into(),
    }
}
