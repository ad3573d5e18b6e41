//! PID 1 must not die: the kernel would stop with "attempted to kill init". A panic or a fatal signal says what it
//! was, writes the disks and restarts the machine, which also ends a trial boot. A panic's words are kept in the
//! trial's note; a signal's handler can make system calls only, and leaves none.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::power::{self, End};

/// How long the last words stay on the screen.
const PAUSE: Duration = Duration::from_secs(3);

/// How long a console that takes nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Signals that a fault of init itself raises.
const FATAL: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Keeps a panic's words.
type Keeper = Box<dyn Fn(&str) + Send + Sync>;

/// For the boot that is a trial.
static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);

/// Keeps tests that set or use the keeper apart: it belongs to the process.
#[cfg(test)]
pub(crate) fn lock_keeper() -> std::sync::MutexGuard<'static, ()> {
    static TEST: Mutex<()> = Mutex::new(());
    TEST.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// From now on `keep` is given the words of a panic, before the machine restarts; `None` ends that.
pub fn keep_words(keep: Option<Keeper>) {
    // Poisoned only by a panic, after which nothing is asked any more.
    if let Ok(mut keeper) = KEEPER.lock() {
        *keeper = keep;
    }
}

/// Hands over the words of a panic, on one line. A panic in the middle of [`keep_words`] is not kept: waiting for it
/// would never end.
pub(crate) fn keep(words: &str) {
    if let Ok(keeper) = KEEPER.try_lock()
        && let Some(keep) = &*keeper
    {
        keep(&words.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

/// Installs the panic hook and the handlers of fatal signals. For PID 1 only.
pub fn guard() {
    std::panic::set_hook(Box::new(|info| {
        let words = info.to_string();
        last_words(&format!("init failed: {words}"));
        keep(&words);
        std::thread::sleep(PAUSE);
        power::end(End::Reboot)
    }));
    for signal in FATAL {
        // SAFETY: the zeroed action is valid, and the handler calls only async-signal-safe functions.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = fatal as *const () as libc::sighandler_t;
            // The alternate stack that std sets up lets the handler run after a stack overflow too.
            action.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Writes a line to the console without the supervisor's buffers.
pub fn last_words(text: &str) {
    // Not blocking: a terminal that holds its output back must not hold the restart back.
    let flags = libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let console = OpenOptions::new().write(true).custom_flags(flags).open("/dev/console");
    let Ok(mut console) = console else { return };
    let text = format!("krazy: {text}\n");
    let mut left = text.as_bytes();
    let start = Instant::now();
    while !left.is_empty() && start.elapsed() < PATIENCE {
        match console.write(left) {
            Ok(length) => left = &left[length..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PATIENCE / 100),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Nobody is left to hear of a failure.
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
