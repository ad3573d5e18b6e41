//! The table `files`: additional files of the root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::names;
use super::table::{Table, shown};
use crate::failure::Failure;

/// Where no file may be put, and why.
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

/// How deep folders may be nested; a symbolic link to a parent folder would have no end.
const MAX_DEPTH: usize = 32;

/// How many files there may be: a folder such as `/` is a mistake that would take minutes to list.
const MAX_FILES: usize = 100_000;

/// Adds the files that `table` names. A folder stands for all files below it.
pub fn apply(table: &Table<'_>, files: &mut BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    for destination in table.names() {
        names::device_path(destination)
            .map_err(|expected| table.invalid(destination, format!("must be {expected}")))?;
        let below = |folder: &str| Path::new(destination).starts_with(folder);
        if let Some((folder, why)) = RESERVED.iter().find(|(folder, _)| below(folder)) {
            let problem = match *folder == destination {
                true => format!("cannot be a file: {folder} {why}"),
                false => format!("cannot be in {folder}, which {why}"),
            };
            return Err(table.invalid(destination, problem));
        }
        let Some(source) = table.string(destination)? else { continue };
        let source = table.folder().join(source);
        add(destination, &source, 0, files).map_err(|problem| table.invalid(destination, problem))?;
    }
    let mut nested = files.keys().filter(|file| {
        let mut parents = Path::new(file).ancestors().skip(1).filter_map(Path::to_str);
        parents.any(|parent| files.contains_key(parent))
    });
    match nested.next() {
        Some(file) => Err(table.itself_invalid(format!("puts `{file}` below another file"))),
        None => Ok(()),
    }
}

/// Adds `source`, or every file below it.
fn add(
    destination: &str,
    source: &Path,
    depth: usize,
    files: &mut BTreeMap<String, PathBuf>,
) -> Result<(), String> {
    let problem = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("is {}, which does not exist", shown(source).display()),
        _ => format!("is {}, which cannot be read: {error}", shown(source).display()),
    };
    let kind = fs::metadata(source).map_err(problem)?;
    if kind.is_file() {
        if files.len() >= MAX_FILES {
            return Err(format!("makes it more than {MAX_FILES} files"));
        }
        files.insert(destination.to_owned(), source.to_owned());
        return Ok(());
    }
    if !kind.is_dir() {
        return Err(format!("is {}, which is neither a file nor a folder", shown(source).display()));
    }
    if depth == MAX_DEPTH {
        return Err(format!("is nested too deep at {}", shown(source).display()));
    }
    for entry in fs::read_dir(source).map_err(problem)? {
        let entry = entry.map_err(problem)?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(format!("has a file whose name is not UTF-8: {}", entry.path().display()));
        };
        add(&format!("{destination}/{name}"), &entry.path(), depth + 1, files)?;
    }
    Ok(())
}
