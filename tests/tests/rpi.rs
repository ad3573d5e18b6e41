//! The example on a Raspberry Pi: what is on its card, its programs on another processor, and the emulated machine.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use krazy_tests::disk::{extract, partitions, succeed};
use krazy_tests::guest::{BOOT_LIMIT, Guest, free_port, http_get};
use krazy_tests::judges;
use krazy_tests::krazy::Krazy;
use serde_json::Value;

/// Everything on `/boot` but the firmware's own files.
const BOOT_FILES: [&str; 13] = [
    "a-bcm2711-rpi-4-b.dtb",
    "a-bcm2711-rpi-400.dtb",
    "a-bcm2711-rpi-cm4-io.dtb",
    "a-bcm2837-rpi-3-a-plus.dtb",
    "a-bcm2837-rpi-3-b-plus.dtb",
    "a-bcm2837-rpi-3-b.dtb",
    "a-bcm2837-rpi-cm3-io3.dtb",
    "a-bcm2837-rpi-zero-2-w.dtb",
    "a-cmdline.txt",
    "a-config.txt",
    "a-initramfs",
    "a-vmlinuz",
    "config.txt",
];

#[test]
fn the_example_runs_on_a_raspberry_pi() -> Result<()> {
    let krazy = Krazy::new()?;
    let folder = krazy.folder.path();
    let image = folder.join("pi.img");
    let mut command = krazy.command(["image", "-p", "hello", "--target", "aarch64-rpi", "-o"])?;
    succeed(command.arg(&image))?;
    card_is_as_the_firmware_wants_it(&image, folder)?;
    programs_run(&image, folder)?;

    let port = free_port()?;
    let mut command =
        krazy.command(["run-qemu", "--target", "aarch64-rpi", "--timeout", "600", "--image"])?;
    command.arg(&image).args(["--publish", &format!("{port}:80")]);
    let mut guest = Guest::start(command)?;
    guest.wait_for("slot A is up", BOOT_LIMIT)?;
    let (_, body) = http_get(port, "/json", Duration::from_secs(180))?;
    let page: Value = serde_json::from_slice(&body)?;
    assert_eq!((page["hostname"].as_str(), page["slot"].as_str()), (Some("hello"), Some("A")));
    Ok(())
}

/// The FAT file system, by dosfstools and mtools.
fn card_is_as_the_firmware_wants_it(image: &Path, folder: &Path) -> Result<()> {
    let (id, table) = partitions(image)?;
    let boot = extract(image, table[0], folder, "boot")?;
    succeed(judges::command("fsck.fat")?.arg("-n").arg(&boot))?;
    let listing = succeed(judges::command("mdir")?.arg("-b").arg("-i").arg(&boot))?.stdout;
    let listing = String::from_utf8(listing)?;
    let names: Vec<_> = listing.lines().map(|line| line.trim_start_matches("::/")).collect();
    for file in BOOT_FILES.iter().chain(&["bootcode.bin", "start.elf", "start4.elf", "LICENCE.broadcom"]) {
        ensure!(names.contains(file), "no {file} on /boot:\n{listing}");
    }
    let read = |name: &str| -> Result<String> {
        let output = succeed(judges::command("mtype")?.arg("-i").arg(&boot).arg(format!("::{name}")))?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let config = read("config.txt")?;
    assert_eq!(config.len(), 512, "one sector");
    assert!(config.trim_end().ends_with("\nos_prefix=a-\ninclude a-config.txt"), "{config}");
    assert!(read("a-config.txt")?.ends_with(
        "\narm_64bit=1\nupstream_kernel=1\nkernel=vmlinuz\ninitramfs initramfs followkernel\ncmdline=cmdline.txt\n\
         overlay_prefix=overlay-\ndisable_splash=1\nenable_uart=1\n"
    ));
    let signature = id.trim_start_matches("0x");
    assert_eq!(
        read("a-cmdline.txt")?,
        format!(
            "root=PARTUUID={signature}-02 krazy.slot=a console=tty0 console=ttyS1,115200 panic=10 quiet\n"
        )
    );
    Ok(())
}

/// The cross-built programs, one by one under user-mode emulation.
fn programs_run(image: &Path, folder: &Path) -> Result<()> {
    let (_, table) = partitions(image)?;
    let (file, root) = (extract(image, table[1], folder, "root.squashfs")?, folder.join("root"));
    succeed(judges::command("unsquashfs")?.args(["-no-progress", "-d"]).arg(&root).arg(&file))?;
    let help =
        succeed(judges::command("qemu-aarch64-static")?.arg(root.join("bin/krazy-admind")).arg("--help"))?;
    ensure!(!help.stdout.is_empty(), "krazy-admind has no help");
    let port = free_port()?;
    let mut hello = judges::command("qemu-aarch64-static")?;
    hello.arg(root.join("bin/hello")).args(["--listen", &format!("127.0.0.1:{port}"), "--state"]).arg(folder);
    let mut hello = hello.spawn()?;
    let answer = http_get(port, "/text", Duration::from_secs(60));
    hello.kill()?;
    hello.wait()?;
    let (head, _) = answer?;
    ensure!(head.contains(" 200 "), "{head}");
    Ok(())
}
