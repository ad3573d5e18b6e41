//! A flattened device tree, changed as a firmware changes what it hands to the kernel: for a machine that is not quite
//! the board, and for a kernel that another one starts.
//!
//! An [`Edit`] is made in place: nothing grows or moves, and what goes away becomes empty tokens. [`insert`] makes a new
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

const HEADER_LEN: usize = 40;
/// The version that is written, and the oldest that can read it.
const VERSIONS: [u32; 2] = [17, 16];

/// One change. A node is named by its path. What a tree does not have needs no change.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    /// Takes a node out, and everything below it.
    RemoveNode(&'static str),
    /// Takes a property out of a node.
    RemoveProperty(&'static str, &'static str),
    /// Replaces a property's value by a string that is no longer.
    SetString(&'static str, &'static str, &'static str),
}

/// Why a tree cannot be edited.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TreeError {
    /// It does not begin as one.
    #[error("it is no flattened device tree")]
    NotATree,
    /// It breaks off, or its parts do not fit together.
    #[error("it is damaged")]
    Damaged,
    /// A value is longer than the one it replaces.
    #[error("`{0}` is too long for its place")]
    TooLong(&'static str),
    /// Nothing can be put into a node that is not there.
    #[error("it has no node {0}")]
    NoNode(String),
}

/// Makes all of `edits` to `tree`.
pub fn edit(tree: &mut [u8], edits: &[Edit]) -> Result<(), TreeError> {
    for edit in edits {
        let (path, property) = match edit {
            Edit::RemoveNode(path) => (path, None),
            Edit::RemoveProperty(path, name) | Edit::SetString(path, name, _) => (path, Some(*name)),
        };
        let Some(place) = find(tree, path, property)? else { continue };
        let mut place = tree.get_mut(place).ok_or(TreeError::Damaged)?;
        if let Edit::SetString(.., value) = edit {
            let len = value.len() + 1;
            let kept = 12 + len.next_multiple_of(4);
            let (property, rest) = place.split_at_mut_checked(kept).ok_or(TreeError::TooLong(value))?;
            property[4..8].copy_from_slice(&(len as u32).to_be_bytes());
            property[12..].fill(0);
            property[12..][..value.len()].copy_from_slice(value.as_bytes());
            place = rest;
        }
        for word in place.chunks_exact_mut(4) {
            word.copy_from_slice(&NOP.to_be_bytes());
        }
    }
    Ok(())
}

/// The tree with `properties`, names and values, in the node at `path`, which has none of those names.
pub fn insert(tree: &[u8], path: &str, properties: &[(&str, &[u8])]) -> Result<Vec<u8>, TreeError> {
    let Range { start, .. } = find(tree, path, None)?.ok_or_else(|| TreeError::NoNode(path.to_owned()))?;
    let mut tokens = Tokens { at: start, ..Tokens::of(tree)? };
    tokens.next()?;
    let part = |offset: usize, len: usize| {
        let start = header(tree, offset)? as usize;
        tree.get(start..start.checked_add(len)?)
    };
    let field = |index: usize| header(tree, index).map(|value| value as usize).ok_or(TreeError::Damaged);
    let structure = part(2, field(9)?).ok_or(TreeError::Damaged)?;
    let mut strings = part(3, field(8)?).ok_or(TreeError::Damaged)?.to_vec();
    // Pairs of address and length of memory that is kept, the last of zeros.
    let reserved = tree.get(field(4)?..).ok_or(TreeError::Damaged)?;
    let pairs = reserved.chunks_exact(16).position(|pair| pair == [0; 16]).ok_or(TreeError::Damaged)? + 1;
    let reserved = &reserved[..16 * pairs];

    let inserted_at = tokens.at.checked_sub(field(2)?).ok_or(TreeError::Damaged)?;
    let (before, after) = structure.split_at_checked(inserted_at).ok_or(TreeError::Damaged)?;
    let mut changed = before.to_vec();
    for (name, value) in properties {
        for number in [PROPERTY, value.len() as u32, strings.len() as u32] {
            changed.extend(number.to_be_bytes());
        }
        changed.extend(*value);
        changed.resize(changed.len().next_multiple_of(4), 0);
        strings.extend([name.as_bytes(), &[0]].concat());
    }
    changed.extend(after);

    let structure_at = HEADER_LEN + reserved.len();
    let strings_at = structure_at + changed.len();
    let places = [strings_at + strings.len(), structure_at, strings_at, HEADER_LEN].map(|place| place as u32);
    let processor = header(tree, 7).ok_or(TreeError::Damaged)?;
    let sizes = [strings.len() as u32, changed.len() as u32];
    let words = [&[MAGIC], &places[..], &VERSIONS, &[processor], &sizes].concat();
    let header: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    Ok([&header, reserved, &changed, &strings].concat())
}

/// A field of the header, by its number.
fn header(tree: &[u8], index: usize) -> Option<u32> {
    word(tree, 4 * index)
}

/// Where the tokens are of the node at `path`, or of one of its properties.
fn find(tree: &[u8], path: &str, property: Option<&str>) -> Result<Option<Range<usize>>, TreeError> {
    let mut tokens = Tokens::of(tree)?;
    // The root's name is empty, as is what stands before the first slash.
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

/// A piece of the structure block.
enum Token<'a> {
    Begin(&'a [u8]),
    EndNode,
    Property(&'a [u8]),
    Nop,
    End,
}

/// Reads the structure block.
struct Tokens<'a> {
    tree: &'a [u8],
    /// The names of properties.
    strings: &'a [u8],
    /// Where the next token is.
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(tree: &'a [u8]) -> Result<Self, TreeError> {
        let field = |index: usize| header(tree, index).ok_or(TreeError::NotATree);
        if field(0)? != MAGIC {
            return Err(TreeError::NotATree);
        }
        let structure = field(2)? as usize;
        let strings = tree.get(field(3)? as usize..).ok_or(TreeError::Damaged)?;
        Ok(Tokens { tree, strings, at: structure })
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

    /// Passes over `len` bytes and their padding.
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
