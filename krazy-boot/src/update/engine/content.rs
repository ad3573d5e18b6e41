//! The content of a slot.

use super::read_back::StoredContent;
use super::{EngineError, Reader, Sectors, Target, boot_error, read_error};
use crate::boot::config_txt;
use crate::boot::slot_area::{self, BootFiles};
use crate::disk::boot_fat::FatError;
use crate::disk::layout::Extent;
use crate::disk::size::Bytes;
use crate::disk::slot::{Slot, boot_file};
use crate::update::bundle::{BundleManifest, MAX_JSON, Part, PartKind, SIGNATURE_LEN, Signed};

/// The first bytes of a SquashFS image, and the offset of its length. Source: Linux `squashfs_fs.h`,
/// `struct squashfs_super_block`.
const SQUASHFS_MAGIC: [u8; 4] = *b"hsqs";
const BYTES_USED_OFFSET: usize = 40;
const SUPERBLOCK_LEN: usize = 96;

/// Returns true if `slot` has everything to boot: its files are on `/boot`, its root has a SquashFS image, and the load
/// table, on a disk that has one, agrees with the files.
pub fn is_complete(target: &impl Target, slot: Slot) -> Result<bool, EngineError> {
    let Sectors { mbr, tables, .. } = Sectors::read(target)?;
    if root_len(target, mbr.layout.root(slot))?.is_none() {
        return Ok(false);
    }
    if !tables {
        return Ok(config_txt::missing(&mut Reader::fat(target, mbr.layout.boot)?, slot)?.is_none());
    }
    let files = match BootFiles::read(&mut Reader::fat(target, mbr.layout.boot)?, slot) {
        Ok(files) => files,
        Err(slot_area::SlotAreaError::Fat(FatError::NotFound(_) | FatError::Chain(_))) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let writes = slot_area::refresh_from(&mut Reader::new(target), slot, &files);
    Ok(writes.is_ok_and(|writes| writes.is_empty()))
}

/// Reads the record of `slot`; `None` if it is missing or invalid.
pub fn read_record(target: &impl Target, slot: Slot) -> Result<Option<BundleManifest>, EngineError> {
    let json = read_file(target, slot, boot_file::RECORD, MAX_JSON)?;
    Ok(json.and_then(|json| BundleManifest::from_json(&json).ok()))
}

/// Reads the record of `slot` with its signature, which is not verified; `None` if one of them is missing, as in a slot
/// that an earlier version's image or raw writes have filled.
pub fn read_signed(target: &impl Target, slot: Slot) -> Result<Option<Signed>, EngineError> {
    let json = read_file(target, slot, boot_file::RECORD, MAX_JSON)?;
    let signature = read_file(target, slot, boot_file::SIGNATURE, SIGNATURE_LEN)?;
    let signature = signature.and_then(|bytes| bytes.try_into().ok());
    Ok(json.zip(signature).map(|(json, signature)| Signed { json, signature }))
}

/// Reads a small file of `slot` on `/boot`; `None` if it is missing, damaged or longer than `limit`.
fn read_file(
    target: &impl Target,
    slot: Slot,
    name: &str,
    limit: usize,
) -> Result<Option<Vec<u8>>, EngineError> {
    let Sectors { mbr, .. } = Sectors::read(target)?;
    let mut fat = Reader::fat(target, mbr.layout.boot)?;
    let file = match fat.find(&slot.boot_file(name)) {
        Ok(file) => file,
        Err(FatError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match fat.read(&file, Bytes(limit as u64)) {
        Err(FatError::Chain(_) | FatError::TooLong { .. }) => Ok(None),
        read => Ok(Some(read?)),
    }
}

/// Removes the record of `slot`, before its content is changed by other means than an update.
pub fn remove_record(target: &mut impl Target, slot: Slot) -> Result<(), EngineError> {
    let name = slot.boot_file(boot_file::RECORD);
    target.remove_boot(&name).and_then(|()| target.sync_boot()).map_err(boot_error(format!("remove {name}")))
}

/// Returns sizes and hashes of kernel, initramfs and root of `slot`, by reading all of them.
pub fn measure(target: &impl Target, slot: Slot) -> Result<Vec<Part>, EngineError> {
    let Sectors { mbr, .. } = Sectors::read(target)?;
    let mut parts = Vec::new();
    for kind in [PartKind::Kernel, PartKind::Initramfs, PartKind::Root] {
        let stored = match kind.boot_name() {
            Some(name) => StoredContent::on_boot(target, mbr.layout.boot, &slot.boot_file(name))?,
            None => {
                let partition = mbr.layout.root(slot);
                let Some(len) = root_len(target, partition)? else { continue };
                StoredContent::in_partition(partition, len)
            }
        };
        let sha256 = stored.sha256(target)?;
        parts.push(Part { kind, size: stored.len, sha256 });
    }
    Ok(parts)
}

/// Returns the length of the SquashFS image in a partition; `None` if there is none, or it does not fit.
pub(super) fn root_len(target: &impl Target, partition: Extent) -> Result<Option<Bytes>, EngineError> {
    let mut superblock = [0; SUPERBLOCK_LEN];
    target
        .read_back(partition.start.bytes(), &mut superblock)
        .map_err(read_error(partition.start.bytes()))?;
    let mut used = [0; 8];
    used.copy_from_slice(&superblock[BYTES_USED_OFFSET..BYTES_USED_OFFSET + 8]);
    let used = Bytes(u64::from_le_bytes(used));
    let fits = superblock[..4] == SQUASHFS_MAGIC && used <= partition.len.bytes() && used > Bytes(0);
    Ok(fits.then_some(used))
}
