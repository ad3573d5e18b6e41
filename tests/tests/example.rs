//! The main job on the example: a crate becomes an image, foreign tools accept it, and it boots.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use krazy_tests::disk::{Partition, extract, partitions};
use krazy_tests::guest::{BOOT_LIMIT, Guest, free_port, http_get};
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;
use krazy_tests::setup::judges;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Makes the example's image and returns it with the last message of the program.
fn image(krazy: &Krazy) -> Result<(PathBuf, Value)> {
    let image = krazy.directory.path().join("hello.img");
    let mut command = krazy.command(["image", "-p", "hello", "--message-format", "json", "-o"])?;
    let output = succeed(command.arg(&image))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!said.contains("glibc"), "the suite brings a toolchain for musl, but it was not used:\n{said}");
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().context("the program printed no message")?;
    Ok((image, serde_json::from_str(last)?))
}

fn sha256(file: &Path) -> Result<String> {
    let line = String::from_utf8(succeed(Command::new("sha256sum").arg(file))?.stdout)?;
    Ok(line.split(' ').next().context("sha256sum printed nothing")?.to_owned())
}

/// `run-qemu` on a snapshot of `image` that waits for `text`.
fn expect(krazy: &Krazy, image: &Path, text: &str, seconds: &str) -> Result<Output> {
    let mut command =
        krazy.command(["run-qemu", "--snapshot", "--timeout", seconds, "--expect", text, "--image"])?;
    Ok(command.arg(image).output()?)
}

#[test]
fn every_partition_passes_its_foreign_judge() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let (image, message) = image(&krazy)?;
    assert_eq!(message["reason"], "image-finished");
    assert_eq!(message["bytes"], 1024 * MIB);
    assert_eq!(message["sha256"], sha256(&image)?);

    let (id, table) = partitions(&image)?;
    assert_ne!(id, "0x00000000", "two disks with signature 0 have the same PARTUUIDs");
    let sizes: Vec<_> = table.iter().map(|partition| (partition.kind, partition.len / MIB)).collect();
    assert_eq!(sizes, [(0xef, 256), (0x83, 256), (0x83, 256), (0x83, 255)]);

    let boot = extract(&image, table[0], directory, "boot")?;
    succeed(judges::command("fsck.fat")?.arg("-n").arg(&boot))?;
    let listing = succeed(judges::command("mdir")?.arg("-b").arg("-i").arg(&boot))?.stdout;
    let listing = String::from_utf8(listing)?;
    for file in ["a-vmlinuz", "a-initramfs", "a-cmdline.txt", "a-slot.json", "a-slot.sig", "EFI/"] {
        assert!(listing.contains(file), "no {file} on /boot:\n{listing}");
    }

    let root = unpack_root(&image, table[1], directory)?;
    let paths = ["init", "hello", "krazy-admind"].map(|name| format!("bin/{name}"));
    let mountpoints = ["proc", "sys", "dev", "tmp", "run", "boot", "data"].map(str::to_owned);
    for path in paths.iter().chain(&mountpoints) {
        assert!(root.join(path).exists(), "no /{path} in the root");
    }

    let data = extract(&image, table[3], directory, "data")?;
    succeed(judges::command("e2fsck")?.arg("-fn").arg(&data))?;

    let used = std::fs::metadata(&image)?.blocks() * 512;
    ensure!(used < 200 * MIB, "the image of 1 GiB occupies {used} bytes");
    Ok(())
}

fn unpack_root(image: &Path, partition: Partition, directory: &Path) -> Result<PathBuf> {
    let (file, root) = (extract(image, partition, directory, "root.squashfs")?, directory.join("root"));
    succeed(judges::command("unsquashfs")?.args(["-no-progress", "-d"]).arg(&root).arg(&file))?;
    Ok(root)
}

#[test]
fn example_boots_serves_its_page_and_keeps_its_counter() -> Result<()> {
    let krazy = Krazy::new()?;
    let (image, _) = image(&krazy)?;
    let mut counts = Vec::new();
    for _ in 0..2 {
        let port = free_port()?;
        let mut command = krazy.command(["run-qemu", "--timeout", "1500", "--image"])?;
        command.arg(&image).args(["--publish", &format!("{port}:80")]);
        let mut guest = Guest::start(command)?;
        let up = guest.wait_for("krazy: hello", BOOT_LIMIT)?;
        assert!(up.contains("slot A is up"), "{up}");
        // A visit, and a look that does not count as one.
        let (head, page) = http_get(port, "/", BOOT_LIMIT)?;
        assert!(head.contains(" 200 ") && !page.is_empty(), "{head}");
        let (_, body) = http_get(port, "/json", BOOT_LIMIT)?;
        let page: Value = serde_json::from_slice(&body)?;
        assert_eq!(page["hostname"], "hello");
        assert_eq!(page["slot"], "A");
        counts.push(page["visits"].as_u64().context("no counter")?);
    }
    assert_eq!(counts, [1, 2], "the counter on /data survives a power cut");
    Ok(())
}

#[test]
fn snapshot_leaves_the_image_unchanged() -> Result<()> {
    let krazy = Krazy::new()?;
    let (image, message) = image(&krazy)?;
    let output = expect(&krazy, &image, "slot A is up", "300")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(message["sha256"], sha256(&image)?);
    let output = expect(&krazy, &image, "no such text", "15")?;
    assert_eq!(output.status.code(), Some(8), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn formats_of_hypervisors_hold_the_same_disk() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let formats = [("qcow2", "qcow2"), ("vmdk", "vmdk"), ("vhd", "vpc"), ("raw.zst", "raw")];
    for (format, driver) in formats {
        let file = directory.join(format!("hello.{format}"));
        let mut command =
            krazy.command(["image", "-p", "hello", "--message-format", "json", "--format", format, "-o"])?;
        let output = String::from_utf8(succeed(command.arg(&file))?.stdout)?;
        let messages: Vec<Value> = output.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let [made, converted] = &messages[..] else { bail!("{output}") };
        assert_eq!(converted["reason"], "image-converted");
        assert_eq!((&converted["format"], &converted["sha256"]), (&format.into(), &sha256(&file)?.into()));
        let mode = file.metadata()?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "it holds the appliance's keys");
        let raw = made["image"].as_str().context("no image")?;
        let disk = directory.join("disk");
        let other = match format {
            "raw.zst" => {
                succeed(
                    judges::command("zstd")?
                        .args(["--quiet", "--force", "-d"])
                        .arg(&file)
                        .arg("-o")
                        .arg(&disk),
                )?;
                &disk
            }
            _ => &file,
        };
        succeed(judges::command("qemu-img")?.args(["compare", "-f", "raw", "-F", driver, raw]).arg(other))?;
        fs::remove_file(&file)?;
    }
    let taken = krazy.run(["image", "-p", "hello", "--format", "vhd", "-o", "/dev/null"])?;
    assert_eq!(taken.status.code(), Some(7), "{}", String::from_utf8_lossy(&taken.stderr));
    Ok(())
}
