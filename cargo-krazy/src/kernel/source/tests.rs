//! Sources other than Debian's archive.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::*;
use crate::download::test_server::{Answer, Server};
use crate::failure::Exit;
use crate::kernel::bundle::archive::testing::{deb, tar};
use crate::kernel::bundle::image::testing::bzimage;
use crate::kernel::index::modinfo::testing::module;
use krazy_boot::digest::hex;

struct Setup {
    directory: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        Setup { directory: tempfile::tempdir().unwrap() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn cache(&self) -> KernelCache {
        KernelCache::new(self.at("cache"))
    }

    fn obtain(&self, source: &KernelSource) -> Result<KernelBundle> {
        let mut lock = LockFile::load(self.directory.path())?;
        let bundle =
            obtain(source, Board::named("x86_64")?, &mut lock, &self.cache(), true, Shell::default());
        assert!(!lock.path().exists(), "only Debian's kernels are locked");
        bundle
    }

    fn bundles(&self) -> usize {
        std::fs::read_dir(self.at("cache/kernel/bundles")).unwrap().count()
    }
}

#[test]
fn directory_is_imported_once_and_again_when_it_changes() {
    let setup = Setup::new();
    std::fs::create_dir_all(setup.at("mine/lib/modules/6.9/kernel")).unwrap();
    std::fs::write(setup.at("mine/vmlinuz"), bzimage("6.9")).unwrap();
    std::fs::write(setup.at("mine/config"), "CONFIG_A=y\n").unwrap();
    std::fs::write(setup.at("mine/lib/modules/6.9/kernel/a.ko"), module(&["name=a"])).unwrap();
    let source = KernelSource::Path(setup.at("mine"));
    let bundle = setup.obtain(&source).unwrap();
    assert_eq!((bundle.release.as_str(), bundle.origin.as_str()), ("6.9", "path mine"));
    assert_eq!(std::fs::read(&bundle.image).unwrap(), bzimage("6.9"));
    assert_eq!(bundle.sha256, hex(&Sha256::digest(bzimage("6.9"))));
    let stored = |name: &str| bundle.image.with_file_name(name).exists();
    assert!(stored("config") && bundle.dtbs_dir.is_none() && !stored("firmware"));
    assert_eq!(bundle.path_in_image("modules.dep"), "lib/modules/6.9/modules.dep");

    let marker = bundle.modules_dir.join("marker");
    std::fs::write(&marker, "").unwrap();
    setup.obtain(&source).unwrap();
    assert!(marker.exists(), "an unchanged directory is not imported again");

    std::fs::create_dir_all(setup.at("cache/kernel/bundles/.unfinished-killed/x")).unwrap();
    std::fs::write(setup.at("mine/lib/modules/6.9/kernel/b.ko"), module(&["name=b"])).unwrap();
    let bundle = setup.obtain(&source).unwrap();
    assert!(!marker.exists() && bundle.modules().unwrap().get("b").is_some());
    assert_eq!(setup.bundles(), 1, "neither the former bundle nor what a killed process left stays");
}

#[test]
fn failed_import_leaves_nothing_and_keeps_what_was_there() {
    let setup = Setup::new();
    let file = setup.at("k.deb");
    let source = KernelSource::Path(file.clone());
    std::fs::write(&file, deb(&[("boot/vmlinuz-6.9", &bzimage("6.9"))])).unwrap();
    setup.obtain(&source).unwrap();
    std::fs::write(&file, deb(&[("boot/vmlinuz-6.9", b"nonsense")])).unwrap();
    let error = setup.obtain(&source).unwrap_err();
    assert_eq!(error.to_string(), "`path k.deb` is not a Linux kernel image");
    assert_eq!(error.exit(), Exit::Fetch);
    assert_eq!(setup.bundles(), 1);

    let error = setup.obtain(&KernelSource::Path(setup.at("nowhere"))).unwrap_err();
    assert!(error.to_string().contains("nowhere: No such file"), "{error}");
    let help = error.next_step().unwrap();
    assert!(help.starts_with("`path` of the kernel is a directory, a .deb"), "{help}");
}

#[test]
fn kernel_behind_an_url() {
    let setup = Setup::new();
    let server = Server::start();
    let archive = zstd::encode_all(&tar(&[("./vmlinuz", &bzimage("6.9"))])[..], 1).unwrap();
    let sha256 = hex(&Sha256::digest(&archive));
    let url = server.url("/k.tar.zst");
    let source = |sha256: &str| KernelSource::Url { url: url.clone(), sha256: sha256.to_owned() };
    let fetch = |sha256: &str| {
        fetch_url(
            &url,
            &expected(&url, sha256).unwrap(),
            "amd64",
            &setup.cache(),
            &Fetcher::for_tests(),
            Shell::default(),
        )
    };
    let error = setup.obtain(&source(&sha256)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the kernel {url} is not in the cache, and --offline forbids to fetch it")
    );
    let error = setup.obtain(&source("abc")).unwrap_err();
    assert_eq!(error.to_string(), format!("`sha256` of the kernel {url} is not 64 hex digits"));
    assert_eq!(error.exit(), Exit::Config);

    server.serve("/k.tar.zst", archive.clone());
    let wrong = "0".repeat(64);
    let error = fetch(&wrong).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{url} has the wrong content: its SHA-256 is {sha256}, not {wrong}")
    );
    assert_eq!(fetch(&sha256).unwrap().release, "6.9");
    let requests = server.requests();
    assert_eq!(setup.obtain(&source(&sha256.to_uppercase())).unwrap().origin, url);
    assert_eq!(server.requests(), requests);

    server.answer("/k.tar.zst", std::sync::Arc::new(|_| Answer::status(404)));
    let error = fetch(&wrong).unwrap_err();
    assert_eq!(error.to_string(), format!("{url} does not exist (status 404)"));
}

#[test]
fn list_knows_kernels_that_need_no_lock() {
    let setup = Setup::new();
    std::fs::write(setup.at("k.deb"), deb(&[("boot/vmlinuz-6.9", &bzimage("6.9"))])).unwrap();
    let source = KernelSource::Path(setup.at("k.deb"));
    setup.obtain(&source).unwrap();
    let lock = LockFile::load(setup.directory.path()).unwrap();
    let list = |source: &KernelSource| {
        let board = Board::named("x86_64").unwrap();
        Inventory::new(source, board, &lock, &setup.cache(), std::time::SystemTime::now()).unwrap().cached
    };
    let cached = list(&source);
    assert_eq!(cached[0].used_by, ["x86_64"]);
    assert_eq!(cached[0].origin.as_deref(), Some("path k.deb"));
    let url = KernelSource::Url { url: "http://host/k".to_owned(), sha256: "0".repeat(64) };
    assert!(list(&url)[0].used_by.is_empty());
}
