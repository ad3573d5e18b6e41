//! Devices are found in a local network, by the program that is in their images.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use krazy_tests::guest::{BOOT_LIMIT, Guest};
use krazy_tests::krazy::Krazy;
use krazy_tests::network::{ADDRESSES, Network};
use krazy_tests::process::succeed;
use krazy_tests::root::Root;
use serde_json::{Value, json};

/// The ends of the cable.
const HOST: usize = 0;
const DEVICE: usize = 1;

#[test]
fn device_is_discovered_and_reached_by_name() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = directory.join("hello.img");
    succeed(krazy.command(["image", "-p", "hello", "-o"])?.arg(&image))?;
    let root = Root::unpack(&image, &directory.join("device"))?;
    let secrets = directory.join("state/hello/secrets");
    let data = root.directory.join("data/krazy");
    fs::create_dir_all(data.join("tls"))?;
    for (from, to) in
        [("cert.pem", "tls/cert.pem"), ("key.pem", "tls/key.pem"), ("tokens.json", "tokens.json")]
    {
        fs::copy(secrets.join(from), data.join(to))?;
    }
    let network = Network::new()?;
    let admind = |name: &str, arguments: &[&str]| -> Result<Guest> {
        let mut command = Command::new("unshare");
        let named = "echo \"$0\" > /proc/sys/kernel/hostname && exec \"$@\"";
        command.args(["--uts", "sh", "-c", named, name]).arg(root.directory.join("bin/krazy-admind"));
        command.arg("--root").arg(&root.directory).args(arguments);
        let mut admind = Guest::start(network.at(DEVICE, &command)?)?;
        admind.wait_for("serving https", BOOT_LIMIT)?;
        Ok(admind)
    };
    let discover = || -> Result<Vec<Value>> {
        let command = krazy.command(["discover", "--message-format", "json"])?;
        let output = succeed(&mut network.at(HOST, &command)?)?;
        String::from_utf8(output.stdout)?
            .lines()
            .map(|line| serde_json::from_str(line).context("not JSON"))
            .collect()
    };

    let running = admind("kitchen", &[])?;
    let version = root.manifest()?["version"].clone();
    let expected = json!({
        "reason": "device-found",
        "host": "kitchen.local",
        "port": 8443,
        "appliance": "hello",
        "version": version,
    });
    // A name is announced when nobody has contradicted for a while.
    let end = Instant::now() + BOOT_LIMIT;
    let addresses = loop {
        let mut found = discover()?;
        let addresses: Vec<_> = found.iter_mut().map(|device| device["addresses"].take()).collect();
        found.iter_mut().filter_map(Value::as_object_mut).for_each(|device| drop(device.remove("addresses")));
        match &found[..] {
            [found] if *found == expected => break addresses,
            [] if Instant::now() < end => {}
            _ => bail!("not the device: {found:#?}"),
        }
    };
    // The cable has an address by itself, too.
    let (first, link_local) = (&addresses[0][0], &addresses[0][1]);
    let link_local = link_local.as_str().context("no second address")?;
    ensure!(*first == ADDRESSES[DEVICE] && link_local.starts_with("fe80:"), "{addresses:?}");
    let ask = |host: &str| -> Result<_> {
        let command = krazy.command(["token", "list", host, "--appliance", "hello"])?;
        Ok(network.at(HOST, &command)?.output()?)
    };
    let tokens = ask("kitchen.local")?;
    let said = String::from_utf8_lossy(&tokens.stderr);
    ensure!(tokens.status.success() && tokens.stdout.starts_with(b"TOKEN"), "{said}");
    let tokens = ask(link_local)?;
    let said = String::from_utf8_lossy(&tokens.stderr);
    ensure!(tokens.status.success(), "{link_local}: {said}");
    let nobody = ask("cellar.local")?;
    ensure!(nobody.status.code() == Some(9), "{}", String::from_utf8_lossy(&nobody.stderr));
    drop(running);

    let _silent = admind("kitchen", &["--no-mdns"])?;
    let found = discover()?;
    ensure!(found.is_empty(), "it was to be silent: {found:#?}");
    Ok(())
}
