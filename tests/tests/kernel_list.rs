//! The newest kernel in Debian's archive, by its real index and signatures.

use anyhow::{Context, Result, ensure};
use krazy_tests::fixture::Package;
use krazy_tests::krazy::Krazy;
use serde_json::Value;

#[test]
fn newest_debian_kernel_is_listed_without_writing_a_lock_file() -> Result<()> {
    let krazy = Krazy::new()?;
    let main = "fn main() {}";
    let package =
        Package::new(krazy.directory.path(), "lister", main, "[package.metadata.krazy]\nadmind = false")?;
    let manifest = package.manifest();
    let manifest = manifest.to_str().context("not UTF-8")?;
    let arguments = ["kernel", "list", "--newest", "--message-format", "json", "--manifest-path", manifest];
    let output = String::from_utf8(krazy.succeed(arguments)?.stdout)?;
    let messages: Vec<Value> = output.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let newest: Vec<_> = messages.iter().filter(|message| message["reason"] == "kernel-update").collect();
    ensure!(newest.len() == 1, "{newest:?}");
    let new = &newest[0]["new"];
    ensure!(new["board"] == "x86_64" && new["package"] == "linux-image-amd64", "{new}");
    ensure!(new["sha256"].as_str().is_some_and(|sha256| sha256.len() == 64), "{new}");
    ensure!(newest[0]["written"] == false, "{newest:?}");
    ensure!(!package.directory.join("Krazy.lock").exists(), "something was locked");
    Ok(())
}
