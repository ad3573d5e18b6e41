//! Changes to a flattened device tree, as a firmware makes them before it starts a kernel: for an emulated machine that
//! differs from the board, and for a kernel that another kernel starts.
//!
//! An [`Edit`] is made in place: nothing grows or moves, and removed parts become empty tokens. [`insert`] returns a new
//! tree.
//!
//! Source: Devicetree Specification 0.4, chapter 5, "Flattened Devicetree (DTB) Format".

use std::ops::Range;

use thiserror::Error;

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

// Fields of the header, by their numbers and their names in the specification.
const OFF_DT_STRUCT: usize = 2;
const OFF_DT_STRINGS: usize = 3;
const OFF_MEM_RSVMAP: usize = 4;
const VERSION: usize = 5;
const BOOT_CPUID_PHYS: usize = 7;
const SIZE_DT_STRINGS: usize = 8;
const SIZE_DT_STRUCT: usize = 9;

const HEADER_LEN: usize = 40;
/// The format version that is written, and the oldest compatible one.
const VERSIONS: [u32; 2] = [17, 16];

/// One change. Nodes are named by their paths. Missing nodes and properties are skipped.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    /// Removes a node and everything below it.
    RemoveNode(&'static str),
    /// Removes a property of a node.
    RemoveProperty(&'static str, &'static str),
    /// Replaces a property's value by a string that is not longer.
    SetString(&'static str, &'static str, &'static str),
}

/// A failure to change a tree.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TreeError {
    /// The bytes are no tree.
    #[error("it is no flattened device tree")]
    NotATree,
    /// The tree is cut off, or its parts do not fit together.
    #[error("it is damaged")]
    Damaged,
    /// The new value is longer than the old one.
    #[error("`{0}` is too long for its place")]
    TooLong(&'static str),
    /// The node to insert into does not exist.
    #[error("it has no node {0}")]
    NoNode(String),
}

/// Applies `edits` to `tree`.
pub fn edit(tree: &mut [u8], edits: &[Edit]) -> Result<(), TreeError> {
    for edit in edits {
        let (path, property) = match edit {
            Edit::RemoveNode(path) => (path, None),
            Edit::RemoveProperty(path, name) | Edit::SetString(path, name, _) => (path, Some(*name)),
        };
        let Some(tokens) = find(tree, path, property)? else { continue };
        let mut removed = tree.get_mut(tokens).ok_or(TreeError::Damaged)?;
        if let Edit::SetString(.., value) = edit {
            let len = value.len() + 1;
            let kept = 12 + len.next_multiple_of(4);
            let (property, rest) = removed.split_at_mut_checked(kept).ok_or(TreeError::TooLong(value))?;
            property[4..8].copy_from_slice(&(len as u32).to_be_bytes());
            property[12..].fill(0);
            property[12..][..value.len()].copy_from_slice(value.as_bytes());
            removed = rest;
        }
        for token in removed.chunks_exact_mut(4) {
            token.copy_from_slice(&NOP.to_be_bytes());
        }
    }
    Ok(())
}

/// Returns `tree` with `properties` (names and values) added to the node at `path`, which must not have them yet.
pub fn insert(tree: &[u8], path: &str, properties: &[(&str, &[u8])]) -> Result<Vec<u8>, TreeError> {
    let Range { start, .. } = find(tree, path, None)?.ok_or_else(|| TreeError::NoNode(path.to_owned()))?;
    let mut tokens = Tokens { at: start, ..Tokens::of(tree)? };
    tokens.next()?;
    let inserted_at = tokens.at;
    // Not by the size in the header, which trees before version 17 do not have.
    while !matches!(tokens.next()?, Token::End) {}
    let field = |index: usize| header(tree, index).map(|value| value as usize).ok_or(TreeError::Damaged);
    let mut strings = tokens.strings.to_vec();
    // Reserved memory: pairs of address and length, terminated by a pair of zeros.
    let reserved = tree.get(field(OFF_MEM_RSVMAP)?..).ok_or(TreeError::Damaged)?;
    let pairs = reserved.chunks_exact(16).position(|pair| pair == [0; 16]).ok_or(TreeError::Damaged)? + 1;
    let reserved = &reserved[..16 * pairs];

    let structure_start = field(OFF_DT_STRUCT)?;
    let mut changed = tree.get(structure_start..inserted_at).ok_or(TreeError::Damaged)?.to_vec();
    for (name, value) in properties {
        for number in [PROPERTY, value.len() as u32, strings.len() as u32] {
            changed.extend(number.to_be_bytes());
        }
        changed.extend(*value);
        changed.resize(changed.len().next_multiple_of(4), 0);
        strings.extend([name.as_bytes(), &[0]].concat());
    }
    changed.extend(tree.get(inserted_at..tokens.at).ok_or(TreeError::Damaged)?);

    let structure_at = HEADER_LEN + reserved.len();
    let strings_at = structure_at + changed.len();
    let offsets =
        [strings_at + strings.len(), structure_at, strings_at, HEADER_LEN].map(|offset| offset as u32);
    let processor = header(tree, BOOT_CPUID_PHYS).ok_or(TreeError::Damaged)?;
    let sizes = [strings.len() as u32, changed.len() as u32];
    let words = [&[MAGIC], &offsets[..], &VERSIONS, &[processor], &sizes].concat();
    let header: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    Ok([&header, reserved, &changed, &strings].concat())
}

/// Returns a field of the header by its number.
fn header(tree: &[u8], index: usize) -> Option<u32> {
    word(tree, 4 * index)
}

/// Returns the location of the tokens of the node at `path`, or of one of its properties.
fn find(tree: &[u8], path: &str, property: Option<&str>) -> Result<Option<Range<usize>>, TreeError> {
    let mut tokens = Tokens::of(tree)?;
    // The root's name is empty, and so is the part in front of the first slash.
    let names: Vec<_> = path.split('/').map(str::as_bytes).collect();
    let (mut depth, mut matched, mut node) = (0_usize, 0, None);
    loop {
        let start = tokens.at;
        match tokens.next()? {
            Token::Begin(name) => {
                if matched == depth && names.get(depth) == Some(&name) {
                    matched += 1;
                    if matched == names.len() {
                        node = Some(start);
                    }
                }
                depth += 1;
            }
            Token::Property(name) => {
                let inside = node.is_some() && depth == names.len();
                if inside && property.map(str::as_bytes) == Some(name) {
                    return Ok(Some(start..tokens.at));
                }
            }
            Token::EndNode => {
                if depth == names.len()
                    && let Some(node) = node
                {
                    return Ok(property.is_none().then_some(node..tokens.at));
                }
                depth = depth.checked_sub(1).ok_or(TreeError::Damaged)?;
                matched = matched.min(depth);
            }
            Token::Nop => {}
            Token::End => return Ok(None),
        }
    }
}

/// A token of the structure block.
enum Token<'a> {
    Begin(&'a [u8]),
    EndNode,
    Property(&'a [u8]),
    Nop,
    End,
}

/// A reader of the structure block.
struct Tokens<'a> {
    /// The tree up to the end of its structure block.
    tree: &'a [u8],
    /// The strings block, which has the names of properties.
    strings: &'a [u8],
    /// Offset of the next token.
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(tree: &'a [u8]) -> Result<Self, TreeError> {
        let field = |index: usize| header(tree, index).ok_or(TreeError::NotATree);
        if field(0)? != MAGIC {
            return Err(TreeError::NotATree);
        }
        let block = |offset: u32, len: u32| {
            let start = offset as usize;
            Some(start..start.checked_add(len as usize)?)
        };
        let at = field(OFF_DT_STRUCT)? as usize;
        let strings = block(field(OFF_DT_STRINGS)?, field(SIZE_DT_STRINGS)?);
        let strings = strings.and_then(|strings| tree.get(strings)).ok_or(TreeError::Damaged)?;
        // Before version 17, the header does not give the size of the structure block.
        let end = match field(VERSION)? {
            ..17 => Some(tree.len()),
            _ => block(field(OFF_DT_STRUCT)?, field(SIZE_DT_STRUCT)?).map(|structure| structure.end),
        };
        let tree = end.and_then(|end| tree.get(..end)).ok_or(TreeError::Damaged)?;
        Ok(Tokens { tree, strings, at })
    }

    fn next(&mut self) -> Result<Token<'a>, TreeError> {
        let token = self.word()?;
        Ok(match token {
            BEGIN_NODE => {
                let name = self.tree.get(self.at..).and_then(until_zero).ok_or(TreeError::Damaged)?;
                self.skip(name.len() + 1)?;
                Token::Begin(name)
            }
            END_NODE => Token::EndNode,
            PROPERTY => {
                let (len, name) = (self.word()? as usize, self.word()? as usize);
                self.skip(len)?;
                Token::Property(self.strings.get(name..).and_then(until_zero).ok_or(TreeError::Damaged)?)
            }
            NOP => Token::Nop,
            END => Token::End,
            _ => return Err(TreeError::Damaged),
        })
    }

    fn word(&mut self) -> Result<u32, TreeError> {
        let value = word(self.tree, self.at).ok_or(TreeError::Damaged)?;
        self.at += 4;
        Ok(value)
    }

    /// Skips `len` bytes and their padding.
    fn skip(&mut self, len: usize) -> Result<(), TreeError> {
        let end = len.checked_next_multiple_of(4).and_then(|len| self.at.checked_add(len));
        self.at = end.filter(|end| *end <= self.tree.len()).ok_or(TreeError::Damaged)?;
        Ok(())
    }
}

fn word(tree: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*tree.get(at..)?.first_chunk()?))
}

fn until_zero(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|byte| *byte == 0).and_then(|end| bytes.get(..end))
}

#[cfg(test)]
mod tests;
