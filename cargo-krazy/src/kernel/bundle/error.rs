//! The failures of reading an archive and of unpacking it, with exit code and help.

use std::io;
use std::path::PathBuf;

use crate::failure::{Exit, Explain};
use crate::files::MAX_FILE;
use crate::kernel::index::modinfo::ModinfoError;

/// The failure of reading an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It is damaged, too large, or of an unknown kind.
    #[error("failed to unpack {}: {error}", path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The content of a file in it cannot be read.
    #[error("failed to unpack `{path}`: {error}")]
    File {
        /// The path in the archive.
        path: String,
        /// The reason.
        error: io::Error,
    },
    /// A file in it is larger than any file of a kernel.
    #[error("`{path}` is unbelievably large: {bytes} bytes")]
    TooLarge {
        /// The path in the archive.
        path: String,
        /// Bytes.
        bytes: u64,
    },
}

impl Explain for ArchiveError {
    fn exit(&self) -> Exit {
        Exit::Fetch
    }
}

/// The failure of making a bundle, or boot firmware, of an archive's files. `name` and `origin` are the archive's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// No file is a kernel image.
    #[error("`{name}` holds no kernel image")]
    NoImage {
        /// The archive.
        name: String,
    },
    /// Debian's packages lack a part of the kernel.
    #[error("Debian's kernel is incomplete: {} {} no {what}", packages.join(", "), if packages.len() == 1 { "holds" } else { "hold" })]
    Incomplete {
        /// The names of the packages.
        packages: Vec<String>,
        /// The missing part.
        what: &'static str,
    },
    /// Modules of two kernels.
    #[error("`{name}` holds modules of two kernels, {one} and {other}")]
    TwoReleases {
        /// The archive.
        name: String,
        /// A release.
        one: String,
        /// Another release.
        other: String,
    },
    /// Modules of another kernel than the image.
    #[error("`{name}` has modules of kernel {modules}, but its image is kernel {image}")]
    OtherRelease {
        /// The archive.
        name: String,
        /// The release of the modules.
        modules: String,
        /// The release of the image.
        image: String,
    },
    /// No modules, and an image that is compressed.
    #[error("`{name}` does not tell its kernel's release")]
    NoRelease {
        /// The archive.
        name: String,
    },
    /// A path that would leave the bundle.
    #[error("refused to unpack `{path}`: it leaves the directory")]
    Outside {
        /// The path in the archive.
        path: String,
    },
    /// A path whose part behind `lib/modules/` is not a release.
    #[error("`{path}`: `{release}` is not a kernel's release")]
    BadRelease {
        /// The path in the archive.
        path: String,
        /// The part.
        release: String,
    },
    /// Two files with one path.
    #[error("the kernel has two files called {}", path.display())]
    Twice {
        /// The file that exists already.
        path: PathBuf,
    },
    /// A file that is not a kernel module.
    #[error("the kernel module `{path}` is unusable: {why}")]
    Module {
        /// Its path below `lib/modules/RELEASE`.
        path: String,
        /// The reason.
        why: ModuleError,
    },
    /// A worker that stores modules ended early.
    #[error("unpacking the modules stopped")]
    Stopped,
    /// A file that every Raspberry Pi starts with is missing.
    #[error("{origin} has no {file}")]
    NoFirmware {
        /// The archive.
        origin: String,
        /// The file.
        file: &'static str,
    },
}

/// The reason that a file of an archive is not a kernel module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    /// It is not uncompressed.
    #[error(transparent)]
    Compression(#[from] io::Error),
    /// It is too large when uncompressed.
    #[error("it is larger than {} MiB", MAX_FILE >> 20)]
    TooLarge,
    /// Its content is not that of a module.
    #[error(transparent)]
    Content(#[from] ModinfoError),
}

impl Explain for UnpackError {
    fn exit(&self) -> Exit {
        match self {
            UnpackError::Stopped => Exit::Failed,
            _ => Exit::Fetch,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            UnpackError::NoImage { .. } => {
                "a bundle has `vmlinuz` at its top, a Debian package `boot/vmlinuz-RELEASE` or \
                 `usr/lib/modules/RELEASE/vmlinuz`"
            }
            UnpackError::Incomplete { .. } => {
                "run `cargo krazy kernel update`, which looks for all packages of the kernel anew; if the newest one \
                 is incomplete too, set another `suite` of the kernel, or put the files together as its `path`"
            }
            UnpackError::TwoReleases { .. } => {
                "a bundle is one kernel: remove the other's directory below lib/modules"
            }
            UnpackError::OtherRelease { .. } => "modules load only into the kernel they were built with",
            UnpackError::NoRelease { .. } => {
                "put the modules below lib/modules/RELEASE, or use an uncompressed image"
            }
            UnpackError::Outside { .. } => "the archive is damaged or was made to do harm; do not use it",
            UnpackError::Twice { .. } => {
                "names may differ in case only: set KRAZY_CACHE_DIR to a directory on a case-sensitive file system"
            }
            UnpackError::NoFirmware { .. } => {
                "it is not the firmware of a Raspberry Pi as this program knows it"
            }
            UnpackError::BadRelease { .. } | UnpackError::Module { .. } | UnpackError::Stopped => {
                return None;
            }
        };
        Some(help.to_owned())
    }
}
