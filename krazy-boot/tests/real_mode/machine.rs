//! QEMU with SeaBIOS, the judge of the boot sector.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::payload::{EXIT_PORT, EXIT_STATUS};

/// Far more than any of the tests takes, even beside a compiler.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(60);

/// The controller that the disk is attached to.
#[derive(Clone, Copy, Debug)]
pub enum Attached {
    Ide,
    Virtio,
    VirtioReadOnly,
    Ahci,
    Nvme,
    Usb,
    Scsi,
    /// An IDE disk of which QEMU lets reads of this sector fail, once or always.
    FailingRead {
        sector: u32,
        once: bool,
    },
}

impl Attached {
    fn arguments(self, disk: &Disk) -> Vec<String> {
        let file =
            format!("driver=raw,node-name=disk,file.driver=file,file.filename={}", disk.path().display());
        let (machine, device, node) = match self {
            Attached::Ide => ("pc", "ide-hd,drive=disk", file),
            Attached::Virtio => ("pc", "virtio-blk-pci,drive=disk", file),
            Attached::VirtioReadOnly => ("pc", "virtio-blk-pci,drive=disk", format!("{file},read-only=on")),
            Attached::Ahci => ("q35", "ide-hd,drive=disk,bus=ide.0", file),
            Attached::Nvme => ("q35", "nvme,drive=disk,serial=1", file),
            Attached::Usb => ("q35", "usb-storage,drive=disk,bus=usb.0", file),
            Attached::Scsi => ("pc", "scsi-hd,drive=disk", file),
            Attached::FailingRead { sector, once } => {
                let once = if once { "on" } else { "off" };
                let node = format!(
                    "driver=raw,node-name=disk,file.driver=blkdebug,file.image.driver=file,\
                     file.image.filename={},file.inject-error.0.event=read_aio,\
                     file.inject-error.0.sector={sector},file.inject-error.0.once={once}",
                    disk.path().display()
                );
                ("pc", "ide-hd,drive=disk", node)
            }
        };
        let mut arguments = vec!["-M", machine, "-blockdev", &node];
        match self {
            Attached::Usb => arguments.extend(["-device", "qemu-xhci,id=usb"]),
            Attached::Scsi => arguments.extend(["-device", "virtio-scsi-pci"]),
            _ => {}
        }
        arguments.extend(["-device", device]);
        arguments.into_iter().map(str::to_owned).collect()
    }
}

/// A running QEMU, stopped when dropped.
pub struct Machine {
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Machine {
    pub fn start(disk: &Disk, attached: Attached) -> Self {
        let exit = format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4");
        let mut child = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-m", "256", "-accel", "tcg"])
            .args(["-vga", "std", "-device", &exit])
            .args(attached.arguments(disk))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 (package qemu-system-x86) judges the boot sector");
        let mut stdout = child.stdout.take().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        Machine { child, output, seen: String::new() }
    }

    /// Waits for `text` on the serial port; returns all output.
    pub fn expect(&mut self, text: &str) -> &str {
        let deadline = Instant::now() + OUTPUT_TIMEOUT;
        while !self.seen.contains(text) {
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no `{text}` within {OUTPUT_TIMEOUT:?}: {:?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("QEMU exited without `{text}`: {:?}", self.seen)
                }
            }
        }
        &self.seen
    }

    /// Waits until the payload has made QEMU exit; returns all output of the serial port.
    pub fn finish(mut self) -> String {
        while let Ok(bytes) = self.output.recv_timeout(OUTPUT_TIMEOUT) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        let status = self.child.try_wait().unwrap();
        let exited = status.or_else(|| {
            std::thread::sleep(Duration::from_millis(200));
            self.child.try_wait().unwrap()
        });
        let code = exited.and_then(|status| status.code());
        assert_eq!(code, Some(EXIT_STATUS), "the payload did not make QEMU exit: {:?}", self.seen);
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Boots once, until the payload makes QEMU exit.
pub fn boot(disk: &Disk, attached: Attached) -> String {
    Machine::start(disk, attached).finish()
}
