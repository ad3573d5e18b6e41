//! The effect of keys on the image, and mistakes in the metadata that show only after it was read, some not before kernel,
//! firmware and programs are there: each message names file and line.

use std::fs;

use super::*;
use crate::board::Board;
use crate::config::tests::Project;
use crate::config::{self, KernelSource, Request};
use crate::kernel::bundle::image::testing::bzimage;
use crate::kernel::index::modinfo::testing::module;
use crate::kernel::source;
use crate::kernel::source::cache::KernelCache;
use crate::lock_file::LockFile;
use crate::plan::Plan;
use crate::provision;
use crate::shell::Shell;

/// A package `weather` with `text` from line 6 of its Cargo.toml on, and its appliance for `board`.
fn appliance(board: &str, text: &str) -> (Project, Appliance) {
    let project = Project::new(&format!("[package.metadata.krazy]\n{text}\n"));
    let request = Request { board: Board::named(board).unwrap(), ..project.request() };
    let appliance = config::load(&request).unwrap();
    (project, appliance)
}

/// Message and help of `failure`, with `DIR` for the project's directory.
fn text(project: &Project, failure: &Failure) -> String {
    assert_eq!(failure.exit(), crate::failure::Exit::Config);
    let help = failure.next_step().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    format!("{failure}{help}").replace(project.path("").to_str().unwrap(), "DIR/")
}

/// The composition of such an appliance, with a small kernel and firmware.
fn composition(project: &Project, appliance: &Appliance) -> Result<Composition> {
    let write = |path: &str, content: &[u8]| {
        let path = project.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    if !project.path("kernel/vmlinuz").exists() {
        write("kernel/vmlinuz", &bzimage("6.9"));
    }
    write("kernel/lib/modules/6.9/kernel/r8169.ko", &module(&["name=r8169"]));
    write("kernel/dtbs/broadcom/bcm2837-rpi-3-b.dtb", b"dtb");
    write("firmware/boot/start.elf", b"1");
    write("firmware/overlays/w1-gpio.dtbo", b"2");
    write("firmware/LICENCE", b"3");
    let source = KernelSource::Path(project.path("kernel"));
    let mut lock = LockFile::load(&project.path("")).unwrap();
    let cache = KernelCache::new(project.path("cache"));
    // The sample's image is one for a PC, whatever the board.
    let pc = Board::named("x86_64").unwrap();
    let kernel = source::obtain(&source, pc, &mut lock, &cache, true, Shell::default()).unwrap();
    let firmware = BootFirmware::open(&project.path("firmware"));
    let installed = |bin: &str| Installed {
        install: bin.to_owned(),
        bin: bin.to_owned(),
        path: project.path("src/main.rs"),
        package: bin.to_owned(),
        version: "1.0.0".to_owned(),
        source: "path".to_owned(),
        sha256: String::new(),
        bytes: 0,
    };
    let installation = Installation {
        bins: vec![installed("weather")],
        first_stage: installed(OWN_INIT),
        init: OWN_INIT.to_owned(),
        instructions: Vec::new(),
    };
    let secrets = provision::provision(&appliance.name, &project.path("state")).unwrap();
    Composition::new(appliance, &installation, &kernel, firmware.as_ref(), &secrets)
}

/// The error of the composition of an appliance with `metadata`.
fn error(board: &str, metadata: &str) -> String {
    let (project, appliance) = appliance(board, metadata);
    text(&project, &composition(&project, &appliance).err().unwrap())
}

#[test]
fn file_is_in_the_root_and_makes_another_build() {
    let compose = |metadata: &str| {
        let (project, appliance) = appliance("x86_64", metadata);
        let Composition { root, manifest, .. } = composition(&project, &appliance).unwrap();
        (root.iter().any(|(path, _)| path.as_str() == "/etc/motd"), manifest.build_id)
    };
    let (absent, without) = compose("");
    let (present, with) = compose("files = { \"/etc/motd\" = \"Cargo.toml\" }");
    assert!(!absent && present);
    assert_eq!(compose("").1, without, "the directory does not count");
    assert_ne!(with, without);
}

#[test]
fn loader_needs_a_kernel_with_an_efi_stub() {
    let composed = |metadata: &str, has_stub: bool| {
        let (project, appliance) = appliance("x86_64", metadata);
        let mut kernel = bzimage("6.9");
        if has_stub {
            kernel[..2].copy_from_slice(b"MZ");
            kernel[0x3c..0x40].copy_from_slice(&0x40u32.to_le_bytes());
            kernel[0x40..0x44].copy_from_slice(b"PE\0\0");
        }
        fs::create_dir_all(project.path("kernel")).unwrap();
        fs::write(project.path("kernel/vmlinuz"), kernel).unwrap();
        composition(&project, &appliance).map_err(|failure| text(&project, &failure))
    };
    let files = |composition: &Composition| {
        let on_boot: Vec<_> = composition.board_files.shared.iter().map(|file| file.name.clone()).collect();
        (on_boot, composition.root.iter().any(|(path, _)| path.as_str() == "/lib/krazy/uefi/BOOTX64.EFI"))
    };
    let with = composed("", true).unwrap();
    let expected = ["EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/SPARE.EFI"].map(str::to_owned).to_vec();
    assert_eq!((files(&with), with.loader.is_some()), ((expected, true), true));
    for (metadata, has_stub) in [("", false), ("uefi = false", true)] {
        let without = composed(metadata, has_stub).unwrap();
        assert_eq!((files(&without), without.loader.is_none()), ((Vec::new(), false), true), "{metadata}");
    }
    assert_eq!(
        composed("uefi = true", false).err().unwrap(),
        "DIR/Cargo.toml:6: `uefi` in [package.metadata.krazy] cannot be true: the kernel 6.9 has no EFI stub\n\
         help: set CONFIG_EFI_STUB=y in it, or remove the key"
    );
}

#[test]
fn missing_module_is_located() {
    assert_eq!(
        error("x86_64", "modules = [\"r8619\"]"),
        "DIR/Cargo.toml:6: `modules` in [package.metadata.krazy] cannot be used: the kernel has no module `r8619`\n\
         help: did you mean `r8169`?"
    );
}

#[test]
fn missing_overlay_is_located() {
    assert_eq!(
        error("aarch64-rpi", "board.aarch64-rpi.dtoverlays = [\"w1-gpoi,gpiopin=4\"]"),
        "DIR/Cargo.toml:6: `dtoverlays` in [package.metadata.krazy.board.aarch64-rpi] cannot be used: neither the \
         kernel nor the firmware has an overlay `w1-gpoi`\n\
         help: did you mean `w1-gpio`?; or give the path of a .dtbo file"
    );
}

#[test]
fn missing_device_tree_is_located() {
    assert_eq!(
        error("aarch64-rpi", "dtbs = [\"bcm2837-rpi-3-bb\"]"),
        "DIR/Cargo.toml:6: `dtbs` in [package.metadata.krazy] cannot be used: neither the kernel nor the firmware has a \
         device tree `bcm2837-rpi-3-bb`\n\
         help: did you mean `bcm2837-rpi-3-b`?; or give the path of a .dtb file"
    );
}

#[test]
fn file_that_the_image_has_already_is_located() {
    let error = error("x86_64", "files = { \"/sbin/krazy\" = \"Cargo.toml\" }");
    let expected = "DIR/Cargo.toml:6: `/sbin/krazy` in [package.metadata.krazy.files] cannot be in the image: \
                    `/sbin/krazy` comes from both cargo krazy and `files` (DIR/Cargo.toml)";
    assert_eq!(error, expected);
}

#[test]
fn command_line_that_is_too_long_for_a_launcher_is_located() {
    let error = error("aarch64-rpi", &format!("cmdline = [\"a={}\"]", "x".repeat(1940)));
    let expected = "DIR/Cargo.toml:6: `cmdline` in [package.metadata.krazy] cannot be used: the kernel command line has ";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn sizes_that_make_no_disk_are_located() {
    for (metadata, expected) in [
        ("size = \"700 MiB\"", "a disk of 700 MiB is too small: /boot, two roots and a /data of 32 MiB need"),
        (
            "root-size = \"600 MiB\"",
            "a disk of 1 GiB is too small: /boot, two roots and a /data of 32 MiB need",
        ),
        ("boot-size = \"1 MiB\"", "/boot of 1 MiB is too small, it needs at least"),
        ("root-size = 4096", "root of 4 KiB is too small, it needs at least"),
    ] {
        let (project, appliance) = appliance("x86_64", metadata);
        let error = text(&project, &Plan::new(appliance, None).map(|_| ()).unwrap_err());
        assert!(error.starts_with(&format!("DIR/Cargo.toml:6: {expected}")), "{error}");
        assert!(error.contains("\nhelp: `size`, `boot-size` and `root-size`"), "{error}");
    }
}

/// The text of the file `path` in `root`; of a link its target, of the user's file its name.
fn content(root: &Tree, path: &str) -> Option<String> {
    let (_, entry) = root.iter().find(|(found, _)| found.as_str() == path)?;
    match &entry.node {
        krazy_boot::image::tree::Node::Symlink(target) => Some(format!("-> {target}")),
        krazy_boot::image::tree::Node::File(Content::Bytes(bytes)) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        krazy_boot::image::tree::Node::File(Content::File(file)) => {
            file.file_name().map(|name| name.to_string_lossy().into_owned())
        }
        _ => None,
    }
}

#[test]
fn programs_find_accounts_names_certificates_and_their_time_zone() {
    let compose = |metadata: &str| {
        let (project, appliance) = appliance("x86_64", metadata);
        composition(&project, &appliance).unwrap()
    };
    let Composition { root, manifest, .. } =
        compose("hosts.broker = \"10.0.0.5\"\ntimezone = \"Europe/Berlin\"");
    let file = |path: &str| content(&root, path).unwrap_or_else(|| panic!("no {path}"));
    let number = krazy_boot::manifest::accounts::of(&manifest)["weather"];
    let line = format!("weather:x:{number}:{number}:weather:/data/weather:/bin/false\n");
    assert!(file("/etc/passwd").contains(&line), "{}", file("/etc/passwd"));
    assert!(file("/etc/group").contains(&format!("weather:x:{number}:\n")), "{}", file("/etc/group"));
    assert_eq!(file("/etc/hosts"), "-> /run/hosts");
    assert_eq!(manifest.hosts["broker"], std::net::Ipv4Addr::new(10, 0, 0, 5));
    assert_eq!(file("/etc/machine-id"), "-> /run/machine-id");
    assert_eq!(file("/var/lib/weather"), "-> /data/weather");
    assert_eq!(file("/etc/localtime"), "-> /usr/share/zoneinfo/Europe/Berlin");
    assert!(file("/usr/share/zoneinfo/Europe/Berlin").starts_with("TZif"));
    assert!(file("/etc/os-release").contains("PRETTY_NAME=\"weather 1.2.3\"\n"));
    let certificates = file("/etc/ssl/certs/ca-certificates.crt");
    assert!(certificates.matches("-----BEGIN CERTIFICATE-----\n").count() > 100);

    let plain = compose("ca-certificates = false").root;
    assert_eq!(content(&plain, "/etc/ssl/certs/ca-certificates.crt"), None);
    assert_eq!(content(&plain, "/etc/localtime"), None);
    let own = compose("files = { \"/etc/passwd\" = \"Cargo.toml\" }").root;
    assert_eq!(content(&own, "/etc/passwd").unwrap(), "Cargo.toml");
    let zone = compose("service.weather.env.TZ = \"Asia/Tokyo\"").root;
    assert!(content(&zone, "/usr/share/zoneinfo/Asia/Tokyo").is_some());
}

#[test]
fn another_time_zone_or_name_makes_another_build() {
    let id = |metadata: &str| {
        let (project, appliance) = appliance("x86_64", metadata);
        composition(&project, &appliance).unwrap().manifest.build_id
    };
    let ids = [
        "",
        "timezone = \"Europe/Berlin\"",
        "ca-certificates = false",
        "hosts.a = \"10.0.0.1\"",
        "sysctl.\"vm.swappiness\" = 10",
    ];
    assert_eq!(std::collections::BTreeSet::from(ids.map(id)).len(), 5);
}
