//! Starting a kernel: the boot sector with its tables, the kernel's headers and command line, and the files that a
//! Raspberry Pi's firmware reads instead.
//!
//! Imports [`crate::disk`] only. Like that room it must stay usable without an operating system: no `std::fs`, no threads.
//! A UEFI loader shares the decisions ([`crate::disk::selector`]) and the command lines ([`cmdline`]), and needs neither
//! load tables nor the boot sector.
//!
//! | module | is |
//! |---|---|
//! | [`boot_sector`] | the machine code at LBA 0 |
//! | [`load_table`] | the sectors that the boot sector loads, and their destinations in memory |
//! | [`slot_area`] | a slot's load table together with the data that it loads into low memory |
//! | [`bzimage`] | the header of an x86 kernel |
//! | [`cmdline`] | the kernel command line |
//! | [`start`] | the decisions of a loader: which slot starts, and which one if that cannot |
//! | [`slot_files`] | a slot's files on `/boot`, for a loader that reads files |
//! | [`uefi_loader`] | the UEFI loader as a file |
//! | [`config_txt`] | the Raspberry Pi firmware's `config.txt`, which names the confirmed slot |
//! | [`device_tree`] | edits of a flattened device tree |

#[cfg(feature = "std")]
pub mod boot_sector;
#[cfg(feature = "std")]
pub mod bzimage;
pub mod cmdline;
#[cfg(feature = "std")]
pub mod config_txt;
#[cfg(feature = "std")]
pub mod device_tree;
#[cfg(feature = "std")]
pub mod load_table;
#[cfg(feature = "std")]
pub mod slot_area;
pub mod slot_files;
pub mod start;
pub mod uefi_loader;
