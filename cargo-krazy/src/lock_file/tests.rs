//! The sections of the lock file, alone and together.

use super::testing::{locked as kernel, part};
use super::*;
use crate::config::GitReference;

fn registry(version: &str) -> Source {
    Source::Registry { package: "dufs".into(), version: Some(version.into()), registry: None }
}

#[test]
fn one_kernel_is_kept_per_board_and_package() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock = LockFile::load(directory.path()).unwrap();
    assert!(lock.packages().is_empty() && !lock.path().exists());
    lock.set_package(kernel("x86_64", "6.1")).unwrap();
    lock.set_package(kernel("other", "6.1")).unwrap();
    lock.set_package(kernel("x86_64", "6.2")).unwrap();
    let again = LockFile::load(directory.path()).unwrap();
    assert_eq!(again.packages(), [kernel("other", "6.1"), kernel("x86_64", "6.2")]);
    assert_eq!(again.package("x86_64", "trixie", "linux-image-amd64").unwrap().version, "6.2");
    assert_eq!(again.package("x86_64", "forky", "linux-image-amd64"), None);
    assert!(std::fs::read_to_string(lock.path()).unwrap().starts_with("# Written by"));
}

#[test]
fn file_is_written_only_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock = LockFile::load(directory.path()).unwrap();
    lock.set_package(kernel("x86_64", "6.1")).unwrap();
    std::fs::remove_file(lock.path()).unwrap();
    lock.set_package(kernel("x86_64", "6.1")).unwrap();
    assert!(!lock.path().exists());
}

#[test]
fn wrong_file_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let message = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let error = LockFile::load(directory.path()).unwrap_err();
        assert_eq!(error.exit(), Exit::Config);
        assert!(error.next_step().unwrap().starts_with("take the file back from version control"));
        error.to_string()
    };
    assert!(message("version = 7\nnew = true\n").ends_with("it has version 7, this program knows version 1"));
    assert!(message("version = ").contains("Krazy.lock: TOML parse error"));
    assert!(message("version = 1\nkernels = 3\n").contains("unknown field `kernels`"));
    let text = message("version = 1\n[[install]]\npackage = 3\n");
    assert!(text.starts_with(&format!("failed to read {}: ", path.display())), "{text}");
    for (from, to, expected) in [
        ("abab", "xyz!", "has a `sha256` that is not 64 lower-case hex digits"),
        ("pool/main", "../../etc", "which is not one below an archive"),
        ("\"6.1-amd64\"", "\"../6.1\"", "has the `release` \"../6.1\", which cannot be one"),
        ("cdcd", "xyz!", "has a `sha256` that is not 64 lower-case hex digits"),
        ("pool/main/l/linux/", "../", "which is not one below an archive"),
    ] {
        std::fs::remove_file(&path).unwrap();
        let split = LockedPackage { parts: vec![part("modules", "6.1")], ..kernel("x86_64", "6.1") };
        LockFile::load(directory.path()).unwrap().set_package(split).unwrap();
        let text = std::fs::read_to_string(&path).unwrap().replacen(from, to, 1);
        let error = message(&text);
        assert!(error.contains("the kernel of board `x86_64`") && error.contains(expected), "{error}");
    }
}

#[test]
fn unreadable_and_unwritable_files_have_an_exit_code_and_help() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock = LockFile::load(directory.path()).unwrap();
    // A path that is a directory cannot be read as a file, by root neither.
    std::fs::create_dir(lock.path()).unwrap();
    let read = LockFile::load(directory.path()).unwrap_err();
    std::fs::remove_dir(lock.path()).unwrap();
    directory.close().unwrap();
    let written = lock.set_package(kernel("x86_64", "6.1")).unwrap_err();
    for (error, verb) in [(read, "read"), (written, "write")] {
        assert!(error.to_string().starts_with(&format!("failed to {verb} ")), "{error}");
        assert_eq!(error.exit(), Exit::Image);
        assert!(error.next_step().unwrap().starts_with("check the path"), "{error}");
    }
}

#[test]
fn change_keeps_what_others_entered_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let load = || LockFile::load(directory.path()).unwrap();
    let mut kernels = load();
    kernels.set_package(kernel("x86_64", "6.1")).unwrap();
    let mut lock = load();
    assert_eq!(lock.pin(&registry("0.43")), None);
    lock.set_pin(&registry("0.43"), "0.43.0").unwrap();
    let git = Source::Git {
        url: "https://host/ntp.git".into(),
        package: "ntp".into(),
        reference: GitReference::Tag("v1".into()),
    };
    lock.set_pin(&git, "0123abcd").unwrap();
    lock.set_pin(&registry("0.43"), "0.43.1").unwrap();

    let lock = load();
    assert_eq!(lock.pin(&registry("0.43")), Some("0.43.1"));
    assert_eq!(lock.pin(&git), Some("0123abcd"));
    assert_eq!(lock.pin(&registry("0.44")), None);
    let text = std::fs::read_to_string(lock.path()).unwrap();
    assert_eq!(text.matches("[[install]]").count(), 2, "{text}");
    kernels.set_package(kernel("x86_64", "6.2")).unwrap();
    assert_eq!(load().pin(&git), Some("0123abcd"));
    assert_eq!(load().packages(), [kernel("x86_64", "6.2")]);
}

#[test]
fn first_requirement_makes_a_file_that_kernels_can_join() {
    let directory = tempfile::tempdir().unwrap();
    LockFile::load(directory.path()).unwrap().set_pin(&registry("0.43"), "0.43.0").unwrap();
    let mut lock = LockFile::load(directory.path()).unwrap();
    assert!(lock.packages().is_empty());
    lock.set_package(kernel("x86_64", "6.1")).unwrap();
    let text = std::fs::read_to_string(lock.path()).unwrap();
    let expected = format!(
        "{HEADER}version = 1\n\n[[kernel]]\nboard = \"x86_64\"\npackage = \"linux-image-amd64\"\nsuite = \"trixie\"\n\
         name = \"linux-image-6.1-amd64\"\nversion = \"6.1\"\nrelease = \"6.1-amd64\"\n\
         path = \"pool/main/l/linux-signed-amd64/linux-image-6.1-amd64_6.1_amd64.deb\"\nsize = 5\nsha256 = \"{}\"\n\n\
         [[install]]\npackage = \"dufs\"\nrequirement = \"0.43\"\nresolved = \"0.43.0\"\n",
        "ab".repeat(32)
    );
    assert_eq!(text, expected);
}

#[test]
fn split_kernel_has_a_table_for_each_part() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock = LockFile::load(directory.path()).unwrap();
    let one = kernel("x86_64", "7.3");
    let split = LockedPackage { parts: vec![part("binary", "7.3"), part("modules", "7.3")], ..one.clone() };
    lock.set_package(split.clone()).unwrap();
    lock.set_package(kernel("zz", "7.3")).unwrap();
    assert_eq!(LockFile::load(directory.path()).unwrap().packages(), [split.clone(), kernel("zz", "7.3")]);
    let text = std::fs::read_to_string(lock.path()).unwrap();
    let expected = format!(
        "size = 5\nsha256 = \"{}\"\n\n[[kernel.part]]\nname = \"linux-binary-7.3-amd64\"\nversion = \"7.3\"\n\
         path = \"pool/main/l/linux/linux-binary-7.3-amd64_7.3_amd64.deb\"\nsize = 7\nsha256 = \"{}\"\n\n[[kernel.part]]\n",
        "ab".repeat(32),
        "cd".repeat(32)
    );
    assert!(text.contains(&expected), "{text}");
    assert_eq!(one.cache_key(), one.sha256);
    let other = LockedPackage { parts: split.parts[..1].to_vec(), ..one.clone() };
    assert!(![one.cache_key(), other.cache_key()].contains(&split.cache_key()));
}

#[test]
fn frozen_file_does_not_change() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock = LockFile::load(directory.path()).unwrap().frozen(true);
    let error = lock.set_pin(&registry("0.43"), "0.43.0").unwrap_err();
    assert!(error.to_string().ends_with("Krazy.lock would change, and --locked forbids it"), "{error}");
    assert_eq!(error.next_step(), Some("run once without --locked"));
    assert!(!lock.path().exists());
}

#[test]
fn paths_and_commits_need_no_entry() {
    assert!(!LockFile::needs_pin(&Source::Path { path: "/x".into() }));
    let reference = GitReference::Rev("0123".into());
    assert!(!LockFile::needs_pin(&Source::Git { url: "u".into(), package: "p".into(), reference }));
}
