//! The data of the boot sector, behind its code.

/// Segment selector of the flat data segment in the GDT.
pub(super) const FLAT: i32 = 8;

/// The text in front of the letter of a failure.
pub(super) const MESSAGE: &[u8] = b"krazy: ";

/// Slots that are tried before the machine is reset: the chosen one and the other one.
const SLOTS: u8 = 2;

/// Addresses of the data.
#[derive(Clone, Copy)]
pub(super) struct Data {
    /// The GDT.
    pub(super) gdt: u64,
    /// [`MESSAGE`].
    pub(super) message: u64,
    /// Number of slots left to try. The firmware reads the sector anew after a reset, and with it this byte.
    pub(super) slots_left: u64,
}

impl Data {
    /// Returns data that is all at `address`, as long as the addresses are not known.
    pub(super) fn at(address: u64) -> Self {
        Data { gdt: address, message: address, slots_left: address }
    }

    /// Appends the data to `code`, which is loaded at `origin`, and returns the addresses.
    pub(super) fn append(code: &mut Vec<u8>, origin: u64) -> Self {
        let end = |code: &Vec<u8>| origin + code.len() as u64;
        let gdt = end(code);
        code.extend(descriptors(gdt));
        let message = end(code);
        code.extend(MESSAGE);
        let slots_left = end(code);
        code.push(SLOTS);
        Data { gdt, message, slots_left }
    }
}

/// Two descriptors. The processor never uses the first one, so it holds the GDT's own limit and address.
fn descriptors(address: u64) -> [u8; 16] {
    let [low, high, ..] = address.to_le_bytes();
    let flat_data = [0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0];
    let mut table = [0; 16];
    table[..8].copy_from_slice(&[15, 0, low, high, 0, 0, 0, 0]);
    table[8..].copy_from_slice(&flat_data);
    table
}
