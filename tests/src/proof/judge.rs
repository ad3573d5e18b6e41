//! The judgement on a disk that a power cut has left: it boots, its file systems can be repaired, and nothing that was
//! acknowledged is lost.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow, ensure};
use krazy_boot::boot::load_table::{LoadTable, TABLE_LEN};
use krazy_boot::disk::boot_fat::BootFat;
use krazy_boot::disk::identity::IdentityCopies;
use krazy_boot::disk::layout::{DiskLayout, Extent, area_of_slot};
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::selector::SelectorCopies;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};
use krazy_boot::disk::slot::{Slot, boot_file};
use krazy_boot::update::bundle::Part;
use krazy_boot::update::engine::{is_complete, measure, read_record};

use super::recording::Disk;
use crate::process::succeed;
use crate::setup::judges;

/// Files of a slot that are compared before and after a repair of `/boot`.
const BOOT_FILES: [&str; 3] = [boot_file::KERNEL, boot_file::INITRAMFS, boot_file::CMDLINE];

/// Judges the part of a disk that boots: everything in front of `/data`. Equal disks are judged once.
#[derive(Debug)]
pub struct BootJudge {
    image: Vec<Part>,
    approved: HashSet<u64>,
    measured: HashSet<u64>,
}

impl BootJudge {
    /// Takes the content of slot A of `new`, the disk as the image writer has made it, as complete.
    pub fn new(new: &Disk<'_>) -> Result<Self> {
        Ok(BootJudge { image: measure(new, Slot::A)?, approved: HashSet::new(), measured: HashSet::new() })
    }

    /// Fails if the boot sector's rule leads to a slot that is not complete, or the confirmed one is not, or if there are
    /// no credentials although the device `has_booted`. Returns true for a disk that was not seen before.
    pub fn judge(&mut self, disk: &Disk<'_>, has_booted: bool) -> Result<bool> {
        let layout = layout(&mut disk.reader())?;
        let mut origins = DefaultHasher::new();
        disk.runs.hash_origins(0..layout.data.start.bytes().0, &mut origins);
        if self.approved.contains(&origins.finish()) {
            return Ok(false);
        }
        let copies = SelectorCopies::read(&mut disk.reader());
        let selector = copies.selector().map_err(|error| anyhow!("no selector: {error}"))?;
        for slot in [Some(selector.confirmed), selector.trial].into_iter().flatten() {
            ensure!(is_complete(disk, slot)?, "{selector:?} leads to slot {slot}, which is not complete");
            self.measure(disk, &layout, slot)?;
        }
        if has_booted {
            let copies = IdentityCopies::read(&mut disk.reader());
            copies.newest().map_err(|error| anyhow!("no copy of the credentials: {error}"))?;
        }
        self.approved.insert(origins.finish());
        Ok(true)
    }

    /// Compares the hashes of what a slot boots with its record.
    fn measure(&mut self, disk: &Disk<'_>, layout: &DiskLayout, slot: Slot) -> Result<()> {
        let mut table = vec![0; TABLE_LEN];
        let mut reader = disk.reader();
        reader.seek(SeekFrom::Start(area_of_slot(slot).start.bytes().0))?;
        reader.read_exact(&mut table)?;
        let loads = LoadTable::decode(&table)?.loads;
        let mut origins = DefaultHasher::new();
        for extent in loads.iter().map(|load| load.source).chain([layout.root(slot)]) {
            disk.runs.hash_origins(extent.start.bytes().0..extent.end().bytes().0, &mut origins);
        }
        origins.write(slot.letter().as_bytes());
        if !self.measured.insert(origins.finish()) {
            return Ok(());
        }
        let found = measure(disk, slot)?;
        let expected = read_record(disk, slot)?.map_or(self.image.clone(), |record| record.parts);
        for part in &found {
            ensure!(expected.contains(part), "slot {slot} has another {:?} than its record says", part.kind);
        }
        Ok(())
    }
}

/// Returns the partitions of a disk.
fn layout(disk: &mut impl Read) -> Result<DiskLayout> {
    let mut sector = [0; SECTOR_SIZE as usize];
    disk.read_exact(&mut sector)?;
    Ok(Mbr::decode(&sector)?.layout)
}

/// Checks `/boot` of `image`: `fsck.fat` accepts it, or repairs it without a change to the files of the confirmed slot.
/// Returns true if there was nothing to repair.
pub fn boot_file_system(image: &Path) -> Result<bool> {
    let mut disk = File::open(image)?;
    let boot = layout(&mut disk)?.boot;
    let slot = SelectorCopies::read(&mut disk).selector().map_err(|error| anyhow!("{error}"))?.confirmed;
    let partition = extract(image, boot)?;
    let run =
        |option| Ok::<_, anyhow::Error>(judges::command("fsck.fat")?.arg(option).arg(&partition).output()?);
    let before = files(&partition, boot, slot)?;
    if run("-n")?.status.success() {
        return Ok(true);
    }
    let repair = run("-a")?;
    let again = run("-n")?;
    ensure!(again.status.success(), "fsck.fat does not repair /boot: {}{}", text(&repair), text(&again));
    let same = files(&partition, boot, slot)? == before;
    ensure!(same, "the repair of /boot changes slot {slot}: {}", text(&repair));
    Ok(false)
}

fn files(partition: &Path, extent: Extent, slot: Slot) -> Result<Vec<Vec<u8>>> {
    let mut fat = BootFat::open(File::open(partition)?, Bytes(0), extent)?;
    let read = |name| {
        let file = fat.find(&slot.boot_file(name))?;
        Ok(fat.read(&file, file.size)?)
    };
    BOOT_FILES.into_iter().map(read).collect()
}

/// Checks `/data` of `image`: `e2fsck` replays its journal and finds nothing else, and these files have their content.
pub fn data_file_system(image: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    let data = layout(&mut File::open(image)?)?.data;
    // With the option `offset`, e2fsck loses it when it has replayed the journal.
    let partition = extract(image, data)?;
    let replayed = judges::command("e2fsck")?.arg("-p").arg(&partition).output()?;
    ensure!(matches!(replayed.status.code(), Some(0 | 1)), "e2fsck -p: {}", text(&replayed));
    let checked = judges::command("e2fsck")?.arg("-fn").arg(&partition).output()?;
    ensure!(checked.status.success(), "e2fsck -fn after the journal: {}", text(&checked));
    for (path, content) in files {
        let found =
            succeed(judges::command("debugfs")?.arg("-R").arg(format!("cat {path}")).arg(&partition))?;
        ensure!(found.stdout == *content, "{path} on /data has {} bytes: it is lost", found.stdout.len());
    }
    Ok(())
}

/// Copies a partition of `image` without its zeros.
fn extract(image: &Path, partition: Extent) -> Result<PathBuf> {
    let copy = image.with_extension("partition");
    let mut dd = Command::new("dd");
    dd.args(["bs=1M", "iflag=skip_bytes,count_bytes", "conv=sparse", "status=none"]);
    dd.arg(format!("skip={}", partition.start.bytes().0)).arg(format!("count={}", partition.len.bytes().0));
    for (option, path) in [("if=", image), ("of=", &copy)] {
        let mut argument = OsString::from(option);
        argument.push(path);
        dd.arg(argument);
    }
    succeed(&mut dd)?;
    // Zeros at the end were left out.
    OpenOptions::new().write(true).open(&copy)?.set_len(partition.len.bytes().0)?;
    Ok(copy)
}

fn text(output: &std::process::Output) -> String {
    format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stdout))
}
