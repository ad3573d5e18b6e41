//! `cargo krazy kernel` without a network, or with a server of our own.

use std::fs;

use snapbox::str;

use crate::server::serve;
use crate::{MANIFEST, krazy, package};

#[test]
fn a_kernel_is_listed_fetched_and_cannot_be_updated_without_a_source() {
    let directory = package(&format!("{MANIFEST}\n[package.metadata.krazy.kernel]\npath = \"k\"\n"));
    fs::create_dir(directory.path().join("k")).unwrap();
    fs::write(directory.path().join("k/vmlinuz"), "").unwrap();
    let cache = directory.path().join("cache");
    let kernel = |args: &[&str]| krazy(&directory, args).env("KRAZY_CACHE_DIR", &cache);
    kernel(&["kernel", "list"]).assert().success().stderr_eq("").stdout_eq(str![[r#"
Locked in [DIR]/Krazy.lock
  nothing

Cached in [DIR]/cache/kernel
  nothing

"#]]);
    kernel(&["kernel", "list", "--message-format", "json"]).assert().success().stderr_eq("").stdout_eq("");
    kernel(&["kernel", "fetch"]).assert().code(6).stdout_eq("").stderr_eq(str![[r#"
   Unpacking path k
error: Cargo.toml:[..]: `path k` is not a Linux kernel image
...
"#]]);
    kernel(&["kernel", "update"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: the kernel is [DIR]/k, which has no newer versions to look up
   help: replace what is there, and the next build takes it

"#]]);
    assert!(!directory.path().join("Krazy.lock").exists());
}

#[test]
fn a_kernel_of_debian_offline() {
    let directory = package(MANIFEST);
    let cache = directory.path().join("cache");
    let kernel = |args: &[&str]| krazy(&directory, args).env("KRAZY_CACHE_DIR", &cache);
    kernel(&["kernel", "update", "--offline"]).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
error: the newest kernel is known only to its source, and --offline forbids to ask it
   help: run it without --offline

"#]]);
    kernel(&["kernel", "fetch", "--offline"]).assert().code(6).stdout_eq("").stderr_eq(str![[r#"
error: no kernel is locked for board `x86_64` (linux-image-amd64 of Debian's `trixie`), and --offline forbids to look for one
   help: run once without `--offline`, or bring it with `cargo krazy vendor DIR` from a machine with the network

"#]]);
    let hash = "ab".repeat(32);
    let lock = format!(
        "version = 1\n\n[[kernel]]\nboard = \"x86_64\"\npackage = \"linux-image-amd64\"\nsuite = \"trixie\"\n\
         name = \"linux-image-6.1-amd64\"\nversion = \"6.1-1\"\nrelease = \"6.1-amd64\"\npath = \"pool/k.deb\"\n\
         size = 1024\nsha256 = \"{hash}\"\n"
    );
    fs::write(directory.path().join("Krazy.lock"), lock).unwrap();
    let output = kernel(&["kernel", "list", "--message-format", "json"]).output().unwrap();
    let locked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(locked["reason"], "kernel-locked");
    assert_eq!((&locked["board"], &locked["version"]), (&"x86_64".into(), &"6.1-1".into()));
    assert_eq!((&locked["size"], &locked["cached"]), (&1024.into(), &false.into()));
}

/// What Debian has signed once.
const RELEASE: &str = include_str!("../../src/kernel/source/debian/testdata/trixie-InRelease");

#[test]
fn the_newest_kernel_is_asked_of_the_mirror_and_believed_only_if_debian_signed_it() {
    let list = |release: &str| {
        let mirror = serve(vec![("/dists/trixie/InRelease", release.into())]);
        let directory = package(&format!(
            "{MANIFEST}\n[package.metadata.krazy.kernel]\ndebian = \"linux-image-amd64\"\nmirror = \"{mirror}\"\n"
        ));
        let output = krazy(&directory, &["kernel", "list", "--newest"])
            .env("KRAZY_CACHE_DIR", directory.path().join("cache"))
            .output()
            .unwrap();
        assert!(!directory.path().join("Krazy.lock").exists());
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout)), (Some(6), "".into()));
        String::from_utf8(output.stderr).unwrap().replace(&mirror, "MIRROR")
    };
    // The signature is right, so the index is asked for, which this mirror has not got.
    let said = list(RELEASE);
    assert!(said.starts_with("error: MIRROR/dists/trixie/main/binary-amd64/by-hash/SHA256/"), "{said}");
    assert!(said.contains(" does not exist (status 404)\n"), "{said}");
    let said = list(&RELEASE.replacen("Suite: stable", "Suite: stabel", 1));
    assert!(said.starts_with("error: refused MIRROR/dists/trixie/InRelease: the signature by "), "{said}");
    assert!(said.contains("   help: the mirror is out of date or was tampered with"), "{said}");
    let said = list("");
    assert!(said.starts_with("error: refused MIRROR/dists/trixie/InRelease: "), "{said}");
}
