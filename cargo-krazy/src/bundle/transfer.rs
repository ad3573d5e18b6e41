//! The form of a bundle that is sent to a device: whole, or as its differences from the build that the device runs.
//!
//! Streams are encoded once for all devices that run the same build.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use krazy_boot::digest::Sha256Hash;
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::bundle::{Head, Part, PartTransport, Signed, Transport};
use krazy_boot::update::delta::{self, EncodeError};

use super::store::{Store, WriteError};
use super::{Bundle, Content};
use crate::device::upload::Piece;
use crate::failure::{Failure, Result};

/// zstd level of streams. Roots and kernels are compressed already; higher levels gain nothing.
const LEVEL: i32 = 1;

/// A bundle encoded for one device.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    /// The encoding of the streams.
    pub(crate) transport: Transport,
    /// The streams, back to back.
    pub(crate) streams: Vec<Piece>,
    /// Bytes that the device copies from the build it runs.
    pub(crate) copied: Bytes,
}

impl Transfer {
    /// Returns the bytes of all streams.
    pub(crate) fn total(&self) -> Bytes {
        Bytes(self.streams.iter().map(|piece| piece.len).sum())
    }

    /// Returns everything before the streams, with the signature of `signed`.
    pub(crate) fn head(&self, signed: &Signed) -> Result<Vec<u8>> {
        Head::to_bytes(signed, &self.transport).map_err(Failure::other)
    }
}

/// A bundle and the streams that were encoded so far.
pub(crate) struct Packer<'a> {
    bundle: &'a Bundle,
    store: Store,
    made: Mutex<HashMap<(Sha256Hash, Option<Sha256Hash>), Stream>>,
}

#[derive(Clone)]
struct Stream {
    file: Arc<File>,
    stored: Bytes,
    copied: Bytes,
}

impl<'a> Packer<'a> {
    /// Encodes streams of `bundle` against the parts of running builds that `store` has.
    pub(crate) fn new(bundle: &'a Bundle, store: Store) -> Self {
        Packer { bundle, store, made: Mutex::default() }
    }

    /// Returns the transfer for a device whose active slot has the parts `running`.
    pub(crate) fn pack(&self, running: &[Part]) -> Result<Transfer> {
        let (mut streams, mut transports, mut copied) = (Vec::new(), Vec::new(), Bytes(0));
        for content in &self.bundle.parts {
            let base = running.iter().find(|part| part.kind == content.part.kind);
            let (stream, base) = self.stream(content, base)?;
            copied.0 += stream.copied.0;
            transports.push(PartTransport { stored: stream.stored, base });
            streams.push(Piece { file: stream.file, start: 0, len: stream.stored.0 });
        }
        Ok(Transfer { transport: Transport { parts: transports }, streams, copied })
    }

    /// Returns the stream of `content`, and the base it refers to.
    fn stream(&self, content: &Content, running: Option<&Part>) -> Result<(Stream, Option<Sha256Hash>)> {
        // Held while a stream is encoded, so that other threads wait for it instead of encoding it again.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (content.part.sha256, running.map(|part| part.sha256));
        if let Some(stream) = made.get(&key) {
            let base = key.1.filter(|_| stream.copied > Bytes(0));
            return Ok((stream.clone(), base));
        }
        let base = match running {
            Some(part) if part.sha256 == content.part.sha256 => Some(Arc::clone(&content.file)),
            Some(part) => self.store.find(&part.sha256, part.size).map(Arc::new),
            None => None,
        };
        let reading = || format!("failed to read {}", content.path.display());
        let new = read(&content.file).with_context(reading)?;
        let base = base.map_or(Ok(Vec::new()), |file| read(&file)).with_context(reading)?;
        let writing = |error| WriteError { directory: std::env::temp_dir(), error };
        let file = tempfile::tempfile().map_err(writing)?;
        let encoded = delta::encode(&new, &base, LEVEL, BufWriter::with_capacity(1 << 20, &file));
        let encoded = encoded.map_err(|error| match error {
            EncodeError::Write(error) => writing(error).into(),
            error => Failure::other(error),
        })?;
        let stream = Stream { file: Arc::new(file), stored: encoded.stored, copied: encoded.copied };
        made.insert(key, stream.clone());
        let base = key.1.filter(|_| stream.copied > Bytes(0));
        Ok((stream, base))
    }
}

/// Returns all bytes of `file`.
fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
