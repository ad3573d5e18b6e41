use super::*;

fn file() -> Entry {
    Entry::file(Content::Bytes(vec![1]))
}

fn get<'a>(tree: &'a Tree, path: &str) -> Option<&'a Entry> {
    tree.iter().find(|(found, _)| found.as_str() == path).map(|(_, entry)| entry)
}

#[test]
fn missing_parents_are_added_in_front_of_their_children() {
    let mut tree = Tree::new();
    tree.add("/a/b/c", file(), "one").unwrap();
    tree.add("/a-b", file(), "two").unwrap();
    tree.add("//a//b/", Entry::directory().mode(0o700), "three").unwrap();
    let paths: Vec<&str> = tree.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/", "/a", "/a/b", "/a/b/c", "/a-b"]);
    assert_eq!(get(&tree, "/a/b").unwrap().mode, 0o700);
    assert_eq!(get(&tree, "/a").unwrap(), &Entry::directory());
}

#[test]
fn conflicting_entries_name_both_origins() {
    let mut tree = Tree::new();
    tree.add("/bin/dufs", file(), "package dufs").unwrap();
    let message = |tree: &mut Tree, path, entry| tree.add(path, entry, "files").unwrap_err().to_string();
    assert_eq!(message(&mut tree, "/bin/dufs", file()), "`/bin/dufs` comes from both package dufs and files");
    assert_eq!(message(&mut tree, "/bin", file()), "`/bin` comes from both package dufs and files");
    assert_eq!(
        message(&mut tree, "/bin/dufs/x/y", file()),
        "`/bin/dufs/x/y` from files would be inside `/bin/dufs`, which package dufs made something else than a directory"
    );
    assert!(get(&tree, "/bin/dufs/x").is_none());
    tree.add("/etc", Entry::directory(), "one").unwrap();
    tree.add("/etc", Entry::directory(), "two").unwrap();
    assert_eq!(
        message(&mut tree, "/etc", Entry::directory().mode(0o700)),
        "`/etc` comes from both one and files"
    );
}

#[test]
fn invalid_paths_are_refused() {
    let mut tree = Tree::new();
    for (path, reason) in [
        ("bin/x", "not absolute"),
        ("", "not absolute"),
        ("/../etc/passwd", "`.` or `..`"),
        ("/a/./b", "`.` or `..`"),
        ("/a\0b", "NUL"),
    ] {
        let error = tree.add(path, file(), "files").unwrap_err().to_string();
        assert!(error.contains(reason), "{path:?}: {error}");
    }
    let long = format!("/{}", "x".repeat(256));
    assert!(
        tree.add(&long, file(), "files").unwrap_err().to_string().contains("256 bytes, 255 are possible")
    );
    assert!(matches!(tree.add("/", file(), "files"), Err(TreeError::Duplicate { .. })));
}

#[test]
fn paths_have_parents_up_to_the_root() {
    let path = TreePath::new("/a/b").unwrap();
    assert_eq!(path.name(), Some("b"));
    let parent = path.parent().unwrap();
    assert_eq!(parent.as_str(), "/a");
    assert_eq!(parent.parent().unwrap().as_str(), "/");
    assert_eq!(parent.parent().unwrap().parent(), None);
    assert_eq!(TreePath::new("/").unwrap().name(), None);
}
