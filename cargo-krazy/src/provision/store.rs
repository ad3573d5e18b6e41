//! A set of secret files in one folder: all of them or none, readable by their owner only.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::FlockOperation;

use super::exchange;
use crate::failure::{Exit, Failure};

pub(super) const ID: &str = "id";
pub(super) const CERTIFICATE: &str = "cert.pem";
pub(super) const PRIVATE_KEY: &str = "key.pem";
pub(super) const TOKEN: &str = "token";
pub(super) const TOKENS: &str = "tokens.json";
pub(super) const UPDATE_KEY: &str = "update.key";

const ALL: [&str; 6] = [ID, CERTIFICATE, PRIVATE_KEY, TOKEN, TOKENS, UPDATE_KEY];

/// The most that is read of one file; all of ours are far below.
const MAX_FILE: u64 = krazy_boot::api::credentials::MAX_FILE as u64;

/// The texts of a complete set.
#[derive(PartialEq, Eq)]
pub(super) struct Files(BTreeMap<&'static str, String>);

impl Files {
    pub(super) fn new(files: [(&'static str, String); ALL.len()]) -> Self {
        Files(files.into())
    }

    pub(super) fn text(&self, name: &str) -> anyhow::Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("`{name}` is missing"))
    }
}

/// The folder of the set of `name`. Beside it, other things may be kept about the appliance.
pub(super) fn folder(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(name).join("secrets")
}

/// Reads the set in `folder`; `None` if the folder does not exist. A set that misses a file, or that others
/// may read, is an error.
pub(super) fn read(folder: &Path) -> anyhow::Result<Option<Files>> {
    let reading = || format!("failed to read the appliance's secrets in {}", folder.display());
    match fs::metadata(folder) {
        Ok(metadata) => check_private(folder, &metadata)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(reading),
    }
    exchange::recover(folder).with_context(reading)?;
    let _shared = exchange::lock(folder, FlockOperation::LockShared).with_context(reading)?;
    let mut files = BTreeMap::new();
    let mut missing = Vec::new();
    for name in ALL {
        match read_file(&folder.join(name)) {
            Ok(text) => {
                files.insert(name, text);
            }
            Err(error)
                if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::NotFound) =>
            {
                missing.push(format!("`{name}`"));
            }
            Err(error) => return Err(error.context(reading())),
        }
    }
    if !missing.is_empty() {
        let text =
            format!("the secrets in {} are incomplete: {} missing", folder.display(), missing.join(", "));
        return Err(Failure::new(Exit::Failed, text)
            .help(
                "restore the folder from a backup; or remove it, and the next image makes new secrets, \
                 which devices made with the old ones do not know",
            )
            .into());
    }
    Ok(Some(Files(files)))
}

/// A file that nobody else may read.
pub(super) fn read_file(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path)?;
    check_private(path, &file.metadata()?)?;
    read_bounded(path, file)
}

/// The certificate in `folder`, which is no secret and may be there alone; `None` if it is not there.
pub(super) fn read_certificate(folder: &Path) -> anyhow::Result<Option<String>> {
    let path = folder.join(CERTIFICATE);
    let read = match File::open(&path) {
        Ok(file) => read_bounded(&path, file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error.into()),
    };
    read.map(Some)
        .with_context(|| format!("failed to read the appliance's certificate in {}", folder.display()))
}

fn read_bounded(path: &Path, file: File) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE {
        anyhow::bail!("{} has more than {MAX_FILE} bytes", path.display());
    }
    Ok(text)
}

fn check_private(path: &Path, metadata: &fs::Metadata) -> Result<(), Failure> {
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let text = format!("{} holds secrets, but its mode {mode:04o} lets others in", path.display());
    Err(Failure::new(Exit::Failed, text).help(format!("run `chmod go= '{}'`", path.display())))
}

/// Stores a set as `folder`, unless one is there already: then that one stays, and nothing is said.
/// Everything is on the disk when this returns.
pub(super) fn write(folder: &Path, files: &Files) -> anyhow::Result<()> {
    write_folder(folder, files.0.iter().map(|(name, text)| (*name, text.as_str())))
}

/// Stores `files` as `folder` in the same way.
pub(super) fn write_folder<'a>(
    folder: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> anyhow::Result<()> {
    let writing = || format!("failed to store the appliance's secrets in {}", folder.display());
    let parent = folder.parent().with_context(writing)?;
    DirBuilder::new().recursive(true).mode(0o700).create(parent).with_context(writing)?;
    // Removed if this ends early.
    let temporary = tempfile::Builder::new()
        .prefix(".secrets-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .with_context(writing)?;
    for (name, text) in files {
        let path = temporary.path().join(name);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(writing)?;
        file.write_all(text.as_bytes()).with_context(writing)?;
        file.sync_all().with_context(writing)?;
    }
    sync_folder(temporary.path()).with_context(writing)?;
    match fs::rename(temporary.path(), folder) {
        Ok(()) => drop(temporary.keep()),
        // Linux says ENOTEMPTY, POSIX also allows EEXIST.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
        Err(error) => return Err(error).with_context(writing),
    }
    sync_folder(parent).with_context(writing)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
