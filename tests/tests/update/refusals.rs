//! Bundles and pushes that a device does not take: it says why, arms nothing, and goes on.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use krazy_boot::update::bundle::PartKind;
use krazy_tests::bundle_editor::{BundleEditor, head_len};
use krazy_tests::device::{Device, NAME, noise};
use krazy_tests::guest::BOOT_LIMIT;
use krazy_tests::outcome::PUSH_LIMIT;
use krazy_tests::proxy::Proxy;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};
use serde_json::{Value, json};

use crate::{NEW, reverts};

#[test]
fn forbidden_updates_are_rejected_with_their_reason() -> Result<()> {
    // What is left is a /data that can be filled.
    let mut device = Device::new("size = \"832MiB\"")?;
    give_an_expired_certificate(&device)?;
    device.switch_on()?;
    device.check("a", "good 1")?;

    device.change("good 2", &noise(2, NEW / 4))?;
    let bundle = device.bundle("good.krazy")?;
    damaged_bundles(&device, &bundle)?;
    signed_mistakes(&device, &bundle)?;
    device.krazy(&["switch", "qemu", "b"])?.refused("push an update into that slot first")?;
    two_at_once(&device, &bundle)?;
    device.check("a", "good 1")?;
    let first = update_keys(&device)?;
    update_key_is_exchanged(&device, &bundle)?;

    upload_survives_a_killed_receiver(&mut device)?;
    ensure!(update_keys(&device)? == first, "the push did not bring the key of its appliance");
    data_is_full(&mut device)
}

/// From now on the appliance has a certificate that was valid for the year 2020. A device whose owner did not look must
/// stay within his reach.
fn give_an_expired_certificate(device: &Device) -> Result<()> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new([NAME.to_owned()])?;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key)?;
    fs::write(device.secrets().join("cert.pem"), certificate.pem())?;
    fs::write(device.secrets().join("key.pem"), key.serialize_pem())?;
    device.make_image()
}

/// A flipped byte in what is signed and in a stream, and a bundle that ends early; from the push, which looks first, and
/// from a client that does not.
fn damaged_bundles(device: &Device, bundle: &Path) -> Result<()> {
    let good = fs::read(bundle)?;
    let head = head_len(&good)?;
    let directory = device.krazy.directory.path();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, bytes).map(|()| path)
    };

    let mut flipped = good.clone();
    let version = flipped.windows(5).position(|window| window == b"0.1.0").context("no version")?;
    ensure!(version < head, "the version is not in the head");
    flipped[version] ^= 1;
    let flipped = write("head.krazy", &flipped)?;
    device.push_bundle(&flipped, &["qemu"])?.refused("the signature of the update bundle is not valid")?;

    let mut flipped = good.clone();
    flipped[head + (good.len() - head) / 2] ^= 1;
    let path = write("stream.krazy", &flipped)?;
    device.push_bundle(&path, &["qemu"])?.ended_with(7, "cannot be pushed")?;
    let path = write("short.krazy", &good[..good.len() - 1])?;
    device.push_bundle(&path, &["qemu"])?.ended_with(7, "ends early")?;

    // What is refused is so short that it has gone before the answer comes.
    let most = good.len() - head - 100;
    let begun = device.curl("POST", "update", Some(&good[..head]))?;
    ensure!(begun.status == 201, "{begun:?}");
    let id = begun.json["id"].as_str().context("no id")?.to_owned();
    let at = |offset: usize| format!("update/{id}?offset={offset}");
    let arm = || device.curl("POST", &format!("update/{id}/arm"), None)?.is_problem("update-not-verified");
    let answer = device.curl("PATCH", &at(0), Some(&good[head..head + most]))?;
    ensure!(answer.json["state"] == "receiving" && answer.json["received"] == most, "{answer:?}");
    arm()?;
    let rest = &good[head + most..];
    device.curl("PATCH", &at(0), Some(rest))?.is_problem("update-offset")?;
    device.curl("PATCH", &at(most), Some(&[rest, b"more"].concat()))?.is_problem("update-content")?;
    // One bit alone may be one of compression, which changes nothing that is decoded.
    let flipped: Vec<u8> = rest.iter().map(|byte| !byte).collect();
    device.curl("PATCH", &at(most), Some(&flipped))?.is_problem("update-content")?;
    arm()
}

/// Bundles with a good signature that are for others, too old, or hold no root.
fn signed_mistakes(device: &Device, bundle: &Path) -> Result<()> {
    let directory = device.krazy.directory.path();
    let key = device.secrets().join("update.key");
    let good = BundleEditor::open(bundle)?;
    let refused = |wrong: BundleEditor, words: &str| {
        let bundle = wrong.save(directory, "wrong.krazy", &key)?;
        device.push_bundle(&bundle, &["qemu", "--appliance", NAME])?.refused(words)
    };

    let mut wrong = good.clone();
    wrong.manifest.board = "aarch64-rpi".to_owned();
    refused(wrong, "the update is for aarch64-rpi")?;
    let mut wrong = good.clone();
    wrong.manifest.appliance = "another".to_owned();
    refused(wrong, "the update is for the appliance another")?;
    let floor = |version: &str| device.curl("PUT", "update/floor", Some(version.as_bytes()));
    ensure!(floor(r#"{"version": "0.2.0"}"#)?.status == 204, "the floor cannot be set");
    refused(good.clone(), "version 0.1.0 is below 0.2.0")?;
    ensure!(floor("{}")?.status == 204, "the floor cannot be removed");
    let mut wrong = good;
    *wrong.part(&PartKind::Root)? = noise(3, 1 << 20);
    refused(wrong, "holds no root")
}

/// The second push is told who is at it, and the first one completes.
fn two_at_once(device: &Device, bundle: &Path) -> Result<()> {
    let line = Proxy::start(device.address()?)?;
    device.name("line", line.port)?;
    line.hold_after(NEW as u64 / 8);
    let first = device.begin_push_bundle(bundle, &["line", "--stage"])?;
    line.wait_until_held(PUSH_LIMIT)?;
    // Another build: the same one would be gone on with, as if its host had come back.
    let mut other = BundleEditor::open(bundle)?;
    other.manifest.build_id = "0".repeat(64);
    let other =
        other.save(device.krazy.directory.path(), "other.krazy", &device.secrets().join("update.key"))?;
    device.push_bundle(&other, &["qemu"])?.refused("admin is updating to 0.1.0")?;
    line.release();
    first.wait()?.expect(0, "staged")
}

fn update_keys(device: &Device) -> Result<Value> {
    let shown = device.krazy(&["key", "show", "qemu"])?;
    ensure!(shown.code == Some(0), "{shown:#?}");
    Ok(shown.last("keys"))
}

/// The device gets a new update key, and no longer takes what the old one has signed. At the end its appliance has still
/// another key, which the next push brings.
fn update_key_is_exchanged(device: &Device, bundle: &Path) -> Result<()> {
    let first = update_keys(device)?;
    let rotated = device.krazy(&["key", "rotate", "qemu"])?;
    ensure!(rotated.code == Some(0), "{rotated:#?}");
    let second = update_keys(device)?;
    ensure!(second != first && second == json!([rotated.last("key")]), "{first} {second}");
    device.push_bundle(bundle, &["qemu"])?.refused("the signature of the update bundle is not valid")?;
    // As if the device had been away while the key was exchanged on another one.
    let [present, former] = ["update.key", "former-update-keys.pem"].map(|name| device.secrets().join(name));
    let (second, first) = (fs::read(&present)?, fs::read(&former)?);
    fs::write(&present, &first)?;
    Ok(fs::write(former, [second, first].concat())?)
}

/// The program that receives is killed in the middle. Init starts it again, and the push begins anew.
fn upload_survives_a_killed_receiver(device: &mut Device) -> Result<()> {
    let line = Proxy::start(device.address()?)?;
    device.name("line", line.port)?;
    device.change("good 3", &noise(3, NEW / 4))?;
    line.hold_after(NEW as u64 / 8);
    let push = device.begin_push(&["line"])?;
    line.wait_until_held(PUSH_LIMIT)?;
    device.kill_admind()?;
    line.release();
    let push = push.wait()?;
    push.expect(0, "updated")?;
    ensure!(push.last("breaks").as_u64() >= Some(1), "it was not killed: {push:#?}");
    device.check("b", "good 3")?;
    Ok(())
}

/// A service has filled `/data` to the last byte: updates need nothing of it, whatever comes of them.
fn data_is_full(device: &mut Device) -> Result<()> {
    device.put("unit/fill", b"")?;
    ensure!(device.curl("POST", "services/unit/restart", None)?.status == 204, "unit does not restart");
    device.console()?.wait_for("/data is full", BOOT_LIMIT)?;
    device.change("good 4", &[])?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    let status = device.check("a", "good 4")?;
    ensure!(status["slots"]["standing"] == "confirmed", "{status:#}");
    device.change("crash", &[])?;
    reverts(device, || device.push(&["qemu", "--force"]), "good 4", NAME)
}
