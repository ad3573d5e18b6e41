//! A kernel of our own from Debian's source package, and machines to start it on.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::fixture::Package;
use crate::krazy::Krazy;
use crate::process::succeed;
use crate::setup::judges::{self, KERNEL_SOURCE};
use crate::setup::{target_directory, workspace};

/// A kernel that `cargo krazy kernel build` made.
#[derive(Clone, Debug)]
pub struct OwnKernel {
    /// Its bundle.
    pub bundle: PathBuf,
    /// The program's message about it.
    pub message: Value,
}

/// Builds the kernel of the x86_64 board with our fragments alone; objects of earlier builds are used again.
pub fn build(krazy: &Krazy) -> Result<OwnKernel> {
    let bundle = krazy.directory.path().join("kernel.tar.zst");
    // Tests that need the kernel at the same time, in processes of their own, build it once.
    let lock = File::create(target_directory().join("own-kernel.lock"))?;
    lock.lock()?;
    let output = String::from_utf8(succeed(&mut build_command(krazy, &bundle)?)?.stdout)?;
    let message = output.lines().last().context("the program printed no message")?;
    Ok(OwnKernel { bundle, message: serde_json::from_str(message)? })
}

/// `cargo krazy kernel build` of that kernel to `output`, with JSON messages.
pub fn build_command(krazy: &Krazy, output: &Path) -> Result<Command> {
    let mut command =
        krazy.command(["kernel", "build", "--message-format", "json", "--source", KERNEL_SOURCE, "-o"])?;
    command.arg(output);
    Ok(command)
}

/// The program of [`example`]: it prints the kernel's features on one line after `features:`.
const MAIN: &str = r#"
use std::fs::read_to_string as read;
use std::path::Path;

fn main() {
    let mut found = vec![format!("pid1={}", read("/proc/1/comm").unwrap_or_default().trim())];
    for controller in read("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default().split_whitespace() {
        found.push(format!("cgroup:{controller}"));
    }
    for name in std::fs::read_dir("/proc/self/ns").into_iter().flatten().flatten() {
        found.push(format!("ns:{}", name.file_name().to_string_lossy()));
    }
    for line in read("/proc/filesystems").unwrap_or_default().lines() {
        found.push(format!("fs:{}", line.trim_start_matches("nodev").trim()));
    }
    if Path::new("/sys/module/wireguard").exists() {
        found.push("wireguard".to_owned());
    }
    if Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists() {
        found.push("conntrack".to_owned());
    }
    if Path::new("/dev/net/tun").exists() {
        found.push("dev:tun".to_owned());
    }
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        found.push("seccomp".to_owned());
    }
    if !Path::new("/proc/modules").exists() {
        found.push("no-modules".to_owned());
    }
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let builtin = read(format!("/lib/modules/{}/modules.builtin", release.trim())).unwrap_or_default();
    if builtin.lines().any(|line| line.ends_with("/virtio_blk.ko")) {
        found.push("lists:virtio_blk".to_owned());
    }
    let identity = read("/sys/class/watchdog/watchdog0/identity").unwrap_or_default();
    found.push(format!("watchdog:{}", identity.trim().replace(' ', "-")));
    println!("features: {} .", found.join(" "));
    loop {
        std::thread::park();
    }
}
"#;

/// The package `name` with a kernel bundle, or else Debian's kernel, with the example's program, and with a program
/// of its own that lists the kernel's features.
pub fn example(krazy: &Krazy, name: &str, kernel: Option<&Path>) -> Result<Package> {
    let kernel = kernel.map_or_else(|| "\"debian\"".to_owned(), |path| format!("{{ path = {path:?} }}"));
    let metadata = format!(
        "[package.metadata.krazy]\nhostname = \"hello\"\nkernel = {kernel}\n\n\
         [package.metadata.krazy.install]\nhello = {{ path = {:?} }}\n\n\
         [package.metadata.krazy.service.hello]\nargs = [\"--listen\", \"0.0.0.0:80\"]\n\n\
         [package.metadata.krazy.service.{name}]\nuser = \"root\"",
        workspace().join("examples/hello")
    );
    Package::new(krazy.directory.path(), name, MAIN, &metadata)
}

/// Makes the image of the package with this manifest.
pub fn image(krazy: &Krazy, manifest: &Path, name: &str) -> Result<PathBuf> {
    let image = krazy.directory.path().join(name);
    let mut command = krazy.command(["image", "--manifest-path"])?;
    succeed(command.arg(manifest).arg("-o").arg(&image))?;
    Ok(image)
}

/// The devices that attach disk and network.
#[derive(Clone, Copy, Debug)]
pub struct Hardware {
    /// QEMU devices for the disk, whose drive is called `disk`.
    pub disk: &'static [&'static str],
    /// The network card of QEMU.
    pub card: &'static str,
}

/// A PC that starts from a snapshot of `image` as its firmware does, with port 80 at `port` of the host.
pub fn machine(image: &Path, hardware: Hardware, port: u16) -> Result<Command> {
    let mut command = pc(port, hardware.card)?;
    let mut drive = OsString::from("if=none,id=disk,format=raw,snapshot=on,file=");
    drive.push(image);
    command.arg("-drive").arg(drive);
    for device in hardware.disk {
        command.args(["-device", device]);
    }
    Ok(command)
}

/// A PC without a disk.
pub fn pc(port: u16, card: &str) -> Result<Command> {
    let mut command = judges::command("qemu-system-x86_64")?;
    // The machine of `run-qemu`, whose source has the reason for this processor. It is only one: QEMU 7.2 now and then
    // lets a second one run through code that the kernel is patching.
    command.args([
        "-machine",
        "pc,graphics=off",
        "-accel",
        "tcg",
        "-cpu",
        "max,-cx16",
        "-smp",
        "1",
        "-m",
        "512",
    ]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-serial", "stdio"]);
    command.args(["-no-reboot", "-device", "virtio-rng-pci", "-netdev"]);
    command.arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:80"));
    command.args(["-device", &format!("{card},netdev=net,romfile=")]);
    Ok(command)
}
