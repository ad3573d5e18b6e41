//! Output of decoded data to the disk, gathered into long pieces.

use std::io;

use super::{Aligned, PIECE, Target};
use crate::disk::mbr::Mbr;
use crate::disk::size::Bytes;
use crate::disk::slot::Slot;
use crate::update::bundle::Part;

/// The destination of a part.
pub(super) enum Destination {
    Partition { start: u64 },
    Boot { name: String },
}

impl Destination {
    pub(super) fn of(part: &Part, slot: Slot, mbr: &Mbr) -> Self {
        match part.kind.boot_name() {
            Some(name) => Destination::Boot { name: slot.boot_file(name) },
            None => Destination::Partition { start: mbr.layout.root(slot).start.bytes().0 },
        }
    }

    fn write(&self, target: &mut impl Target, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Destination::Partition { start } => target.write_at(Bytes(start + at), bytes),
            Destination::Boot { name } => target.write_boot(name, at == 0, bytes),
        }
    }
}

/// A part that is being written, in pieces of [`PIECE`] bytes at multiples of that offset. Such a piece can be written
/// past the page cache, which saves memory, and the processor of a small machine a copy.
pub(super) struct Output {
    destination: Destination,
    written: u64,
    gathered: Aligned,
    len: usize,
}

impl Output {
    pub(super) fn new(destination: Destination) -> Self {
        Output { destination, written: 0, gathered: Aligned::new(PIECE), len: 0 }
    }

    /// Continues with another part. The last one must be flushed.
    pub(super) fn start_part(&mut self, destination: Destination) {
        (self.destination, self.written) = (destination, 0);
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

    /// Writes the rest.
    pub(super) fn flush(&mut self, target: &mut impl Target) -> io::Result<()> {
        if self.len > 0 {
            self.destination.write(target, self.written, &self.gathered[..self.len])?;
            self.written += self.len as u64;
            self.len = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(all(feature = "bundle", feature = "image"))]
mod tests {
    use super::*;
    use crate::update::engine::simulator::{Machine, layout};

    #[test]
    fn pieces_of_any_length_are_written_to_their_destination() {
        let content: Vec<u8> = (0..3 * PIECE as u32 - 77).map(|n| (n * 7 / 3) as u8).collect();
        let partition = layout().root_b;
        for len in [1000, PIECE - 1, PIECE, PIECE + 1, content.len()] {
            let mut machine = Machine::new(b"old");
            let mut output = Output::new(Destination::Boot { name: "b-first".to_owned() });
            output.write(&mut machine, b"first").unwrap();
            output.flush(&mut machine).unwrap();
            output.start_part(Destination::Partition { start: partition.start.bytes().0 });
            for piece in content.chunks(len) {
                output.write(&mut machine, piece).unwrap();
            }
            output.flush(&mut machine).unwrap();
            assert!(machine.image().start(partition, content.len()) == content, "{len}");
            assert_eq!(machine.boot_file("b-first").unwrap(), b"first");
        }
    }
}
