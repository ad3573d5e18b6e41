//! The vocabulary that the host tool and the device share: the disk, the way a kernel starts, updates, and the device's
//! API.
//!
//! | room | is | used by |
//! |---|---|---|
//! | [`disk`] | layout, partition table, boot selector, trial note, FAT32 reader | everything that touches a disk |
//! | [`boot`] | boot sector and load tables, kernel headers, command line, `config.txt`, device trees | image writer, init, update engine |
//! | [`image`] | writers of FAT32, SquashFS, ext4 and initramfs (features `image`, `ext4`) | cargo-krazy; init, for `/data` |
//! | [`update`] | bundle, delta and the engine that writes them to the inactive slot (feature `update`) | cargo-krazy, krazy-admind |
//! | [`api`] | contract of the device's HTTPS API | cargo-krazy, krazy-admind |
//! | [`manifest`] | description of a root: its services, their limits and the network | all |
//! | [`digest`] | SHA-256 and hexadecimal text | all |
//! | [`error_chain`] | an error and its causes on one line | all |
//!
//! # The disk
//!
//! | where | what | module |
//! |---|---|---|
//! | LBA 0 | boot sector code (at most 439 bytes), format, disk signature, partition table | [`disk::mbr`], [`boot::boot_sector`] |
//! | LBA 2040, 32 | boot selector and its spare copy; LBA 1, 2 on disks of the first format | [`disk::selector`] |
//! | LBA 2008 | trial note: the progress of a trial, and the reason for its failure; LBA 3 on those disks | [`disk::trial_note`] |
//! | LBA 40 … 63, 1984 … 2007 | two copies of the device's credentials | [`disk::identity`] |
//! | LBA 64 … 1023 | slot A's load table and the data that it loads into low memory | [`boot::slot_area`], [`boot::load_table`] |
//! | LBA 1024 … 1983 | the same for slot B | [`boot::slot_area`] |
//! | partition 1 | FAT32, `/boot`: per slot a kernel, an initramfs and a command line | [`disk::slot`] |
//! | partitions 2, 3 | SquashFS, root A and root B | [`disk::layout`] |
//! | partition 4 | ext4, `/data` | [`disk::layout`] |
//!
//! All integers on disk are little-endian. A sector is 512 bytes ([`disk::size::SECTOR_SIZE`]).
//!
//! A Raspberry Pi's firmware loads files instead of sectors, from the slot that `config.txt` names
//! ([`boot::config_txt`]), which is the confirmed one. Its disk has the selector, because the first stage starts
//! trials, but neither boot sector code nor slot areas.
//!
//! # Features
//!
//! Without `std` there is what the UEFI loader in `loader` consists of: slots, selector, command line, and the record of a
//! slot's content.
//!
//! # Names on `/boot`
//!
//! Files of one slot share a prefix (`a-`, `b-`) instead of a directory: the Raspberry Pi firmware accepts any string as
//! `os_prefix`. Only the UEFI loader is in a directory, where firmware looks for it.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(not(feature = "std"), allow(dead_code, reason = "a boot loader uses a part of each module"))]

extern crate alloc;

#[cfg(feature = "std")]
pub mod api;
pub mod boot;
pub mod digest;
pub mod disk;
#[cfg(feature = "std")]
pub mod error_chain;
#[cfg(all(any(test, fuzzing), feature = "http", feature = "update"))]
pub mod fuzzing;
#[cfg(feature = "ext4")]
pub mod image;
#[cfg(feature = "std")]
pub mod manifest;
pub mod update;
