//! The foreign programs that judge our images, and the Debian packages that hold them.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, bail};

use super::debian;
use crate::process::find;

/// The source of a kernel, as the package linux-source-6.12 installs it.
pub const KERNEL_SOURCE: &str = "/usr/src/linux-source-6.12.tar.xz";

/// A program the tests run and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judge {
    /// The executable, or the absolute path of another file.
    pub program: &'static str,
    /// The Debian package.
    pub package: &'static str,
}

const fn judge(program: &'static str, package: &'static str) -> Judge {
    Judge { program, package }
}

/// Every program the tests need besides Rust and a C compiler.
pub const JUDGES: &[Judge] = &[
    // The source of the kernel that is built, and the tools that build it.
    judge(KERNEL_SOURCE, "linux-source-6.12"),
    judge("/usr/include/libelf.h", "libelf-dev"),
    judge("bc", "bc"),
    judge("bison", "bison"),
    judge("flex", "flex"),
    judge("make", "make"),
    judge("busybox", "busybox-static"),
    judge("cpio", "cpio"),
    judge("curl", "curl"),
    judge("debugfs", "e2fsprogs"),
    judge("dnsmasq", "dnsmasq-base"),
    judge("dumpe2fs", "e2fsprogs"),
    judge("e2fsck", "e2fsprogs"),
    judge("fsck.fat", "dosfstools"),
    judge("git", "git"),
    judge("ip", "iproute2"),
    judge("losetup", "mount"),
    judge("mdir", "mtools"),
    judge("mtype", "mtools"),
    judge("mke2fs", "e2fsprogs"),
    judge("mksquashfs", "squashfs-tools"),
    judge("openssl", "openssl"),
    judge("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    judge("qemu-aarch64-static", "qemu-user-static"),
    judge("qemu-system-aarch64", "qemu-system-arm"),
    judge("qemu-system-x86_64", "qemu-system-x86"),
    judge("qemu-img", "qemu-utils"),
    judge("script", "bsdutils"),
    judge("sfdisk", "fdisk"),
    judge("sha256sum", "coreutils"),
    judge("unsquashfs", "squashfs-tools"),
    judge("zstd", "zstd"),
];

/// Returns a command for `program`; the error of a missing one names its package.
pub fn command(program: &str) -> Result<Command> {
    let Some(path) = find(program) else {
        let package =
            JUDGES.iter().find(|judge| judge.program == program).map_or(program, |judge| judge.package);
        bail!(
            "{program} is not installed; install the Debian package {package}, or run `cargo suite`, which does it"
        );
    };
    Ok(Command::new(path))
}

/// Installs what is missing; a program that is still missing then is an error that names its package.
pub(crate) fn install_missing() -> Result<()> {
    let missing = JUDGES.iter().filter(|judge| find(judge.program).is_none());
    let packages: Vec<_> = missing.map(|judge| judge.package).collect::<BTreeSet<_>>().into_iter().collect();
    if packages.is_empty() {
        return Ok(());
    }
    debian::install(&packages)?;
    if let Some(missing) = JUDGES.iter().find(|judge| find(judge.program).is_none()) {
        bail!("{} is still missing after its package {} was installed", missing.program, missing.package);
    }
    Ok(())
}
