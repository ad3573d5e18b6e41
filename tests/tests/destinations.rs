//! Images that do not fit, and places that cannot take them: a clear error, and what was there before stays.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use krazy_tests::disk::SmallDisk;
use krazy_tests::fixture::Package;
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;
use serde_json::Value;

const MAIN: &str = "fn main() { loop { std::thread::park(); } }";

/// The content of a foreign file at the image's destination.
const FOREIGN: &str = "somebody's only copy\n";

/// A package with this metadata, in a place of its own.
fn package(krazy: &Krazy, metadata: &str) -> Result<Package> {
    let metadata = format!("[package.metadata.krazy]\nadmind = false\n{metadata}");
    Package::new(krazy.directory.path(), "tiny", MAIN, &metadata)
}

/// `cargo krazy image` of `package` to `output`, which has to fail with exit code 7. Returns what it said.
fn refusal(krazy: &Krazy, package: &Package, output: &Path) -> Result<String> {
    let mut command = krazy.command(["image", "--quiet", "--manifest-path"])?;
    let result = command.arg(package.manifest()).arg("-o").arg(output).output()?;
    let said = String::from_utf8(result.stderr)?;
    ensure!(result.status.code() == Some(7), "{}\n{said}", result.status);
    Ok(said)
}

/// A directory with a foreign file where the image shall go.
fn occupied(directory: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&directory)?;
    let output = directory.join("a.img");
    fs::write(&output, FOREIGN)?;
    Ok(output)
}

/// Fails unless the foreign file is as it was, and alone.
fn assert_untouched(output: &Path) -> Result<()> {
    assert_eq!(fs::read_to_string(output)?, FOREIGN);
    let directory = output.parent().context("no directory")?;
    let names: Vec<_> = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
    assert_eq!(names.len(), 1, "something was left behind: {names:?}");
    Ok(())
}

#[test]
fn oversized_root_is_rejected_with_the_missing_size() -> Result<()> {
    let krazy = Krazy::new()?;
    let package =
        package(&krazy, "root-size = \"2 MiB\"\n\n[package.metadata.krazy.files]\n\"/big\" = \"big\"")?;
    // Does not compress, so that the root is a little larger than it.
    fs::write(package.directory.join("big"), noise(5 << 20))?;
    let output = occupied(krazy.directory.path().join("out"))?;
    let said = refusal(&krazy, &package, &output)?;
    let numbers: Vec<f64> = said
        .split_whitespace()
        .zip(said.split_whitespace().skip(1))
        .filter(|(_, unit)| unit.trim_end_matches(':') == "MiB")
        .map(|(number, _)| number.parse())
        .collect::<Result<_, _>>()?;
    let [needed, has, more] = numbers[..] else { anyhow::bail!("three sizes were expected: {said}") };
    assert!(said.starts_with("error: the root needs "), "{said}");
    assert!(said.contains("its partition has 2 MiB: ") && said.contains(" MiB too much\n"), "{said}");
    assert!(needed > 5.0 && has == 2.0 && (needed - has - more).abs() < 0.11, "{said}");
    assert!(said.ends_with("help: set a larger `root-size` (and `size`), or install less\n"), "{said}");
    assert_untouched(&output)
}

/// `len` bytes that look random.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    bytes.take(len).collect()
}

#[test]
fn oversized_boot_files_are_named() -> Result<()> {
    let krazy = Krazy::new()?;
    let package = package(&krazy, "boot-size = \"64 MiB\"\nkernel = { path = \"kernel\" }")?;
    let kernel = package.directory.join("kernel");
    fs::create_dir(&kernel)?;
    // As much of a bzImage as it takes to look like one, and then more than /boot has room for.
    let mut image = vec![0_u8; 0x400];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x300..0x306].copy_from_slice(b"6.1-x ");
    fs::write(kernel.join("vmlinuz"), image)?;
    fs::File::options().write(true).open(kernel.join("vmlinuz"))?.set_len(70 << 20)?;
    let output = occupied(krazy.directory.path().join("out"))?;
    let mut command = krazy.command(["image", "--quiet", "--manifest-path"])?;
    // This kernel is of no use to anybody else.
    command.env("KRAZY_CACHE_DIR", krazy.directory.path().join("cache"));
    let result = command.arg(package.manifest()).arg("-o").arg(&output).output()?;
    let said = String::from_utf8(result.stderr)?;
    assert_eq!(result.status.code(), Some(7), "{said}");
    assert!(
        said.starts_with("error: `a-vmlinuz` does not fit on /boot: with it the files need 70 MiB"),
        "{said}"
    );
    assert!(said.ends_with("help: set a larger `boot-size` (and `size`)\n"), "{said}");
    assert_untouched(&output)
}

#[test]
fn full_disk_is_reported_and_keeps_its_files() -> Result<()> {
    let krazy = Krazy::new()?;
    let package = package(&krazy, "")?;
    let disk = SmallDisk::mount(krazy.directory.path().join("small"), "6m")?;
    let output = occupied(disk.0.clone())?;
    let expected = format!(
        "error: no space is left for `{}`\n   help: free some space, or choose another path with `--output`\n",
        output.display()
    );
    assert_eq!(refusal(&krazy, &package, &output)?, expected);
    assert_untouched(&output)
}

#[test]
fn invalid_destinations_are_rejected_before_any_work() -> Result<()> {
    let krazy = Krazy::new()?;
    let package = package(&krazy, "")?;
    let missing = krazy.directory.path().join("nowhere/a.img");
    let directory = krazy.directory.path().join("nowhere");
    let expected = format!(
        "error: the directory of `{}` does not exist\n   help: make it first: `mkdir -p '{}'`\n",
        missing.display(),
        directory.display()
    );
    assert_eq!(refusal(&krazy, &package, &missing)?, expected);
    assert!(refusal(&krazy, &package, krazy.directory.path())?.contains("is a directory\n"));
    assert!(!package.directory.join("Cargo.lock").exists(), "cargo has run");
    Ok(())
}

#[test]
fn foreign_file_is_replaced_as_a_whole() -> Result<()> {
    let krazy = Krazy::new()?;
    let package = package(&krazy, "")?;
    let output = occupied(krazy.directory.path().join("out"))?;
    let before = fs::File::open(&output)?;
    let mut command = krazy.command(["image", "--message-format", "json", "--manifest-path"])?;
    let result = succeed(command.arg(package.manifest()).arg("-o").arg(&output))?;
    let message: Value = serde_json::from_str(String::from_utf8(result.stdout)?.trim())?;
    assert_eq!(message["reason"], "image-finished");
    assert_eq!(message["bytes"], fs::metadata(&output)?.len());
    // Whoever had the old file open still has all of it: it was not written to, but replaced.
    assert_eq!(std::io::read_to_string(before)?, FOREIGN);
    Ok(())
}
