//! Restarts the machine when init fails. PID 1 must not exit, because the kernel would stop with "attempted to kill
//! init". After a panic or a fatal signal, its message is printed, the disks are synced and the machine restarts, which
//! also ends a trial. The message of a panic is recorded in the trial's note; the handler of a signal may only make
//! async-signal-safe calls, and records nothing.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::power::{self, End};

/// The time that a message stays on the screen.
const MESSAGE_TIME: Duration = Duration::from_secs(3);

/// The longest wait for a console that accepts no output.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Signals that a fault of init itself raises.
const FATAL: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Records the message of a panic.
type Recorder = Box<dyn Fn(&str) + Send + Sync>;

/// Set while the boot is on trial.
static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// Serializes tests that use the recorder, which belongs to the whole process.
#[cfg(test)]
pub(crate) fn lock_recorder() -> std::sync::MutexGuard<'static, ()> {
    static TEST: Mutex<()> = Mutex::new(());
    TEST.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Sets the function that receives the message of a panic before the machine restarts.
pub(crate) fn set_recorder(new: Option<Recorder>) {
    // Poisoned only by a panic, after which the machine restarts.
    if let Ok(mut recorder) = RECORDER.lock() {
        *recorder = new;
    }
}

/// Records the message of a panic on one line. A panic inside [`set_recorder`] holds the lock and is not recorded:
/// waiting for the lock would never end.
pub(crate) fn record(message: &str) {
    if let Ok(recorder) = RECORDER.try_lock()
        && let Some(record) = &*recorder
    {
        record(&message.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

/// Installs the panic hook and the handlers of fatal signals. For PID 1 only.
pub(crate) fn install_handlers() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        print(&format!("init failed: {message}"));
        record(&message);
        std::thread::sleep(MESSAGE_TIME);
        power::end(End::Reboot)
    }));
    for signal in FATAL {
        // SAFETY: the zeroed action is valid, and the handler calls only async-signal-safe functions.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = fatal as *const () as libc::sighandler_t;
            // std sets up an alternate stack, on which the handler runs after a stack overflow, too.
            action.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Prints a line on the console without the supervisor's buffers.
pub(crate) fn print(text: &str) {
    // Not blocking: a terminal that stops its output must not delay the restart.
    let flags = libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let console = OpenOptions::new().write(true).custom_flags(flags).open("/dev/console");
    let Ok(mut console) = console else { return };
    let text = format!("krazy: {text}\n");
    let mut left = text.as_bytes();
    let start = Instant::now();
    while !left.is_empty() && start.elapsed() < CONSOLE_TIMEOUT {
        match console.write(left) {
            Ok(length) => left = &left[length..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(CONSOLE_TIMEOUT / 100),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

extern "C" fn fatal(signal: libc::c_int) {
    const TEXT: &[u8] = b"krazy: init was hit by a fatal signal, restarting the machine\n";
    // SAFETY: open, write, sync and reboot are system calls without effects on this process's memory. A copy of
    // PID 1 that has not yet executed its program must die by the signal alone.
    unsafe {
        if libc::getpid() != 1 {
            libc::_exit(128 + signal);
        }
        let console =
            libc::open(c"/dev/console".as_ptr(), libc::O_WRONLY | libc::O_NOCTTY | libc::O_NONBLOCK);
        libc::write(console, TEXT.as_ptr().cast(), TEXT.len());
        libc::sync();
        libc::reboot(libc::RB_AUTOBOOT);
        libc::_exit(128 + signal);
    }
}
