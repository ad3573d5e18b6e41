//! One partition of an image file or block device, accessed as a file of its own.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::disk::layout::Extent;
use crate::disk::size::Bytes;

/// Unit of holes: a block of ext4, tmpfs, XFS and Btrfs, and a page.
const BLOCK: usize = 4096;

/// Unit in which the file is searched for zeros.
const ZERO_RUN: usize = 16 * BLOCK;

static ZEROS: [u8; ZERO_RUN] = [0; ZERO_RUN];

/// A byte range of a file, read and written as if it were a whole file. The file must be open for both.
///
/// Accesses give their position (`pread`, `pwrite`), so different threads can use windows on different ranges of one file.
/// Access beyond the range is an error, never a write to the next partition.
///
/// Zeros are written only over other content: a new image file stays sparse, and a used one, or a device, gets the same
/// content. To find out, a window reads the file, unless it is [`fresh`](Window::fresh).
#[derive(Debug)]
pub struct Window<'a> {
    file: &'a File,
    start: u64,
    len: u64,
    position: u64,
    /// Of a fresh window: flags of the pieces of [`ZERO_RUN`] bytes that have been written. The others are zero.
    touched: Option<Vec<bool>>,
}

impl<'a> Window<'a> {
    /// Returns a window on `len` bytes from `start` on.
    pub fn new(file: &'a File, start: Bytes, len: Bytes) -> Self {
        Window { file, start: start.0, len: len.0, position: 0, touched: None }
    }

    /// Returns a window on a partition that consists of zeros, as in a new image file, and that nothing else writes while the
    /// window exists. It does not need to read.
    pub fn fresh(file: &'a File, partition: Extent) -> Self {
        let pieces = partition.len.bytes().0.div_ceil(ZERO_RUN as u64);
        Window { touched: Some(vec![false; pieces as usize]), ..Window::of(file, partition) }
    }

    /// Returns a window on a partition.
    pub fn of(file: &'a File, partition: Extent) -> Self {
        Window::new(file, partition.start.bytes(), partition.len.bytes())
    }

    /// Returns its size.
    pub(crate) fn len(&self) -> Bytes {
        Bytes(self.len)
    }

    /// Fills `buffer` from `position`. Bytes beyond the end of a shorter file are zeros.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.check(position, buffer.len())?;
        if !self.may_have_data(position, buffer.len()) {
            buffer.fill(0);
            return Ok(());
        }
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], self.start + position + done as u64) {
                Ok(0) => {
                    buffer[done..].fill(0);
                    break;
                }
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `buffer` at `position`, except for blocks of zeros that are zeros already.
    pub(crate) fn write_all_at(&mut self, buffer: &[u8], position: u64) -> io::Result<()> {
        self.check(position, buffer.len())?;
        let absolute = self.start + position;
        let mut pending = 0;
        let mut at = 0;
        while at < buffer.len() {
            let zeros = leading_zeros(&buffer[at..], absolute + at as u64);
            if zeros == 0 {
                at = buffer.len().min(at + to_block_end(absolute + at as u64));
            } else if self.is_zero_at(position + at as u64, zeros)? {
                self.write_through(&buffer[pending..at], position + pending as u64)?;
                at += zeros;
                pending = at;
            } else {
                at += zeros;
            }
        }
        self.write_through(&buffer[pending..], position + pending as u64)
    }

    fn write_through(&mut self, buffer: &[u8], position: u64) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let pieces = pieces(position, buffer.len());
        if let Some(touched) = self.touched.as_mut().and_then(|touched| touched.get_mut(pieces)) {
            touched.fill(true);
        }
        self.file.write_all_at(buffer, self.start + position)
    }

    /// Returns true if some of `len` bytes at `position` may be other than zero. Does not read.
    fn may_have_data(&self, position: u64, len: usize) -> bool {
        let touched = self.touched.as_ref().and_then(|touched| touched.get(pieces(position, len)));
        touched.is_none_or(|touched| touched.contains(&true))
    }

    /// Returns true if `len` bytes at `position`, at most [`ZERO_RUN`], are zero.
    fn is_zero_at(&self, position: u64, len: usize) -> io::Result<bool> {
        if !self.may_have_data(position, len) {
            return Ok(true);
        }
        let mut found = [0; ZERO_RUN];
        let found = &mut found[..len];
        self.read_exact_at(found, position)?;
        Ok(*found == ZEROS[..len])
    }

    fn check(&self, position: u64, len: usize) -> io::Result<()> {
        match position.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("access to {len} bytes at {position} of a partition of {} bytes", self.len),
            )),
        }
    }
}

/// Returns the numbers of the pieces of [`ZERO_RUN`] bytes that contain `len` bytes at `position`.
fn pieces(position: u64, len: usize) -> Range<usize> {
    let run = ZERO_RUN as u64;
    (position / run) as usize..(position + len as u64).div_ceil(run) as usize
}

/// Returns the number of bytes from `absolute` to the end of its block.
fn to_block_end(absolute: u64) -> usize {
    BLOCK - absolute as usize % BLOCK
}

/// Returns the length of the whole blocks of zeros at the start of `buffer`, which is at `absolute` in the file. The ends of
/// `buffer` may cut the first and the last block.
fn leading_zeros(buffer: &[u8], absolute: u64) -> usize {
    let mut len = 0;
    while len < buffer.len() {
        let end = buffer.len().min(len + to_block_end(absolute + len as u64));
        if end > ZERO_RUN || buffer[len..end] != ZEROS[len..end] {
            break;
        }
        len = end;
    }
    len
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.len - self.position).unwrap_or(usize::MAX));
        self.read_exact_at(&mut buffer[..count], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_all_at(buffer, self.position)?;
        self.position += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = seek_within(self.position, self.len, to)?;
        Ok(self.position)
    }
}

/// Returns the position of a seek in a file of `len` bytes. Positions beyond the end are rejected.
pub(super) fn seek_within(position: u64, len: u64, to: SeekFrom) -> io::Result<u64> {
    let target = match to {
        SeekFrom::Start(offset) => Some(offset),
        SeekFrom::Current(offset) => position.checked_add_signed(offset),
        SeekFrom::End(offset) => len.checked_add_signed(offset),
    };
    target.filter(|target| *target <= len).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("seek to {to:?} in a partition of {len} bytes"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::disk::size::Sectors;

    fn sparse(len: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn access_beyond_the_window_is_refused() {
        let file = sparse(3 << 20);
        let mut window = Window::new(&file, Bytes::mib(1), Bytes::mib(1));
        window.write_all(b"first").unwrap();
        window.seek(SeekFrom::End(-4)).unwrap();
        assert_eq!(window.write_all(b"last!").unwrap_err().kind(), io::ErrorKind::StorageFull);
        window.write_all(b"last").unwrap();
        assert_eq!(window.read(&mut [0; 8]).unwrap(), 0);
        assert!(window.seek(SeekFrom::Current(1)).is_err());
        assert!(window.seek(SeekFrom::Start(u64::MAX)).is_err());
        let mut bytes = [0; 5];
        file.read_exact_at(&mut bytes, 1 << 20).unwrap();
        assert_eq!(&bytes, b"first");
        file.read_exact_at(&mut bytes, (2 << 20) - 4).unwrap();
        assert_eq!(&bytes, b"last\0");
    }

    #[test]
    fn zeros_leave_holes_and_erase_old_content() {
        let file = sparse(8 << 20);
        leave_holes_and_erase(&file, Window::new(&file, Bytes(512), Bytes::mib(7)));
        let file = sparse(8 << 20);
        leave_holes_and_erase(&file, Window::fresh(&file, Extent { start: Sectors(1), len: Sectors(14336) }));
    }

    fn leave_holes_and_erase(file: &File, mut window: Window<'_>) {
        let mut data = vec![0; 1 << 20];
        data[300_000] = 1;
        window.write_all_at(&data, 1000).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 <= 16384, "{}", file.metadata().unwrap().blocks());
        window.write_all_at(&vec![0; 1 << 20], 1000).unwrap();
        let mut back = vec![1; 1 << 20];
        window.read_exact_at(&mut back, 1000).unwrap();
        assert!(back.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn short_file_reads_as_zeros() {
        let file = sparse(100);
        let mut back = [7; 200];
        Window::new(&file, Bytes(0), Bytes(400)).read_exact_at(&mut back, 50).unwrap();
        assert_eq!(back, [0; 200]);
    }

    proptest::proptest! {
        #[test]
        fn window_returns_what_was_written(
            writes in proptest::collection::vec((0_u64..300_000, 0_usize..150_000, 0_u8..2), 1..12),
        ) {
            let extent = Extent { start: Sectors(3), len: Sectors(900) };
            let (fresh, used) = (sparse(500_000), sparse(500_000));
            let mut windows = [Window::fresh(&fresh, extent), Window::of(&used, extent)];
            let mut expected = vec![0; 900 * 512];
            for (position, len, byte) in writes {
                expected[position as usize..position as usize + len].fill(byte);
                for window in &mut windows {
                    window.write_all_at(&vec![byte; len], position).unwrap();
                }
            }
            for window in &windows {
                let mut found = vec![7; expected.len()];
                window.read_exact_at(&mut found, 0).unwrap();
                proptest::prop_assert!(found == expected);
            }
        }
    }
}
