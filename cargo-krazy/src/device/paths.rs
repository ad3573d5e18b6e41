//! Paths of files on a device as users write them.

use krazy_boot::api::parameter::EncodedPath;

use crate::failure::{Exit, Failure};

/// Reads the path of a file on the device.
pub(crate) fn file_path(path: &str) -> Result<EncodedPath, Failure> {
    EncodedPath::of_file(path).ok_or_else(|| {
        let text = format!("`{path}` is not an absolute path of a file on the device");
        Failure::new(Exit::Usage, text).help("files are below /data: /data/NAME")
    })
}
