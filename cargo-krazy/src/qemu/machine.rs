//! The virtual machine, and QEMU's command line for it. Nothing here starts anything.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use krazy_boot::disk::size::Bytes;

use super::accelerator::Accelerator;
use super::firmware::{Firmware, Flash};
use super::pi::{self, Model};
use super::publish::Publish;
use crate::board::Board;

/// A virtual machine around a disk image.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The board the image is made for.
    pub(crate) board: &'static Board,
    /// The emulated model, if the board is a Raspberry Pi.
    pub(crate) model: Model,
    /// The disk image.
    pub(crate) image: PathBuf,
    /// The firmware, of a PC.
    pub(crate) firmware: Firmware,
    /// The guest's memory.
    pub(crate) memory: Bytes,
    /// The guest's processors.
    pub(crate) cpus: u32,
    /// Forwarded ports.
    pub(crate) publish: Vec<Publish>,
    /// True if changes to the disk are forgotten at the end.
    pub(crate) snapshot: bool,
    /// Arguments of the user's own, last.
    pub(crate) extra: Vec<OsString>,
    /// The appliance whose API the guest serves, if it serves one. Its port is published, and while the machine runs
    /// it can be called `qemu`.
    pub(crate) managed: Option<String>,
}

impl Machine {
    /// QEMU's arguments for a PC, the program's name not included.
    ///
    /// The firmware finds the disk as on hardware; kernel and command line come from the image, never from here.
    pub(crate) fn command_line(&self, accelerator: Accelerator) -> Vec<OsString> {
        let mut line = CommandLine::default();
        // Without graphics SeaBIOS, and with it the boot sector, speaks on the serial line.
        line.option("-machine", "pc,graphics=off,usb=off");
        if let Firmware::Uefi(Flash { code, variables }) = &self.firmware {
            for (unit, mode, file) in [(0, "readonly=on", code), (1, "snapshot=on", variables)] {
                let mut drive = OsString::from(format!("if=pflash,format=raw,unit={unit},{mode},file="));
                drive.push(escaped(file.as_os_str()));
                line.option("-drive", drive);
            }
        }
        match accelerator {
            Accelerator::Kvm => line.option("-accel", "kvm").option("-cpu", "host"),
            // QEMU 7.2 now and then leaves wrong flags behind cmpxchg16b; about one boot in ten of Linux 6.12
            // died right after one. Nothing needs the instruction, and the kernel asks before it uses it.
            Accelerator::Tcg => line.option("-accel", "tcg").option("-cpu", "max,-cx16"),
        };
        line.option("-smp", self.cpus.to_string());
        line.option("-m", format!("{}", self.memory.0.div_ceil(Bytes::mib(1).0)));
        line.plain();
        line.option("-serial", "chardev:console");
        line.option("-drive", self.drive()).option("-device", "virtio-blk-pci,drive=disk,bootindex=0");
        // No option ROM: a PXE loader would only delay the boot.
        line.option("-netdev", self.network()).option("-device", "virtio-net-pci,netdev=net,romfile=");
        line.option("-device", "virtio-rng-pci").option("-device", "i6300esb");
        line.0.extend(self.extra.iter().cloned());
        line.0
    }

    /// QEMU's arguments for a Raspberry Pi with `card` in its slot, after its firmware has `loaded` the card's files.
    /// Memory and processors are those of the machine. QEMU ends at a reset, and reports it to `watch`.
    pub(super) fn pi_command_line(
        &self,
        card: &Path,
        loaded: &pi::Loaded,
        watch: &pi::ResetWatch,
    ) -> Vec<OsString> {
        let mut line = CommandLine::default();
        let facts = self.model.facts();
        line.option("-machine", facts.machine).option("-accel", "tcg").flag("-no-reboot");
        line.option("-qmp", watch.argument());
        line.plain();
        for _other in 0..facts.serial {
            line.option("-serial", "null");
        }
        line.option("-serial", "chardev:console");
        line.option("-kernel", &loaded.kernel).option("-dtb", &loaded.dtb);
        if let Some(initramfs) = &loaded.initramfs {
            line.option("-initrd", initramfs);
        }
        line.option("-append", &loaded.cmdline);
        let mut drive = OsString::from("if=sd,format=raw,discard=unmap,detect-zeroes=unmap,file=");
        drive.push(escaped(card.as_os_str()));
        line.option("-drive", drive);
        line.option("-netdev", self.network()).option("-device", "usb-net,netdev=net");
        line.0.extend(self.extra.iter().cloned());
        line.0
    }

    /// The network and its forwarded ports.
    fn network(&self) -> String {
        let mut network = "user,id=net".to_owned();
        for publish in &self.publish {
            network.push_str(",hostfwd=");
            network.push_str(&publish.hostfwd());
        }
        network
    }

    /// The disk. Zeroed and discarded blocks become holes, so that the image stays sparse.
    fn drive(&self) -> OsString {
        let mut drive = OsString::from("if=none,id=disk,format=raw,discard=unmap,detect-zeroes=unmap");
        if self.snapshot {
            drive.push(",snapshot=on");
        }
        drive.push(",file=");
        drive.push(escaped(self.image.as_os_str()));
        drive
    }
}

/// QEMU separates options by commas; one that belongs to a value is doubled.
fn escaped(value: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::with_capacity(value.len());
    for byte in value.as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

#[derive(Default)]
struct CommandLine(Vec<OsString>);

impl CommandLine {
    /// Nothing that was not asked for, and a terminal.
    fn plain(&mut self) {
        self.option("-name", "cargo-krazy").flag("-nodefaults").flag("-no-user-config");
        self.option("-display", "none").option("-vga", "none");
        // One stream for the guest's console and QEMU's monitor, separated by Ctrl-A. QEMU leaves signals to this program.
        self.option("-chardev", "stdio,id=console,mux=on,signal=off");
        self.option("-mon", "chardev=console,mode=readline");
    }

    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            board: Board::named("x86_64").unwrap(),
            model: Model::default(),
            image: "target/a,b.img".into(),
            firmware: Firmware::Bios,
            memory: Bytes::mib(512),
            cpus: 2,
            publish: vec!["8080:80".parse().unwrap(), "0.0.0.0:5353:53/udp".parse().unwrap()],
            snapshot: false,
            extra: vec!["-device".into(), "e1000".into()],
            managed: None,
        }
    }

    fn line(machine: &Machine, accelerator: Accelerator) -> String {
        let line = machine.command_line(accelerator);
        line.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn disk_boots_itself() {
        let line = line(&machine(), Accelerator::Tcg);
        assert!(line.contains(
            "-drive if=none,id=disk,format=raw,discard=unmap,detect-zeroes=unmap,file=target/a,,b.img "
        ));
        for never in ["-kernel", "-append", "-initrd", "snapshot"] {
            assert!(!line.contains(never), "{never}");
        }
        assert!(line.contains("-smp 2 -m 512 "));
        assert!(line.ends_with("-device e1000"), "the user's arguments are last: {line}");
    }

    #[test]
    fn ports_and_devices() {
        let line = line(&machine(), Accelerator::Tcg);
        assert!(line.contains(
            "-netdev user,id=net,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp:0.0.0.0:5353-:53 -device virtio-net-pci,netdev=net,"
        ));
        assert!(line.contains("-device virtio-rng-pci -device i6300esb"));
    }

    #[test]
    fn options_change_the_line() {
        let flash = Flash { code: "/a,b/code.fd".into(), variables: "/vars.fd".into() };
        let uefi = Machine { firmware: Firmware::Uefi(flash), ..machine() };
        assert!(line(&uefi, Accelerator::Tcg).contains(
            "-drive if=pflash,format=raw,unit=0,readonly=on,file=/a,,b/code.fd \
             -drive if=pflash,format=raw,unit=1,snapshot=on,file=/vars.fd "
        ));
        let snapshot = Machine { snapshot: true, ..machine() };
        assert!(line(&snapshot, Accelerator::Tcg).contains(",snapshot=on,file="));
        assert!(line(&machine(), Accelerator::Kvm).contains("-accel kvm -cpu host"));
        assert!(line(&machine(), Accelerator::Tcg).contains("-accel tcg -cpu max,-cx16"));
    }
}
