//! The first stage's archive: cpio in the `newc` format, compressed by zstd, as Linux unpacks it at boot.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst` and
//! `lib/decompress_unzstd.c` (one frame, window of at most 128 MiB).

use std::io::{self, Read, Write};

use cpio::newc::{self, ModeFileType};

use super::tree::{Content, Node, Tree};

/// Window of the compression: the kernel needs 2²³ bytes (8 MiB) to decompress it, which every board has.
const WINDOW_LOG: u32 = 23;

/// A failure to write an archive.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A file of the host cannot be read.
    #[error("failed to read {file} for `{path}` of the initramfs")]
    Read {
        /// The host's file.
        file: String,
        /// Its path in the archive.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// A file is too large: cpio has 32 bits for a size.
    #[error("`{path}` of the initramfs has {len} bytes, cpio allows less than 4 GiB")]
    TooLarge {
        /// Its path in the archive.
        path: String,
        /// Its size.
        len: u64,
    },
    /// The level is not one of zstd's.
    #[error("{0} is not a zstd level; the levels are 1 to 22")]
    Level(i32),
    /// The output cannot be written.
    #[error("failed to write the initramfs")]
    Write(#[from] io::Error),
}

/// Writes `tree` as a compressed archive to `out`, at a zstd `level` of 1 to 22. All times are 0.
///
/// Directories come in front of their content, as the kernel requires. Nothing is added: a first stage that needs a console
/// before it mounts devtmpfs has `/dev/console` (5, 1) in its tree.
pub fn write<W: Write>(tree: &Tree, level: i32, out: W) -> Result<W, InitramfsError> {
    if !(1..=22).contains(&level) {
        return Err(InitramfsError::Level(level));
    }
    let mut encoder = zstd::Encoder::new(out, level)?;
    encoder.include_checksum(true)?;
    encoder.window_log(WINDOW_LOG)?;
    write_archive(tree, &mut encoder)?;
    Ok(encoder.finish()?)
}

/// Writes `tree` as an uncompressed archive to `out`.
fn write_archive<W: Write>(tree: &Tree, mut out: W) -> Result<(), InitramfsError> {
    let entries = tree.iter().filter(|(path, _)| path.parent().is_some());
    for (inode, (path, entry)) in (1..).zip(entries) {
        let name = path.as_str().trim_start_matches('/');
        let builder = newc::Builder::new(name)
            .ino(inode)
            .uid(entry.uid)
            .gid(entry.gid)
            .mode(u32::from(entry.mode))
            .nlink(1);
        match &entry.node {
            Node::Directory => {
                builder.set_mode_file_type(ModeFileType::Directory).write(&mut out, 0).finish()?;
            }
            Node::Symlink(target) => {
                let len = target.len() as u32;
                let mut writer = builder.set_mode_file_type(ModeFileType::Symlink).write(&mut out, len);
                writer.write_all(target.as_bytes())?;
                writer.finish()?;
            }
            Node::CharacterDevice { major, minor } => {
                let builder = builder.rdev_major(*major).rdev_minor(*minor);
                builder.set_mode_file_type(ModeFileType::Char).write(&mut out, 0).finish()?;
            }
            Node::File(content) => {
                let builder = builder.set_mode_file_type(ModeFileType::Regular);
                write_file(builder, path.as_str(), content, &mut out)?;
            }
        }
    }
    newc::trailer(&mut out)?;
    Ok(())
}

fn write_file<W: Write>(
    builder: newc::Builder,
    path: &str,
    content: &Content,
    out: &mut W,
) -> Result<(), InitramfsError> {
    let failed = |source| InitramfsError::Read { file: content.to_string(), path: path.to_owned(), source };
    let len = content.len().map_err(failed)?;
    let mut reader = content.open().map_err(failed)?.take(len);
    let size = u32::try_from(len).map_err(|_| InitramfsError::TooLarge { path: path.to_owned(), len })?;
    let mut writer = builder.write(out, size);
    let mut buffer = vec![0; 64 << 10];
    let mut left = len;
    while left > 0 {
        match reader.read(&mut buffer) {
            Ok(0) => {
                return Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")));
            }
            Ok(count) => {
                writer.write_all(&buffer[..count])?;
                left -= count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::Entry;

    fn tree() -> Tree {
        let mut tree = Tree::new();
        tree.add("/init", Entry::executable(Content::Bytes(b"program".to_vec())), "test").unwrap();
        tree.add("/dev/console", Entry::character_device(5, 1), "test").unwrap();
        tree.add("/bin/sh", Entry::symlink("/init"), "test").unwrap();
        tree
    }

    #[test]
    fn archive_is_one_frame_and_reads_back() {
        let bytes = write(&tree(), 3, Vec::new()).unwrap();
        assert_eq!(zstd::zstd_safe::find_frame_compressed_size(&bytes), Ok(bytes.len()));
        let mut archive = &zstd::decode_all(&bytes[..]).unwrap()[..];
        let mut found = Vec::new();
        loop {
            let mut reader = newc::Reader::new(archive).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = String::new();
            reader.read_to_string(&mut content).unwrap();
            let entry = reader.entry();
            found.push((entry.name().to_owned(), entry.mode(), entry.rdev_major(), content));
            archive = reader.finish().unwrap();
        }
        let expected = [
            ("bin", 0o40755, 0, ""),
            ("bin/sh", 0o120777, 0, "/init"),
            ("dev", 0o40755, 0, ""),
            ("dev/console", 0o20600, 5, ""),
            ("init", 0o100755, 0, "program"),
        ];
        assert_eq!(found, expected.map(|(name, mode, major, text)| (name.into(), mode, major, text.into())));
    }

    #[test]
    fn equal_trees_give_equal_bytes() {
        assert_eq!(write(&tree(), 3, Vec::new()).unwrap(), write(&tree(), 3, Vec::new()).unwrap());
    }

    #[test]
    fn unreadable_file_is_named() {
        let mut tree = Tree::new();
        let missing = Content::File("/nonexistent/module.ko".into());
        tree.add("/lib/module.ko", Entry::file(missing), "test").unwrap();
        assert_eq!(
            write(&tree, 3, Vec::new()).unwrap_err().to_string(),
            "failed to read /nonexistent/module.ko for `/lib/module.ko` of the initramfs"
        );
        assert!(matches!(write(&tree, 23, Vec::new()), Err(InitramfsError::Level(23))));
    }
}
