//! The x86 boot sector: reads the [selector](crate::disk::selector), picks a slot, copies what its
//! [load table](crate::boot::load_table) lists, and jumps.
//!
//! Written from the Linux x86 boot protocol (`Documentation/arch/x86/boot.rst`), the "Enhanced Disk Drive
//! Specification" for INT 13h functions 41h to 43h, and Ralf Brown's Interrupt List for INT 10h, 14h and 15h.
//! The source is the assembler program in the `assembler` module, compiled in tests only; a test compares its
//! output with the committed `boot_sector.bin`, and rewrites that file when `KRAZY_BLESS=1` is set.
//!
//! # Steps
//!
//! 1. Opens the A20 gate and asks for the INT 13h extensions.
//! 2. Reads the primary selector, or the spare one if that is invalid, or else takes slot A. A copy is valid if its
//!    magic is right and it names a slot; there is no room for code that checks the CRC.
//! 3. If a trial is armed, writes 0xff over the trial byte and reads the sector again. The trial boots only if the disk
//!    now returns 0xff; otherwise the confirmed slot boots.
//! 4. Prints the slot's letter, reads the slot's table and copies its entries, 32 KiB at a time, through a
//!    buffer below 64 KiB. A read is tried five times, with a disk reset in between.
//! 5. Sets the segments and the stack from the table and jumps.
//!
//! If a slot cannot be loaded, the other one is: the confirmed slot after a trial, and the fallback after a confirmed slot.
//! Nothing of that is written, so the next start tries the confirmed slot first again. If neither can be loaded, the
//! machine is reset after five seconds, so that an unattended device tries again.
//!
//! # Output
//!
//! On the screen and on COM1 (as the firmware set it up; firmware that copies the screen to COM1 doubles every
//! character there): `A` or `B` when it starts to load a slot, and one of
//!
//! | text | meaning |
//! |---|---|
//! | `krazy: E` | the firmware has no INT 13h extensions (EDD) for this disk |
//! | `krazy: R` | a read failed: the disk is broken, or the table names sectors beyond its end |
//! | `krazy: T` | the slot has no load table: it is empty, or an update of it was interrupted |
//!
//! # Memory
//!
//! | address | content |
//! |---|---|
//! | 0x600 | load table, 2 KiB |
//! | 0xe00 | selector |
//! | below 0x7c00 | stack |
//! | 0x7c00 | this code |
//! | 0x8000 … 0xffff | buffer |
//!
//! So tables load to 0x10000 and above, never below. Not supported: firmware without EDD, sectors other
//! than 512 bytes, and UEFI without CSM.

/// The code, at most 440 bytes, for [`Mbr::encode`](crate::disk::mbr::Mbr::encode).
pub static CODE: &[u8] = include_bytes!("boot_sector/boot_sector.bin");

/// Sectors per read: the largest power of two below 127, the limit of some firmware.
#[cfg(test)]
const CHUNK_SECTORS: i32 = 64;

#[cfg(test)]
mod assembler;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::mbr::MAX_CODE_LEN;

    #[test]
    fn committed_bytes_equal_the_assembled_ones() {
        let assembled = assembler::assemble().unwrap();
        assert!(assembled.len() <= MAX_CODE_LEN, "{} bytes", assembled.len());
        if std::env::var_os("KRAZY_BLESS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/boot/boot_sector/boot_sector.bin");
            std::fs::write(path, &assembled).unwrap();
            println!("{path}: {} bytes", assembled.len());
        } else {
            assert!(
                assembled == CODE,
                "boot_sector.bin differs from the output of assembler.rs; run with KRAZY_BLESS=1"
            );
        }
    }
}
