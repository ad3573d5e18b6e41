//! The way from a mirror to a bundle, against a miniature archive on a server of this machine.

use std::sync::Arc;

use pgp::composed::SignedSecretKey;
use sha2::{Digest, Sha256};

use super::signature::testing::{keyring, secret_key, signed};
use super::*;
use crate::kernel::archive::testing::{deb, xz};
use crate::kernel::hex;
use crate::kernel::image::testing::bzimage;
use crate::kernel::modinfo::testing::module;
use crate::kernel::testing::{Answer, Server};

const REQUEST: Request<'static> = Request { package: "linux-image-amd64", suite: "trixie", mirror: None };
const POOL: &str = "/debian/pool/main/l/linux/linux-image-6.1-x_6.1-1_amd64.deb";

/// An archive with one kernel, and a project that wants it.
struct Setup {
    server: Server,
    key: SignedSecretKey,
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup =
            Setup { server: Server::start(), key: secret_key(), folder: tempfile::tempdir().unwrap() };
        let package = deb(&[
            ("./boot/vmlinuz-6.1-x", &bzimage("6.1-x")),
            ("./usr/lib/modules/6.1-x/kernel/a.ko.xz", &xz(&module(&["name=a"]))),
        ]);
        let packages = format!(
            "Package: linux-image-amd64\nVersion: 6.1-1\nDepends: linux-image-6.1-x (= 6.1-1)\n\
             Filename: pool/meta.deb\nSize: 1\nSHA256: {}\n\n\
             Package: linux-image-6.1-x\nVersion: 6.1-1\nFilename: {}\nSize: {}\nSHA256: {}\n",
            "0".repeat(64),
            POOL.trim_start_matches("/debian/"),
            package.len(),
            hex(&Sha256::digest(&package)),
        );
        let packages = xz(packages.as_bytes());
        let release = format!(
            "Suite: stable\nCodename: trixie\nSHA256:\n {} {} main/binary-amd64/Packages.xz\n",
            hex(&Sha256::digest(&packages)),
            packages.len()
        );
        setup.server.serve("/debian/dists/trixie/InRelease", signed(&setup.key, &release).into_bytes());
        setup.server.serve("/debian/dists/trixie/main/binary-amd64/Packages.xz", packages);
        setup.server.serve(POOL, package);
        setup
    }

    fn archive(&self) -> DebianArchive {
        DebianArchive {
            mirrors: vec![self.server.url("/debian")],
            keyring: keyring(&self.key),
            fetcher: Fetcher::for_tests(),
            shell: Shell::default(),
        }
    }

    fn lock(&self) -> KernelLock {
        KernelLock::load(self.folder.path()).unwrap()
    }

    fn cache(&self) -> KernelCache {
        KernelCache::new(self.folder.path().join("cache"))
    }

    fn obtain(&self) -> anyhow::Result<KernelBundle> {
        let board = Board::named("x86_64")?;
        let mut lock = self.lock();
        let locked = lock.get(board.name, REQUEST.suite, REQUEST.package).cloned();
        self.archive().obtain(REQUEST, locked, board, &mut lock, &self.cache())
    }

    fn failure(&self) -> (String, String) {
        let error = self.obtain().unwrap_err();
        (error.to_string(), Failure::help_of(&error).unwrap_or_default().to_owned())
    }
}

#[test]
fn resolves_fetches_locks_and_then_needs_no_network() {
    let setup = Setup::new();
    let bundle = setup.obtain().unwrap();
    assert_eq!(
        (bundle.release.as_str(), bundle.origin.as_str()),
        ("6.1-x", "Debian trixie linux-image-6.1-x 6.1-1")
    );
    assert_eq!(bundle.modules().unwrap().modules()[0].name, "a");
    let file = bundle.module_file(&bundle.modules().unwrap().modules()[0]);
    assert_eq!(std::fs::read(file).unwrap(), module(&["name=a"]));
    let lock = setup.lock();
    let locked = lock.get("x86_64", "trixie", "linux-image-amd64").unwrap();
    assert_eq!((locked.name.as_str(), locked.version.as_str()), ("linux-image-6.1-x", "6.1-1"));
    let downloads = std::fs::read_dir(setup.folder.path().join("cache/kernel/downloads")).unwrap();
    assert_eq!(downloads.count(), 0, "the package is not kept once it is unpacked");

    let asked = setup.server.requests();
    let board = Board::named("x86_64").unwrap();
    let again = obtain(REQUEST, board, &mut setup.lock(), &setup.cache(), true, Shell::default()).unwrap();
    assert_eq!(again.sha256, bundle.sha256);
    assert_eq!(setup.server.requests(), asked, "locked and cached needs no network");
}

#[test]
fn a_locked_kernel_needs_no_index() {
    let setup = Setup::new();
    setup.obtain().unwrap();
    std::fs::remove_dir_all(setup.folder.path().join("cache")).unwrap();
    setup.server.answer("/debian/dists/trixie/InRelease", Arc::new(|_| Answer::status(500)));
    assert_eq!(setup.obtain().unwrap().release, "6.1-x");
}

#[test]
fn a_locked_kernel_that_is_gone_says_how_to_update() {
    let setup = Setup::new();
    setup.obtain().unwrap();
    std::fs::remove_dir_all(setup.folder.path().join("cache")).unwrap();
    setup.server.answer(POOL, Arc::new(|_| Answer::status(404)));
    let (message, help) = setup.failure();
    let url = setup.server.url(POOL);
    assert_eq!(
        message,
        format!("the locked kernel linux-image-6.1-x 6.1-1 is no longer offered: {url} is gone")
    );
    assert!(help.starts_with("run `cargo krazy kernel update`, or remove its entry from "), "{help}");
}

#[test]
fn a_tampered_index_is_refused() {
    let setup = Setup::new();
    let url = "/debian/dists/trixie/InRelease";
    let original = String::from_utf8(setup.server.content(url)).unwrap();
    setup.server.serve(url, original.replace("trixie", "trixii").into_bytes());
    let (message, help) = setup.failure();
    assert!(
        message.starts_with(&format!("refused {}: the signature by ", setup.server.url(url))),
        "{message}"
    );
    assert!(
        message.ends_with("does not match the text") && help.contains("tampered with"),
        "{message}: {help}"
    );

    setup.server.serve(url, signed(&secret_key(), "Codename: trixie\n").into_bytes());
    assert!(setup.failure().0.ends_with("none of its signatures is by a key this program knows"));
    setup.server.serve(url, signed(&setup.key, "Codename: forky\n").into_bytes());
    assert!(setup.failure().0.ends_with("it is of the suite `` (forky), not `trixie`"));
    setup.server.serve(url, signed(&setup.key, "Codename: trixie\n").into_bytes());
    assert_eq!(setup.failure().0, "Debian's suite `trixie` offers no main/binary-amd64/Packages.xz");
    assert!(!setup.lock().file().exists());
}

#[test]
fn tampered_packages_are_refused_and_not_kept() {
    let setup = Setup::new();
    let index = "/debian/dists/trixie/main/binary-amd64/Packages.xz";
    let good = setup.server.content(index);
    setup.server.serve(index, vec![0; good.len()]);
    assert!(setup.failure().0.contains("Packages.xz has the wrong content: its SHA-256 is "));
    setup.server.serve(index, good);

    let mut package = setup.server.content(POOL);
    package[100] ^= 1;
    setup.server.serve(POOL, package.clone());
    let (message, help) = setup.failure();
    assert!(message.starts_with(&format!("{} has the wrong content", setup.server.url(POOL))), "{message}");
    assert!(help.contains("tampered with"), "{help}");
    package.push(0);
    let longer = package.len();
    setup.server.serve(POOL, package);
    assert!(setup.failure().0.ends_with(&format!("has {longer} bytes, not the expected {}", longer - 1)));
    let downloads = std::fs::read_dir(setup.folder.path().join("cache/kernel/downloads")).unwrap();
    assert_eq!(downloads.count(), 0);
    assert!(!setup.lock().file().exists());
}

#[test]
fn another_mirror_helps_out() {
    let setup = Setup::new();
    let mut archive = setup.archive();
    archive.mirrors.insert(0, setup.server.url("/nothing/debian"));
    let board = Board::named("x86_64").unwrap();
    let bundle = archive.obtain(REQUEST, None, board, &mut setup.lock(), &setup.cache()).unwrap();
    assert_eq!(bundle.release, "6.1-x");
}

#[test]
fn offline_and_locked_say_what_is_missing() {
    let setup = Setup::new();
    let board = Board::named("x86_64").unwrap();
    let attempt = |lock: KernelLock, offline| {
        let error =
            obtain(REQUEST, board, &mut { lock }, &setup.cache(), offline, Shell::default()).unwrap_err();
        assert_eq!(Failure::exit_of(&error), Exit::Fetch);
        error.to_string()
    };
    assert_eq!(
        attempt(setup.lock(), true),
        "no kernel is locked for board `x86_64` (linux-image-amd64 of Debian's `trixie`), and --offline forbids to look for one"
    );
    assert_eq!(
        attempt(setup.lock().frozen(true), false),
        "no kernel is locked for board `x86_64` (linux-image-amd64 of Debian's `trixie`)"
    );
    setup.obtain().unwrap();
    std::fs::remove_dir_all(setup.folder.path().join("cache")).unwrap();
    assert_eq!(
        attempt(setup.lock(), true),
        "the kernel of board `x86_64`, linux-image-6.1-x 6.1-1, is not in the cache, and --offline forbids to fetch it"
    );
}
