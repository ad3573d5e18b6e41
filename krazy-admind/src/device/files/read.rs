//! Reading files in chunks.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use rustix::fs::OFlags;

use super::Location;
use crate::problem::{Kind, Problem};

/// Bytes read at a time. A download holds one chunk in memory, and TLS another.
const CHUNK_LEN: usize = 64 * 1024;

/// An open regular file.
pub(crate) struct Content {
    file: Arc<File>,
    len: u64,
    etag: String,
}

/// Opens the regular file at `location`.
pub(super) fn open(location: &Location) -> Result<Content, Problem> {
    let file = location.open(OFlags::RDONLY)?;
    let metadata = file.metadata().map_err(|error| Problem::from_io(&error, &location.path().to_string()))?;
    if !metadata.is_file() {
        return Err(Problem::new(Kind::NotAFile, format!("{} is not a regular file", location.path())));
    }
    // A strong validator, so that a download can be resumed: it differs for another file, length or modification.
    let etag = format!(
        "\"{:x}-{:x}-{:x}.{:x}\"",
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    Ok(Content { file: Arc::new(file), len: metadata.len(), etag })
}

impl Content {
    /// The length of the file when it was opened, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The entity tag (RFC 9110, section 8.8.3), quotes included.
    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    /// Streams `len` bytes from `start` on. If the file is truncated meanwhile, the stream ends with an error, so that
    /// the client does not take the download for complete.
    pub(crate) fn stream(
        &self,
        start: u64,
        len: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + use<> {
        let file = Arc::clone(&self.file);
        stream::try_unfold((file, start, len), |(file, offset, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let chunk_len = usize::try_from(left).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
            let reader = Arc::clone(&file);
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; chunk_len];
                let read = reader.read_at(&mut chunk, offset)?;
                chunk.truncate(read);
                Ok::<_, io::Error>(Bytes::from(chunk))
            });
            let chunk = read.await.map_err(io::Error::other)??;
            if chunk.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file was truncated while it was read",
                ));
            }
            let read = chunk.len() as u64;
            Ok(Some((chunk, (file, offset + read, left - read))))
        })
    }

    /// Streams up to the end of the file, whatever its length: files in `/proc` have a length of 0.
    pub(crate) fn stream_to_end(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + use<> {
        let file = Arc::clone(&self.file);
        stream::try_unfold((file, 0), |(file, offset)| async move {
            let reader = Arc::clone(&file);
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; CHUNK_LEN];
                let read = reader.read_at(&mut chunk, offset)?;
                chunk.truncate(read);
                Ok::<_, io::Error>(Bytes::from(chunk))
            });
            let chunk = read.await.map_err(io::Error::other)??;
            let end = offset + chunk.len() as u64;
            Ok((!chunk.is_empty()).then_some((chunk, (file, end))))
        })
    }
}
