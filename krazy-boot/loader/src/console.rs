//! Messages on the firmware's console, which may be missing or broken: a device boots without one, too.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use uefi::{CStr16, system, table};

/// Writes a line, in ASCII: firmware refuses characters that it cannot show.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    if !exists() {
        return;
    }
    let ascii = |c: char| if c.is_ascii() && !c.is_ascii_control() { c as u16 } else { u16::from(b'?') };
    let mut text: Vec<u16> = line.to_string().chars().map(ascii).collect();
    text.extend([u16::from(b'\r'), u16::from(b'\n'), 0]);
    if let Ok(text) = CStr16::from_u16_with_nul(&text) {
        // Nobody can be told that nothing can be told.
        let _unseen = system::with_stdout(|output| output.output_string(text));
    }
}

/// Returns true if the firmware has a console, and still serves programs.
fn exists() -> bool {
    let Some(table) = table::system_table_raw() else { return false };
    // SAFETY: the firmware's table lives as long as the loader.
    let table = unsafe { table.as_ref() };
    !table.boot_services.is_null() && !table.stdout.is_null()
}
