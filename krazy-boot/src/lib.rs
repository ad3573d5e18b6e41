//! What a cargo krazy disk is made of.
//!
//! Every program that touches such a disk speaks this vocabulary: the host tool that writes the image, the
//! init that finds its root on it, the update engine that fills the inactive slot.
//!
//! # The disk
//!
//! | where | what | module |
//! |---|---|---|
//! | LBA 0 | boot sector code (at most 440 bytes), disk signature, partition table | [`mbr`], [`boot_sector`] |
//! | LBA 1, 2 | boot selector and its spare copy | [`selector`] |
//! | LBA 3 | trial note: how far a trial came, and why it failed | [`trial_note`] |
//! | LBA 64 … 1023 | slot A's load table and what it loads into low memory | [`slot_area`], [`load_table`] |
//! | LBA 1024 … 1983 | the same for slot B | [`slot_area`] |
//! | partition 1 | FAT32, `/boot`: per slot a kernel, an initramfs and a command line | [`slot`] |
//! | partitions 2, 3 | SquashFS, root A and root B | [`layout`] |
//! | partition 4 | ext4, `/data` | [`layout`] |
//!
//! What travels to a device, and how it gets into the slot that does not run, is in [`update`].
//!
//! What a firmware hands to a kernel besides is in [`device_tree`].
//!
//! All integers on disk are little-endian. A sector is 512 bytes ([`size::SECTOR_SIZE`]).
//!
//! A Raspberry Pi loads no sectors but files, and from the slot that `config.txt` names ([`config_txt`]), which is the
//! confirmed one: its disk has the selector, which keeps trials for the first stage to start, and neither boot sector
//! code nor slot areas.
//!
//! # Names on `/boot`
//!
//! Files of one slot share a prefix (`a-`, `b-`) instead of a folder. The Raspberry Pi firmware accepts any
//! string as `os_prefix`, and fatfs 0.3.6 writes folders that `fsck.fat` complains about.

pub mod boot_fat;
pub mod boot_sector;
pub mod bzimage;
pub mod capability;
pub mod certificate;
pub mod cmdline;
pub mod config_txt;
pub mod credentials;
pub mod device_tree;
pub mod discovery;
pub mod hex;
#[cfg(feature = "ext4")]
pub mod image;
pub mod layout;
pub mod load_table;
pub mod manifest;
pub mod mbr;
pub mod network;
pub mod ordered_write;
pub mod selector;
pub mod size;
pub mod slot;
pub mod slot_area;
pub mod trial_note;
pub mod update;
