//! A flattened device tree, edited in place: as the firmware changes what it hands to the kernel, so does this program
//! for a machine that is not quite the board. Nothing grows or moves; what goes away becomes empty tokens.
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
        let header = |index: usize| word(tree, 4 * index).ok_or(TreeError::NotATree);
        if header(0)? != MAGIC {
            return Err(TreeError::NotATree);
        }
        let structure = header(2)? as usize;
        let strings = tree.get(header(3)? as usize..).ok_or(TreeError::Damaged)?;
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STRINGS: &[u8] = b"dr_mode\0status\0";

    fn text(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = [bytes, b"\0"].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn begin(name: &str) -> Vec<u8> {
        [&BEGIN_NODE.to_be_bytes()[..], &text(name.as_bytes())].concat()
    }

    fn property(name: u32, value: &str) -> Vec<u8> {
        let words = [PROPERTY, value.len() as u32 + 1, name];
        [words.map(u32::to_be_bytes).concat(), text(value.as_bytes())].concat()
    }

    fn nops(count: usize) -> Vec<u8> {
        NOP.to_be_bytes().repeat(count)
    }

    fn tree(parts: &[Vec<u8>]) -> Vec<u8> {
        let structure = [parts.concat(), END.to_be_bytes().to_vec()].concat();
        let sizes = [
            MAGIC,
            (40 + structure.len() + STRINGS.len()) as u32,
            40,
            (40 + structure.len()) as u32,
            40,
            17,
            16,
            0,
            STRINGS.len() as u32,
            structure.len() as u32,
        ];
        [sizes.map(u32::to_be_bytes).concat(), structure, STRINGS.to_vec()].concat()
    }

    fn end() -> Vec<u8> {
        END_NODE.to_be_bytes().to_vec()
    }

    /// Two nodes of one name in different places, each with a child.
    fn example(usb: Vec<u8>, of_usb: Vec<u8>, child: Vec<u8>) -> Vec<u8> {
        let other = [begin("scb"), begin("usb@7e98"), property(0, "peripheral"), end(), end()].concat();
        tree(&[begin(""), other, begin("soc"), usb, of_usb, child, end(), end(), end()])
    }

    fn original() -> Vec<u8> {
        let child = [begin("hub@1"), property(8, "okay"), end()].concat();
        example(begin("usb@7e98"), property(0, "peripheral"), child)
    }

    #[test]
    fn what_goes_away_leaves_empty_tokens() {
        let mut edited = original();
        edit(&mut edited, &[Edit::RemoveNode("/soc/usb@7e98/hub@1")]).unwrap();
        assert_eq!(edited, example(begin("usb@7e98"), property(0, "peripheral"), nops(9)));
        edit(&mut edited, &[Edit::RemoveProperty("/soc/usb@7e98", "dr_mode")]).unwrap();
        assert_eq!(edited, example(begin("usb@7e98"), nops(6), nops(9)));
        edit(&mut edited, &[Edit::RemoveNode("/soc")]).unwrap();
        assert_eq!(find(&edited, "/soc", None).unwrap(), None);
        assert!(find(&edited, "/scb/usb@7e98", Some("dr_mode")).unwrap().is_some());
    }

    #[test]
    fn a_shorter_string_takes_the_place_of_a_longer_one() {
        let child = [begin("hub@1"), property(8, "okay"), end()].concat();
        let shorter = [property(0, "host"), nops(1)].concat();
        let mut edited = original();
        edit(&mut edited, &[Edit::SetString("/soc/usb@7e98", "dr_mode", "host")]).unwrap();
        assert_eq!(edited, example(begin("usb@7e98"), shorter, child));
        let long = Edit::SetString("/soc/usb@7e98", "dr_mode", "something else");
        assert_eq!(edit(&mut edited, &[long]), Err(TreeError::TooLong("something else")));
    }

    #[test]
    fn what_is_not_there_stays_away() {
        let mut edited = original();
        let edits = [
            Edit::RemoveNode("/soc/hub@1"),
            Edit::RemoveNode("/usb@7e98"),
            Edit::RemoveProperty("/soc", "dr_mode"),
            Edit::SetString("/soc/usb@7e98", "status", "okay"),
        ];
        edit(&mut edited, &edits).unwrap();
        assert_eq!(edited, original());
        assert_eq!(edit(&mut [0; 64], &edits), Err(TreeError::NotATree));
        let mut cut = original();
        cut.truncate(100);
        assert_eq!(edit(&mut cut, &edits), Err(TreeError::Damaged));
    }

    proptest! {
        #[test]
        fn a_damaged_tree_is_refused_or_edited(at in 0usize..200, byte: u8, len in 0usize..300) {
            let mut tree = original();
            if let Some(place) = tree.get_mut(at) {
                *place = byte;
            }
            tree.truncate(len);
            let _any = edit(&mut tree, &[
                Edit::RemoveNode("/soc/usb@7e98/hub@1"),
                Edit::SetString("/soc/usb@7e98", "dr_mode", "host"),
            ]);
        }
    }
}
