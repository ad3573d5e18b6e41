//! Kernels that are split over several packages.

use super::*;

#[test]
fn split_kernel_is_fetched_whole_and_locked() {
    let setup = Setup::new();
    let parts = [
        ("image", "./usr/share/doc/x", b"empty".to_vec()),
        ("binary", "./usr/lib/modules/7.3-x/vmlinuz", bzimage("7.3-x")),
        ("modules", "./usr/lib/modules/7.3-x/kernel/a.ko", module(&["name=a"])),
    ];
    let path = |part: &str| format!("pool/main/l/linux/linux-{part}-7.3-x_7.3-1_amd64.deb");
    let offer = |offered: &[&str]| {
        let depends: Vec<_> = offered.iter().map(|part| format!("linux-{part}-7.3-x (= 7.3-1)")).collect();
        let mut index = format!(
            "Package: linux-image-amd64\nVersion: 7.3-1\nDepends: {}\nFilename: pool/meta.deb\nSize: 1\nSHA256: {}\n",
            depends.join(", "),
            "0".repeat(64)
        );
        for (part, file, content) in &parts {
            let package = deb(&[(*file, &content[..])]);
            index += &format!(
                "\nPackage: linux-{part}-7.3-x\nVersion: 7.3-1\nFilename: {}\nSize: {}\nSHA256: {}\n",
                path(part),
                package.len(),
                hex(&Sha256::digest(&package))
            );
            setup.server.serve(&format!("/debian/{}", path(part)), package);
        }
        setup.publish_index(&index);
    };

    // What an earlier version of this program locked: the empty package alone.
    offer(&["image"]);
    setup.update().write(&mut setup.lock(), false).unwrap();
    let (message, help) = setup.failure();
    assert_eq!(message, "Debian's kernel is incomplete: linux-image-7.3-x holds no kernel image");
    assert!(help.starts_with("run `cargo krazy kernel update`"), "{help}");
    offer(&["image", "binary", "modules"]);
    assert_eq!(setup.failure().0, message, "the lock file is changed by an update only");
    let update = setup.update();
    assert_eq!(update.change, Change::Replaced);
    update.write(&mut setup.lock(), false).unwrap();

    let binary = format!("/debian/{}", path("binary"));
    let good = setup.server.content(&binary);
    setup.server.serve(&binary, vec![0; good.len()]);
    assert!(setup.failure().0.contains("has the wrong content: its SHA-256 is "));
    setup.server.serve(&binary, good);
    let bundle = setup.obtain().unwrap();
    assert_eq!((bundle.release.as_str(), bundle.modules().unwrap().modules().len()), ("7.3-x", 1));
    assert_eq!(bundle.origin, "Debian trixie linux-image-7.3-x 7.3-1");
    let locked = setup.lock().packages()[0].clone();
    assert_eq!(
        locked.files().iter().map(|file| file.path.clone()).collect::<Vec<_>>(),
        parts.map(|part| path(part.0))
    );
    let downloads = std::fs::read_dir(setup.directory.path().join("cache/kernel/downloads")).unwrap();
    assert_eq!(downloads.count(), 0);
    assert!(setup.list().1.locked[0].cached);
    assert_eq!(setup.list().1.cached[0].used_by, ["x86_64"]);

    let asked = setup.server.requests();
    let board = Board::named("x86_64").unwrap();
    let again =
        obtain::<KernelBundle>(REQUEST, board, &mut setup.lock(), &setup.cache(), true, Shell::default());
    assert_eq!(again.unwrap().sha256, bundle.sha256);
    assert_eq!(setup.server.requests(), asked, "locked and cached needs no network");
    assert_eq!(setup.update().change, Change::None);
}
