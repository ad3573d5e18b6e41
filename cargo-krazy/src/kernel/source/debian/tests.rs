//! The way from a mirror to a bundle, against a miniature archive on a server of this machine.

mod security;
mod split;

use std::sync::Arc;
use std::time::Duration;

use pgp::composed::SignedSecretKey;
use sha2::{Digest, Sha256};

use super::signature::testing::{keyring, secret_key, signed};
use super::*;
use crate::config::KernelSource;
use crate::download::test_server::{Answer, Server};
use crate::kernel::bundle::KernelBundle;
use crate::kernel::bundle::archive::testing::{deb, xz};
use crate::kernel::bundle::image::testing::bzimage;
use crate::kernel::index::modinfo::testing::module;
use crate::kernel::source::{Change, Inventory, Update};
use krazy_boot::digest::hex;

const REQUEST: Request<'static> = Request { package: "linux-image-amd64", suite: "trixie", mirror: None };
const POOL: &str = "/debian/pool/main/l/linux/linux-image-6.1-x_6.1-1_amd64.deb";

/// The path of the package of the kernel `version`, such as `6.1`.
fn pool(version: &str) -> String {
    POOL.replace("6.1", version)
}

/// An archive with one kernel, and a project that wants it.
struct Setup {
    server: Server,
    key: SignedSecretKey,
    directory: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup =
            Setup { server: Server::start(), key: secret_key(), directory: tempfile::tempdir().unwrap() };
        setup.publish("6.1");
        setup
    }

    /// Makes the kernel `version` the newest of the archive; packages that were there stay.
    fn publish(&self, version: &str) {
        let name = format!("{version}-x");
        let package = deb(&[
            (&format!("./boot/vmlinuz-{name}"), &bzimage(&name)),
            (&format!("./usr/lib/modules/{name}/kernel/a.ko.xz"), &xz(&module(&["name=a"]))),
        ]);
        let packages = format!(
            "Package: linux-image-amd64\nVersion: {version}-1\nDepends: linux-image-{name} (= {version}-1)\n\
             Filename: pool/meta.deb\nSize: 1\nSHA256: {}\n\n\
             Package: linux-image-{name}\nVersion: {version}-1\nFilename: {}\nSize: {}\nSHA256: {}\n",
            "0".repeat(64),
            pool(version).trim_start_matches("/debian/"),
            package.len(),
            hex(&Sha256::digest(&package)),
        );
        self.publish_index(&packages);
        self.server.serve(&pool(version), package);
    }

    /// Signs `packages` as the index of the suite.
    fn publish_index(&self, packages: &str) {
        let packages = xz(packages.as_bytes());
        let release = format!(
            "Suite: stable\nCodename: trixie\nSHA256:\n {} {} main/binary-amd64/Packages.xz\n",
            hex(&Sha256::digest(&packages)),
            packages.len()
        );
        self.server.serve("/debian/dists/trixie/InRelease", signed(&self.key, &release).into_bytes());
        self.server.serve("/debian/dists/trixie/main/binary-amd64/Packages.xz", packages);
    }

    /// Returns the result of `cargo krazy kernel update`.
    fn update(&self) -> Update {
        let newest = self.archive().newest::<KernelBundle>(REQUEST, Board::named("x86_64").unwrap()).unwrap();
        Update::new(&self.lock(), newest)
    }

    /// Returns the output of `cargo krazy kernel list`, with the paths of this test replaced, and as data.
    fn list(&self) -> (String, Inventory) {
        let source = KernelSource::Debian {
            package: REQUEST.package.to_owned(),
            suite: REQUEST.suite.to_owned(),
            mirror: None,
        };
        let board = Board::named("x86_64").unwrap();
        let now = SystemTime::now() + Duration::from_secs(3 * 86_400);
        let inventory = Inventory::new(&source, board, &self.lock(), &self.cache(), now).unwrap();
        let directory = self.directory.path().display().to_string();
        (inventory.to_string().replace(&directory, "[DIR]"), inventory)
    }

    fn archive(&self) -> DebianArchive {
        DebianArchive {
            sources: vec![Source {
                suite: "trixie".to_owned(),
                mirrors: vec![self.server.url("/debian")],
                optional: false,
            }],
            keyring: keyring(&self.key),
            fetcher: Fetcher::for_tests(),
            shell: Shell::default(),
        }
    }

    fn lock(&self) -> LockFile {
        LockFile::load(self.directory.path()).unwrap()
    }

    fn cache(&self) -> KernelCache {
        KernelCache::new(self.directory.path().join("cache"))
    }

    fn obtain(&self) -> Result<KernelBundle> {
        let board = Board::named("x86_64")?;
        let mut lock = self.lock();
        let locked = lock.package(board.name, REQUEST.suite, REQUEST.package).cloned();
        self.archive().obtain(REQUEST, locked, board, &mut lock, &self.cache())
    }

    fn failure(&self) -> (String, String) {
        let error = self.obtain().unwrap_err();
        (error.to_string(), error.next_step().unwrap_or_default().to_owned())
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
    let locked = lock.package("x86_64", "trixie", "linux-image-amd64").unwrap();
    assert_eq!((locked.name.as_str(), locked.version.as_str()), ("linux-image-6.1-x", "6.1-1"));
    let downloads = std::fs::read_dir(setup.directory.path().join("cache/kernel/downloads")).unwrap();
    assert_eq!(downloads.count(), 0, "the package is not kept once it is unpacked");

    let asked = setup.server.requests();
    let board = Board::named("x86_64").unwrap();
    let again: KernelBundle =
        obtain(REQUEST, board, &mut setup.lock(), &setup.cache(), true, Shell::default()).unwrap();
    assert_eq!(again.sha256, bundle.sha256);
    assert_eq!(setup.server.requests(), asked, "locked and cached needs no network");
}

#[test]
fn locked_kernel_needs_no_index() {
    let setup = Setup::new();
    setup.obtain().unwrap();
    std::fs::remove_dir_all(setup.directory.path().join("cache")).unwrap();
    setup.server.answer("/debian/dists/trixie/InRelease", Arc::new(|_| Answer::status(500)));
    assert_eq!(setup.obtain().unwrap().release, "6.1-x");
}

#[test]
fn withdrawn_kernel_has_help_to_update() {
    let setup = Setup::new();
    setup.obtain().unwrap();
    std::fs::remove_dir_all(setup.directory.path().join("cache")).unwrap();
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
fn tampered_index_is_refused() {
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
    assert!(!setup.lock().path().exists());
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
    let downloads = std::fs::read_dir(setup.directory.path().join("cache/kernel/downloads")).unwrap();
    assert_eq!(downloads.count(), 0);
    assert!(!setup.lock().path().exists());
}

#[test]
fn second_mirror_is_tried() {
    let setup = Setup::new();
    let mut archive = setup.archive();
    archive.sources[0].mirrors.insert(0, setup.server.url("/nothing/debian"));
    let board = Board::named("x86_64").unwrap();
    let bundle: KernelBundle =
        archive.obtain(REQUEST, None, board, &mut setup.lock(), &setup.cache()).unwrap();
    assert_eq!(bundle.release, "6.1-x");
}

#[test]
fn offline_and_locked_name_the_missing_kernel() {
    let setup = Setup::new();
    let board = Board::named("x86_64").unwrap();
    let attempt = |lock: LockFile, offline| {
        let error =
            obtain::<KernelBundle>(REQUEST, board, &mut { lock }, &setup.cache(), offline, Shell::default())
                .unwrap_err();
        assert_eq!(error.exit(), Exit::Fetch);
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
    std::fs::remove_dir_all(setup.directory.path().join("cache")).unwrap();
    assert_eq!(
        attempt(setup.lock(), true),
        "the kernel of board `x86_64`, linux-image-6.1-x 6.1-1, is not in the cache, and --offline forbids to fetch it"
    );
}

#[test]
fn update_is_locked_fetched_and_seen_in_the_list() {
    let setup = Setup::new();
    let first = setup.update();
    assert_eq!((first.change, first.old), (Change::First, None));
    setup.obtain().unwrap();
    assert_eq!(setup.update().change, Change::None);

    setup.publish("6.10");
    let update = setup.update();
    assert_eq!((update.change, update.to_string().as_str()), (Change::Newer, "6.1-1 → 6.10-1"));
    assert_eq!(setup.obtain().unwrap().release, "6.1-x", "nothing changes before it is written");
    update.write(&mut setup.lock(), false).unwrap();
    assert_eq!(setup.lock().packages()[0].release, "6.10-x");
    assert!(!setup.list().1.locked[0].cached);
    assert_eq!(setup.obtain().unwrap().release, "6.10-x");

    // The archive goes back, as a mirror that is behind does.
    setup.publish("6.9");
    let older = setup.update();
    assert_eq!(older.change, Change::Older);
    let error = older.write(&mut setup.lock(), false).unwrap_err();
    assert!(error.to_string().ends_with("is 6.9-1, older than the locked 6.10-1"), "{error}");
    assert_eq!(setup.obtain().unwrap().release, "6.10-x");
    older.write(&mut setup.lock(), true).unwrap();
    assert_eq!(setup.obtain().unwrap().release, "6.9-x");
}

#[test]
fn update_brings_back_a_locked_kernel_that_is_gone() {
    let setup = Setup::new();
    setup.obtain().unwrap();
    std::fs::remove_dir_all(setup.directory.path().join("cache")).unwrap();
    setup.publish("6.2");
    setup.server.answer(POOL, Arc::new(|_| Answer::status(404)));
    assert!(setup.failure().1.starts_with("run `cargo krazy kernel update`"));
    setup.update().write(&mut setup.lock(), false).unwrap();
    assert_eq!(setup.obtain().unwrap().release, "6.2-x");
}

#[test]
fn list_shows_locked_cached_and_unused_kernels() {
    let setup = Setup::new();
    let (text, inventory) = setup.list();
    assert!(inventory.locked.is_empty() && inventory.cached.is_empty());
    assert_eq!(
        text,
        "Locked in [DIR]/Krazy.lock\n  nothing\n  \
         linux-image-amd64 of Debian trixie is not locked for x86_64 yet; `cargo krazy kernel fetch` locks the newest\n\n\
         Cached in [DIR]/cache/kernel\n  nothing\n"
    );
    setup.obtain().unwrap();
    setup.publish("6.10");
    setup.update().write(&mut setup.lock(), false).unwrap();
    setup.obtain().unwrap();
    let old_format = setup.directory.path().join("cache/kernel/bundles/0000-amd64");
    std::fs::create_dir(&old_format).unwrap();
    std::fs::write(old_format.join("bundle.json"), r#"{"format":0}"#).unwrap();
    std::fs::create_dir(setup.directory.path().join("cache/kernel/bundles/.unfinished-killed")).unwrap();

    let (text, inventory) = setup.list();
    let uses: Vec<_> = inventory
        .cached
        .iter()
        .map(|bundle| (bundle.release.as_deref().unwrap_or("?"), bundle.used_by.join(" ")))
        .collect();
    assert_eq!(inventory.cached.len(), 3, "{text}");
    for expected in [("6.10-x", "x86_64"), ("6.1-x", ""), ("?", "")] {
        assert!(uses.contains(&(expected.0, expected.1.to_owned())), "{text}");
    }
    let used = inventory.cached.iter().find(|bundle| !bundle.used_by.is_empty()).unwrap();
    let files = ["vmlinuz", "bundle.json", "modules.json", "lib/modules/6.10-x/kernel/a.ko"];
    let bytes: u64 = files.map(|file| std::fs::metadata(used.path.join(file)).unwrap().len()).iter().sum();
    assert_eq!(used.bytes.0, bytes);
    let lines: Vec<_> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let size = krazy_boot::disk::size::Bytes(setup.lock().packages()[0].size);
    for expected in [
        "BOARD ORIGIN VERSION RELEASE DOWNLOAD CACHED".to_owned(),
        format!("x86_64 linux-image-amd64 of Debian trixie 6.10-1 6.10-x {size} yes"),
        format!("6.10-x Debian trixie linux-image-6.10-x 6.10-1 {} 3 days ago x86_64", used.bytes),
        "? made by another version of cargo krazy 12 B 3 days ago nothing here".to_owned(),
    ] {
        assert!(lines.contains(&expected), "{expected} in\n{text}");
    }
}
