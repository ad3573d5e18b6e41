//! Containers of a kernel's files: a `.deb`, a tar archive, a directory, or a bare image.
//!
//! A Debian package (deb(5)) is an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*`; `dpkg`
//! fixes their order and allows names of up to 15 bytes, so the few fields needed are read here, bounded, in
//! place of a general `ar` reader. Compression is told from the content, never from a name.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use lzma_rust2::XzReader;

use super::error::ArchiveError;
use crate::failure::Result;
use crate::files::{MAX_FILE, MAX_UNPACKED, io_failure, sorted_entries};

/// `xz -9` needs a dictionary of 64 MiB; more than this is refused before it is allocated.
const XZ_MEMORY_KIB: u32 = 256 << 10;
/// zstd's largest window without `--long` is 2^27 bytes; the same limit as its own tool has.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Limit of everything in front of one file of a tar archive. tar keeps long names and extended headers in memory.
const MAX_HEADERS: u64 = 1 << 20;

const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
const GZIP: &[u8] = b"\x1f\x8b";
const DEB: &[u8] = b"!<arch>\n";

/// Receives every regular file of an archive: its path with `/` between the parts, its size in bytes (that of
/// the stored file), its content. The path is unchecked.
pub(crate) type Visitor<'v> = dyn FnMut(&str, u64, &mut dyn Read) -> Result<()> + 'v;

/// A source of files.
#[derive(Debug)]
pub(crate) enum Archive {
    /// A Debian package.
    Deb(PathBuf),
    /// Debian packages that make one kernel together: the name and the file of each.
    Packages(Vec<(String, PathBuf)>),
    /// A tar archive, plain or compressed with zstd or xz.
    Tar(PathBuf),
    /// A directory.
    Directory(PathBuf),
    /// A file that is taken for a kernel image; as an archive it holds itself, called `vmlinuz`.
    Image(PathBuf),
}

impl Archive {
    /// Returns the archive at `path`, of the kind that its first bytes tell.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(io_failure("read", path))?;
        if metadata.is_dir() {
            return Ok(Archive::Directory(path.to_owned()));
        }
        let mut file = File::open(path).map_err(io_failure("read", path))?;
        let mut start = Vec::new();
        file.by_ref().take(512).read_to_end(&mut start).map_err(io_failure("read", path))?;
        let is_tar = start.get(257..262) == Some(b"ustar");
        Ok(if start.starts_with(DEB) {
            Archive::Deb(path.to_owned())
        } else if is_tar || start.starts_with(ZSTD) || start.starts_with(XZ) {
            Archive::Tar(path.to_owned())
        } else {
            Archive::Image(path.to_owned())
        })
    }

    /// Calls `visit` with every regular file, in the archive's order; a directory's in the order of names.
    ///
    /// Links, devices and directories are not visited.
    pub(crate) fn visit(&self, visit: &mut Visitor<'_>) -> Result<()> {
        match self {
            Archive::Deb(path) => visit_deb(path, visit),
            Archive::Packages(packages) => packages.iter().try_for_each(|(_, path)| visit_deb(path, visit)),
            Archive::Tar(path) => {
                let file = File::open(path).map_err(io_failure("read", path))?;
                visit_tar(decompressed(file).map_err(|why| damaged(path, why))?, path, visit)
            }
            Archive::Directory(path) => visit_directory(path, "", visit),
            Archive::Image(path) => {
                let mut file = File::open(path).map_err(io_failure("read", path))?;
                let size = file.metadata().map_err(io_failure("read", path))?.len();
                visit("vmlinuz", size, &mut file)
            }
        }
    }
}

/// Reads a file that [`Archive::visit`] visits.
pub(super) fn content(path: &str, size: u64, reader: &mut dyn Read) -> Result<Vec<u8>, ArchiveError> {
    if size > MAX_FILE {
        return Err(ArchiveError::TooLarge { path: path.to_owned(), bytes: size });
    }
    let mut content = Vec::new();
    match reader.take(MAX_FILE).read_to_end(&mut content) {
        Ok(_) => Ok(content),
        Err(error) => Err(ArchiveError::File { path: path.to_owned(), error }),
    }
}

fn damaged(path: &Path, error: io::Error) -> ArchiveError {
    ArchiveError::Damaged { path: path.to_owned(), error }
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// The `data.tar.*` member of a Debian package, still compressed.
pub(crate) fn deb_data<R: Read + Seek>(mut file: R) -> io::Result<io::Take<R>> {
    let mut magic = [0; DEB.len()];
    file.read_exact(&mut magic)?;
    if magic != DEB {
        return Err(invalid("not a Debian package"));
    }
    // Three members make a package; a few more (signatures) are tolerated.
    for _ in 0..8 {
        let mut header = [0; 60];
        if let Err(error) = file.read_exact(&mut header) {
            let ended = error.kind() == io::ErrorKind::UnexpectedEof;
            return Err(if ended { invalid("the package has no data.tar") } else { error });
        }
        let field = |range: std::ops::Range<usize>| str::from_utf8(&header[range]).unwrap_or("").trim_end();
        let size: u64 = field(48..58).parse().map_err(|_| invalid("damaged member header"))?;
        if header[58..] != *b"`\n" {
            return Err(invalid("damaged member header"));
        }
        if field(0..16).trim_end_matches('/').starts_with("data.tar") {
            return Ok(file.take(size));
        }
        let skip = i64::try_from(size + size % 2).map_err(|_| invalid("damaged member header"))?;
        file.seek(SeekFrom::Current(skip))?;
    }
    Err(invalid("the package has no data.tar"))
}

/// Decompresses xz and zstd; returns anything else unchanged.
pub(crate) fn decompressed<'r, R: Read + 'r>(reader: R) -> io::Result<Box<dyn Read + 'r>> {
    let mut reader = BufReader::with_capacity(256 << 10, reader);
    let mut start = Vec::with_capacity(6);
    reader.by_ref().take(6).read_to_end(&mut start)?;
    let whole = io::Cursor::new(start.clone()).chain(reader);
    if start.starts_with(XZ) {
        Ok(Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY_KIB)))
    } else if start.starts_with(ZSTD) {
        let mut decoder = zstd::Decoder::new(whole)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        Ok(Box::new(decoder))
    } else if start.starts_with(GZIP) {
        Err(invalid("it is compressed with gzip; xz, zstd and no compression are understood"))
    } else {
        Ok(Box::new(whole))
    }
}

fn visit_deb(path: &Path, visit: &mut Visitor<'_>) -> Result<()> {
    let file = File::open(path).map_err(io_failure("read", path))?;
    let data = deb_data(file).map_err(|why| damaged(path, why))?;
    visit_tar(decompressed(data).map_err(|why| damaged(path, why))?, path, visit)
}

pub(crate) fn visit_tar(stream: impl Read, path: &Path, visit: &mut Visitor<'_>) -> Result<()> {
    let damaged = |error: io::Error| damaged(path, error);
    // One byte beyond the limit tells "too large" from "just fits".
    let mut stream = stream.take(MAX_UNPACKED + 1);
    let left = Cell::new(MAX_HEADERS);
    let mut tar = tar::Archive::new(Metered { reader: &mut stream, left: &left });
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        if !kind.is_file() && kind != tar::EntryType::Continuous {
            // tar skips its content on the way to the next header.
            let skipped = entry.header().entry_size().map_err(damaged)?;
            left.set(skipped.saturating_add(MAX_HEADERS));
            continue;
        }
        left.set(u64::MAX);
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| damaged(invalid("a file's name is not UTF-8")))?;
        let size = entry.size();
        visit(name.trim_start_matches("./"), size, &mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
        left.set(MAX_HEADERS);
    }
    if stream.limit() == 0 {
        return Err(damaged(invalid(format!("it holds more than {} GiB", MAX_UNPACKED >> 30))).into());
    }
    Ok(())
}

/// A reader that fails when nothing is left of its allowance.
struct Metered<'m, R> {
    reader: R,
    /// Bytes.
    left: &'m Cell<u64>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left.get()).map_or(buffer.len(), |left| left.min(buffer.len()));
        if len == 0 && !buffer.is_empty() {
            return Err(invalid("a file's name and headers are longer than 1 MiB"));
        }
        let read = self.reader.read(&mut buffer[..len])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

fn visit_directory(root: &Path, below: &str, visit: &mut Visitor<'_>) -> Result<()> {
    for (name, path, metadata) in sorted_entries(&root.join(below))? {
        let inner = if below.is_empty() { name } else { format!("{below}/{name}") };
        if metadata.is_dir() {
            visit_directory(root, &inner, visit)?;
        } else if metadata.is_file() {
            let mut file = File::open(&path).map_err(io_failure("read", &path))?;
            visit(&inner, metadata.len(), &mut file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod testing {
    //! Archives for tests.

    use std::io::Write;

    /// A tar archive of `files`.
    pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            // Not `set_path`, which refuses the traversals some tests need.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// `content` compressed with xz.
    pub(crate) fn xz(content: &[u8]) -> Vec<u8> {
        let mut writer =
            lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    /// A Debian package with `files`.
    pub(crate) fn deb(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut deb = b"!<arch>\n".to_vec();
        let control = b"odd".to_vec();
        for (name, content) in [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar.xz", control),
            ("data.tar.xz", xz(&tar(files))),
        ] {
            writeln!(deb, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, "100644", content.len())
                .unwrap();
            deb.extend_from_slice(&content);
            if content.len() % 2 == 1 {
                deb.push(b'\n');
            }
        }
        deb
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::failure::Failure;

    fn contents(archive: &Archive) -> Result<Vec<(String, Vec<u8>)>> {
        let mut found = Vec::new();
        archive.visit(&mut |path, size, reader| {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).map_err(Failure::other)?;
            assert_eq!(content.len() as u64, size);
            found.push((path.to_owned(), content));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn every_kind_gives_its_files() {
        let files: &[(&str, &[u8])] = &[("./a/x", b"1"), ("b", b"22")];
        let expected = [("a/x".to_owned(), b"1".to_vec()), ("b".to_owned(), b"22".to_vec())];
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("x.deb"), testing::deb(files)).unwrap();
        std::fs::write(at("x.tar"), testing::tar(files)).unwrap();
        std::fs::write(at("x.tar.zst"), zstd::encode_all(&testing::tar(files)[..], 1).unwrap()).unwrap();
        std::fs::create_dir_all(at("directory/a")).unwrap();
        std::fs::write(at("directory/a/x"), "1").unwrap();
        std::fs::write(at("directory/b"), "22").unwrap();
        for name in ["x.deb", "x.tar", "x.tar.zst", "directory"] {
            assert_eq!(contents(&Archive::open(&at(name)).unwrap()).unwrap(), expected, "{name}");
        }
        std::fs::write(at("bzImage"), "other").unwrap();
        let image = contents(&Archive::open(&at("bzImage")).unwrap()).unwrap();
        assert_eq!(image, [("vmlinuz".to_owned(), b"other".to_vec())]);
    }

    #[test]
    fn damage_is_reported_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.deb");
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            contents(&Archive::open(&path).unwrap()).unwrap_err().to_string()
        };
        let deb = testing::deb(&[("a", &[7; 9000])]);
        assert!(error(&deb[..deb.len() - 40]).contains("x.deb: "), "{}", error(&deb[..deb.len() - 40]));
        assert!(error(b"!<arch>\n").ends_with("the package has no data.tar"));
        assert!(error(&[&deb[..8], &[b'z'; 60]].concat()).ends_with("damaged member header"));
        let gz = [&deb[..8], b"data.tar.gz     0           0     0     100644  4         `\n\x1f\x8b\0\0"];
        assert!(error(&gz.concat()).contains("compressed with gzip"));
    }

    #[test]
    fn long_names_are_bounded() {
        let names = |len: usize| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::GNULongName);
            header.set_size(len as u64);
            header.set_cksum();
            builder.append(&header, io::repeat(b'a').take(len as u64)).unwrap();
            let file = testing::tar(&[("b", b"22")]);
            let tar = [&builder.into_inner().unwrap()[..512 + len.next_multiple_of(512)], &file].concat();
            let mut found = Vec::new();
            visit_tar(&tar[..], Path::new("x.tar"), &mut |path, _, _| {
                found.push(path.len());
                Ok(())
            })
            .map(|()| found)
            .map_err(|error| error.to_string())
        };
        assert_eq!(names(3000), Ok(vec![3000]));
        let error = names(2 << 20).unwrap_err();
        assert!(error.contains("x.tar: ") && error.contains("longer than 1 MiB"), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_package_never_panics(at in any::<proptest::sample::Index>(), byte: u8) {
            let mut deb = testing::deb(&[("boot/vmlinuz", b"abcdefgh")]);
            let at = at.index(deb.len());
            deb[at] = byte;
            if let Ok(data) = deb_data(io::Cursor::new(&deb)).and_then(decompressed) {
                let _ = visit_tar(data, Path::new("x"), &mut |_, _, reader| {
                    io::copy(reader, &mut io::sink()).map_err(Failure::other)?;
                    Ok(())
                });
            }
        }
    }
}
