//! The disk: its layout, its partition table, and the sectors and file systems that slots consist of.
//!
//! This is the lowest room: nothing here imports another one. It is also the part that a boot loader without an operating
//! system needs, so it must stay free of `std::fs`, threads and the environment: readers take `Read + Seek` or bytes,
//! writers return [`ordered_write::SectorWrite`]s. What it uses of `std::io` is traits and error values.
//!
//! | module | is |
//! |---|---|
//! | [`size`] | bytes and sectors as distinct types |
//! | [`slot`] | slots A and B, and the names of their files on `/boot` |
//! | [`layout`] | location and size of every partition and fixed sector |
//! | [`mbr`] | the partition table at LBA 0 |
//! | [`selector`] | the confirmed slot, and the slot that boots once, on trial |
//! | [`trial_note`] | progress of a trial, and the reason for its failure |
//! | [`identity`] | copies of the credentials outside `/data` |
//! | [`ordered_write`] | sector writes that are durable one after another |
//! | [`boot_fat`] | a bounded reader of the FAT32 on `/boot`, its check and repair |
//! | [`ext4_superblock`] | condition and recorded errors of `/data` |

#[cfg(feature = "std")]
pub mod boot_fat;
#[cfg(feature = "std")]
pub mod ext4_superblock;
#[cfg(feature = "std")]
pub mod identity;
pub mod layout;
#[cfg(feature = "std")]
pub mod mbr;
pub mod ordered_write;
pub mod selector;
pub mod size;
pub mod slot;
#[cfg(feature = "std")]
pub mod trial_note;
