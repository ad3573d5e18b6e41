//! Bundles as files, `NAME-BOARD-VERSION.krazy`. They refer to no other build, so that every device can take them.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use krazy_boot::disk::size::Bytes;
use krazy_boot::update::bundle::{BundleError, Head};
use krazy_boot::update::delta::{Decoder, Step};

use super::store::Store;
use super::transfer::Packer;
use super::{Bundle, Content};
use crate::failure::{Exit, Explain, Result, chain};
use crate::interrupt;
use crate::output::Scratch;

/// A file that is not written, or is no bundle.
#[derive(Debug, thiserror::Error)]
enum BundleFileError {
    #[error("failed to write `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("`{}` cannot be pushed: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
}

impl Explain for BundleFileError {
    fn exit(&self) -> Exit {
        Exit::Image
    }

    fn help(&self) -> Option<String> {
        match self {
            BundleFileError::Write { .. } => None,
            BundleFileError::Unusable { .. } => {
                Some("`cargo krazy bundle` makes the files that `--bundle` takes".to_owned())
            }
        }
    }
}

/// Writes `bundle` to `path`, which appears complete or not at all. Returns its length.
pub(crate) fn save(bundle: &Bundle, store: &Store, path: &Path) -> Result<Bytes> {
    let writing = |error| BundleFileError::Write { path: path.to_owned(), error };
    let transfer = Packer::new(bundle, store.clone()).pack(&[])?;
    let scratch = Scratch::beside(path)?;
    let mut out = scratch.as_file();
    let head = transfer.head(&bundle.signed)?;
    out.write_all(&head).map_err(writing)?;
    for piece in &transfer.streams {
        interrupt::check()?;
        let mut stream = &*piece.file;
        stream.seek(SeekFrom::Start(0)).map_err(writing)?;
        io::copy(&mut stream, &mut out).map_err(writing)?;
    }
    out.sync_all().map_err(writing)?;
    scratch.persist(path).map_err(writing)?;
    Ok(Bytes(head.len() as u64 + transfer.total().0))
}

/// Opens the bundle at `path`; its parts go into `store`. The parts are compared with the signed manifest. The signature
/// is left to the device, which alone knows the keys that it trusts.
pub(crate) fn open(path: &Path, store: &Store) -> Result<Bundle> {
    let unusable = |why: String| BundleFileError::Unusable { path: path.to_owned(), why };
    let file = File::open(path).map_err(|error| unusable(error.to_string()))?;
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let head = Head::read(&mut reader, |_, _| true).map_err(|error: BundleError| unusable(chain(&error)))?;
    let mut parts = Vec::new();
    for (part, transport) in head.manifest.parts.iter().zip(&head.transport.parts) {
        if transport.base.is_some() {
            return Err(unusable("it is not whole, but made for one device".to_owned()).into());
        }
        let content = store.add(part.kind.clone(), |out| {
            let mut decoder = Decoder::new(part.size, Bytes(0));
            let mut left = transport.stored.0;
            let mut buffer = vec![0; 64 << 10];
            let mut apply = |step: Step<'_>| match step {
                Step::Data(bytes) => out.write_all(bytes),
                Step::Zero(len) => io::copy(&mut io::repeat(0).take(len), out).map(drop),
                Step::Copy { .. } => Err(io::Error::other("there is nothing to copy from")),
            };
            while left > 0 {
                interrupt::check()?;
                let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                reader
                    .read_exact(&mut buffer[..count])
                    .map_err(|error| unusable(format!("the {} ends early: {error}", part.kind)))?;
                decoder
                    .feed(&buffer[..count], &mut apply)
                    .map_err(|error| unusable(format!("{}: {}", part.kind, chain(&error))))?;
                left -= count as u64;
            }
            decoder.finish().map_err(|error| unusable(format!("{}: {error}", part.kind)))?;
            Ok(())
        })?;
        if content.part != *part {
            return Err(unusable(format!("the {} is not the one that was signed", part.kind)).into());
        }
        parts.push(Content { file: Arc::clone(&content.file), ..content });
    }
    if !matches!(reader.read(&mut [0]), Ok(0)) {
        return Err(unusable("something follows its end".to_owned()).into());
    }
    Ok(Bundle { manifest: head.manifest, signed: head.signed, parts })
}
