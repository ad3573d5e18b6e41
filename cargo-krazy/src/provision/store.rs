//! A set of secret files in one directory: all of them or none, readable by their owner only.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use super::error::SecretsError;
use crate::failure::Failure;

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

/// Returns the directory of the set of `name`. Beside it there may be other files of the appliance.
pub(super) fn directory(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(name).join("secrets")
}

/// Returns true if there is a set in `directory`. One that others may read is an error.
pub(super) fn exists(directory: &Path) -> anyhow::Result<bool> {
    match fs::metadata(directory) {
        Ok(metadata) => check_private(directory, &metadata).map(|()| true).map_err(Into::into),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| reading(directory)),
    }
}

/// Keeps other programs from exchanging secrets while it is held; with `Exclusive`, also from reading them.
pub(super) fn lock(directory: &Path, operation: FlockOperation) -> io::Result<File> {
    let handle = File::open(directory)?;
    flock(&handle, operation)?;
    Ok(handle)
}

/// Reads the set in `directory`. A set that misses a file, or that others may read, is an error.
pub(super) fn read(directory: &Path) -> anyhow::Result<Files> {
    let reading = || reading(directory);
    let _shared = lock(directory, FlockOperation::LockShared).with_context(reading)?;
    let mut files = BTreeMap::new();
    let mut missing = Vec::new();
    for name in ALL {
        match read_file(&directory.join(name)) {
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
        return Err(
            Failure::from(SecretsError::Incomplete { directory: directory.to_owned(), missing }).into()
        );
    }
    Ok(Files(files))
}

pub(super) fn reading(directory: &Path) -> String {
    format!("failed to read the appliance's secrets in {}", directory.display())
}

/// A file that nobody else may read.
pub(super) fn read_file(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path)?;
    check_private(path, &file.metadata()?)?;
    read_bounded(path, file)
}

/// The certificate at `path`, which is no secret and may be there alone; `None` if it is not there.
pub(super) fn read_certificate(path: &Path) -> anyhow::Result<Option<String>> {
    let read = match File::open(path) {
        Ok(file) => read_bounded(path, file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error.into()),
    };
    read.map(Some).with_context(|| format!("failed to read the appliance's certificate {}", path.display()))
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
    Err(SecretsError::NotPrivate { path: path.to_owned(), mode }.into())
}

/// Stores one file, which appears as a whole.
pub(super) fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let writing = || format!("failed to write {}", path.display());
    let directory = path.parent().with_context(writing)?;
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .with_context(writing)?;
    file.write_all(text.as_bytes()).with_context(writing)?;
    file.as_file().sync_all().with_context(writing)?;
    file.persist(path).with_context(writing)?;
    sync_directory(directory).with_context(writing)
}

/// Stores a set as `directory`, unless one is there already: then that one stays.
/// Everything is on the disk when this returns.
pub(super) fn write(directory: &Path, files: &Files) -> anyhow::Result<()> {
    write_directory(directory, files.0.iter().map(|(name, text)| (*name, text.as_str())))
}

/// Stores `files` as `directory` in the same way.
pub(super) fn write_directory<'a>(
    directory: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> anyhow::Result<()> {
    let writing = || format!("failed to store the appliance's secrets in {}", directory.display());
    let parent = directory.parent().with_context(writing)?;
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
    sync_directory(temporary.path()).with_context(writing)?;
    match fs::rename(temporary.path(), directory) {
        Ok(()) => drop(temporary.keep()),
        // ENOTEMPTY on Linux; POSIX also allows EEXIST.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
        Err(error) => return Err(error).with_context(writing),
    }
    sync_directory(parent).with_context(writing)
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
