//! The disk: its layout, its partition table, and the sectors and file systems that slots live in.
//!
//! | module | is |
//! |---|---|
//! | [`size`] | bytes and sectors as distinct types |
//! | [`slot`] | slots A and B, and the names of their files on `/boot` |
//! | [`layout`] | the place and size of every partition and reserved sector |
//! | [`mbr`] | the partition table at LBA 0 |
//! | [`selector`] | the confirmed slot, and the slot that boots once on trial |
//! | [`trial_note`] | the progress of a trial, and the reason it failed |
//! | [`ordered_write`] | sector writes that are durable one after another |
//! | [`boot_fat`] | a bounded reader of the FAT32 on `/boot` |

pub mod boot_fat;
pub mod layout;
pub mod mbr;
pub mod ordered_write;
pub mod selector;
pub mod size;
pub mod slot;
pub mod trial_note;
