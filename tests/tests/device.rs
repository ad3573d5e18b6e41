//! A running device and the commands that talk to it.

use std::fs;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use krazy_tests::guest::{BOOT_LIMIT, Guest};
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;
use serde_json::Value;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The messages that `arguments` print with `--message-format json`.
fn messages(krazy: &Krazy, arguments: &[&str]) -> Result<Vec<Value>> {
    let output = krazy.succeed(arguments.iter().chain(&["--message-format", "json"]))?;
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).context("not JSON")).collect()
}

#[test]
fn device_reports_status_copies_files_and_follows_commands() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = directory.join("hello.img");
    let mut command = krazy.command(["image", "-p", "hello", "-o"])?;
    succeed(command.arg(&image))?;
    let output = krazy.run(["status", "qemu"])?;
    assert_eq!(output.status.code(), Some(9));
    assert!(stderr(&output).contains("no machine of `run-qemu` is running as `qemu`"), "{}", stderr(&output));

    let mut command = krazy.command(["run-qemu", "--timeout", "1500", "--image"])?;
    command.arg(&image);
    let mut guest = Guest::start(command)?;
    guest.wait_for("Registered", BOOT_LIMIT)?;
    guest.wait_for("serving https", BOOT_LIMIT)?;
    let seen = guest.seen();
    ensure!(!seen.contains("krazy-admind: failed") && !seen.contains("not fully restricted"), "{seen}");

    let status = messages(&krazy, &["status", "qemu"])?.remove(0);
    assert_eq!(status["status"]["name"], "hello");
    assert_eq!((&status["status"]["slot"], &status["slots"]["standing"]), (&"a".into(), &"confirmed".into()));
    let services = messages(&krazy, &["ps", "qemu"])?;
    let names: Vec<_> = services.iter().map(|service| service["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["hello", "krazy-admind"]);
    let text = String::from_utf8(krazy.succeed(["status", "qemu"])?.stdout)?;
    assert!(text.contains("slot       A, confirmed"), "{text}");
    let log = String::from_utf8(krazy.succeed(["logs", "qemu", "hello", "-n", "5"])?.stdout)?;
    assert!(log.contains("listening on"), "{log}");
    let output = krazy.run(["logs", "qemu", "nobody"])?;
    assert_eq!(output.status.code(), Some(9));
    assert!(stderr(&output).contains("`cargo krazy ps` lists the services"), "{}", stderr(&output));

    let content: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let [sent, received] = ["sent", "received"].map(|name| directory.join(name));
    fs::write(&sent, &content)?;
    let sent = sent.to_str().context("a path that is not UTF-8")?;
    let received = received.to_str().context("a path that is not UTF-8")?;
    krazy.succeed(["put", "qemu", sent, "/data/a directory"])?;
    krazy.succeed(["get", "qemu", "/data/a directory", received])?;
    ensure!(fs::read(received)? == content, "another file came back");
    let output = krazy.run(["get", "qemu", "/data/krazy/tokens.json", "-"])?;
    assert_eq!(output.status.code(), Some(9), "credentials are not served: {}", stderr(&output));

    others_use_it_with_tokens_of_their_own(&krazy)?;
    certificate_and_token_are_exchanged(&krazy)?;

    krazy.succeed(["poweroff", "qemu"])?;
    let (code, seen) = guest.wait(Duration::from_secs(120))?;
    assert_eq!(code, Some(0), "{seen}");
    Ok(())
}

/// Adds a viewer, who looks and changes nothing, and ends that again.
fn others_use_it_with_tokens_of_their_own(krazy: &Krazy) -> Result<()> {
    let added = messages(krazy, &["token", "add", "anna", "qemu"])?.remove(0);
    assert_eq!((&added["name"], &added["role"]), (&"anna".into(), &"viewer".into()));
    let token = added["token"].as_str().context("no token")?.to_owned();
    let as_anna = |arguments: &[&str]| -> Result<Output> {
        Ok(krazy.command(arguments)?.env("KRAZY_TOKEN", &token).output()?)
    };
    let looked = as_anna(&["ps", "qemu"])?;
    ensure!(looked.status.success(), "{}", stderr(&looked));
    let refused = as_anna(&["reboot", "qemu"])?;
    assert_eq!(refused.status.code(), Some(9));
    assert!(stderr(&refused).contains("`anna` is a viewer"), "{}", stderr(&refused));

    let list = String::from_utf8(krazy.succeed(["token", "list", "qemu"])?.stdout)?;
    assert_eq!(list, "TOKEN  ROLE    SCOPES\nadmin  admin   -\nanna   viewer  -\n");
    let refused = krazy.run(["token", "revoke", "admin", "qemu"])?;
    assert_eq!(refused.status.code(), Some(9));
    assert!(stderr(&refused).contains("nobody should lock themselves out"), "{}", stderr(&refused));
    krazy.succeed(["token", "revoke", "anna", "qemu"])?;
    let refused = as_anna(&["ps", "qemu"])?;
    assert_eq!(refused.status.code(), Some(9));
    assert!(stderr(&refused).contains("the credential is not valid on this device"), "{}", stderr(&refused));
    Ok(())
}

/// Exchanges both on the running device, and goes on with what an interrupted run left.
fn certificate_and_token_are_exchanged(krazy: &Krazy) -> Result<()> {
    let secrets = krazy.directory.path().join("state/hello/secrets");
    let read = |name: &str| fs::read_to_string(secrets.join(name));
    let (old_certificate, old_token) = (read("cert.pem")?, read("token")?);
    let rotated = messages(krazy, &["certificate", "rotate", "qemu"])?.remove(0);
    let shown = messages(krazy, &["certificate", "show", "qemu"])?.remove(0);
    assert_eq!((&shown["sha256"], &shown["trial"]), (&rotated["sha256"], &Value::Null));
    assert_ne!(read("cert.pem")?, old_certificate);

    // As if the run had been cut between the two files.
    let next = secrets.join("next-certificate");
    fs::create_dir(&next)?;
    fs::rename(secrets.join("cert.pem"), next.join("cert.pem"))?;
    fs::write(secrets.join("cert.pem"), &old_certificate)?;
    krazy.succeed(["status", "qemu"])?;
    assert_ne!(read("cert.pem")?, old_certificate);
    assert!(!next.exists());
    assert_eq!(messages(krazy, &["certificate", "forget", "qemu"])?[0]["certificates"], 1);

    let rotated = messages(krazy, &["token", "rotate", "qemu"])?.remove(0);
    assert_eq!((&rotated["name"], &rotated["role"]), (&"admin-2".into(), &"admin".into()));
    assert_ne!(read("token")?, old_token);
    krazy.succeed(["status", "qemu"])?;
    let refused = krazy.command(["status", "qemu"])?.env("KRAZY_TOKEN", old_token.trim()).output()?;
    assert_eq!(refused.status.code(), Some(9));
    Ok(())
}
