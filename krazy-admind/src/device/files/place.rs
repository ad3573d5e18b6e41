//! Where a path may be, and the opening of it there.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use krazy_boot::api::credentials;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlink};
use rustix::io::Errno;

use crate::device::files::TreePath;
use crate::problem::{Kind, Problem};

/// How often an opening is tried again that raced with a renaming (`openat2` returns `EAGAIN`).
const ATTEMPTS: usize = 8;

/// A path that was found to be within bounds, not yet opened.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: TreePath,
    area: Area,
    /// Root of the tree, for tests another than `/`; without symbolic links.
    root: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    Data,
    Logs,
    Whole,
}

impl Place {
    /// Where `path` is. Only with `whole_tree` may it be anywhere.
    pub(crate) fn find(root: &Path, path: TreePath, whole_tree: bool) -> Result<Self, Problem> {
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
                        "{path} is not below /data and not a log in /tmp; other files take a token with the scope whole-tree"
                    ),
                ));
            }
        };
        Ok(Place { path, area, root: root.to_owned() })
    }

    /// The log of `service` in `/tmp`.
    pub(crate) fn log(root: &Path, service: &str, extension: &str) -> Result<Self, Problem> {
        let path = TreePath::from_names(["tmp", &format!("{service}.{extension}")])?;
        Ok(Place { path, area: Area::Logs, root: root.to_owned() })
    }

    /// The path as the client knows it.
    pub(crate) fn path(&self) -> &TreePath {
        &self.path
    }

    /// Whether `name` in the directory that this place is may be shown.
    pub(crate) fn shows(&self, name: &OsStr) -> bool {
        self.area != Area::Logs || is_log(name)
    }

    /// Refuses to change what is there to be read only.
    pub(crate) fn writable(self) -> Result<Self, Problem> {
        match self.area {
            Area::Logs => {
                Err(Problem::new(Kind::OutsideTree, format!("{} can be read, not changed", self.path)))
            }
            Area::Data | Area::Whole => Ok(self),
        }
    }

    /// Opens it, links followed within bounds.
    pub(crate) fn open(&self, flags: OFlags) -> Result<File, Problem> {
        let file = self.open_names(&self.path, flags)?;
        self.refuse_secret(&self.real_path(&file)?)?;
        Ok(file)
    }

    /// Opens the directory that holds it, and returns its name there.
    pub(crate) fn open_parent(&self) -> Result<(File, &OsStr), Problem> {
        let top = || Problem::new(Kind::OutsideTree, format!("{} itself must stay", self.path));
        let (parent, name) = self.path.split_last().ok_or_else(top)?;
        if self.area != Area::Whole && parent.names().is_empty() {
            return Err(top());
        }
        let directory = self.open_names(&parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.refuse_secret(&self.real_path(&directory)?.join(name))?;
        Ok((directory, name))
    }

    fn open_names(&self, path: &TreePath, flags: OFlags) -> Result<File, Problem> {
        let problem = |errno| Problem::from_errno(errno, &path.to_string());
        // The first name of `/data` and `/tmp` is where links must stay.
        let (base, skip, resolve) = match self.area {
            Area::Data => (self.root.join("data"), 1, ResolveFlags::BENEATH),
            Area::Logs => (self.root.join("tmp"), 1, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS),
            Area::Whole => (self.root.clone(), 0, ResolveFlags::IN_ROOT),
        };
        let base: OwnedFd =
            openat(CWD, base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(problem)?;
        let below: PathBuf =
            [Path::new(".")].into_iter().chain(path.names().iter().skip(skip).map(Path::new)).collect();
        // NONBLOCK: opening a FIFO must not wait for its other end. It means nothing for regular files.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..ATTEMPTS {
            match openat2(&base, &below, flags, Mode::empty(), resolve) {
                Ok(file) => return Ok(File::from(file)),
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(problem(errno)),
            }
        }
        Err(Problem::new(Kind::Busy, format!("{path} is being renamed all the time")))
    }

    fn real_path(&self, file: &File) -> Result<PathBuf, Problem> {
        let link = readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())
            .map_err(|errno| Problem::from_errno(errno, "/proc"))?;
        Ok(PathBuf::from(OsStr::from_bytes(link.as_bytes())))
    }

    /// The credentials, by whatever link they were reached.
    fn refuse_secret(&self, real: &Path) -> Result<(), Problem> {
        if self.area != Area::Whole && real.starts_with(self.root.join("data").join(credentials::DIRECTORY)) {
            return Err(Problem::new(
                Kind::OutsideTree,
                format!(
                    "{} belongs to the device's credentials; it takes a token with the scope whole-tree",
                    self.path
                ),
            ));
        }
        Ok(())
    }
}

/// Whether `name` is that of a service's output: `web.log`, `web.err`, also numbered older ones such as `web.log.1`.
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
    fn logs_are_known_by_their_names() {
        for name in ["web.log", "web.err", "a.b.log", "web.log.1", "web.err.12"] {
            assert!(is_log(OsStr::new(name)), "{name}");
        }
        for name in ["web", "log", ".log", "web.txt", "web.log.gz", "web.1", "web.log."] {
            assert!(!is_log(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn only_data_and_logs_without_the_scope() {
        let find = |tail: &str, whole| {
            Place::find(Path::new("/"), TreePath::from_url(tail).unwrap(), whole)
                .map_err(|problem| problem.kind())
        };
        for tail in ["data", "data/x", "tmp", "tmp/web.log"] {
            assert!(find(tail, false).is_ok(), "{tail}");
        }
        for tail in ["", "etc/passwd", "tmp/secret", "database", "proc/1/mem"] {
            assert_eq!(find(tail, false).unwrap_err(), Kind::OutsideTree, "{tail}");
            assert!(find(tail, true).is_ok(), "{tail}");
        }
    }
}
