use proptest::prelude::*;

use super::*;

/// A tree as a firmware makes it: two nodes, `/chosen` with a command line and an initramfs of its own.
pub(in crate::linux::kexec) fn tree() -> Vec<u8> {
    let names = b"compatible\0bootargs\0linux,initrd-start\0stdout-path\0".to_vec();
    let node = |name: &[u8], inner: Vec<u8>| {
        let mut bytes = [&BEGIN_NODE.to_be_bytes(), name, &[0]].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        [bytes, inner, END_NODE.to_be_bytes().to_vec()].concat()
    };
    let property = |name: u32, value: &[u8]| {
        let mut bytes: Vec<u8> =
            [PROPERTY, value.len() as u32, name].iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let chosen = [property(11, b"old\0"), property(20, &[1; 4]), property(39, b"serial0\0")].concat();
    let other = node(b"chosen", property(11, b"kept\0"));
    let inner = [property(0, b"pi\0"), node(b"chosen", chosen), node(b"soc", other)].concat();
    let structure = [node(b"", inner), END.to_be_bytes().to_vec()].concat();
    let reserved = [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0], [0; 16]].concat();
    let starts = [40 + 32, 40 + 32 + structure.len(), 40];
    let sizes = [names.len(), structure.len()];
    let total = starts[1] + names.len();
    let header = [MAGIC as usize, total, starts[0], starts[1], starts[2], 17, 16, 3, sizes[0], sizes[1]];
    let header: Vec<u8> = header.iter().flat_map(|word| (*word as u32).to_be_bytes()).collect();
    [header, reserved, structure, names].concat()
}

/// The properties of a tree with the paths of their nodes, as another reader would see them.
fn properties(tree: &[u8]) -> Vec<(String, Vec<u8>)> {
    let field = |n: usize| word(tree, 4 * n).unwrap() as usize;
    assert_eq!(field(1), tree.len(), "its length");
    let (structure, strings) = (&tree[field(2)..][..field(9)], &tree[field(3)..][..field(8)]);
    let (mut at, mut path, mut found) = (0, Vec::new(), Vec::new());
    loop {
        let token = word(structure, at).unwrap();
        at += 4;
        match token {
            BEGIN_NODE => {
                let name = string(structure, at).unwrap();
                path.push(String::from_utf8_lossy(name).into_owned());
                at = (at + name.len() + 1).next_multiple_of(4);
            }
            END_NODE => drop(path.pop().unwrap()),
            PROPERTY => {
                let (len, name) = (word(structure, at).unwrap() as usize, word(structure, at + 4).unwrap());
                let name = String::from_utf8_lossy(string(strings, name as usize).unwrap()).into_owned();
                found.push((format!("{}/{name}", path.join("/")), structure[at + 8..][..len].to_vec()));
                at = (at + 8 + len).next_multiple_of(4);
            }
            END => return found,
            other => panic!("token {other}"),
        }
    }
}

#[test]
fn command_line_and_initramfs_are_others_and_the_rest_is_kept() {
    let changed = with(&tree(), "root=x", 0x20_0000..0x30_0001).unwrap();
    let text = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    let expected = [
        text("/compatible", b"pi\0"),
        text("/chosen/bootargs", b"root=x\0"),
        text("/chosen/linux,initrd-start", &[0, 0, 0, 0, 0, 0x20, 0, 0]),
        text("/chosen/linux,initrd-end", &[0, 0, 0, 0, 0, 0x30, 0, 1]),
        text("/chosen/stdout-path", b"serial0\0"),
        text("/soc/chosen/bootargs", b"kept\0"),
    ];
    assert_eq!(properties(&changed), expected);
    assert_eq!((word(&changed, 28), &changed[40..72]), (Some(3), &tree()[40..72]));
    // Once more, as a launched kernel would.
    let again = with(&changed, "root=y", 1..2).unwrap();
    assert_eq!(properties(&again).len(), expected.len());
}

#[test]
fn what_is_no_tree_is_refused() {
    let refused = |tree: &[u8]| change(tree, "", 0..0).unwrap_err();
    assert_eq!(refused(b""), "it does not begin as one");
    let whole = tree();
    for len in 4..whole.len() {
        assert!(change(&whole[..len], "", 0..0).is_err(), "{len} bytes");
    }
    let mut nameless = whole.clone();
    let at = nameless.windows(6).position(|bytes| bytes == b"chosen").unwrap();
    nameless[at] = b'C';
    assert_eq!(refused(&nameless), "it has no node /chosen");
}

proptest! {
    #[test]
    fn damaged_trees_never_panic(at in 0usize..400, value in any::<[u8; 4]>(), len in 0usize..400) {
        let mut bytes = tree();
        let at = at.min(bytes.len() - 4);
        bytes[at..at + 4].copy_from_slice(&value);
        bytes.truncate(len.max(8));
        let _any = change(&bytes, "root=x", 1..2);
    }
}
