//! A device of the first version: its boot sector, boot state, first stage, init and API. Updates move it forward.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use krazy_boot::disk::identity::IdentityCopies;
use krazy_boot::disk::layout::StateSectors;
use krazy_tests::bundle_editor::BundleEditor;
use krazy_tests::device::Device;
use krazy_tests::process::succeed;
use krazy_tests::setup::judges;
use serde_json::Value;

use crate::power::{make_first_format, state_sectors};

/// Its boot sector, the first 440 bytes at most.
const BOOT_SECTOR: &[u8] = include_bytes!("first_version/boot_sector.bin");

/// Its programs, compressed by zstd; `first_version/README.md` says where they come from.
const INIT: &[u8] = include_bytes!("first_version/init.zst");
const ADMIND: &[u8] = include_bytes!("first_version/krazy-admind.zst");

#[test]
fn device_of_the_first_version_is_moved_forward_by_updates() -> Result<()> {
    // It knows one type of the boot partition.
    let mut device = Device::new("uefi = false")?;
    make_first_format(&device.image, BOOT_SECTOR)?;
    device.switch_on()?;
    device.change("good 2", &[])?;
    device.push_bundle(&bundle_of_first_version(&device)?, &["qemu"])?.expect(0, "updated")?;
    // From here on nothing of the present version runs.
    device.power_off()?;
    ensure!(state_sectors(&device.image)? == StateSectors::FIRST, "the boot state has moved");
    device.boot()?;
    let status = device.check("b", "good 2")?;
    ensure!(status["slots"]["standing"] == "confirmed", "{status:#}");
    let token = device.krazy(&["token", "add", "later", "qemu", "--role", "viewer"])?;
    ensure!(token.code == Some(0), "{token:#?}");

    // Its engine writes the first build of the present version, and its init starts the trial.
    device.set_uefi(true)?;
    device.change("good 3", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    let status = device.check("a", "good 3")?;
    ensure!(status["slots"]["standing"] == "confirmed", "{status:#}");
    // The other slot does not know the present boot state.
    ensure!(state_sectors(&device.image)? == StateSectors::FIRST, "the boot state has moved too early");
    ensure!(device.krazy(&["rollback", "qemu"])?.code == Some(0), "rollback was refused");
    device.wait_for_slot("b")?;
    device.check("b", "good 2")?;
    device.confirm()?;

    // Two more, and both slots know it.
    for (slot, mode) in [("a", "good 4"), ("b", "good 5")] {
        device.change(mode, &[])?;
        device.push(&["qemu"])?.expect(0, "updated")?;
        device.check(slot, mode)?;
    }
    device.power_off()?;
    ensure!(state_sectors(&device.image)? == StateSectors::CURRENT, "the boot state has not moved");
    let copies = IdentityCopies::read(&mut File::open(&device.image)?);
    ensure!(copies.newest().is_ok_and(|copy| copy.files.len() >= 4), "the credentials are not copied");
    // It has got the loader, and starts without a BIOS.
    device.firmware = "uefi".to_owned();
    device.boot()?;
    let status = device.check("b", "good 5")?;
    ensure!(status["status"]["degraded"].as_array().is_some_and(Vec::is_empty), "{status:#}");
    let tokens = device.krazy(&["token", "list", "qemu"])?;
    ensure!(tokens.code == Some(0) && format!("{tokens:?}").contains("later"), "{tokens:#?}");
    Ok(())
}

/// Returns a bundle of the present build with the programs of the first version, and without what it did not know.
fn bundle_of_first_version(device: &Device) -> Result<PathBuf> {
    let directory = device.krazy.directory.path();
    let mut bundle = BundleEditor::open(&device.bundle("present.krazy")?)?;
    let (init, admind) = (directory.join("first-init"), directory.join("first-krazy-admind"));
    unpack(INIT, &init)?;
    unpack(ADMIND, &admind)?;
    bundle.change_root(directory, |tree| {
        fs::copy(&init, tree.join("bin/init"))?;
        fs::copy(&admind, tree.join("bin/krazy-admind"))?;
        let path = tree.join("etc/krazy/manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let known = manifest.as_object_mut().context("a manifest is an object")?;
        known.remove("disk_format").context("the manifest has no disk format")?;
        Ok(fs::write(&path, serde_json::to_vec(&manifest)?)?)
    })?;
    bundle.change_initramfs(directory, |tree| Ok(fs::copy(&init, tree.join("init")).map(drop)?))?;
    bundle.save(directory, "first.krazy", &device.secrets().join("update.key"))
}

/// Writes the executable that `compressed` holds to `path`.
fn unpack(compressed: &[u8], path: &Path) -> Result<()> {
    let packed = path.with_extension("zst");
    fs::write(&packed, compressed)?;
    succeed(judges::command("zstd")?.args(["--quiet", "--force", "-d"]).arg(&packed).arg("-o").arg(path))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}
