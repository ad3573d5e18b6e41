//! The boot record: where the areas of a FAT32 file system are. It has a copy, from which it is restored.

use super::{BAD_CLUSTER, CLUSTER_MASK, FatError, SECTOR};
use crate::disk::size::SECTOR_SIZE;

/// The sector of the copy. Source: "FAT: General Overview of On-Disk Format" 1.03, `BPB_BkBootSec`: no other value is
/// recommended, and the field itself is lost with the record.
pub(super) const COPY_AT: u32 = 6;

// Offsets of its fields, by their names in the specification.
const BPB_BYTS_PER_SEC: usize = 11;
const BPB_SEC_PER_CLUS: usize = 13;
const BPB_RSVD_SEC_CNT: usize = 14;
const BPB_NUM_FATS: usize = 16;
const BPB_ROOT_ENT_CNT: usize = 17;
const BPB_TOT_SEC16: usize = 19;
const BPB_FAT_SZ16: usize = 22;
const BPB_TOT_SEC32: usize = 32;
const BPB_FAT_SZ32: usize = 36;
const BPB_ROOT_CLUS: usize = 44;
const BPB_BK_BOOT_SEC: usize = 50;
const SIGNATURE_OFFSET: usize = 510;

/// The areas of a file system, in sectors from the partition's start.
#[derive(Debug)]
pub(super) struct Areas {
    pub(super) sectors_per_cluster: u32,
    pub(super) fat_start: u32,
    /// Length of one FAT, and the number of its copies.
    pub(super) fat_len: u32,
    pub(super) fats: u32,
    pub(super) data_start: u32,
    /// Cluster numbers are 2 … `clusters` + 1.
    pub(super) clusters: u32,
    pub(super) root_cluster: u32,
}

impl Areas {
    /// Reads the record of a partition of `partition_len` sectors.
    pub(super) fn of(record: &[u8; SECTOR], partition_len: u32) -> Result<Self, FatError> {
        let short = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
        let long = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        if short(SIGNATURE_OFFSET) != 0xaa55 {
            return Err(FatError::NotFat32("no boot signature"));
        }
        if u64::from(short(BPB_BYTS_PER_SEC)) != SECTOR_SIZE {
            return Err(FatError::NotFat32("its sectors do not have 512 bytes"));
        }
        // FAT12 and FAT16 have a root directory of fixed size and a 16-bit FAT length.
        if short(BPB_ROOT_ENT_CNT) != 0 || short(BPB_FAT_SZ16) != 0 || long(BPB_FAT_SZ32) == 0 {
            return Err(FatError::NotFat32("it is FAT12, FAT16 or something else"));
        }
        let sectors_per_cluster = u32::from(record[BPB_SEC_PER_CLUS]);
        if !sectors_per_cluster.is_power_of_two() {
            return Err(FatError::NotFat32("impossible cluster size"));
        }
        let total = match short(BPB_TOT_SEC16) {
            0 => long(BPB_TOT_SEC32),
            total => u32::from(total),
        };
        let fat_start = u32::from(short(BPB_RSVD_SEC_CNT));
        let data_start = long(BPB_FAT_SZ32)
            .checked_mul(u32::from(record[BPB_NUM_FATS]))
            .and_then(|fats| fats.checked_add(fat_start))
            .filter(|start| {
                *start < total && total <= partition_len && fat_start > 0 && record[BPB_NUM_FATS] > 0
            })
            .ok_or(FatError::NotFat32("its areas do not fit in the partition"))?;
        // The data area and the FAT (4 bytes a cluster) both limit the number of clusters.
        let entries = u64::from(long(BPB_FAT_SZ32)) * (SECTOR_SIZE / 4);
        let clusters = ((total - data_start) / sectors_per_cluster)
            .min(u32::try_from(entries.saturating_sub(2)).unwrap_or(u32::MAX))
            .min(BAD_CLUSTER - 2);
        Ok(Areas {
            sectors_per_cluster,
            fat_start,
            fat_len: long(BPB_FAT_SZ32),
            fats: u32::from(record[BPB_NUM_FATS]),
            data_start,
            clusters,
            root_cluster: long(BPB_ROOT_CLUS) & CLUSTER_MASK,
        })
    }
}

/// Returns true if a file system with this record has its copy at [`COPY_AT`].
pub(super) fn has_copy(record: &[u8; SECTOR]) -> bool {
    let copy = u16::from_le_bytes([record[BPB_BK_BOOT_SEC], record[BPB_BK_BOOT_SEC + 1]]);
    let reserved = u16::from_le_bytes([record[BPB_RSVD_SEC_CNT], record[BPB_RSVD_SEC_CNT + 1]]);
    u32::from(copy) == COPY_AT && COPY_AT < u32::from(reserved)
}
