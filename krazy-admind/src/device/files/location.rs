//! Paths with the area they may be in, and how the kernel opens them there.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use krazy_boot::api::{credentials, logs};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlink};
use rustix::io::Errno;

use super::TreePath;
use crate::problem::{Kind, Problem};

/// Attempts at an opening that races with a rename (`openat2` returns `EAGAIN`).
const OPEN_ATTEMPTS: usize = 8;

/// A path and the area it must stay in. Nothing is opened yet.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    path: TreePath,
    area: Area,
    /// The root directory, `/` except in tests; without symbolic links.
    root: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    Data,
    Logs,
    Whole,
}

impl Location {
    /// Returns the location of `path`. It may be anywhere only with `whole_tree`.
    pub(super) fn new(root: &Path, path: TreePath, whole_tree: bool) -> Result<Self, Problem> {
        let area = match path.names().first().map(|name| name.as_bytes()) {
            _ if whole_tree => Area::Whole,
            Some(b"data") => Area::Data,
            Some(b"tmp")
                if path.names().len() == 1 || path.names().last().is_some_and(|name| is_log(name)) =>
            {
                Area::Logs
            }
            _ => {
                return Err(Problem::new(
                    Kind::OutsideTree,
                    format!(
                        "{path} is not below /data and not a log in /tmp; for other files, use a token with the scope whole-tree"
                    ),
                ));
            }
        };
        Ok(Location { path, area, root: root.to_owned() })
    }

    /// Returns the location of a log of `service`, by its name in `/tmp`.
    pub(super) fn of_log(root: &Path, service: &str, extension: &str) -> Result<Self, Problem> {
        let path = TreePath::from_names(["tmp", &format!("{service}.{extension}")])?;
        Ok(Location { path, area: Area::Logs, root: root.to_owned() })
    }

    /// The path as the client wrote it.
    pub(crate) fn path(&self) -> &TreePath {
        &self.path
    }

    /// Returns true if a listing of this directory may show `name`.
    pub(super) fn shows(&self, name: &OsStr) -> bool {
        self.area != Area::Logs || is_log(name)
    }

    /// Returns the location if it may be changed.
    pub(super) fn writable(self) -> Result<Self, Problem> {
        match self.area {
            Area::Logs => Err(Problem::new(Kind::OutsideTree, format!("{} can only be read", self.path))),
            Area::Data | Area::Whole => Ok(self),
        }
    }

    /// Opens the file, following links within the area.
    pub(super) fn open(&self, flags: OFlags) -> Result<File, Problem> {
        let file = self.open_names(&self.path, flags)?;
        self.reject_credentials(&self.real_path(&file)?)?;
        Ok(file)
    }

    /// Opens the directory that holds the file. Returns it with the file's name in it.
    pub(super) fn open_parent(&self) -> Result<(File, &OsStr), Problem> {
        let top = || Problem::new(Kind::OutsideTree, format!("{} itself cannot be changed", self.path));
        let (parent, name) = self.path.split_last().ok_or_else(top)?;
        if self.area != Area::Whole && parent.names().is_empty() {
            return Err(top());
        }
        let directory = self.open_names(&parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.reject_credentials(&self.real_path(&directory)?.join(name))?;
        Ok((directory, name))
    }

    fn open_names(&self, path: &TreePath, flags: OFlags) -> Result<File, Problem> {
        let problem = |errno| Problem::from_errno(errno, &path.to_string());
        // Resolution starts in `/data` or the directory of the logs itself, so that no link leads out of it.
        let (base, skip, resolve) = match self.area {
            Area::Data => (self.root.join("data"), 1, ResolveFlags::BENEATH),
            Area::Logs => (self.logs(), 1, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS),
            Area::Whole => (self.root.clone(), 0, ResolveFlags::IN_ROOT),
        };
        let base: OwnedFd =
            openat(CWD, base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(problem)?;
        let below: PathBuf =
            [Path::new(".")].into_iter().chain(path.names().iter().skip(skip).map(Path::new)).collect();
        // NONBLOCK: opening a FIFO must not wait for its other end. It has no effect on regular files.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..OPEN_ATTEMPTS {
            match openat2(&base, &below, flags, Mode::empty(), resolve) {
                Ok(file) => return Ok(File::from(file)),
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(problem(errno)),
            }
        }
        Err(Problem::new(Kind::Busy, format!("failed to open {path}: its directories keep being renamed")))
    }

    /// Returns the directory of the logs. Only krazy-init has one that services cannot write; another init has `/tmp`.
    fn logs(&self) -> PathBuf {
        let directory = self.root.join(logs::DIRECTORY.trim_start_matches('/'));
        if directory.is_dir() { directory } else { self.root.join("tmp") }
    }

    fn real_path(&self, file: &File) -> Result<PathBuf, Problem> {
        let link = readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())
            .map_err(|errno| Problem::from_errno(errno, "/proc"))?;
        Ok(PathBuf::from(OsStr::from_bytes(link.as_bytes())))
    }

    /// Rejects the directory of the credentials. Checks the path after opening: a link in `/data` may lead there.
    fn reject_credentials(&self, real: &Path) -> Result<(), Problem> {
        if self.area != Area::Whole && real.starts_with(self.root.join("data").join(credentials::DIRECTORY)) {
            return Err(Problem::new(
                Kind::OutsideTree,
                format!(
                    "{} belongs to the device's credentials, which have commands of their own",
                    self.path
                ),
            ));
        }
        Ok(())
    }
}

/// Returns true for the name of a service's log: `web.log`, `web.err`, or a rotated one such as `web.log.1`.
fn is_log(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let stem = match name.rsplit_once('.') {
        Some((stem, number)) if !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) => stem,
        _ => name,
    };
    matches!(stem.rsplit_once('.'), Some((service, "log" | "err")) if !service.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_names_are_recognized() {
        for name in ["web.log", "web.err", "a.b.log", "web.log.1", "web.err.12"] {
            assert!(is_log(OsStr::new(name)), "{name}");
        }
        for name in ["web", "log", ".log", "web.txt", "web.log.gz", "web.1", "web.log."] {
            assert!(!is_log(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn files_outside_data_and_logs_need_the_whole_tree_scope() {
        let locate = |tail: &str, whole| {
            Location::new(Path::new("/"), TreePath::from_url(tail).unwrap(), whole)
                .map_err(|problem| problem.kind())
        };
        for tail in ["data", "data/x", "tmp", "tmp/web.log"] {
            assert!(locate(tail, false).is_ok(), "{tail}");
        }
        for tail in ["", "etc/passwd", "tmp/secret", "database", "proc/1/mem"] {
            assert_eq!(locate(tail, false).unwrap_err(), Kind::OutsideTree, "{tail}");
            assert!(locate(tail, true).is_ok(), "{tail}");
        }
    }
}
