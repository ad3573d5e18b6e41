//! Files with holes: regions of data and of holes, and copies that keep the holes.
//!
//! Source: lseek(2), `SEEK_DATA` and `SEEK_HOLE`. A file system without them reports one run of data.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Bytes moved at once.
pub(crate) const CHUNK: usize = 1 << 20;

/// A run of bytes of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// From and to, in bytes.
    pub(crate) range: Range<u64>,
    /// True if bytes are stored; a hole reads as zeros.
    pub(crate) data: bool,
}

/// Returns the whole of `file` as regions, in order and without gaps. The file's position changes.
pub(crate) fn regions(file: &File) -> io::Result<Vec<Region>> {
    let len = file.metadata()?.len();
    let mut regions = Vec::new();
    let mut at = 0;
    while at < len {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.min(len),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => len,
            Err(error) => return Err(error.into()),
        };
        if start > at {
            regions.push(Region { range: at..start, data: false });
        }
        if start == len {
            break;
        }
        let end = seek(file, SeekFrom::Hole(start))?.min(len);
        regions.push(Region { range: start..end, data: true });
        at = end;
    }
    Ok(regions)
}

/// Cuts `range` into pieces of at most [`CHUNK`] bytes.
pub(crate) fn chunks(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    range.clone().step_by(CHUNK).map(move |start| start..range.end.min(start + CHUNK as u64))
}

/// Makes `to` equal to `from`, holes included. `to` must be empty.
pub(crate) fn copy(from: &File, to: &File) -> io::Result<()> {
    to.set_len(from.metadata()?.len())?;
    let mut buffer = vec![0; CHUNK];
    for region in regions(from)?.into_iter().filter(|region| region.data) {
        for chunk in chunks(region.range) {
            let bytes = &mut buffer[..(chunk.end - chunk.start) as usize];
            from.read_exact_at(bytes, chunk.start)?;
            to.write_all_at(bytes, chunk.start)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(5 << 20).unwrap();
        file.write_all_at(&[7; 4096], 1 << 20).unwrap();
        file.write_all_at(&[8; 8192], 3 << 20).unwrap();
        file
    }

    #[test]
    fn regions_cover_the_file() {
        let file = sparse();
        let regions = regions(&file).unwrap();
        let mut at = 0;
        for region in &regions {
            assert_eq!(region.range.start, at);
            assert!(region.range.end > at);
            at = region.range.end;
        }
        assert_eq!(at, 5 << 20);
        let data = regions.iter().filter(|region| region.data);
        assert_eq!(data.map(|region| region.range.start).collect::<Vec<_>>(), [1 << 20, 3 << 20]);
    }

    #[test]
    fn empty_file_has_no_regions_and_a_hole_has_one() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(regions(&file).unwrap(), []);
        file.set_len(1000).unwrap();
        assert_eq!(regions(&file).unwrap(), [Region { range: 0..1000, data: false }]);
    }

    #[test]
    fn copy_is_equal_and_keeps_holes() {
        let (from, to) = (sparse(), tempfile::tempfile().unwrap());
        copy(&from, &to).unwrap();
        let read = |file: &File| {
            let mut bytes = vec![0; 5 << 20];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(read(&from) == read(&to));
        assert_eq!(regions(&from).unwrap(), regions(&to).unwrap());
    }

    #[test]
    fn chunks_end_where_the_range_does() {
        let size = CHUNK as u64;
        assert_eq!(chunks(5..size + 9).collect::<Vec<_>>(), [5..size + 5, size + 5..size + 9]);
        assert_eq!(chunks(3..3).count(), 0);
    }
}
