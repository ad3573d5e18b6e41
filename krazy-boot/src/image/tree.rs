//! The description of a file system's content: an ordered tree in memory, which the other modules write.
//!
//! File contents can stay on the host until they are written, so a tree of large programs is small. Not supported:
//! extended attributes, hard links, sockets, named pipes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

/// Limit of one path component in bytes. Source: `NAME_MAX` of Linux; SquashFS, ext4 and FAT have the same.
const MAX_NAME: usize = 255;

/// Limit of a path in bytes. Source: `PATH_MAX` of Linux without its terminating NUL.
const MAX_PATH: usize = 4095;

/// The bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a file of the host, read when the tree is written.
    File(PathBuf),
}

impl Content {
    /// Opens the content for reading from its start.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(match self {
            Content::Bytes(bytes) => Box::new(Cursor::new(bytes.as_slice())),
            Content::File(path) => Box::new(File::open(path)?),
        })
    }

    /// Returns the present number of bytes.
    #[cfg(feature = "image")]
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
            Content::File(path) => Ok(path.metadata()?.len()),
        }
    }
}

/// Prints the host's path, or the number of bytes in memory.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Bytes(bytes) => write!(f, "{} bytes in memory", bytes.len()),
            Content::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The kind and content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory. Its children are entries of the tree.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link with its target, which is not checked.
    Symlink(String),
    /// A character device.
    CharacterDevice {
        /// Major number, below 4096.
        major: u32,
        /// Minor number, below 2²⁰.
        minor: u32,
    },
}

/// A node with its permissions and owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its kind and content.
    pub node: Node,
    /// Permission bits, `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Entry {
    /// Returns a directory of root, mode 0755.
    pub fn directory() -> Self {
        Entry { node: Node::Directory, mode: 0o755, uid: 0, gid: 0 }
    }

    /// Returns a file of root, mode 0644.
    pub fn file(content: Content) -> Self {
        Entry { node: Node::File(content), mode: 0o644, uid: 0, gid: 0 }
    }

    /// Returns a file of root, mode 0755.
    pub fn executable(content: Content) -> Self {
        Entry::file(content).mode(0o755)
    }

    /// Returns a symbolic link of root.
    pub fn symlink(target: impl Into<String>) -> Self {
        Entry { node: Node::Symlink(target.into()), mode: 0o777, uid: 0, gid: 0 }
    }

    /// Returns a character device of root, mode 0600.
    pub fn character_device(major: u32, minor: u32) -> Self {
        Entry { node: Node::CharacterDevice { major, minor }, mode: 0o600, uid: 0, gid: 0 }
    }

    /// Returns the entry with other permission bits; bits above `0o7777` are dropped.
    #[must_use]
    pub fn mode(self, mode: u16) -> Self {
        Entry { mode: mode & 0o7777, ..self }
    }

    /// Returns the entry with another owner.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Entry { uid, gid, ..self }
    }
}

/// An absolute path inside a tree, such as `/etc/hostname`; the root is `/`.
///
/// Ordered by components, so that the content of a directory directly follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreePath(String);

impl TreePath {
    /// Checks `path`. Repeated and trailing slashes are dropped; `.` and `..` are rejected.
    pub(crate) fn new(path: &str) -> Result<Self, TreeError> {
        let invalid = |reason: &'static str| TreeError::Path { path: path.to_owned(), reason: reason.into() };
        if !path.starts_with('/') {
            return Err(invalid("it is not absolute"));
        }
        let mut clean = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match name {
                "." | ".." => return Err(invalid("it contains `.` or `..`")),
                _ if name.contains('\0') => return Err(invalid("it contains a NUL character")),
                _ if name.len() > MAX_NAME => {
                    let reason = format!("a name has {} bytes, {MAX_NAME} are possible", name.len());
                    return Err(TreeError::Path { path: path.to_owned(), reason: reason.into() });
                }
                _ => {
                    clean.push('/');
                    clean.push_str(name);
                }
            }
        }
        if clean.is_empty() {
            clean.push('/');
        }
        if clean.len() > MAX_PATH {
            return Err(invalid("it is longer than 4095 bytes"));
        }
        Ok(TreePath(clean))
    }

    /// Returns the text, with a leading slash and without a trailing one, except for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the components without slashes; none for the root.
    pub(crate) fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// Returns the last component; `None` for the root.
    pub fn name(&self) -> Option<&str> {
        self.components().last()
    }

    /// Returns the parent directory; `None` for the root.
    pub(crate) fn parent(&self) -> Option<TreePath> {
        match self.0.rsplit_once('/')? {
            ("", "") => None,
            ("", _) => Some(TreePath("/".into())),
            (parent, _) => Some(TreePath(parent.into())),
        }
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An entry that cannot be added to a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The path is not allowed.
    #[error("`{path}` cannot be a path in the image: {reason}")]
    Path {
        /// The path as given.
        path: String,
        /// The defect.
        reason: Cow<'static, str>,
    },
    /// The path exists already.
    #[error("`{path}` comes from both {first} and {second}")]
    Duplicate {
        /// The path in the tree.
        path: String,
        /// The origin of the first entry.
        first: String,
        /// The origin of the second entry.
        second: String,
    },
    /// A parent of the path is not a directory.
    #[error(
        "`{path}` from {second} would be inside `{parent}`, which {first} made something else than a directory"
    )]
    NotADirectory {
        /// The path in the tree.
        path: String,
        /// The part of it that is not a directory.
        parent: String,
        /// The origin of the parent.
        first: String,
        /// The origin of the path.
        second: String,
    },
}

/// An entry with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TreeEntry {
    entry: Entry,
    /// `None` for a directory that was made for an entry inside it; its mode and owner can still be set.
    origin: Option<String>,
}

/// The content of a file system. It always has a root directory and the parents of all entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<TreePath, TreeEntry>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// Returns a tree with only a root directory, mode 0755.
    pub fn new() -> Self {
        let root = TreeEntry { entry: Entry::directory(), origin: None };
        Tree { entries: BTreeMap::from([(TreePath("/".into()), root)]) }
    }

    /// Adds `entry` at `path`, and the missing directories above it (owned by root, mode 0755).
    ///
    /// Errors name the `origin` of an entry, such as `package dufs`. An equal directory can be added again; one that was
    /// made for an entry inside it gets mode and owner of the new entry.
    pub fn add(&mut self, path: &str, entry: Entry, origin: impl Into<String>) -> Result<(), TreeError> {
        let path = TreePath::new(path)?;
        let origin = origin.into();
        let mut missing = Vec::new();
        let mut above = path.parent();
        while let Some(parent) = above {
            match self.entries.get(&parent) {
                Some(TreeEntry { entry: Entry { node: Node::Directory, .. }, .. }) => break,
                Some(found) => {
                    return Err(TreeError::NotADirectory {
                        path: path.0,
                        parent: parent.0,
                        first: found.origin.clone().unwrap_or_default(),
                        second: origin,
                    });
                }
                None => {
                    above = parent.parent();
                    missing.push(parent);
                }
            }
        }
        if let Some(found) = self.entries.get(&path) {
            let directories = found.entry.node == Node::Directory && entry.node == Node::Directory;
            let first = match &found.origin {
                None if directories => None,
                Some(_) if directories && found.entry == entry => return Ok(()),
                Some(first) => Some(first.clone()),
                None => Some(self.first_inside(&path)),
            };
            if let Some(first) = first {
                return Err(TreeError::Duplicate { path: path.0, first, second: origin });
            }
        }
        for parent in missing {
            self.entries.insert(parent, TreeEntry { entry: Entry::directory(), origin: None });
        }
        self.entries.insert(path, TreeEntry { entry, origin: Some(origin) });
        Ok(())
    }

    /// Returns all entries, directories in front of their content. The first one is the root.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Entry)> {
        self.entries.iter().map(|(path, placed)| (path, &placed.entry))
    }

    /// Returns the origin of an entry inside the directory `path`, which was made for it.
    fn first_inside(&self, path: &TreePath) -> String {
        self.entries
            .range(path.clone()..)
            .skip(1)
            .find_map(|(_, placed)| placed.origin.clone())
            .unwrap_or_else(|| "the image itself".into())
    }
}

#[cfg(test)]
mod tests;
