//! The example on a Raspberry Pi: what is on its card, its programs on another processor, and the emulated machine.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use anyhow::{Result, ensure};
use krazy_tests::device::{Device, NAME};
use krazy_tests::disk::{extract, partitions};
use krazy_tests::fixture::Package;
use krazy_tests::guest::{BOOT_LIMIT, Guest, free_port, http_get};
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;
use krazy_tests::setup::judges;
use serde_json::Value;

/// Everything on `/boot` but the firmware's own files.
const BOOT_FILES: [&str; 16] = [
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
    "a-first.pad",
    "a-initramfs",
    "a-last.pad",
    "a-launch.txt",
    "a-vmlinuz",
    "config.txt",
];

#[test]
fn example_runs_on_an_emulated_raspberry_pi() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = directory.join("pi.img");
    let mut command = krazy.command(["image", "-p", "hello", "--target", "aarch64-rpi", "-o"])?;
    succeed(command.arg(&image))?;
    card_is_as_the_firmware_wants_it(&image, directory)?;
    programs_run(&image, directory)?;

    let port = free_port()?;
    let mut command =
        krazy.command(["run-qemu", "--target", "aarch64-rpi", "--timeout", "1500", "--image"])?;
    command.arg(&image).args(["--publish", &format!("{port}:80")]);
    let mut guest = Guest::start(command)?;
    guest.wait_for("slot A is up", BOOT_LIMIT)?;
    let (_, body) = http_get(port, "/json", BOOT_LIMIT)?;
    let page: Value = serde_json::from_slice(&body)?;
    assert_eq!((page["hostname"].as_str(), page["slot"].as_str()), (Some("hello"), Some("A")));
    Ok(())
}

/// The firmware cannot try a slot, so the confirmed slot's first stage starts the other one's kernel.
#[test]
fn raspberry_pi_is_updated_and_rolled_back_and_returns_from_panic_and_power_cut() -> Result<()> {
    let mut device = Device::start_board("aarch64-rpi", "config-txt = [\"gpu_mem=16\"]\n")?;
    device.check("a", "good 1")?;
    device.krazy(&["switch", "qemu", "b"])?.refused("push an update into that slot first")?;

    // The kernel panics before there is a driver that could restart the machine: the reset button does, and the old slot
    // is what starts.
    device.change("good 3", &[])?;
    device.set_cmdline("rdinit=/dev/console")?;
    let push = device.begin_push(&["qemu"])?;
    device.console()?.wait_for("Kernel panic", BOOT_LIMIT)?;
    device.reset()?;
    let push = push.wait()?;
    push.expect(9, "reverted")?;
    let cause = "the kernel did not reach its first stage";
    ensure!(push.last("cause").as_str().is_some_and(|told| told.contains(cause)), "{push:#?}");
    device.check("a", "good 1")?;

    device.change("good 4", &[])?;
    device.set_cmdline("")?;
    device.push(&["qemu", "--no-confirm"])?.expect(0, "on-trial")?;
    let status = device.check("b", "good 4")?;
    ensure!(status["slots"]["standing"] == "on-trial", "{status:#}");
    device.cut_power()?;
    device.boot()?;
    device.wait_for_failed_trial("a", "without notice")?;
    device.check("a", "good 1")?;

    // Without `--target`: the device says what it is. What the firmware reads belongs to the slot, too.
    device.change("good 2", &[])?;
    let push = device.push(&["qemu"])?;
    push.expect(0, "updated")?;
    device.console()?.wait_for("slot B is on trial: starting its kernel", BOOT_LIMIT)?;
    let status = device.check("b", "good 2")?;
    ensure!(
        status["slots"]["standing"] == "confirmed" && status["status"]["board"] == "aarch64-rpi",
        "{status:#}"
    );
    device
        .push(&["qemu", "--target", "x86_64"])?
        .refused("is aarch64-rpi, and `--target x86_64` was given")?;

    // With the kernel that runs.
    device.change("crash", &[])?;
    device.set_cmdline("krazy.kexec=off")?;
    let push = device.push(&["qemu"])?;
    push.expect(9, "reverted")?;
    device.console()?.wait_for("slot A is on trial with the kernel of slot B", BOOT_LIMIT)?;
    ensure!(push.last("cause").as_str().is_some_and(|cause| cause.contains(NAME)), "{push:#?}");
    device.wait_for_failed_trial("b", NAME)?;
    device.check("b", "good 2")?;
    device.cut_power()?;
    firmware_boots(&device.image, device.krazy.directory.path(), "b")?;

    // The confirmed root's superblock is gone: its first stage makes the other slot start, whatever that holds.
    let (_, table) = partitions(&device.image)?;
    fs::OpenOptions::new().write(true).open(&device.image)?.write_all_at(&[0; 4096], table[2].start)?;
    device.boot()?;
    let status = device.check("a", "crash")?;
    ensure!(status["slots"]["standing"] == "fallback", "{status:#}");
    let reason = status["status"]["fallback"]["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("cannot mount the root"), "{status:#}");
    Ok(())
}

/// At image time, in words.
#[test]
fn settings_that_the_firmware_cannot_use_are_rejected() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let refused = |name: &str, line: &str, code: i32, words: &[&str]| -> Result<()> {
        let metadata = format!("[package.metadata.krazy.board.aarch64-rpi]\n{line}");
        let package = Package::new(directory, name, "fn main() {}", &metadata)?;
        if name == "foreign" {
            pretend_to_link(&package)?;
        }
        let mut command = krazy.command(["image", "--target", "aarch64-rpi", "--manifest-path"])?;
        let output = command.arg(package.manifest()).arg("-o").arg(directory.join("wrong.img")).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{line}: {}\n{stderr}", output.status);
        for words in words {
            ensure!(stderr.contains(words), "no `{words}`:\n{stderr}");
        }
        ensure!(!directory.join("wrong.img").exists(), "{line}: an image was made");
        Ok(())
    };
    let words = ["`config-txt`", "sets `kernel`, which the slots need as it is"];
    refused("kernel", r#"config-txt = ["kernel=mine.img"]"#, 3, &words)?;
    let words = ["is built for x86_64, not for aarch64-unknown-linux-musl", "help: look for a `linker`"];
    refused("foreign", "", 4, &words)?;
    let words =
        ["neither the kernel nor the firmware has an overlay `pi4-spidve`", "did you mean `pi4-spidev`?"];
    refused("overlay", r#"dtoverlays = ["pi4-spidve,speed=1"]"#, 3, &words)
}

/// Gives `package` a linker that always makes the same program, one of this machine.
fn pretend_to_link(package: &Package) -> Result<()> {
    let (directory, linker) = (package.directory.join(".cargo"), package.directory.join("linker"));
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\ncp {} \"$2\"\n",
        std::env::current_exe()?.display()
    );
    fs::write(&linker, script)?;
    fs::set_permissions(&linker, fs::Permissions::from_mode(0o755))?;
    fs::create_dir(&directory)?;
    let config = format!("[target.aarch64-unknown-linux-musl]\nlinker = \"{}\"\n", linker.display());
    Ok(fs::write(directory.join("config.toml"), config)?)
}

/// Checks with mtools that the card makes the firmware boot `slot`, and that all files of that slot are present.
fn firmware_boots(image: &Path, directory: &Path, slot: &str) -> Result<()> {
    let (_, table) = partitions(image)?;
    let boot = extract(image, table[0], directory, "boot")?;
    let read = |name: &str| succeed(judges::command("mtype")?.arg("-i").arg(&boot).arg(format!("::{name}")));
    let config = String::from_utf8(read("config.txt")?.stdout)?;
    ensure!(
        config.trim_end().ends_with(&format!("os_prefix={slot}-\ninclude {slot}-config.txt")),
        "{config}"
    );
    let settings = String::from_utf8(read(&format!("{slot}-config.txt"))?.stdout)?;
    ensure!(settings.ends_with("\ngpu_mem=16\n[all]\n"), "{settings}");
    for name in ["cmdline.txt", "launch.txt", "vmlinuz", "initramfs", "bcm2837-rpi-3-b.dtb", "slot.json"] {
        ensure!(!read(&format!("{slot}-{name}"))?.stdout.is_empty(), "{slot}-{name} is empty");
    }
    Ok(())
}

/// The FAT file system, by dosfstools and mtools.
fn card_is_as_the_firmware_wants_it(image: &Path, directory: &Path) -> Result<()> {
    let (id, table) = partitions(image)?;
    let boot = extract(image, table[0], directory, "boot")?;
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
fn programs_run(image: &Path, directory: &Path) -> Result<()> {
    let (_, table) = partitions(image)?;
    let (file, root) = (extract(image, table[1], directory, "root.squashfs")?, directory.join("root"));
    succeed(judges::command("unsquashfs")?.args(["-no-progress", "-d"]).arg(&root).arg(&file))?;
    let help =
        succeed(judges::command("qemu-aarch64-static")?.arg(root.join("bin/krazy-admind")).arg("--help"))?;
    ensure!(!help.stdout.is_empty(), "krazy-admind has no help");
    let port = free_port()?;
    let mut hello = judges::command("qemu-aarch64-static")?;
    hello
        .arg(root.join("bin/hello"))
        .args(["--listen", &format!("127.0.0.1:{port}"), "--state"])
        .arg(directory);
    let mut hello = hello.spawn()?;
    let answer = http_get(port, "/text", BOOT_LIMIT);
    hello.kill()?;
    hello.wait()?;
    let (head, _) = answer?;
    ensure!(head.contains(" 200 "), "{head}");
    Ok(())
}
