//! Security updates of a suite: an archive of their own, beside the suite's.

use super::*;

const SECURITY: &str = "/debian-security/dists/trixie-security/InRelease";

impl Setup {
    /// Returns an archive with a source of security updates at `mirror`, which may lack them if `optional`.
    fn with_security(&self, mirror: &str, optional: bool) -> DebianArchive {
        let mut archive = self.archive();
        let mirrors = vec![self.server.url(mirror)];
        archive.sources.push(Source { suite: "trixie-security".to_owned(), mirrors, optional });
        archive
    }

    /// Offers the kernel `version` as a security update, or none.
    fn publish_security(&self, version: Option<&str>) {
        let name = version.unwrap_or_default();
        let package = deb(&[
            (&format!("./boot/vmlinuz-{name}-x"), &bzimage(&format!("{name}-x"))),
            (&format!("./usr/lib/modules/{name}-x/kernel/a.ko"), &module(&["name=a"])),
        ]);
        let path = format!("pool/updates/main/l/linux/linux-image-{name}-x_amd64.deb");
        let text = format!(
            "Package: linux-image-amd64\nVersion: {name}-1\nDepends: linux-image-{name}-x (= {name}-1)\n\
             Filename: pool/meta.deb\nSize: 1\nSHA256: {}\n\n\
             Package: linux-image-{name}-x\nVersion: {name}-1\nFilename: {path}\nSize: {}\nSHA256: {}\n",
            "0".repeat(64),
            package.len(),
            hex(&Sha256::digest(&package))
        );
        let packages = xz(version.map_or("", |_| &text).as_bytes());
        let release = format!(
            "Suite: stable-security\nCodename: trixie-security\nSHA256:\n {} {} main/binary-amd64/Packages.xz\n",
            hex(&Sha256::digest(&packages)),
            packages.len()
        );
        self.server.serve(SECURITY, signed(&self.key, &release).into_bytes());
        self.server.serve(&SECURITY.replace("InRelease", "main/binary-amd64/Packages.xz"), packages);
        self.server.serve(&format!("/debian-security/{path}"), package);
    }

    fn newest(&self, archive: &DebianArchive) -> Result<LockedPackage> {
        archive.newest::<KernelBundle>(REQUEST, Board::named("x86_64")?)
    }
}

#[test]
fn newest_of_the_suite_and_its_security_updates_is_taken() {
    let setup = Setup::new();
    let archive = setup.with_security("/debian-security", false);
    setup.publish_security(None);
    let first = setup.newest(&archive).unwrap();
    assert_eq!((first.version.as_str(), first.origin()), ("6.1-1", "trixie"));
    setup.lock().set_package(first).unwrap();

    setup.publish_security(Some("6.1.7"));
    let update = Update::new(&setup.lock(), setup.newest(&archive).unwrap());
    assert_eq!((update.change, update.to_string().as_str()), (Change::Newer, "6.1-1 → 6.1.7-1"));
    assert_eq!(setup.obtain().unwrap().release, "6.1-x", "nothing changes before it is written");
    update.write(&mut setup.lock(), false).unwrap();
    let text = std::fs::read_to_string(setup.lock().path()).unwrap();
    assert!(text.contains("suite = \"trixie\"\nfrom = \"trixie-security\"\n"), "{text}");

    let locked = setup.lock().packages()[0].clone();
    let board = Board::named("x86_64").unwrap();
    let bundle: KernelBundle =
        archive.obtain(REQUEST, Some(locked.clone()), board, &mut setup.lock(), &setup.cache()).unwrap();
    assert_eq!(bundle.origin, "Debian trixie-security linux-image-6.1.7-x 6.1.7-1");
    assert_eq!(setup.lock().packages(), [locked]);

    // The next point release of the suite has what was a security update, then a newer one.
    setup.publish("6.1.7");
    assert_eq!(Update::new(&setup.lock(), setup.newest(&archive).unwrap()).change, Change::None);
    setup.publish("6.1.8");
    let newest = setup.newest(&archive).unwrap();
    assert_eq!((newest.version.as_str(), newest.from), ("6.1.8-1", None));
}

#[test]
fn security_updates_are_left_out_only_at_a_configured_mirror_that_has_none() {
    let setup = Setup::new();
    let optional = setup.with_security("/nothing", true);
    assert_eq!(setup.newest(&optional).unwrap().version, "6.1-1");
    let error = setup.newest(&setup.with_security("/nothing", false)).unwrap_err();
    assert!(error.to_string().ends_with("/trixie-security/InRelease does not exist (status 404)"), "{error}");

    // A mirror that offers them must offer them signed.
    setup.publish_security(Some("6.1.7"));
    let text = String::from_utf8(setup.server.content(SECURITY)).unwrap();
    setup.server.serve(SECURITY, text.replace("stable-security", "stable-securitx").into_bytes());
    let error = setup.newest(&setup.with_security("/debian-security", true)).unwrap_err();
    assert!(error.to_string().ends_with("does not match the text"), "{error}");

    // An entry of a machine that has no such mirror.
    let other = LockedPackage { from: Some("trixie-security".into()), ..setup.update().new };
    let board = Board::named("x86_64").unwrap();
    let error = setup
        .archive()
        .obtain::<KernelBundle>(REQUEST, Some(other), board, &mut setup.lock(), &setup.cache())
        .unwrap_err();
    assert_eq!(error.to_string(), "no mirror of Debian's suite `trixie-security` is known");
    assert!(error.next_step().unwrap().ends_with("`cargo krazy kernel update`"));
}
