//! Copies a file from a device.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use krazy_boot::api::Endpoint;
use serde::Serialize;

use crate::device::{Client, file_path};
use crate::failure::{Exit, Explain, Failure, Result};
use crate::output::{Destination, Scratch};
use crate::shell::Shell;

/// A file that arrived.
#[derive(Serialize)]
pub(crate) struct Received<'a> {
    host: &'a str,
    path: &'a str,
    pub(crate) file: PathBuf,
    pub(crate) bytes: u64,
}

/// A received file that could not be stored.
#[derive(Debug, thiserror::Error)]
enum GetError {
    #[error("failed to write the received bytes")]
    Write(#[source] io::Error),
    #[error("failed to write `{}`", .0.display())]
    Persist(PathBuf, #[source] io::Error),
}

impl Explain for GetError {
    fn exit(&self) -> Exit {
        Exit::Image
    }
}

/// Writes the file `path` of the device to `out`. Returns its length.
pub(crate) fn stream(client: &Client, path: &str, out: &mut dyn Write, shell: Shell) -> Result<u64> {
    let url = Endpoint::ReadFile { path: file_path(path)? };
    let bar = shell.bytes_bar("Receiving", 0);
    let mut count = 0;
    let piece = |bytes: &[u8]| -> Result<(), Failure> {
        count += bytes.len() as u64;
        bar.set_position(count);
        Ok(out.write_all(bytes).map_err(GetError::Write)?)
    };
    client.read(&url, |len| bar.set_length(len.unwrap_or(0)), piece)?;
    bar.finish_and_clear();
    Ok(count)
}

/// Copies the file `path` of the device to `to`, a file or a directory. It appears complete or not at all.
pub(crate) fn get<'a>(client: &'a Client, path: &'a str, to: &Path, shell: Shell) -> Result<Received<'a>> {
    file_path(path)?;
    let name = Path::new(path).file_name().unwrap_or(OsStr::new("file"));
    let file = if to.is_dir() { to.join(name) } else { to.to_owned() };
    let file = Destination::file(&file)?;
    let scratch = Scratch::beside(&file)?;
    let bytes = stream(client, path, &mut scratch.as_file(), shell)?;
    scratch.persist(&file).map_err(|error| GetError::Persist(file.clone(), error))?;
    Ok(Received { host: client.device(), path, file, bytes })
}
