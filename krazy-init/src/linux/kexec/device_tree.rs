//! A device tree with another command line and initramfs.
//!
//! Source: Devicetree Specification 0.4, chapter 5, flattened format; section 3.6 for `/chosen`. Everything is
//! big-endian, and the tokens of the structure are aligned to 4 bytes.

use std::ops::Range;

use super::KexecError;

const MAGIC: u32 = 0xd00d_feed;
const HEADER_LEN: usize = 40;
/// The version written, and the oldest that can read it.
const VERSIONS: [u32; 2] = [17, 16];

/// Tokens of the structure.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOTHING: u32 = 4;
const END: u32 = 9;

const CHOSEN: &[u8] = b"chosen";
const COMMAND_LINE: &[u8] = b"bootargs";
const INITRAMFS: [&[u8]; 2] = [b"linux,initrd-start", b"linux,initrd-end"];

/// `tree` with the command line `line` and the initramfs at the addresses `initramfs`.
pub fn with(tree: &[u8], line: &str, initramfs: Range<u64>) -> Result<Vec<u8>, KexecError> {
    change(tree, line, initramfs).map_err(KexecError::DeviceTree)
}

fn change(tree: &[u8], line: &str, initramfs: Range<u64>) -> Result<Vec<u8>, &'static str> {
    let cut_off = "it is cut off";
    let header = |field: usize| Some(word(tree, 4 * field)? as usize);
    if word(tree, 0) != Some(MAGIC) {
        return Err("it does not begin as one");
    }
    let offsets = || Some((header(2)?, header(3)?, header(4)?, word(tree, 28)?, header(8)?, header(9)?));
    let (structure, strings, reserved, processor, strings_len, structure_len) = offsets().ok_or(cut_off)?;
    let part = |start: usize, len: usize| tree.get(start..start.checked_add(len)?);
    let structure = part(structure, structure_len).ok_or(cut_off)?;
    let mut strings = part(strings, strings_len).ok_or(cut_off)?.to_vec();
    // Pairs of address and length; the last has a length of 0.
    let reserved = tree.get(reserved..).ok_or(cut_off)?;
    let pairs = reserved.chunks_exact(16).position(|pair| pair == [0; 16]).ok_or(cut_off)? + 1;

    let text = [line.as_bytes(), &[0]].concat();
    let values = [text, initramfs.start.to_be_bytes().to_vec(), initramfs.end.to_be_bytes().to_vec()];
    let mut properties = Vec::new();
    for (name, value) in [COMMAND_LINE, INITRAMFS[0], INITRAMFS[1]].into_iter().zip(values) {
        for number in [PROPERTY, value.len() as u32, strings.len() as u32] {
            properties.extend(number.to_be_bytes());
        }
        properties.extend(value);
        properties.resize(properties.len().next_multiple_of(4), 0);
        strings.extend([name, &[0]].concat());
    }
    let structure = replace(structure, &strings, &properties)?;

    let reserved = &reserved[..16 * pairs];
    let (structure_at, strings_at) =
        (HEADER_LEN + reserved.len(), HEADER_LEN + reserved.len() + structure.len());
    let total = strings_at + strings.len();
    let sizes = [MAGIC as usize, total, structure_at, strings_at, HEADER_LEN];
    let mut changed = Vec::with_capacity(total);
    for number in sizes {
        changed.extend((number as u32).to_be_bytes());
    }
    for number in [VERSIONS[0], VERSIONS[1], processor, strings.len() as u32, structure.len() as u32] {
        changed.extend(number.to_be_bytes());
    }
    Ok([&changed, reserved, &structure, &strings].concat())
}

/// The structure with `properties` in `/chosen` instead of those of the same names.
fn replace(structure: &[u8], strings: &[u8], properties: &[u8]) -> Result<Vec<u8>, &'static str> {
    let cut_off = "its structure is cut off";
    let mut changed = Vec::with_capacity(structure.len() + properties.len());
    let (mut at, mut depth, mut inside, mut found) = (0, 0_u32, false, false);
    loop {
        let token = word(structure, at).ok_or(cut_off)?;
        let mut end = at + 4;
        let mut keep = true;
        match token {
            BEGIN_NODE => {
                let name = string(structure, end).ok_or(cut_off)?;
                end += name.len() + 1;
                depth += 1;
                inside = depth == 2 && name == CHOSEN;
            }
            END_NODE => {
                depth = depth.checked_sub(1).ok_or("more of its nodes end than begin")?;
                inside = false;
            }
            PROPERTY => {
                let len = word(structure, end).ok_or(cut_off)? as usize;
                let name = word(structure, end + 4).ok_or(cut_off)? as usize;
                end = (end + 8).checked_add(len).ok_or(cut_off)?;
                let name = string(strings, name).ok_or("a name is missing")?;
                keep = !(inside && (name == COMMAND_LINE || INITRAMFS.contains(&name)));
            }
            NOTHING | END => {}
            _ => return Err("its structure has a token that nobody knows"),
        }
        end = end.next_multiple_of(4);
        let bytes = structure.get(at..end).ok_or(cut_off)?;
        if keep {
            changed.extend(bytes);
        }
        if token == BEGIN_NODE && inside && !found {
            changed.extend(properties);
            found = true;
        }
        match (token, found) {
            (END, true) => return Ok(changed),
            (END, false) => return Err("it has no node /chosen"),
            _ => at = end,
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The bytes from `at` to the next 0.
fn string(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    Some(&rest[..rest.iter().position(|byte| *byte == 0)?])
}

#[cfg(test)]
pub(super) mod tests;
