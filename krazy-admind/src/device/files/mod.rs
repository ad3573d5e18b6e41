//! Files of the device, confined to the areas that a token may use.
//!
//! Two barriers follow each other. A path from a client is split into names, and names with another meaning (`..`, an
//! encoded slash) are rejected ([`TreePath`]). The kernel then opens the path without following a symbolic link out of
//! its area (`openat2`, Linux 5.6; [`Location`]).
//!
//! | area | without the scope `whole-tree` |
//! |---|---|
//! | `/data` | everything but `/data/krazy`, where the credentials are; links may lead elsewhere in `/data` |
//! | `/tmp` | logs, read-only: the files of the same names in `/run/log`, where only init writes |
//! | elsewhere | nothing |

mod directory;
mod location;
mod read;
mod tree_path;
mod write;

pub(crate) use location::Location;
pub(crate) use read::Content;

use std::path::PathBuf;

use headers::HeaderValue;
use warp::http::header;

use krazy_boot::api::files::Listing;

use super::SIGNED_ONLY;
use crate::body::{Body, BodyError};
use crate::problem::{Kind, Problem};
use crate::task::blocking;
use tree_path::TreePath;
use write::Upload;

/// Bytes of an upload gathered before each write to the disk.
const WRITE_LEN: usize = 256 * 1024;

/// The file operations of the API.
pub(crate) struct Files {
    root: PathBuf,
    signed_only: bool,
}

impl Files {
    /// The files below `root`, a path without symbolic links. With `signed_only` nothing outside of `/data` changes.
    pub(super) fn new(root: PathBuf, signed_only: bool) -> Self {
        Files { root, signed_only }
    }

    /// Returns the location of `tail`, percent-encoded names separated by `/`. It may be anywhere only with
    /// `whole_tree`.
    pub(crate) fn locate(&self, tail: &str, whole_tree: bool) -> Result<Location, Problem> {
        Location::new(&self.root, TreePath::from_url(tail)?, whole_tree)
    }

    /// The same for a file that is to be changed.
    pub(crate) fn locate_to_change(&self, tail: &str, whole_tree: bool) -> Result<Location, Problem> {
        let located = self.locate(tail, whole_tree && !self.signed_only);
        match located {
            Err(problem) if self.signed_only && problem.kind() == Kind::OutsideTree => Err(Problem::new(
                Kind::OutsideTree,
                format!("only files below /data can be changed here, because {SIGNED_ONLY}"),
            )),
            located => located,
        }
    }

    /// Returns the location of a log of `service`.
    pub(crate) fn locate_log(&self, service: &str, extension: &str) -> Result<Location, Problem> {
        Location::of_log(&self.root, service, extension)
    }

    /// Opens a regular file for reading.
    pub(crate) async fn open(&self, location: Location) -> Result<Content, Problem> {
        blocking(move || read::open(&location)).await
    }

    /// Replaces a regular file with `body`, as a whole or not at all. Returns true if the file is new.
    pub(crate) async fn write(&self, location: Location, mut body: Body) -> Result<bool, Problem> {
        let mut upload = blocking(move || Upload::begin(location)).await?;
        let mut buffer = Vec::with_capacity(WRITE_LEN);
        let mut received = 0_u64;
        loop {
            let filled = body.fill(&mut buffer, WRITE_LEN).await;
            received += buffer.len() as u64;
            let complete = filled.map_err(|error| interrupted(&error, received))?;
            // An HTTP/2 stream that its client resets without an error looks like one that ends.
            if complete && body.len().is_some_and(|len| len > received) {
                let text = format!(
                    "the upload ended after {received} bytes, more were announced; the file is unchanged"
                );
                return Err(Problem::new(Kind::BadRequest, text));
            }
            (upload, buffer) = blocking(move || {
                upload.write(&buffer)?;
                buffer.clear();
                Ok((upload, buffer))
            })
            .await?;
            if complete {
                return blocking(move || upload.finish()).await;
            }
        }
    }

    /// Removes a file of any kind but a directory. Of a symbolic link, removes the link.
    pub(crate) async fn remove(&self, location: Location) -> Result<(), Problem> {
        blocking(move || write::remove(location)).await
    }

    /// Lists a directory, sorted by name.
    pub(crate) async fn list(&self, location: Location) -> Result<Listing, Problem> {
        blocking(move || directory::list(&location)).await
    }

    /// Makes a directory in an existing one. Returns true if it is new.
    pub(crate) async fn make_directory(&self, location: Location) -> Result<bool, Problem> {
        blocking(move || directory::make(location)).await
    }

    /// Removes a directory; one with entries only if `recursive`.
    pub(crate) async fn remove_directory(&self, location: Location, recursive: bool) -> Result<(), Problem> {
        blocking(move || directory::remove(location, recursive)).await
    }
}

/// The problem of an upload that stopped after `received` bytes.
fn interrupted(error: &BodyError, received: u64) -> Problem {
    let text = format!("{error}, after {received} bytes; the file is unchanged");
    match error {
        BodyError::Stalled(_) => {
            // The rest of the body may still come; it must not be taken for the next request.
            Problem::new(Kind::Timeout, text).header(header::CONNECTION, HeaderValue::from_static("close"))
        }
        BodyError::Broken(_) | BodyError::TooLong(_) => Problem::new(Kind::BadRequest, text),
    }
}
