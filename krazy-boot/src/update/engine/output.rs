//! What was decoded, on its way to the disk in long pieces.

use std::io;

use super::{Aligned, PIECE, Target};
use crate::disk::mbr::Mbr;
use crate::disk::size::Bytes;
use crate::disk::slot::Slot;
use crate::update::bundle::Part;

/// Where a part is written.
pub(super) enum Place {
    Partition { start: u64 },
    Boot { name: String },
}

impl Place {
    pub(super) fn of(part: &Part, slot: Slot, mbr: &Mbr) -> Self {
        match part.kind.boot_name() {
            Some(name) => Place::Boot { name: slot.boot_file(name) },
            None => Place::Partition { start: mbr.layout.root(slot).start.bytes().0 },
        }
    }

    fn write(&self, target: &mut impl Target, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Place::Partition { start } => target.write_at(Bytes(start + at), bytes),
            Place::Boot { name } => target.write_boot(name, at == 0, bytes),
        }
    }
}

/// A part that is being written, in pieces of [`PIECE`] bytes whose places are multiples of that: such a piece can go
/// to the disk without the page cache, which spares a small machine's processor copying and its memory.
pub(super) struct Output {
    place: Place,
    written: u64,
    gathered: Aligned,
    len: usize,
}

impl Output {
    pub(super) fn new(place: Place) -> Self {
        Output { place, written: 0, gathered: Aligned::new(PIECE), len: 0 }
    }

    /// Goes on with another part. The last one has been flushed.
    pub(super) fn turn_to(&mut self, place: Place) {
        (self.place, self.written) = (place, 0);
    }

    pub(super) fn write(&mut self, target: &mut impl Target, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = bytes.len().min(PIECE - self.len);
            let (piece, rest) = bytes.split_at(taken);
            self.gathered[self.len..self.len + taken].copy_from_slice(piece);
            self.len += taken;
            bytes = rest;
            if self.len == PIECE {
                self.flush(target)?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn flush(&mut self, target: &mut impl Target) -> io::Result<()> {
        if self.len > 0 {
            self.place.write(target, self.written, &self.gathered[..self.len])?;
            self.written += self.len as u64;
            self.len = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(feature = "bundle")]
mod tests {
    use super::*;
    use crate::update::engine::simulator::{Machine, layout};

    #[test]
    fn pieces_of_any_length_end_where_they_belong() {
        let content: Vec<u8> = (0..3 * PIECE as u32 - 77).map(|n| (n * 7 / 3) as u8).collect();
        let partition = layout().root_b;
        for len in [1000, PIECE - 1, PIECE, PIECE + 1, content.len()] {
            let mut machine = Machine::new(b"old");
            let mut output = Output::new(Place::Boot { name: "b-first".to_owned() });
            output.write(&mut machine, b"first").unwrap();
            output.flush(&mut machine).unwrap();
            output.turn_to(Place::Partition { start: partition.start.bytes().0 });
            for piece in content.chunks(len) {
                output.write(&mut machine, piece).unwrap();
            }
            output.flush(&mut machine).unwrap();
            assert!(machine.image().start(partition, content.len()) == content, "{len}");
            assert_eq!(machine.boot_file("b-first").unwrap(), b"first");
        }
    }
}
