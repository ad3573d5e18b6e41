//! The reasons why a disk cannot be overwritten.

use std::fmt;
use std::path::PathBuf;

use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};

use crate::failure::{Exit, Explain};

/// A disk that cannot be overwritten.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("`{}` is a partition, not a disk", path.display())]
    IsPartition { path: PathBuf, disk: String },
    #[error("`{}` is read-only", .0.display())]
    ReadOnly(PathBuf),
    #[error("`{}` may not be written by this user", .0.display())]
    Denied(PathBuf),
    #[error("`{}` has sectors of {sector} bytes; only {SECTOR_SIZE} are supported", path.display())]
    SectorSize { path: PathBuf, sector: String },
    #[error("`{}` is empty", .0.display())]
    NoMedium(PathBuf),
    #[error("the image of {len} does not fit on `{}`, which has {size}", path.display())]
    TooSmall { path: PathBuf, size: Bytes, len: Bytes },
    #[error("`{}` {}is {usage}", path.display(), has(partition.as_deref()))]
    InUse { path: PathBuf, partition: Option<String>, usage: Usage },
}

/// The use of a disk or partition.
#[derive(Debug)]
pub(crate) enum Usage {
    Mounted(String),
    Swap(String),
    PartOf(String),
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Usage::Mounted(point) => write!(f, "mounted at `{point}`"),
            Usage::Swap(_) => f.write_str("used as swap"),
            Usage::PartOf(holder) => write!(f, "part of `{holder}`"),
        }
    }
}

fn has(partition: Option<&str>) -> String {
    partition.map_or(String::new(), |name| format!("has `{name}`, which "))
}

impl Explain for DiskError {
    fn exit(&self) -> Exit {
        Exit::Image
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            DiskError::IsPartition { disk, .. } => format!("the disk is `{disk}`"),
            DiskError::ReadOnly(_) => "some cards and adapters have a lock switch".to_owned(),
            DiskError::Denied(path) => format!(
                "`sudo chown $USER {}` gives you the right to, until it is unplugged; the build itself needs no root",
                path.display()
            ),
            DiskError::SectorSize { .. } => return None,
            DiskError::NoMedium(_) => "is a medium inserted?".to_owned(),
            DiskError::TooSmall { .. } => "make it smaller with `--size`".to_owned(),
            DiskError::InUse { usage: Usage::Mounted(point), .. } => {
                format!("unmount it: `umount '{point}'`")
            }
            DiskError::InUse { usage: Usage::Swap(name), .. } => format!("stop it: `swapoff /dev/{name}`"),
            DiskError::InUse { usage: Usage::PartOf(holder), .. } => format!("stop `{holder}` first"),
        })
    }
}
