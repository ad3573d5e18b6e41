//! The threads that read QEMU's pipes and the keyboard, so that nothing waits for a slow reader.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The byte of Ctrl-C while the terminal is raw.
const CTRL_C: u8 = 0x03;

/// Bytes kept of QEMU's own standard error.
const COMPLAINT: u64 = 16 << 10;

/// The bytes of QEMU's standard output, until it closes.
pub(super) fn forward_serial(mut stdout: ChildStdout) -> Receiver<Vec<u8>> {
    // Bounded, so that a guest that talks faster than the terminal prints has to wait.
    let (sender, receiver) = sync_channel(64);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut listened_to = true;
        loop {
            match stdout.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                // The rest is read all the same: a QEMU that blocks on a full pipe does not end.
                Ok(read) => listened_to = listened_to && sender.send(buffer[..read].to_vec()).is_ok(),
            }
        }
    });
    receiver
}

/// The beginning of what comes from `stderr`, up to its end. `kvm_broke` is set as soon as KVM reports that it
/// cannot go on: QEMU then pauses the machine instead of ending.
pub(super) fn collect(stderr: ChildStderr, kvm_broke: Arc<AtomicBool>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = String::new();
        let mut lines = BufReader::new(stderr);
        let mut line = Vec::new();
        // A line is cut where it is longer than anything QEMU writes.
        while let Ok(1..) = (&mut lines).take(COMPLAINT).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line);
            if text.starts_with("KVM internal error") {
                kvm_broke.store(true, Ordering::Relaxed);
            }
            // The rest is read, too: QEMU must not block on a full pipe.
            if kept.len() < COMPLAINT as usize {
                kept.push_str(&text);
            }
            line.clear();
        }
        kept
    })
}

/// Copies standard input to whichever QEMU runs. The thread ends with standard input, or with the program.
/// The pipe to QEMU stays open after the end of input: its console would take the end for a hang-up.
/// With `ctrl_c`, the terminal is raw and that key is ours.
pub(super) fn forward_input(keyboard: Arc<Mutex<Option<ChildStdin>>>, ctrl_c: Option<Arc<AtomicBool>>) {
    std::thread::spawn(move || {
        let mut stdin = io::stdin();
        let mut buffer = [0; 256];
        while let Ok(read @ 1..) = stdin.read(&mut buffer) {
            let bytes = &buffer[..read];
            if let Some(ctrl_c) = &ctrl_c
                && bytes.contains(&CTRL_C)
            {
                ctrl_c.store(true, Ordering::Relaxed);
                continue;
            }
            let mut keyboard = keyboard.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(pipe) = &mut *keyboard {
                // What is typed to a machine that just ended is lost, as on hardware.
                let _ended = pipe.write_all(bytes).and_then(|()| pipe.flush());
            }
        }
    });
}
