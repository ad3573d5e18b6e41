//! The same inputs give the same bytes, in another directory and at another time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use krazy_tests::fixture::Package;
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;

fn image(krazy: &Krazy, directory: &Path) -> Result<PathBuf> {
    let metadata = "[package.metadata.krazy]\nadmind = false\n\n[package.metadata.krazy.files]\n\"/etc/motto\" = \"motto\"";
    let package = Package::new(directory, "same", "fn main() { println!(\"{}\", file!()); }", metadata)?;
    fs::write(package.directory.join("motto"), "the same\n")?;
    let image = directory.join("same.img");
    let mut command = krazy.command(["image", "--manifest-path"])?;
    command.env("CARGO_TARGET_DIR", directory.join("target"));
    succeed(command.arg(package.manifest()).arg("-o").arg(&image))?;
    Ok(image)
}

#[test]
fn images_of_another_directory_and_time_are_identical() -> Result<()> {
    // One appliance, so one set of secrets: they are inputs, too.
    let krazy = Krazy::new()?;
    let first = image(&krazy, &krazy.directory.path().join("here"))?;
    std::thread::sleep(Duration::from_millis(1100));
    let second = image(&krazy, &krazy.directory.path().join("somewhere/else"))?;
    let compared = std::process::Command::new("cmp").arg(&first).arg(&second).output()?;
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
    Ok(())
}
