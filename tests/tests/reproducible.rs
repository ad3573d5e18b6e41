//! The same inputs give the same bytes, in another directory and at another time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use krazy_tests::fixture::Package;
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;

/// Makes the image in `directory`, with cargo's target directory below it if `is_alone`, else with the shared one.
fn image(krazy: &Krazy, directory: &Path, is_alone: bool) -> Result<PathBuf> {
    let metadata = "[package.metadata.krazy]\nadmind = false\n\n[package.metadata.krazy.files]\n\"/etc/motto\" = \"motto\"";
    let package = Package::new(directory, "same", "fn main() { println!(\"{}\", file!()); }", metadata)?;
    fs::write(package.directory.join("motto"), "the same\n")?;
    let image = directory.join("same.img");
    let mut command = krazy.command(["image", "--manifest-path"])?;
    if is_alone {
        command.env("CARGO_TARGET_DIR", directory.join("target"));
        command.env("KRAZY_CACHE_DIR", own_cache(directory)?);
    }
    succeed(command.arg(package.manifest()).arg("-o").arg(&image))?;
    Ok(image)
}

/// Makes a cache for `directory` alone: everything is compiled anew, and what is downloaded is the user's.
fn own_cache(directory: &Path) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let users = variable("KRAZY_CACHE_DIR")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("krazy")))
        .or_else(|| Some(std::env::home_dir()?.join(".cache/krazy")))
        .context("there is no home directory")?;
    let own = directory.join("cache");
    fs::create_dir_all(&own)?;
    for part in ["kernel", "zig"] {
        fs::create_dir_all(users.join(part))?;
        std::os::unix::fs::symlink(users.join(part), own.join(part))?;
    }
    Ok(own)
}

#[test]
fn images_of_another_directory_and_time_are_identical() -> Result<()> {
    // One appliance, so one set of secrets: they are inputs, too.
    let krazy = Krazy::new()?;
    let first = image(&krazy, &krazy.directory.path().join("here"), false)?;
    std::thread::sleep(Duration::from_millis(1100));
    let second = image(&krazy, &krazy.directory.path().join("somewhere/else"), true)?;
    let compared = std::process::Command::new("cmp").arg(&first).arg(&second).output()?;
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
    Ok(())
}
