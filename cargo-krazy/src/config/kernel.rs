//! The key `kernel`.

use super::error::Result;
use super::origins::{Origins, shown};
use super::values::Either;
use super::{KernelSource, tables};
use crate::board::Board;

/// The Debian release whose kernel is taken unless `suite` says otherwise.
pub(crate) const DEFAULT_SUITE: &str = "trixie";

/// Returns the source of the kernel: without the key, the board's kernel from the Debian archive.
pub(crate) fn source(krazy: &tables::Krazy, origins: &Origins, board: &Board) -> Result<KernelSource> {
    let tables::Kernel { debian, suite, mirror, url, sha256, path } = match &krazy.kernel {
        None | Some(Either::Value(_)) => return Ok(debian_kernel(tables::Kernel::default(), board)),
        Some(Either::Table(kernel)) => kernel.clone(),
    };
    let first = |keys: &[(&'static str, bool)]| keys.iter().find(|(_, set)| *set).map(|(key, _)| *key);
    let used: Vec<_> = [
        first(&[("debian", debian.is_some()), ("suite", suite.is_some()), ("mirror", mirror.is_some())]),
        first(&[("url", url.is_some()), ("sha256", sha256.is_some())]),
        first(&[("path", path.is_some())]),
    ]
    .into_iter()
    .flatten()
    .collect();
    match used[..] {
        [] => {
            return Err(origins
                .table_invalid(&["kernel"], "is empty; it needs `debian`, `url` and `sha256`, or `path`"));
        }
        [first, second, ..] => {
            let problem = format!("cannot stand beside `{first}`: a kernel has one source");
            return Err(origins.invalid(&["kernel", second], problem));
        }
        [_] => {}
    }
    if let Some(path) = path {
        let path = origins.directory(&["kernel", "path"]).join(path);
        if !path.exists() {
            let problem = format!("leads to {}, which does not exist", shown(&path));
            return Err(origins.invalid(&["kernel", "path"], problem));
        }
        return Ok(KernelSource::Path(path));
    }
    match (url, sha256) {
        (Some(url), Some(sha256)) => Ok(KernelSource::Url { url: url.0, sha256: sha256.0 }),
        (None, Some(_)) => Err(origins.invalid(&["kernel", "sha256"], "needs `url` beside it")),
        (Some(_), None) => Err(origins
            .invalid(&["kernel", "url"], "needs `sha256` beside it: the SHA-256 of the file in hexadecimal")),
        (None, None) => {
            Ok(debian_kernel(tables::Kernel { debian, suite, mirror, ..tables::Kernel::default() }, board))
        }
    }
}

fn debian_kernel(kernel: tables::Kernel, board: &Board) -> KernelSource {
    KernelSource::Debian {
        package: kernel.debian.map_or_else(|| board.debian_kernel.to_owned(), |package| package.0),
        suite: kernel.suite.map_or_else(|| DEFAULT_SUITE.to_owned(), |suite| suite.0),
        mirror: kernel.mirror.map(|mirror| mirror.0),
    }
}
