//! A simulated disk that records every written sector and every sync, so that the power can be cut after each of them.
//!
//! `/boot` is a real FAT32, written by fatfs: its tables and directories are sectors like any other, which may be lost or
//! kept.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::rc::Rc;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

use super::Target;
use crate::boot::bzimage::tests::kernel;
use crate::boot::config_txt;
use crate::boot::{boot_sector, slot_area};
use crate::disk::boot_fat::BootFat;
use crate::disk::layout::{DiskLayout, DiskSignature, Extent, PartitionSizes, StateSectors};
use crate::disk::mbr::Mbr;
use crate::disk::ordered_write::{SectorWrite, write_in_order};
use crate::disk::selector::Selector;
use crate::disk::size::{Bytes, SECTOR_SIZE, Sectors};
use crate::disk::slot::{Slot, boot_file};
use crate::image::fat32;

const SECTOR: usize = SECTOR_SIZE as usize;
pub(super) const SIGNATURE: DiskSignature = DiskSignature(0x1a2b_3c4d);

pub(super) type Sector = [u8; SECTOR];

/// A command to the disk.
#[derive(Clone)]
pub(super) enum Event {
    Write(u32, Box<Sector>),
    Sync,
}

/// The sectors of a disk; missing ones are zero. Clones share the sectors of the latest `freeze`.
#[derive(Clone, Default)]
pub(super) struct Image {
    frozen: Rc<HashMap<u32, Sector>>,
    changed: HashMap<u32, Sector>,
}

impl Image {
    pub(super) fn sector(&self, number: u32) -> Sector {
        let found = self.changed.get(&number).or_else(|| self.frozen.get(&number));
        found.copied().unwrap_or([0; SECTOR])
    }

    pub(super) fn set(&mut self, number: u32, sector: Sector) {
        self.changed.insert(number, sector);
    }

    pub(super) fn bytes(&self, extent: Extent) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(extent.len.bytes().0 as usize);
        for number in extent.start.0..extent.end().0 {
            bytes.extend_from_slice(&self.sector(number));
        }
        bytes
    }

    /// Returns the first `len` bytes of `extent`.
    pub(super) fn start(&self, extent: Extent, len: usize) -> Vec<u8> {
        let sectors = Bytes(len as u64).sectors_ceil().unwrap();
        let mut bytes = self.bytes(Extent { len: sectors, ..extent });
        bytes.truncate(len);
        bytes
    }

    fn freeze(self) -> Self {
        let mut sectors = Rc::unwrap_or_clone(self.frozen);
        sectors.extend(self.changed);
        sectors.retain(|_, sector| *sector != [0; SECTOR]);
        Image { frozen: Rc::new(sectors), changed: HashMap::new() }
    }
}

/// The disk of a running machine.
#[derive(Clone)]
pub(super) struct Machine {
    state: Rc<RefCell<State>>,
    boot: Extent,
    /// A sector that the disk does not return as it was written.
    pub(super) corrupt_sector: Option<u32>,
    /// The free space on `/boot`; `None` for that of its file system.
    pub(super) boot_free: Option<Bytes>,
    /// Sectors that cannot be read.
    pub(super) unreadable: BTreeSet<u32>,
}

#[derive(Default)]
struct State {
    image: Image,
    log: Vec<Event>,
}

impl Machine {
    /// Returns a machine whose slot A has `kernel(3, 1600)` and `root`, and whose slot B is empty.
    pub(super) fn new(root: &[u8]) -> Self {
        let machine = Machine::with(boot_sector::CODE, root, &[]);
        let writes = slot_area::refresh(&mut machine.whole(), Slot::A).unwrap();
        write_in_order(&mut machine.whole(), &writes, |_| Ok(())).unwrap();
        machine.restarted()
    }

    /// Returns the same with the boot state where the first disk format has it.
    pub(super) fn of_first_format(root: &[u8]) -> Self {
        let mut machine = Machine::new(root);
        let mut sector = machine.image().sector(0);
        sector[439] = 0;
        machine.write_at(Bytes(0), &sector).unwrap();
        machine.write_sectors(&Selector::confirmed(Slot::A).writes(StateSectors::FIRST));
        machine.restarted()
    }

    /// Returns the same for a board whose firmware loads files.
    pub(super) fn with_firmware(root: &[u8]) -> Self {
        let config = config_txt::encode(Slot::A.into());
        let files =
            [("config.txt", &config[..]), ("a-config.txt", b"kernel=vmlinuz\n"), ("a-board.dtb", b"tree")];
        Machine::with(&[], root, &files).restarted()
    }

    fn with(code: &[u8], root: &[u8], files: &[(&str, &[u8])]) -> Self {
        let layout = layout();
        let mut machine = Machine::on(Image::default());
        let mbr = Mbr { signature: SIGNATURE, layout }.encode(code).unwrap();
        machine.write_at(Bytes(0), &mbr).unwrap();
        let mut boot = machine.partition();
        fatfs::format_volume(&mut boot, FormatVolumeOptions::new().bytes_per_cluster(512)).unwrap();
        fat32::reserve_directory(&mut boot).unwrap();
        let line = b"root=PARTUUID=1a2b3c4d-02 krazy.slot=a quiet\n";
        let (kernel, initramfs) = (kernel(3, 1600), [7; 900]);
        let own = [("a-vmlinuz", &kernel[..]), ("a-initramfs", &initramfs), ("a-cmdline.txt", line)];
        let guards = [("a-first.pad", &boot_file::GUARD[..]), ("a-last.pad", &boot_file::GUARD)];
        let [first, last] = guards.each_ref().map(std::slice::from_ref);
        for (name, content) in first.iter().chain(&own).chain(files).chain(last) {
            machine.write_boot(name, true, content).unwrap();
        }
        machine.write_at(layout.root_a.start.bytes(), root).unwrap();
        let writes = Selector::confirmed(Slot::A).writes(StateSectors::CURRENT);
        write_in_order(&mut machine.whole(), &writes, |_| Ok(())).unwrap();
        machine
    }

    /// Starts a machine with `image`.
    pub(super) fn on(image: Image) -> Self {
        let state = Rc::new(RefCell::new(State { image, log: Vec::new() }));
        Machine {
            state,
            boot: layout().boot,
            corrupt_sector: None,
            boot_free: None,
            unreadable: BTreeSet::new(),
        }
    }

    pub(super) fn image(&self) -> Image {
        self.state.borrow().image.clone()
    }

    /// Restarts the machine with the present content of its disk.
    pub(super) fn restarted(&self) -> Self {
        Machine::on(self.image().freeze())
    }

    /// Returns all commands since the start.
    pub(super) fn log(&self) -> Vec<Event> {
        self.state.borrow().log.clone()
    }

    /// Arms a trial of `slot`, as init does.
    pub(super) fn arm(&mut self, slot: Slot) {
        self.write_sectors(&Selector::confirmed(!slot).arm(slot).writes(StateSectors::CURRENT));
    }

    /// Performs writes, each durable before the next one begins.
    pub(super) fn write_sectors(&mut self, writes: &[SectorWrite]) {
        write_in_order(&mut self.whole(), writes, |disk| {
            disk.sync();
            Ok(())
        })
        .unwrap();
    }

    /// Opens the file system of `/boot` on the disk.
    pub(super) fn fat(&self) -> BootFat<Window> {
        BootFat::open(self.whole(), self.boot.start.bytes(), self.boot).unwrap()
    }

    pub(super) fn boot_file(&self, name: &str) -> Option<Vec<u8>> {
        let fs = FileSystem::new(self.partition(), FsOptions::new()).unwrap();
        let mut file = fs.root_dir().open_file(name).ok()?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        Some(content)
    }

    pub(super) fn boot_names(&self) -> Vec<String> {
        let fs = FileSystem::new(self.partition(), FsOptions::new()).unwrap();
        fs.root_dir().iter().map(|entry| entry.unwrap().file_name()).collect()
    }

    pub(super) fn whole(&self) -> Window {
        Window { state: Rc::clone(&self.state), start: 0, position: 0, unreadable: self.unreadable.clone() }
    }

    fn partition(&self) -> Window {
        Window { start: self.boot.start.bytes().0, ..self.whole() }
    }
}

pub(super) fn layout() -> DiskLayout {
    let sizes = PartitionSizes { boot: Bytes::mib(64), root: Bytes::mib(1), ..PartitionSizes::default() };
    DiskLayout::new(sizes).unwrap()
}

impl Target for Machine {
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let mut window = self.whole();
        window.seek(SeekFrom::Start(offset.0))?;
        window.read_exact(buffer)
    }

    fn read_back(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, buffer)?;
        if let Some(corrupt) = self.corrupt_sector
            && let Some(at) = Sectors(corrupt).bytes().0.checked_sub(offset.0)
            && let Some(byte) = buffer.get_mut(at as usize)
        {
            *byte ^= 0x10;
        }
        Ok(())
    }

    fn write_at(&mut self, offset: Bytes, bytes: &[u8]) -> io::Result<()> {
        let mut window = self.whole();
        window.seek(SeekFrom::Start(offset.0))?;
        window.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.whole().sync();
        Ok(())
    }

    fn repair_boot(&mut self, slot: Slot) -> io::Result<()> {
        let repair = self.fat().check(Some(slot)).map_err(io::Error::other)?;
        repair.write(&mut self.partition(), |disk| {
            disk.sync();
            Ok(())
        })
    }

    fn boot_free(&self) -> io::Result<Bytes> {
        if let Some(free) = self.boot_free {
            return Ok(free);
        }
        let fs = FileSystem::new(self.partition(), FsOptions::new())?;
        let stats = fs.stats()?;
        Ok(Bytes(u64::from(stats.free_clusters()) * u64::from(stats.cluster_size())))
    }

    fn write_boot(&mut self, name: &str, new: bool, bytes: &[u8]) -> io::Result<()> {
        let fs = FileSystem::new(self.partition(), FsOptions::new())?;
        let mut file = fs.root_dir().create_file(name)?;
        if new {
            file.truncate()?;
        }
        file.seek(SeekFrom::End(0))?;
        file.write_all(bytes)
    }

    fn remove_boot(&mut self, name: &str) -> io::Result<()> {
        let fs = FileSystem::new(self.partition(), FsOptions::new())?;
        let removed = fs.root_dir().remove(name);
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
    }

    fn sync_boot(&mut self) -> io::Result<()> {
        self.sync()
    }
}

/// A range of the disk as a file.
pub(super) struct Window {
    state: Rc<RefCell<State>>,
    start: u64,
    position: u64,
    unreadable: BTreeSet<u32>,
}

impl Window {
    fn sync(&self) {
        self.state.borrow_mut().log.push(Event::Sync);
    }

    fn location(&self) -> (u32, usize) {
        let at = self.start + self.position;
        ((at / SECTOR_SIZE) as u32, (at % SECTOR_SIZE) as usize)
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (number, at) = self.location();
        if self.unreadable.contains(&number) {
            return Err(io::Error::other("unreadable sector"));
        }
        let sector = self.state.borrow().image.sector(number);
        let len = buffer.len().min(SECTOR - at);
        buffer[..len].copy_from_slice(&sector[at..at + len]);
        self.position += len as u64;
        Ok(len)
    }
}

impl Write for Window {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let (number, at) = self.location();
        let mut state = self.state.borrow_mut();
        let mut sector = state.image.sector(number);
        let len = buffer.len().min(SECTOR - at);
        sector[at..at + len].copy_from_slice(&buffer[..len]);
        state.image.set(number, sector);
        state.log.push(Event::Write(number, Box::new(sector)));
        self.position += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.boot_len().checked_add_signed(offset),
        }
        .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Window {
    /// Returns the length of `/boot`: only its formatter seeks from the end.
    fn boot_len(&self) -> u64 {
        layout().boot.len.bytes().0
    }
}
