//! The program at a terminal: a machine stopped with Ctrl-C, and the question before a disk is overwritten.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use krazy_tests::disk::partitions;
use krazy_tests::fixture::Package;
use krazy_tests::krazy::Krazy;
use krazy_tests::process::succeed;
use krazy_tests::setup::judges;
use krazy_tests::terminal::{Aftermath, CTRL_C, Terminal};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn ctrl_c_stops_the_machine_and_restores_the_terminal() -> Result<()> {
    let krazy = Krazy::new()?;
    let disk = sparse(&krazy.directory.path().join("empty.img"), 1 << 20)?;
    let mut command = krazy.command(["run-qemu", "--accel", "tcg", "--image"])?;
    let mut terminal = Terminal::start(command.arg(&disk))?;
    terminal.wait_for("Booting from Hard Disk", LIMIT)?;
    terminal.enter(CTRL_C)?;
    let after = terminal.end(LIMIT)?;
    assert!(after.screen.contains("error: interrupted; the machine was stopped"), "{}", after.screen);
    assert_eq!(after.code, 130, "{}", after.screen);
    assert!(after.is_usable(), "{}", after.screen);
    Ok(())
}

/// A loop device, which is a disk to the kernel. It is detached when this value is dropped.
struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    fn attach(file: &Path) -> Result<Self> {
        let output = succeed(judges::command("losetup")?.args(["--find", "--show"]).arg(file))?;
        Ok(LoopDevice { path: String::from_utf8(output.stdout)?.trim().into() })
    }

    fn name(&self) -> Result<&str> {
        self.path.file_name().and_then(|name| name.to_str()).context("a device without a name")
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached =
            judges::command("losetup").map(|mut losetup| losetup.arg("--detach").arg(&self.path).status());
        // While a test already fails, a second panic would hide why.
        if !std::thread::panicking() {
            assert!(detached.is_ok_and(|status| status.is_ok_and(|status| status.success())));
        }
    }
}

fn sparse(path: &Path, len: u64) -> Result<PathBuf> {
    File::create(path)?.set_len(len)?;
    Ok(path.to_owned())
}

#[test]
fn disk_is_overwritten_only_after_confirmation() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let main = "fn main() { loop { std::thread::park(); } }";
    let package = Package::new(directory, "tiny", main, "[package.metadata.krazy]\nadmind = false")?;
    let disk = LoopDevice::attach(&sparse(&directory.join("disk"), 1 << 30)?)?;
    let image = |size: &str, more: &[&str]| -> Result<Command> {
        let mut command = krazy.command(["image", "--size", size, "--manifest-path"])?;
        command.arg(package.manifest()).arg("-o").arg(&disk.path).args(more);
        Ok(command)
    };
    let refusal = |command: &mut Command| -> Result<(Option<i32>, String)> {
        let output = command.output()?;
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    };
    let device = disk.path.display();
    let model = format!("loop device of {}, 1 GiB, not removable", directory.join("disk").display());

    // Without a terminal there is nobody to ask.
    let (code, text) = refusal(&mut image("832MiB", &[])?)?;
    let expected =
        format!("error: `{device}` would be overwritten: {model}\n   help: add `--yes` to overwrite it\n");
    assert_eq!((code, text), (Some(2), expected));
    let (code, text) = refusal(&mut image("3GiB", &["--yes"])?)?;
    let expected = format!("error: the image of 3 GiB does not fit on `{device}`, which has 1 GiB\n");
    assert!(code == Some(7) && text.starts_with(&expected), "{code:?}: {text}");

    let mounted = directory.join("mounted");
    std::fs::create_dir(&mounted)?;
    succeed(judges::command("mke2fs")?.args(["-q", "-t", "ext4"]).arg(&disk.path))?;
    succeed(Command::new("mount").arg(&disk.path).arg(&mounted))?;
    let outcome = refusal(&mut image("832MiB", &["--yes"])?);
    succeed(Command::new("umount").arg(&mounted))?;
    let (code, text) = outcome?;
    let expected = format!(
        "error: `{device}` is mounted at `{0}`\n   help: unmount it: `umount '{0}'`\n",
        mounted.display()
    );
    assert_eq!((code, text), (Some(7), expected));

    let ask = |answer: &str| -> Result<Aftermath> {
        let mut terminal = Terminal::start(&image("832MiB", &[])?)?;
        let warning = terminal.wait_for("will be lost", LIMIT)?;
        assert!(warning.contains(&model), "{warning}");
        terminal.wait_for(&format!("type `{}` to go on", disk.name()?), LIMIT)?;
        terminal.enter(answer)?;
        terminal.end(Duration::from_secs(600))
    };
    let before = succeed(Command::new("sha256sum").arg(&disk.path))?.stdout;
    let after = ask("yes\n")?;
    assert!(after.screen.contains(&format!("error: `{device}` was left as it is")), "{}", after.screen);
    assert_eq!(after.code, 2);
    let after = ask(CTRL_C)?;
    assert!(after.screen.contains("error: interrupted"), "{}", after.screen);
    assert!(after.code == 130 && after.is_usable(), "{}", after.screen);
    assert_eq!(succeed(Command::new("sha256sum").arg(&disk.path))?.stdout, before, "nobody agreed");

    let after = ask(&format!("{}\n", disk.name()?))?;
    assert_eq!(after.code, 0, "{}", after.screen);
    let file = directory.join("tiny.img");
    let mut command = krazy.command(["image", "--size", "832MiB", "--manifest-path"])?;
    succeed(command.arg(package.manifest()).arg("-o").arg(&file))?;
    // A disk has its own signature, and a /data up to its end; the builds are the same.
    let ((file_signature, in_file), (disk_signature, on_disk)) =
        (partitions(&file)?, partitions(&disk.path)?);
    assert_ne!(file_signature, disk_signature);
    assert_eq!((in_file[3].start, on_disk[3].start + on_disk[3].len), (on_disk[3].start, 1 << 30));
    let root = &in_file[1];
    let range = [root.start.to_string(), "--bytes".into(), root.len.to_string()];
    succeed(Command::new("cmp").arg("--ignore-initial").args(range).arg(&file).arg(&disk.path))?;
    // Who takes the disk apart learns nothing about others.
    for name in ["/krazy/tokens.json", "/krazy/tls/cert.pem", "/krazy/tls/key.pem"] {
        let read = |path: &Path| -> Result<Vec<u8>> {
            let data = format!("{}?offset={}", path.display(), on_disk[3].start);
            Ok(succeed(judges::command("debugfs")?.args(["-R", &format!("cat {name}"), &data]))?.stdout)
        };
        let (shared, own) = (read(&file)?, read(&disk.path)?);
        assert!(!shared.is_empty() && !own.is_empty() && shared != own, "{name}");
    }
    Ok(())
}
