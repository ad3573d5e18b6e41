//! One update session, from the first byte to the load table.

use std::io;

use super::output::{Destination, Output};
use super::read_back::StoredContent;
use super::{EngineError, Reader, Sectors, Target, boot_error, read_error, refused, write_error};
use crate::boot::cmdline::CommandLine;
use crate::boot::config_txt;
use crate::boot::slot_area::{self, BootFiles};
use crate::disk::layout::area_of_slot;
use crate::disk::mbr::Mbr;
use crate::disk::ordered_write::SectorWrite;
use crate::disk::size::{Bytes, SECTOR_SIZE};
use crate::disk::slot::{Slot, boot_file};
use crate::update::bundle::{Head, PartKind};
use crate::update::delta::{Decoder, DeltaError, MAX_STEP, Step};
use crate::update::refusal::Refusal;

/// Bytes between two syncs: unwritten data in the page cache must not fill the memory of a small machine.
const SYNC_INTERVAL: u64 = 16 << 20;

/// Space that FAT may need beyond the files: the directory, and the small files of the slot.
const BOOT_OVERHEAD: u64 = 512 << 10;

/// Limit of the space that a file occupies beyond its length, which is its last cluster.
const MAX_CLUSTER: u64 = 32 << 10;

static ZEROS: [u8; MAX_STEP as usize] = [0; MAX_STEP as usize];

/// A running update. After an error it cannot be continued, and the slot stays unbootable.
pub struct Session {
    head: Head,
    slot: Slot,
    mbr: Mbr,
    /// Set when the disk has load tables.
    tables: bool,
    command_line: CommandLine,
    /// The slot's command line as a launcher, if a firmware starts the slots.
    launcher: Option<CommandLine>,
    /// The bases of the streams, per part.
    bases: Vec<Option<StoredContent>>,
    received: u64,
    stream: Stream,
    /// CRC-32 of the complete parts.
    checksums: Vec<u32>,
    output: Output,
    unsynced: u64,
    scratch: Vec<u8>,
}

/// The part that is being received.
struct Stream {
    decoder: Decoder,
    /// Bytes of the stream that are not received yet.
    left: u64,
    checksum: crc32fast::Hasher,
}

impl Session {
    /// Checks that the update fits, and makes `slot` unbootable. Nothing but the repair of `/boot` is written before all
    /// checks have passed.
    ///
    /// The caller ensures that `slot` does not run. That it is neither confirmed nor armed is checked again here, because
    /// a mistake would leave the device without a bootable slot.
    pub fn begin(target: &mut impl Target, slot: Slot, head: Head) -> Result<Self, EngineError> {
        let Sectors { mbr, selector, tables } = Sectors::read(target)?;
        // A trial that is armed counts as well: the next start loads that slot.
        let armed =
            selector.is_some_and(|selector| selector.confirmed == slot || selector.trial == Some(slot));
        if armed || (!tables && config_txt::read(&mut Reader::fat(target, mbr.layout.boot)?)?.slot == slot) {
            return refused(Refusal::Armed, format!("slot {slot} is the one that boots next"));
        }
        let settings = PartKind::BootFile(config_txt::SLOT_FILE.to_owned());
        if !tables && head.manifest.part(&settings).is_none() {
            return refused(Refusal::Bundle, format!("the update has no {settings} for the firmware"));
        }
        let parameters = head.manifest.cmdline.iter().map(String::as_str);
        let lines = CommandLine::for_slot(slot, mbr.signature, parameters)
            .and_then(|line| Ok(((!tables).then(|| line.launcher()).transpose()?, line)));
        let (launcher, command_line) = lines.or_else(|error| {
            refused(Refusal::Bundle, format!("the command line of the update cannot be used: {error}"))
        })?;
        // Before the free space is asked for: lost clusters count as used.
        target.repair_boot(slot).map_err(boot_error("check the file system"))?;
        check_fit(target, &mbr, slot, &head)?;
        let bases = bases(target, &mbr, slot, &head)?;
        let stream = Stream::new(&head, &bases, 0);
        let output = Output::new(Destination::of(&head.manifest.parts[0], slot, &mbr));
        let session = Session {
            head,
            slot,
            mbr,
            tables,
            command_line,
            launcher,
            bases,
            received: 0,
            stream,
            output,
            checksums: Vec::new(),
            unsynced: 0,
            scratch: vec![0; MAX_STEP as usize],
        };
        session.invalidate(target)?;
        session.write_boot_file(target, boot_file::GUARDS[0], &boot_file::GUARD)?;
        Ok(session)
    }

    /// Returns the head of the bundle.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the number of applied bytes of all streams.
    pub fn received(&self) -> Bytes {
        Bytes(self.received)
    }

    /// Returns true if all streams are complete, so that [`Session::finish`] is next.
    pub fn is_received(&self) -> bool {
        self.checksums.len() == self.head.manifest.parts.len()
    }

    /// Applies the next bytes of the streams, of any length.
    pub fn feed(&mut self, target: &mut impl Target, mut bytes: &[u8]) -> Result<(), EngineError> {
        while !bytes.is_empty() {
            if self.is_received() {
                return refused(Refusal::Content, "more was sent than the update announced");
            }
            // A piece may hold the end of one stream and the start of the next: bodies of requests ignore these
            // borders.
            let taken = usize::try_from(self.stream.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (piece, rest) = bytes.split_at(taken);
            self.apply(target, piece)?;
            self.received += taken as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Reads everything back, and makes the slot bootable.
    pub fn finish(&self, target: &mut impl Target) -> Result<(), EngineError> {
        if !self.is_received() {
            return refused(Refusal::NotVerified, "the update has not been received completely");
        }
        // Before reading back: past the cache, data that is only in the cache would be missing.
        target.sync().map_err(EngineError::Sync)?;
        self.verify(target)?;
        self.complete(target)
    }

    /// Makes the slot unbootable and removes its files.
    fn invalidate(&self, target: &mut impl Target) -> Result<(), EngineError> {
        if self.tables {
            let at = area_of_slot(self.slot).start.bytes();
            // One sector is enough: it has the magic, without which the boot sector rejects the table.
            target.write_at(at, &[0; SECTOR_SIZE as usize]).map_err(write_error(at))?;
            target.sync().map_err(EngineError::Sync)?;
        }
        // These make a slot count as complete, so they are durably gone before any file that they describe.
        for own in [boot_file::RECORD, boot_file::SIGNATURE, boot_file::CMDLINE] {
            let name = self.slot.boot_file(own);
            target.remove_boot(&name).map_err(boot_error(format!("remove {name}")))?;
        }
        target.sync_boot().map_err(boot_error("sync"))?;
        // Removing all files of the slot makes room for the new ones, in as few fragments as possible. They may go in any
        // order now: without load table and command line the slot does not boot.
        for file in Reader::fat(target, self.mbr.layout.boot)?.files()? {
            if belongs_to(self.slot, &file.name) {
                target.remove_boot(&file.name).map_err(boot_error(format!("remove {}", file.name)))?;
            }
        }
        target.sync_boot().map_err(boot_error("sync"))
    }

    /// Applies the next bytes of the current part's stream.
    fn apply(&mut self, target: &mut impl Target, piece: &[u8]) -> Result<(), EngineError> {
        let number = self.checksums.len();
        let part = &self.head.manifest.parts[number];
        let (stream, output) = (&mut self.stream, &mut self.output);
        let (base, scratch) = (&self.bases[number], &mut self.scratch);
        let checksum = &mut stream.checksum;
        let mut put = |target: &mut _, bytes: &[u8]| {
            checksum.update(bytes);
            output.write(target, bytes)
        };
        let before = stream.left;
        let failed = |source| EngineError::Stream { part: part.kind.to_string(), source };
        stream
            .decoder
            .feed(piece, &mut |step| match step {
                Step::Data(data) => put(target, data),
                Step::Zero(len) => put(target, &ZEROS[..len as usize]),
                Step::Copy { offset, len } => {
                    let buffer = &mut scratch[..len as usize];
                    let base = base.as_ref().ok_or(io::ErrorKind::NotFound)?;
                    base.read(target, offset, buffer)?;
                    put(target, buffer)
                }
            })
            .map_err(failed)?;
        stream.left = before - piece.len() as u64;
        // A part ends with its stream, and the next part has another destination: nothing may stay gathered.
        let done = stream.left == 0;
        if done {
            stream.decoder.finish().map_err(failed)?;
            self.output.flush(target).map_err(|source| failed(DeltaError::Apply(source)))?;
        }
        self.unsynced += piece.len() as u64;
        if self.unsynced >= SYNC_INTERVAL {
            self.unsynced = 0;
            target.sync().map_err(EngineError::Sync)?;
        }
        if done {
            let checksum = std::mem::take(&mut self.stream.checksum);
            self.checksums.push(checksum.finalize());
            if !self.is_received() {
                let next = self.checksums.len();
                self.stream = Stream::new(&self.head, &self.bases, next);
                self.output.start_part(Destination::of(
                    &self.head.manifest.parts[next],
                    self.slot,
                    &self.mbr,
                ));
            }
        }
        Ok(())
    }

    /// Reads all parts back and compares their hashes with the manifest.
    fn verify(&self, target: &mut impl Target) -> Result<(), EngineError> {
        target.sync_boot().map_err(boot_error("sync"))?;
        for (part, checksum) in self.head.manifest.parts.iter().zip(&self.checksums) {
            let stored = match part.kind.boot_name() {
                Some(name) => {
                    StoredContent::on_boot(target, self.mbr.layout.boot, &self.slot.boot_file(name))?
                }
                None => StoredContent::in_partition(self.mbr.layout.root(self.slot), part.size),
            };
            // A file on `/boot` may be shorter than written; a partition is compared over the length of the part.
            if stored.len == part.size {
                if stored.sha256(target)? == part.sha256 {
                    continue;
                }
                // A second reading, with the CRC, shows the cause: if the disk returns what was written, the bundle is
                // wrong. A disk that returns something else than at the first reading is faulty, too.
                let (sha256, crc) = stored.hashes(target)?;
                if sha256 != part.sha256 && crc == *checksum {
                    let text =
                        format!("the {} has the hash {sha256}, {} was announced", part.kind, part.sha256);
                    return refused(Refusal::Content, text);
                }
            }
            let text = format!("the disk does not return the {} that was written to it", part.kind);
            return refused(Refusal::ReadBack, text);
        }
        Ok(())
    }

    /// Writes a small file of the slot, and makes it durable.
    fn write_boot_file(
        &self,
        target: &mut impl Target,
        own: &str,
        content: &[u8],
    ) -> Result<(), EngineError> {
        let name = self.slot.boot_file(own);
        target.write_boot(&name, true, content).map_err(boot_error(format!("write {name}")))?;
        target.sync_boot().map_err(boot_error("sync"))
    }

    /// Makes the verified slot bootable: command line, record, load table.
    fn complete(&self, target: &mut impl Target) -> Result<(), EngineError> {
        // Before the command line, without which a firmware's slot does not boot.
        if let Some(launcher) = &self.launcher {
            self.write_boot_file(target, boot_file::LAUNCH, format!("{launcher}\n").as_bytes())?;
        }
        let line = format!("{}\n", self.command_line);
        self.write_boot_file(target, boot_file::CMDLINE, line.as_bytes())?;
        // Computed before the record is written, so that a slot with a kernel that cannot be booted has none.
        let writes = match self.tables {
            true => {
                let files = BootFiles::read(&mut Reader::fat(target, self.mbr.layout.boot)?, self.slot)?;
                slot_area::refresh_from(&mut Reader::new(target), self.slot, &files)?
            }
            // A firmware finds the files by their names.
            false => Vec::new(),
        };
        // Before the record: one without its signature would not count as signed.
        self.write_boot_file(target, boot_file::SIGNATURE, &self.head.signed.signature)?;
        self.write_boot_file(target, boot_file::RECORD, &self.head.signed.json)?;
        self.write_boot_file(target, boot_file::GUARDS[1], &boot_file::GUARD)?;
        for SectorWrite { at, bytes } in writes {
            target.write_at(at.bytes(), &bytes).map_err(write_error(at.bytes()))?;
            target.sync().map_err(EngineError::Sync)?;
            // Compared before the next write: the last one makes the slot bootable.
            let mut found = vec![0; bytes.len()];
            target.read_back(at.bytes(), &mut found).map_err(read_error(at.bytes()))?;
            if found != bytes {
                let text = format!("the disk does not return the load table of slot {}", self.slot);
                return refused(Refusal::ReadBack, text);
            }
        }
        Ok(())
    }
}

impl Stream {
    fn new(head: &Head, bases: &[Option<StoredContent>], number: usize) -> Self {
        let size = head.manifest.parts[number].size;
        let base = bases[number].as_ref().map_or(Bytes(0), |base| base.len);
        Stream {
            decoder: Decoder::new(size, base),
            left: head.transport.parts[number].stored.0,
            checksum: crc32fast::Hasher::new(),
        }
    }
}

/// Returns true if a file on `/boot` belongs to `slot`.
fn belongs_to(slot: Slot, name: &str) -> bool {
    let prefix = slot.boot_prefix();
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Checks that the parts fit in the root partition and on `/boot`, where the slot's own files will be removed.
fn check_fit(target: &impl Target, mbr: &Mbr, slot: Slot, head: &Head) -> Result<(), EngineError> {
    let mut needed = BOOT_OVERHEAD;
    for part in &head.manifest.parts {
        if part.kind == PartKind::Root {
            let room = mbr.layout.root(slot).len.bytes();
            if part.size > room {
                let text = format!("the root has {}, a root partition of this device has {room}", part.size);
                return refused(Refusal::TooLarge, text);
            }
        } else {
            needed += part.size.0 + MAX_CLUSTER;
        }
    }
    let files = Reader::fat(target, mbr.layout.boot)?.files()?;
    let own = files.iter().filter(|file| belongs_to(slot, &file.name)).map(|file| file.size.0);
    let room = own.sum::<u64>() + target.boot_free().map_err(boot_error("determine the free space"))?.0;
    if needed > room {
        let text = format!(
            "the boot files take {}, /boot has room for {} in slot {slot}",
            Bytes(needed),
            Bytes(room)
        );
        return refused(Refusal::TooLarge, text);
    }
    Ok(())
}

/// Returns the bases of the streams: the same parts of the other slot.
fn bases(
    target: &impl Target,
    mbr: &Mbr,
    slot: Slot,
    head: &Head,
) -> Result<Vec<Option<StoredContent>>, EngineError> {
    let parts = head.manifest.parts.iter().zip(&head.transport.parts);
    parts
        .map(|(part, transport)| {
            if transport.base.is_none() {
                return Ok(None);
            }
            Ok(Some(match part.kind.boot_name() {
                Some(name) => StoredContent::on_boot(target, mbr.layout.boot, &(!slot).boot_file(name))?,
                None => {
                    let partition = mbr.layout.root(!slot);
                    StoredContent::in_partition(partition, partition.len.bytes())
                }
            }))
        })
        .collect()
}
