//! Reading files in pieces.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use rustix::fs::OFlags;

use crate::device::files::Place;
use crate::problem::{Kind, Problem};

/// Bytes read at a time. One piece per download is in memory, and one in TLS.
const PIECE: usize = 64 * 1024;

/// An open regular file.
pub(crate) struct Contents {
    file: Arc<File>,
    len: u64,
    etag: String,
}

/// Opens the regular file at `place`.
pub(crate) fn open(place: &Place) -> Result<Contents, Problem> {
    let file = place.open(OFlags::RDONLY)?;
    let metadata = file.metadata().map_err(|error| Problem::from_io(&error, &place.path().to_string()))?;
    if !metadata.is_file() {
        return Err(Problem::new(Kind::NotAFile, format!("{} is not a regular file", place.path())));
    }
    // Strong enough for resuming a download: another file, another length or another change differs.
    let etag = format!(
        "\"{:x}-{:x}-{:x}.{:x}\"",
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    Ok(Contents { file: Arc::new(file), len: metadata.len(), etag })
}

impl Contents {
    /// Bytes in the file when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Its entity tag (RFC 9110, section 8.8.3), with the quotes.
    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    /// `len` bytes from `start` on. A file that meanwhile got shorter ends the stream with an error, so that
    /// the client does not take the rest for complete.
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
            let wanted = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let reader = Arc::clone(&file);
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; wanted];
                let read = reader.read_at(&mut piece, offset)?;
                piece.truncate(read);
                Ok::<_, io::Error>(Bytes::from(piece))
            });
            let piece = read.await.map_err(io::Error::other)??;
            if piece.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file got shorter while it was read",
                ));
            }
            let read = piece.len() as u64;
            Ok(Some((piece, (file, offset + read, left - read))))
        })
    }

    /// Everything up to the end, however long: the kernel's own files say that they have 0 bytes.
    pub(crate) fn stream_to_end(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + use<> {
        let file = Arc::clone(&self.file);
        stream::try_unfold((file, 0), |(file, offset)| async move {
            let reader = Arc::clone(&file);
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE];
                let read = reader.read_at(&mut piece, offset)?;
                piece.truncate(read);
                Ok::<_, io::Error>(Bytes::from(piece))
            });
            let piece = read.await.map_err(io::Error::other)??;
            let end = offset + piece.len() as u64;
            Ok((!piece.is_empty()).then_some((piece, (file, end))))
        })
    }
}
