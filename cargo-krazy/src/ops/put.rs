//! Copies a file to a device.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use krazy_boot::api::Endpoint;
use reqwest::Method;
use serde::Serialize;

use crate::device::upload::{Piece, body};
use crate::device::{Client, file_path};
use crate::failure::{Exit, Explain, Result};
use crate::shell::Shell;

/// The timeout of an upload without progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A file that was sent.
#[derive(Serialize)]
pub(crate) struct SentFile<'a> {
    host: &'a str,
    file: &'a Path,
    pub(crate) path: String,
    pub(crate) bytes: u64,
}

/// A local file that cannot be sent.
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error("failed to read `{}`", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("`{}` has no name to use on the device", .0.display())]
    NoName(PathBuf),
    #[error("`{}` is not a file", .0.display())]
    NotAFile(PathBuf),
}

impl Explain for PutError {
    fn exit(&self) -> Exit {
        match self {
            PutError::Read(..) => Exit::Failed,
            PutError::NoName(_) | PutError::NotAFile(_) => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            PutError::Read(..) => None,
            PutError::NoName(_) => Some("give the whole PATH".to_owned()),
            PutError::NotAFile(_) => Some("write what is to be sent to a file first".to_owned()),
        }
    }
}

/// Copies `file` to `path` on the device, or into it if `path` ends with `/`.
pub(crate) fn put<'a>(client: &'a Client, file: &'a Path, path: &str, shell: Shell) -> Result<SentFile<'a>> {
    let read_error = |error| PutError::Read(file.to_owned(), error);
    let mut path = path.to_owned();
    if path.ends_with('/') {
        let name = file.file_name().and_then(|name| name.to_str());
        path.push_str(name.ok_or_else(|| PutError::NoName(file.to_owned()))?);
    }
    let url = Endpoint::WriteFile { path: file_path(&path)? };
    let source = File::open(file).map_err(read_error)?;
    let metadata = source.metadata().map_err(read_error)?;
    if !metadata.is_file() {
        // The length of a pipe or a device says nothing: an empty file would be sent.
        return Err(PutError::NotAFile(file.to_owned()).into());
    }
    let bytes = metadata.len();
    let bar = shell.bytes_bar("Sending", bytes);
    let moved = Arc::new(AtomicU64::new(0));
    let body = body(vec![Piece { file: Arc::new(source), start: 0, len: bytes }], Arc::clone(&moved));
    let position = || {
        let moved = moved.load(Ordering::Relaxed);
        bar.set_position(moved);
        moved
    };
    client.send(Method::PUT, &url, body, bytes, STALL_TIMEOUT, position)?;
    bar.finish_and_clear();
    Ok(SentFile { host: client.device(), file, path, bytes })
}
