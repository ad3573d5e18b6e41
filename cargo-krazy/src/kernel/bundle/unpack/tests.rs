//! Packages and directories as bundles, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::kernel::bundle::archive::testing::{deb, xz};
use crate::kernel::bundle::image::testing::bzimage;
use crate::kernel::index::modinfo::testing::module;

fn try_unpack(files: &[(&str, &[u8])]) -> Result<(tempfile::TempDir, Unpacked)> {
    let directory = tempfile::tempdir().unwrap();
    let package = directory.path().join("k.deb");
    std::fs::write(&package, deb(files)).unwrap();
    let into = directory.path().join("bundle");
    std::fs::create_dir(&into).unwrap();
    let unpacked = unpack(&Archive::open(&package)?, &into, "amd64", "k.deb")?;
    Ok((directory, unpacked))
}

fn message(files: &[(&str, &[u8])]) -> String {
    try_unpack(files).unwrap_err().to_string()
}

#[test]
fn package_becomes_a_bundle() {
    let ext4 = module(&["name=ext4", "depends=jbd2"]);
    let jbd2 = module(&["name=jbd2"]);
    let (directory, unpacked) = try_unpack(&[
        ("./boot/vmlinuz-6.1-x", &bzimage("6.1-x")),
        ("./boot/System.map-6.1-x", b"left out"),
        ("./usr/lib/modules/6.1-x/kernel/fs/ext4.ko.xz", &xz(&ext4)),
        ("./usr/lib/modules/6.1-x/kernel/fs/jbd2.ko.zst", &zstd::encode_all(&jbd2[..], 1).unwrap()),
        ("./usr/lib/modules/6.1-x/modules.builtin", b"kernel/fs/vfat.ko\n"),
        ("./usr/lib/linux-image-6.1-x/broadcom/bcm2837.dtb", b"dtb"),
        ("./lib/firmware/a/b.bin", b"fw"),
    ])
    .unwrap();
    assert_eq!(unpacked.release, "6.1-x");
    assert_eq!(unpacked.index.get("ext4").unwrap().depends, ["jbd2"]);
    assert!(unpacked.index.is_builtin("vfat"));
    let read = |path: &str| std::fs::read(directory.path().join("bundle").join(path)).unwrap();
    assert_eq!(read("lib/modules/6.1-x/kernel/fs/ext4.ko"), ext4);
    assert_eq!(read("lib/modules/6.1-x/kernel/fs/jbd2.ko"), jbd2);
    assert_eq!(read("dtbs/broadcom/bcm2837.dtb"), b"dtb");
    assert_eq!(read("firmware/a/b.bin"), b"fw");
    assert!(!directory.path().join("bundle/boot").exists());
}

/// Packages called `p0`, `p1`…, unpacked together.
fn unpack_packages(packages: &[&[(&str, &[u8])]]) -> Result<(tempfile::TempDir, Unpacked)> {
    let directory = tempfile::tempdir().unwrap();
    let package = |(number, files): (usize, &&[_])| {
        let path = directory.path().join(format!("p{number}.deb"));
        std::fs::write(&path, deb(files)).unwrap();
        (format!("p{number}"), path)
    };
    let archive = Archive::Packages(packages.iter().enumerate().map(package).collect());
    let into = directory.path().join("bundle");
    std::fs::create_dir(&into).unwrap();
    let unpacked = unpack(&archive, &into, "amd64", "Debian forky")?;
    Ok((directory, unpacked))
}

#[test]
fn split_packages_become_one_bundle() {
    let image = bzimage("7.3-x");
    let ext4 = module(&["name=ext4"]);
    let binary: &[(&str, &[u8])] = &[("./usr/lib/modules/7.3-x/vmlinuz", &image)];
    let base: &[(&str, &[u8])] = &[
        ("./usr/lib/modules/7.3-x/System.map", b"left out"),
        ("./usr/lib/modules/7.3-x/config", b"CONFIG_A=y\n"),
        ("./usr/lib/modules/7.3-x/dtb/broadcom/bcm2712-rpi-5-b.dtb", b"dtb"),
        ("./usr/lib/modules/7.3-x/modules.builtin", b"kernel/fs/vfat.ko\n"),
    ];
    let modules: &[(&str, &[u8])] = &[("./usr/lib/modules/7.3-x/kernel/fs/ext4.ko", &ext4)];
    let empty: &[(&str, &[u8])] = &[("./usr/share/lintian/overrides/p", b"x")];

    let (directory, unpacked) = unpack_packages(&[empty, base, binary, modules]).unwrap();
    assert_eq!(unpacked.release, "7.3-x");
    assert!(unpacked.index.get("ext4").is_some() && unpacked.index.is_builtin("vfat"));
    let read = |path: &str| std::fs::read(directory.path().join("bundle").join(path)).unwrap();
    assert_eq!((read("vmlinuz"), read("config")), (image.clone(), b"CONFIG_A=y\n".to_vec()));
    assert_eq!(read("dtbs/broadcom/bcm2712-rpi-5-b.dtb"), b"dtb");

    let failure = |packages: &[&[(&str, &[u8])]]| unpack_packages(packages).unwrap_err();
    let error = failure(&[empty, base, modules]);
    assert_eq!(error.to_string(), "Debian's kernel is incomplete: p0, p1, p2 hold no kernel image");
    assert!(error.next_step().unwrap().starts_with("run `cargo krazy kernel update`"));
    assert_eq!(failure(&[empty]).to_string(), "Debian's kernel is incomplete: p0 holds no kernel image");
    assert_eq!(failure(&[binary, base]).to_string(), "Debian's kernel is incomplete: p0, p1 hold no modules");
    let top: &[(&str, &[u8])] = &[("vmlinuz", &image)];
    assert!(unpack_packages(&[top, binary, modules]).is_ok(), "the same image in two places");
}

#[test]
fn paths_that_leave_the_directory_are_refused() {
    for path in ["../vmlinuz", "boot/vmlinuz-x/../../../../etc/passwd", "/etc/passwd"] {
        assert_eq!(message(&[(path, b"x")]), format!("refused to unpack `{path}`: it leaves the directory"));
    }
    assert!(message(&[("lib/modules/.hidden/kernel/a.ko", b"x")]).contains("not a kernel's release"));
}

#[test]
fn mismatched_parts_are_named() {
    let image = bzimage("6.1-x");
    assert_eq!(message(&[("config", b"x")]), "`k.deb` holds no kernel image");
    assert_eq!(message(&[("vmlinuz", b"text")]), "`k.deb` is not a Linux kernel image");
    assert_eq!(
        message(&[("vmlinuz", &image), ("lib/modules/6.2-x/kernel/a.ko", &module(&[]))]),
        "`k.deb` has modules of kernel 6.2-x, but its image is kernel 6.1-x"
    );
    assert_eq!(
        message(&[
            ("vmlinuz", &image),
            ("lib/modules/6.1-x/kernel/a.ko", &module(&[])),
            ("lib/modules/6.2-x/kernel/a.ko", &module(&[]))
        ]),
        "`k.deb` holds modules of two kernels, 6.1-x and 6.2-x"
    );
    assert!(
        message(&[("vmlinuz", &image), ("lib/modules/6.1-x/kernel/a.ko", b"text")])
            .starts_with("the kernel module `kernel/a.ko` is unusable: not a readable ELF file")
    );
    assert!(message(&[("vmlinuz", &image), ("vmlinuz", b"x")]).contains("two files called"));
}

#[test]
fn bare_image_is_a_kernel_without_modules() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bzImage");
    std::fs::write(&path, bzimage("6.12.1-krazy")).unwrap();
    let into = directory.path().join("bundle");
    std::fs::create_dir(&into).unwrap();
    let unpacked = unpack(&Archive::open(&path).unwrap(), &into, "amd64", "bzImage").unwrap();
    assert_eq!(unpacked.release, "6.12.1-krazy");
    assert!(unpacked.index.modules().is_empty());
}

proptest! {
    #[test]
    fn no_path_leaves_the_bundle(path in "(usr/|lib/|modules/|\\.\\./|/|dtbs/|firmware/|boot/vmlinuz-|[a-z.]{0,4}|.ko|/){0,8}") {
        if let Ok(Some(destination)) = destination(&path) {
            let to = match destination {
                Destination::File(path) => path,
                Destination::Module { release, path } => format!("{release}/{path}"),
            };
            let stays = Path::new(&to).components().all(|part| matches!(part, Component::Normal(_)));
            prop_assert!(stays, "{}", to);
        }
    }
}
