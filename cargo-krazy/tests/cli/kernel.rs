//! `cargo krazy kernel` without a network.

use std::fs;

use snapbox::str;

use crate::{MANIFEST, krazy, package};

#[test]
fn a_kernel_is_listed_fetched_and_cannot_be_updated_without_a_source() {
    let folder = package(&format!("{MANIFEST}\n[package.metadata.krazy.kernel]\npath = \"k\"\n"));
    fs::create_dir(folder.path().join("k")).unwrap();
    fs::write(folder.path().join("k/vmlinuz"), "").unwrap();
    let cache = folder.path().join("cache");
    let kernel = |args: &[&str]| krazy(&folder, args).env("KRAZY_CACHE_DIR", &cache);
    kernel(&["kernel", "list"]).assert().success().stderr_eq("").stdout_eq(str![[r#"
Locked in [DIR]/Krazy.lock
  nothing

Cached in [DIR]/cache/kernel
  nothing

"#]]);
    kernel(&["kernel", "list", "--message-format", "json"]).assert().success().stderr_eq("").stdout_eq("");
    kernel(&["kernel", "fetch"]).assert().code(6).stdout_eq("").stderr_eq(str![[r#"
   Unpacking path k
error: `path k` is not a Linux kernel image
...
"#]]);
    kernel(&["kernel", "update"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: the kernel is [DIR]/k, which has no newer versions to look up
   help: replace what is there, and the next build takes it

"#]]);
    assert!(!folder.path().join("Krazy.lock").exists());
}

#[test]
fn a_kernel_of_debian_offline() {
    let folder = package(MANIFEST);
    let cache = folder.path().join("cache");
    let kernel = |args: &[&str]| krazy(&folder, args).env("KRAZY_CACHE_DIR", &cache);
    kernel(&["kernel", "update", "--offline"]).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
error: the newest kernel is known only to its source, and --offline forbids to ask it
   help: run it without --offline

"#]]);
    kernel(&["kernel", "fetch", "--offline"]).assert().code(6).stdout_eq("").stderr_eq(str![[r#"
error: no kernel is locked for board `x86_64` (linux-image-amd64 of Debian's `trixie`), and --offline forbids to look for one
   help: run once without --offline

"#]]);
    let hash = "ab".repeat(32);
    let lock = format!(
        "version = 1\n\n[[kernel]]\nboard = \"x86_64\"\npackage = \"linux-image-amd64\"\nsuite = \"trixie\"\n\
         name = \"linux-image-6.1-amd64\"\nversion = \"6.1-1\"\nrelease = \"6.1-amd64\"\npath = \"pool/k.deb\"\n\
         size = 1024\nsha256 = \"{hash}\"\n"
    );
    fs::write(folder.path().join("Krazy.lock"), lock).unwrap();
    let output = kernel(&["kernel", "list", "--message-format", "json"]).output().unwrap();
    let locked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(locked["reason"], "kernel-locked");
    assert_eq!((&locked["board"], &locked["version"]), (&"x86_64".into(), &"6.1-1".into()));
    assert_eq!((&locked["size"], &locked["cached"]), (&1024.into(), &false.into()));
}
