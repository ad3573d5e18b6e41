//! A small write-back cache over a [`Window`], for file system crates that read and write a few bytes at a time.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::window::{Window, seek_within};

/// Length of a page: long enough to write a file's data in few calls.
const PAGE: usize = 64 << 10;

/// Number of cached pages, 2 MiB in all. A file being written needs its data, its directory and one page of each FAT.
const CAPACITY: usize = 32;

/// A [`Window`] with a cache of recently used pages. What is not [flushed](Write::flush) may be lost.
#[derive(Debug)]
pub struct Paged<'a> {
    window: Window<'a>,
    pages: HashMap<u64, Page>,
    clock: u64,
    position: u64,
}

#[derive(Debug)]
struct Page {
    bytes: Box<[u8]>,
    dirty: bool,
    last_use: u64,
}

impl<'a> Paged<'a> {
    /// Returns an empty cache of `window`.
    pub(crate) fn new(window: Window<'a>) -> Self {
        Paged { window, pages: HashMap::new(), clock: 0, position: 0 }
    }

    /// Fills `buffer` from `position`.
    pub(crate) fn read_exact_at(&mut self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let (number, offset, count) = self.locate(position + done as u64, buffer.len() - done);
            let page = self.page(number)?;
            let part = page.bytes.get(offset..offset + count).ok_or_else(outside)?;
            buffer[done..done + count].copy_from_slice(part);
            done += count;
        }
        Ok(())
    }

    /// Writes all of `buffer` at `position`.
    pub(crate) fn write_all_at(&mut self, buffer: &[u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let (number, offset, count) = self.locate(position + done as u64, buffer.len() - done);
            let page = self.page(number)?;
            let part = page.bytes.get_mut(offset..offset + count).ok_or_else(outside)?;
            part.copy_from_slice(&buffer[done..done + count]);
            page.dirty = true;
            done += count;
        }
        Ok(())
    }

    /// Returns the page of `position`, the offset in it, and the part of `len` bytes that is in that page.
    fn locate(&self, position: u64, len: usize) -> (u64, usize, usize) {
        let offset = (position % PAGE as u64) as usize;
        (position / PAGE as u64, offset, len.min(PAGE - offset))
    }

    fn page(&mut self, number: u64) -> io::Result<&mut Page> {
        self.clock += 1;
        if !self.pages.contains_key(&number) {
            if self.pages.len() >= CAPACITY {
                self.evict()?;
            }
            let start = number * PAGE as u64;
            let len = self.window.len().0.checked_sub(start).ok_or_else(outside)?.min(PAGE as u64);
            let mut bytes = vec![0; len as usize].into_boxed_slice();
            self.window.read_exact_at(&mut bytes, start)?;
            self.pages.insert(number, Page { bytes, dirty: false, last_use: 0 });
        }
        let page = self.pages.get_mut(&number).ok_or_else(outside)?;
        page.last_use = self.clock;
        Ok(page)
    }

    /// Drops the least recently used page.
    fn evict(&mut self) -> io::Result<()> {
        let oldest = self.pages.iter().min_by_key(|(_, page)| page.last_use).map(|(number, _)| *number);
        if let Some(number) = oldest
            && let Some(page) = self.pages.remove(&number)
            && page.dirty
        {
            self.window.write_all_at(&page.bytes, number * PAGE as u64)?;
        }
        Ok(())
    }
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "access beyond the end of the partition")
}

impl Read for Paged<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.window.len().0 - self.position;
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.read_exact_at(&mut buffer[..count], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Paged<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_all_at(buffer, self.position)?;
        self.position += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut dirty: Vec<_> = self.pages.iter_mut().filter(|(_, page)| page.dirty).collect();
        dirty.sort_by_key(|(number, _)| **number);
        for (number, page) in dirty {
            self.window.write_all_at(&page.bytes, number * PAGE as u64)?;
            page.dirty = false;
        }
        Ok(())
    }
}

impl Seek for Paged<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = seek_within(self.position, self.window.len().0, to)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::size::Bytes;

    #[test]
    fn written_bytes_are_read_back_before_and_after_eviction() {
        let file = tempfile::tempfile().unwrap();
        let size = (CAPACITY + 20) as u64 * PAGE as u64 + 100;
        file.set_len(size).unwrap();
        let mut paged = Paged::new(Window::new(&file, Bytes(0), Bytes(size)));
        for number in 0..(CAPACITY + 20) as u64 {
            paged.write_all_at(&number.to_le_bytes(), (number + 1) * PAGE as u64 - 4).unwrap();
        }
        assert!(paged.pages.len() <= CAPACITY);
        let mut back = [0; 8];
        paged.read_exact_at(&mut back, PAGE as u64 - 4).unwrap();
        assert_eq!(u64::from_le_bytes(back), 0);
        paged.flush().unwrap();
        for number in 0..(CAPACITY + 20) as u64 {
            paged.window.read_exact_at(&mut back, (number + 1) * PAGE as u64 - 4).unwrap();
            assert_eq!(u64::from_le_bytes(back), number);
        }
    }

    #[test]
    fn access_beyond_the_partition_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let mut paged = Paged::new(Window::new(&file, Bytes(0), Bytes(1000)));
        assert_eq!(paged.write_all_at(&[0; 8], 996).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(paged.write_all_at(&[0; 8], 1 << 30).unwrap_err().kind(), io::ErrorKind::StorageFull);
        paged.seek(SeekFrom::End(-2)).unwrap();
        assert_eq!(paged.read(&mut [0; 8]).unwrap(), 2);
    }
}
