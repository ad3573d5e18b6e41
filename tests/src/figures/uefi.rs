//! The UEFI loader beside systemd-boot: the same firmware, disk, kernel, initramfs and command line, and only the loader
//! differs. The time is that from QEMU's start to the line of the example's service, on the host's clock, so the machines
//! run at real-time priority where the host allows it, and take turns.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::boot::{go_first, may_go_first, median};
use crate::guest::{Guest, emulator};
use crate::krazy::Krazy;
use crate::process::succeed;
use crate::setup::judges;

const ROUNDS: usize = 5;

const LIMIT: Duration = Duration::from_secs(600);

/// Debian's `ovmf`, and its `systemd-boot-efi`.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const PEER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Prints the figures.
pub fn print() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = directory.join("hello.img");
    succeed(krazy.command(["image", "-p", "hello", "-q", "-o"])?.arg(&image))?;
    let peer = directory.join("peer.img");
    succeed(Command::new("cp").arg("--sparse=always").arg(&image).arg(&peer))?;
    with_systemd_boot(&peer, directory)?;

    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (image, times) in [&image, &peer].into_iter().zip(&mut times) {
            times.push(boot(image).with_context(|| image.display().to_string())?);
        }
    }
    if !may_go_first() {
        println!("beside whatever else this host does: only root may have that wait");
    }
    let [ours, theirs] = times.map(median);
    println!("UEFI firmware to the example's service, medians of {ROUNDS} boots");
    println!("  krazy-loader                   {ours:>10.2} s");
    println!("  systemd-boot                   {theirs:>10.2} s");
    println!("  krazy-loader / systemd-boot    {:>10.2}    (goal: ≤ 1.0)", ours / theirs);
    Ok(())
}

/// Replaces the loader on `image` by systemd-boot with an entry for slot A.
fn with_systemd_boot(image: &Path, directory: &Path) -> Result<()> {
    let boot = format!("{}@@1M", image.display());
    let mtools = |program: &str, arguments: &[&str]| -> Result<()> {
        succeed(judges::command(program)?.args(["-i", &boot]).args(arguments)).map(drop)
    };
    let file = |name: &str, text: &str| -> Result<String> {
        let path = directory.join(name);
        fs::write(&path, text)?;
        Ok(path.to_str().context("not UTF-8")?.to_owned())
    };
    fs::metadata(PEER).context("install the Debian package systemd-boot-efi and run this again")?;
    let line = succeed(judges::command("mtype")?.args(["-i", &boot, "::a-cmdline.txt"]))?.stdout;
    let entry = format!(
        "title krazy\nlinux /a-vmlinuz\ninitrd /a-initramfs\noptions {}\n",
        String::from_utf8(line)?.trim()
    );
    mtools("mcopy", &["-n", "-o", PEER, "::EFI/BOOT/BOOTX64.EFI"])?;
    mtools("mmd", &["::loader", "::loader/entries"])?;
    mtools("mcopy", &["-n", &file("loader.conf", "default a.conf\ntimeout 0\n")?, "::loader/loader.conf"])?;
    mtools("mcopy", &["-n", &file("a.conf", &entry)?, "::loader/entries/a.conf"])
}

/// Boots `image`, and returns the seconds until its service speaks.
fn boot(image: &Path) -> Result<f64> {
    let mut command = go_first(emulator(image)?);
    command.arg("-drive").arg(format!("if=pflash,format=raw,unit=0,readonly=on,file={CODE}"));
    command.arg("-drive").arg(format!("if=pflash,format=raw,unit=1,file={VARIABLES}"));
    command.arg("-snapshot");
    let begin = Instant::now();
    let mut guest = Guest::start(command)?;
    guest.wait_for("listening on", LIMIT)?;
    Ok(begin.elapsed().as_secs_f64())
}
