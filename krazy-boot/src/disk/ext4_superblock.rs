//! Size, condition and recorded errors in the superblock of ext4. Not checked: its checksum, which a damaged one may fail.
//! Source: Linux `Documentation/filesystems/ext4/super.rst`.

use std::io::{self, Read, Seek, SeekFrom};

/// The offset of the superblock in its partition, in bytes.
const OFFSET: u64 = 1024;

/// The length of the superblock.
const LEN: usize = 1024;

const MAGIC: u16 = 0xef53;

/// `s_state`: the kernel found errors.
const HAS_ERRORS: u16 = 2;

/// `s_feature_incompat`: the number of blocks has a high half.
const FEATURE_64BIT: u32 = 0x80;

/// `s_log_block_size`: the block size is 1024 shifted by at most this much.
const MAX_LOG_BLOCK_SIZE: u32 = 6;

/// A file system as its superblock describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The number of blocks.
    pub blocks: u64,
    /// The length of a block in bytes.
    pub block_size: u64,
    /// The number of times that it was mounted writable; it wraps around.
    pub mounts: u16,
    /// True if the kernel has marked the file system as damaged.
    pub has_errors: bool,
    /// The number of errors since the last full check.
    pub errors: u32,
    /// The first of them.
    pub first_error: Option<RecordedError>,
    /// The last of them.
    pub last_error: Option<RecordedError>,
}

/// An error that the kernel found in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedError {
    /// Seconds since 1970.
    pub time: u64,
    /// The function of the kernel that found it.
    pub function: String,
    /// The line in the kernel's source.
    pub line: u32,
    /// The inode, or 0.
    pub inode: u32,
    /// The block, or 0.
    pub block: u64,
}

/// Offsets of one recorded error: time, its high byte, inode, block, function, line.
struct Fields(usize, usize, usize, usize, usize, usize);

const FIRST: Fields = Fields(0x198, 0x278, 0x19c, 0x1a0, 0x1a8, 0x1c8);
const LAST: Fields = Fields(0x1cc, 0x279, 0x1d0, 0x1d8, 0x1e0, 0x1d4);

/// The length of a function's name.
const FUNCTION_LEN: usize = 32;

impl Superblock {
    /// Reads the superblock of a partition that begins at the reader's position 0; `None` if it is none of ext4.
    pub fn read(partition: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let mut bytes = [0; LEN];
        partition.seek(SeekFrom::Start(OFFSET))?;
        partition.read_exact(&mut bytes)?;
        Ok(Self::decode(&bytes))
    }

    fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let log_block_size = word(bytes, 0x18);
        if half(bytes, 0x38) != MAGIC || log_block_size > MAX_LOG_BLOCK_SIZE {
            return None;
        }
        let blocks_high = if word(bytes, 0x60) & FEATURE_64BIT == 0 { 0 } else { word(bytes, 0x150) };
        Some(Superblock {
            blocks: u64::from(blocks_high) << 32 | u64::from(word(bytes, 0x4)),
            block_size: 1024 << log_block_size,
            mounts: half(bytes, 0x34),
            has_errors: half(bytes, 0x3a) & HAS_ERRORS != 0,
            errors: word(bytes, 0x194),
            first_error: recorded(bytes, &FIRST),
            last_error: recorded(bytes, &LAST),
        })
    }
}

fn recorded(bytes: &[u8; LEN], fields: &Fields) -> Option<RecordedError> {
    let &Fields(time, time_high, inode, block, function, line) = fields;
    let name = &bytes[function..function + FUNCTION_LEN];
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let time = u64::from(word(bytes, time)) | u64::from(bytes[time_high]) << 32;
    (time != 0 || !name.is_empty()).then(|| RecordedError {
        time,
        function: name.escape_ascii().to_string(),
        line: word(bytes, line),
        inode: word(bytes, inode),
        block: u64::from(word(bytes, block)) | u64::from(word(bytes, block + 4)) << 32,
    })
}

fn half(bytes: &[u8; LEN], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8; LEN], at: usize) -> u32 {
    u32::from(half(bytes, at)) | u32::from(half(bytes, at + 2)) << 16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn recorded_errors_are_read_from_their_fields() {
        let mut bytes = [0; LEN];
        assert_eq!(Superblock::decode(&bytes), None);
        bytes[0x38..0x3c].copy_from_slice(&[0x53, 0xef, 1, 0]);
        let clean = Superblock {
            blocks: 0,
            block_size: 1024,
            mounts: 0,
            has_errors: false,
            errors: 0,
            first_error: None,
            last_error: None,
        };
        assert_eq!(Superblock::decode(&bytes), Some(clean));
        bytes[0x3a] = 3;
        bytes[0x194] = 2;
        for (time, line, inode, function, name) in
            [(0x198, 0x1c8, 0x19c, 0x1a8, "ext4_lookup"), (0x1cc, 0x1d4, 0x1d0, 0x1e0, "ext4_find_entry")]
        {
            bytes[time..time + 4].copy_from_slice(&1_767_225_600u32.to_le_bytes());
            bytes[line..line + 2].copy_from_slice(&1855u16.to_le_bytes());
            bytes[inode] = 2;
            bytes[function..function + name.len()].copy_from_slice(name.as_bytes());
        }
        bytes[0x1dc] = 1;
        let superblock = Superblock::decode(&bytes).unwrap();
        let error = |function: &str, block| {
            Some(RecordedError {
                time: 1_767_225_600,
                function: function.into(),
                line: 1855,
                inode: 2,
                block,
            })
        };
        assert!(superblock.has_errors && superblock.errors == 2);
        assert_eq!(superblock.first_error, error("ext4_lookup", 0));
        assert_eq!(superblock.last_error, error("ext4_find_entry", 1 << 32));
    }

    #[test]
    fn size_needs_the_64bit_feature_for_the_high_half() {
        let mut bytes = [0; LEN];
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        (bytes[0x4], bytes[0x18], bytes[0x34], bytes[0x150]) = (5, 2, 7, 1);
        let decoded =
            |bytes: &[u8; LEN]| Superblock::decode(bytes).map(|it| (it.blocks, it.block_size, it.mounts));
        assert_eq!(decoded(&bytes), Some((5, 4096, 7)));
        bytes[0x60] = 0x80;
        assert_eq!(decoded(&bytes), Some(((1 << 32) + 5, 4096, 7)));
        bytes[0x18] = 7;
        assert_eq!(decoded(&bytes), None);
        let mut partition = vec![0; 1024];
        partition.extend(bytes);
        partition[1024 + 0x18] = 0;
        assert!(Superblock::read(&mut io::Cursor::new(&partition)).unwrap().is_some());
        assert!(Superblock::read(&mut io::Cursor::new(&partition[..2000])).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_superblock_never_panics(seed in proptest::collection::vec(any::<u8>(), LEN)) {
            let mut bytes: [u8; LEN] = seed.try_into().unwrap();
            bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
            prop_assert_eq!(Superblock::decode(&bytes).is_some(), word(&bytes, 0x18) <= MAX_LOG_BLOCK_SIZE);
        }
    }
}
