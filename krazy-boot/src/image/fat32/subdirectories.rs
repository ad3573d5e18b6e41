//! Subdirectories as `fsck.fat` accepts them, from those that fatfs 0.3.6 writes.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::{DIRECTORY_LEN, root_directory};
use crate::disk::boot_fat::{
    ATTRIBUTE_DIRECTORY, ATTRIBUTE_LONG_NAME, ENTRY_LEN, first_cluster, set_dot_entries,
};

/// The first cluster of the root directory on a new volume.
const ROOT: u32 = 2;

/// Offsets in an entry of the dates of creation, access and change.
const DATES: [usize; 3] = [16, 18, 24];

/// 1980-01-01: month and day 1.
const EPOCH: u16 = 1 << 5 | 1;

/// Gives subdirectories a date, takes the long names of `.` and `..` away, and makes `..` name the root directory by
/// cluster 0.
pub(super) fn tidy<T: Read + Write + Seek>(volume: &mut T, cluster_len: u64) -> io::Result<()> {
    let start = root_directory(volume)?;
    // Clusters, and those of their parents.
    let mut pending = vec![(ROOT, 0)];
    while let Some((cluster, parent)) = pending.pop() {
        let at = SeekFrom::Start(start + u64::from(cluster - ROOT) * cluster_len);
        let is_root = cluster == ROOT;
        let mut content = vec![0; if is_root { DIRECTORY_LEN } else { cluster_len } as usize];
        volume.seek(at)?;
        volume.read_exact(&mut content)?;
        let mut tidy = Vec::with_capacity(content.len());
        for entry in content.as_chunks_mut::<ENTRY_LEN>().0.iter_mut().take_while(|entry| entry[0] != 0) {
            if entry[0] == b'.' {
                // Only the parts of its long name are in front of it.
                tidy.retain(|other: &[u8; ENTRY_LEN]| other[11] != ATTRIBUTE_LONG_NAME);
            } else if entry[11] == ATTRIBUTE_DIRECTORY {
                pending.push((first_cluster(entry), if is_root { 0 } else { cluster }));
            }
            if entry[11] == ATTRIBUTE_DIRECTORY {
                for at in DATES {
                    entry[at..at + 2].copy_from_slice(&EPOCH.to_le_bytes());
                }
            }
            tidy.push(*entry);
        }
        let mut tidy = tidy.concat();
        tidy.resize(content.len(), 0);
        if !is_root {
            set_dot_entries(&mut tidy, cluster, parent);
        }
        volume.seek(at)?;
        volume.write_all(&tidy)?;
    }
    volume.rewind()
}
