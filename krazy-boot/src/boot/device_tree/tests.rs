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
fn removed_parts_become_empty_tokens() {
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
fn shorter_string_replaces_a_longer_one() {
    let child = [begin("hub@1"), property(8, "okay"), end()].concat();
    let shorter = [property(0, "host"), nops(1)].concat();
    let mut edited = original();
    edit(&mut edited, &[Edit::SetString("/soc/usb@7e98", "dr_mode", "host")]).unwrap();
    assert_eq!(edited, example(begin("usb@7e98"), shorter, child));
    let long = Edit::SetString("/soc/usb@7e98", "dr_mode", "something else");
    assert_eq!(edit(&mut edited, &[long]), Err(TreeError::TooLong("something else")));
}

#[test]
fn missing_nodes_and_properties_are_skipped() {
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

/// With a memory reservation and an empty one, as every tree has.
fn whole() -> Vec<u8> {
    let chosen = [begin("chosen"), property(0, "old"), property(8, "okay"), end()].concat();
    let mut tree = tree(&[begin(""), chosen, begin("soc"), end(), end()]);
    let reserved = [vec![0; 15], vec![9], vec![0; 16]].concat();
    tree.splice(40..40, reserved);
    for field in [1, 2, 3] {
        let moved = word(&tree, 4 * field).unwrap() + 32;
        tree[4 * field..][..4].copy_from_slice(&moved.to_be_bytes());
    }
    tree
}

/// The values of a tree's properties, found by their names.
fn value<'a>(tree: &'a [u8], path: &str, name: &str) -> Option<&'a [u8]> {
    let place = find(tree, path, Some(name)).unwrap()?;
    let len = word(tree, place.start + 4).unwrap() as usize;
    Some(&tree[place.start + 12..][..len])
}

#[test]
fn inserted_properties_are_added_to_their_node() {
    let old = whole();
    let added: [(&str, &[u8]); 2] = [("bootargs", b"root=x\0"), ("linux,initrd-start", &[0, 0, 0, 1])];
    let new = insert(&old, "/chosen", &added).unwrap();
    for (name, expected) in added {
        assert_eq!(value(&new, "/chosen", name), Some(expected));
    }
    assert_eq!(value(&new, "/chosen", "status"), Some(&b"okay\0"[..]));
    assert!(find(&new, "/soc", None).unwrap().is_some());
    assert_eq!((header(&new, 1), &new[40..72]), (Some(new.len() as u32), &old[40..72]));
    let twice = insert(&new, "/soc", &[("x", b"")]).unwrap();
    assert_eq!(
        (value(&twice, "/soc", "x"), value(&twice, "/chosen", "bootargs")),
        (Some(&b""[..]), Some(added[0].1))
    );
    assert_eq!(insert(&old, "/chosne", &[]), Err(TreeError::NoNode("/chosne".to_owned())));
    for len in 0..old.len() {
        assert!(insert(&old[..len], "/chosen", &added).is_err(), "{len} bytes");
    }
}

/// The size of the structure block is a field since version 17. Of an older tree half of the tokens were lost.
#[test]
fn insertion_into_a_tree_without_the_size_of_its_structure_keeps_all_tokens() {
    let mut old = whole();
    let len = header(&old, SIZE_DT_STRUCT).unwrap();
    for (field, number) in [(VERSION, 16), (SIZE_DT_STRUCT, len / 2)] {
        old[4 * field..][..4].copy_from_slice(&u32::to_be_bytes(number));
    }
    let new = insert(&old, "/chosen", &[("bootargs", b"x")]).unwrap();
    assert_eq!(new, insert(&whole(), "/chosen", &[("bootargs", b"x")]).unwrap());
}

/// An insertion copies the blocks by their sizes, so that a name or token outside of them would be lost.
#[test]
fn tokens_and_names_outside_of_their_blocks_are_damage() {
    for size in [SIZE_DT_STRINGS, SIZE_DT_STRUCT] {
        let mut tree = original();
        let len = header(&tree, size).unwrap();
        tree[4 * size..][..4].copy_from_slice(&(len / 2).to_be_bytes());
        assert_eq!(
            edit(&mut tree, &[Edit::RemoveProperty("/soc/usb@7e98", "status")]),
            Err(TreeError::Damaged)
        );
    }
}

proptest! {
    #[test]
    fn damaged_trees_are_refused_or_edited(at in 0usize..200, byte: u8, len in 0usize..300) {
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

    #[test]
    fn insertion_into_a_damaged_tree_is_refused_or_complete(at in 0usize..200, bytes: [u8; 4]) {
        let mut tree = whole();
        if let Some(place) = tree.get_mut(at..at + 4) {
            place.copy_from_slice(&bytes);
        }
        let _any = insert(&tree, "/chosen", &[("bootargs", b"x")]);
    }
}
