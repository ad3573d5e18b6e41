//! The table `files`: additional files of the root.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::Result;
use super::names;
use super::origins::{Origins, shown};

/// Directories that no file may be put into, with the reason.
const RESERVED: [(&str, &str); 9] = [
    ("/bin", "holds the services; use `install`"),
    ("/proc", "is a mount point"),
    ("/sys", "is a mount point"),
    ("/dev", "is a mount point"),
    ("/tmp", "is a mount point"),
    ("/run", "is a mount point"),
    ("/boot", "is a mount point"),
    ("/data", "is a mount point"),
    ("/etc/krazy", "belongs to cargo krazy"),
];

/// The deepest nesting of directories; a symbolic link to a parent directory would have no end.
const MAX_DEPTH: usize = 32;

/// The most files there may be: a directory such as `/` is a mistake that would take minutes to list.
const MAX_FILES: usize = 100_000;

/// Returns all files of the table: path on the device and file of the host. A directory stands for all files in it.
pub(crate) fn list(table: &BTreeMap<String, String>, origins: &Origins) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for (destination, source) in table {
        let path = ["files", destination];
        names::device_path(destination)
            .map_err(|expected| origins.invalid(&path, format!("must be {expected}")))?;
        let below = |dir: &str| Path::new(destination).starts_with(dir);
        if let Some((dir, reason)) = RESERVED.iter().find(|(dir, _)| below(dir)) {
            let problem = match dir == destination {
                true => format!("cannot be a file: {dir} {reason}"),
                false => format!("cannot be in {dir}, which {reason}"),
            };
            return Err(origins.invalid(&path, problem));
        }
        let source = origins.directory(&path).join(source);
        add(destination, &source, 0, &mut files).map_err(|problem| origins.invalid(&path, problem))?;
    }
    let mut nested = files.keys().filter(|file| {
        let mut parents = Path::new(file).ancestors().skip(1).filter_map(Path::to_str);
        parents.any(|parent| files.contains_key(parent))
    });
    match nested.next() {
        Some(file) => Err(origins.table_invalid(&["files"], format!("puts `{file}` below another file"))),
        None => Ok(files),
    }
}

/// A source that the table cannot have. The message is the predicate of a sentence about the key.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("is {}, which does not exist", shown(.0))]
    Missing(PathBuf),
    #[error("is {}, which cannot be read: {error}", shown(path))]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("makes it more than {MAX_FILES} files")]
    TooMany,
    #[error("is {}, which is neither a file nor a directory", shown(.0))]
    Special(PathBuf),
    #[error("is nested too deep at {}", shown(.0))]
    TooDeep(PathBuf),
    #[error("has a file whose name is not UTF-8: {}", .0.display())]
    NotUtf8(PathBuf),
}

/// Adds `source`, or every file below it.
fn add(
    destination: &str,
    source: &Path,
    depth: usize,
    files: &mut BTreeMap<String, PathBuf>,
) -> std::result::Result<(), FileError> {
    let problem = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing(source.to_owned()),
        _ => FileError::Unreadable { path: source.to_owned(), error },
    };
    let kind = fs::metadata(source).map_err(problem)?;
    if kind.is_file() {
        if files.len() >= MAX_FILES {
            return Err(FileError::TooMany);
        }
        files.insert(destination.to_owned(), source.to_owned());
        return Ok(());
    }
    if !kind.is_dir() {
        return Err(FileError::Special(source.to_owned()));
    }
    if depth == MAX_DEPTH {
        return Err(FileError::TooDeep(source.to_owned()));
    }
    for entry in fs::read_dir(source).map_err(problem)? {
        let entry = entry.map_err(problem)?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(FileError::NotUtf8(entry.path()));
        };
        add(&format!("{destination}/{name}"), &entry.path(), depth + 1, files)?;
    }
    Ok(())
}
