//! Paths of files on a device as users write them.

use krazy_boot::api::parameter::EncodedPath;

use crate::failure::{Exit, Explain};

/// A path that a device cannot have.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an absolute path of a file on the device")]
pub(crate) struct PathError(String);

impl Explain for PathError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("files are below /data: /data/NAME".to_owned())
    }
}

/// Reads the path of a file on the device.
pub(crate) fn file_path(path: &str) -> Result<EncodedPath, PathError> {
    EncodedPath::of_file(path).ok_or_else(|| PathError(path.to_owned()))
}
