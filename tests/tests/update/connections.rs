//! Updates over intact and broken connections, and updates of unknown clients.

use std::fs;

use anyhow::{Context, Result, ensure};
use krazy_boot::api::credentials::{HashedToken, Role, Token, TokenFile};
use krazy_tests::device::{Device, noise};
use krazy_tests::process::succeed;
use krazy_tests::proxy::Proxy;
use krazy_tests::setup::judges;
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::Value;

use crate::NEW;

#[test]
fn interrupted_uploads_resume_and_unknown_clients_are_rejected() -> Result<()> {
    let device = Device::start("")?;
    device.check("a", "good 1")?;
    device.krazy(&["switch", "qemu", "b"])?.refused("push an update into that slot first")?;
    unknown_clients_are_rejected(&device)?;

    let ballast = noise(1, NEW);
    device.change("good 2", &ballast)?;
    let line = Proxy::start(device.address()?)?;
    device.name("line", line.port)?;
    line.cut_at(&[NEW / 10, NEW / 2, NEW / 100 * 99].map(|bytes| bytes as u64));
    let push = device.push(&["line"])?;
    push.expect(0, "updated")?;
    // A cut may also hit the question where to go on, which is asked again.
    ensure!(line.cuts_left() == 0, "a line did not break: {push:#?}");
    ensure!(push.last("breaks").as_u64() >= Some(1) && push.last("slot") == "b", "{push:#?}");
    let full = push.last("sent").as_u64().context("no number")?;
    ensure!(full >= NEW as u64, "the ballast was not sent: {push:#?}");
    // A resumed upload goes on where it was. What was on its way when the line broke is sent again.
    ensure!(line.sent() < full + full / 2, "{} bytes were sent for {full}", line.sent());
    let status = device.check("b", "good 2")?;
    ensure!(status["slots"]["standing"] == "confirmed", "{status:#}");
    device.push(&["qemu"])?.expect(0, "unchanged")?;
    credentials_are_its_own(&device)?;

    device.change("good 3", &ballast)?;
    let push = device.push(&["qemu", "--no-confirm"])?;
    push.expect(0, "on-trial")?;
    let sent = push.last("sent").as_u64().context("no number")?;
    ensure!(sent < full * 3 / 100, "a changed line takes {sent} of {full} bytes");
    device.check("a", "good 3")?;
    device.change("good 4", &ballast)?;
    device.push(&["qemu"])?.refused("is still trying its last update")?;

    ensure!(device.krazy(&["rollback", "qemu"])?.code == Some(0), "rollback was refused");
    device.wait_for_slot("b")?;
    device.check("b", "good 2")?;
    Ok(())
}

/// The first push has given the device a certificate and a token that no other one has: those of the image, which are on
/// every card that was written from it, are of no use any more.
fn credentials_are_its_own(device: &Device) -> Result<()> {
    let shown = device.krazy(&["certificate", "show", "qemu"])?;
    ensure!(shown.last("device").as_str().is_some_and(|id| id.len() == 32), "{shown:#?}");
    let tokens = device.krazy(&["token", "list", "qemu"])?;
    let names: Vec<_> = tokens.messages.iter().map(|token| &token["name"]).collect();
    let own = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("device-"));
    ensure!(names.len() == 1 && own(names[0]), "{tokens:#?}");
    let shared = fs::read_to_string(device.secrets().join("token"))?;
    let mut command = device.krazy.command(["status", "qemu"])?;
    let refused = command.env("KRAZY_TOKEN", shared.trim()).output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(said.contains("the credential is not valid on this device"), "{said}");

    // The device of another authority.
    let key = device.secrets().join("update.key");
    let right = fs::read(&key)?;
    fs::write(&key, KeyPair::generate_for(&PKCS_ED25519)?.serialize_pem())?;
    device.push(&["qemu"])?.ended_with(1, "`authority.pem` is of another first update key")?;
    let certificate = device.secrets().join("authority.pem");
    fs::remove_file(&certificate)?;
    device.push(&["qemu"])?.refused("does not have the certificate")?;
    ensure!(!certificate.exists(), "the wrong authority was stored");
    fs::write(&key, right)?;

    let rotated = device.krazy(&["token", "rotate", "qemu"])?;
    ensure!(rotated.code == Some(0) && own(&rotated.last("name")), "{rotated:#?}");
    let renewed = device.krazy(&["certificate", "show", "qemu"])?;
    ensure!(renewed.last("device") != shown.last("device"), "{renewed:#?}");
    let tokens = device.krazy(&["token", "list", "qemu"])?;
    ensure!(tokens.messages.len() == 1, "{tokens:#?}");
    Ok(())
}

/// A wrong token and a wrong certificate, each of which is put right again.
fn unknown_clients_are_rejected(device: &Device) -> Result<()> {
    let secrets = device.secrets();
    let files = ["token", "tokens.json", "cert.pem", "key.pem"].map(|name| secrets.join(name));
    let right: Vec<_> = files.iter().map(fs::read).collect::<Result<_, _>>()?;
    let restore = || files.iter().zip(&right).try_for_each(|(path, content)| fs::write(path, content));
    let [token, tokens, certificate, key] = &files;

    let wrong = Token::from_random([7; 32]);
    let entry = HashedToken::new("unknown", Role::Admin, Vec::new(), &wrong, [1; 16]);
    fs::write(token, wrong.reveal())?;
    fs::write(tokens, TokenFile::new(vec![entry])?.to_json()?)?;
    device.push(&["qemu"])?.refused("is not the device's")?;
    restore()?;

    let mut openssl = judges::command("openssl")?;
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/CN=unit", "-keyout"]).arg(key).arg("-out").arg(certificate);
    succeed(&mut openssl)?;
    device.push(&["qemu"])?.refused("does not have the certificate")?;
    Ok(restore()?)
}
