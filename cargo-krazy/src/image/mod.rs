//! Content of an appliance's disk, and the disk written from it.
//!
//! | module | is |
//! |---|---|
//! | [`composition`] | all files of a disk, as trees: root, initramfs, `/boot`, `/data` |
//! | [`board_files`] | files of `/boot` that only a Raspberry Pi has |
//! | [`disk`] | partitions, boot sector and selector, written to a file |

mod board_files;
mod composition;
pub(crate) mod disk;
mod system_files;

pub(crate) use self::composition::Composition;
