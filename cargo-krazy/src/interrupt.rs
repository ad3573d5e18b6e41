//! Ctrl-C: the program ends with [`Exit::Interrupted`], and leaves nothing half-made behind.
//!
//! A thread waits for SIGINT, SIGTERM, and SIGHUP unless `nohup` had it ignored. Work in a loop calls [`check`] and ends
//! by itself; then destructors clean up. Blocked work (a download, a prompt) cannot, so after a grace period the thread
//! runs the actions of all [`Cleanup`]s that exist and ends the program. A second Ctrl-C does that at once.
//!
//! Child processes need no forwarding: the terminal sends SIGINT to its whole foreground process group.

use std::collections::BTreeMap;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Exit, Explain, Result};
use crate::shell::Shell;

/// How long work may continue after the signal without a call of [`check`].
const NOTICE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long cleaning up may take once [`check`] has reported the interrupt.
const UNWIND_TIMEOUT: Duration = Duration::from_secs(10);

/// The signal that interrupted the program; 0 while there is none. Set by the handler itself: a child process that the same
/// signal ends can be reaped before a thread of ours runs.
static INTERRUPTED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
static NOTICED: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU64 = AtomicU64::new(0);

type Action = Box<dyn FnOnce() + Send>;
static ACTIONS: Mutex<BTreeMap<u64, Action>> = Mutex::new(BTreeMap::new());

/// Starts to handle signals. Call once, before any work.
pub fn install() -> Result<()> {
    let hangup = (!ignores_hangup()).then_some(SIGHUP);
    let signals: Vec<_> = [SIGINT, SIGTERM].into_iter().chain(hangup).collect();
    for &signal in &signals {
        let number = usize::try_from(signal).context("signals have positive numbers")?;
        signal_hook::flag::register_usize(signal, Arc::clone(&INTERRUPTED), number)
            .context("failed to handle signals")?;
    }
    let mut signals = Signals::new(signals).context("failed to handle signals")?;
    thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(move || {
            let Some(signal) = signals.forever().next() else { return };
            let start = Instant::now();
            while start.elapsed()
                < if NOTICED.load(Ordering::SeqCst) { UNWIND_TIMEOUT } else { NOTICE_TIMEOUT }
            {
                if signals.pending().next().is_some() {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
            // Newest first: what was made later may stand in what was made earlier. The lock is kept, so that
            // the main thread cannot begin something new to clean up.
            let mut actions = actions();
            while let Some((_, action)) = actions.pop_last() {
                action();
            }
            // Work that noticed ends with this error by itself.
            Shell::default().error(&Interrupted(signal).into());
            process::exit(Exit::Interrupted as i32)
        })
        .context("failed to start the thread that handles signals")?;
    Ok(())
}

/// Returns true if this program was started to outlive its terminal. Source: proc_pid_status(5), `SigIgn`.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// Fails if the program was interrupted. Cheap: for every turn of a long loop, and after every child process.
pub fn check() -> Result<()> {
    match INTERRUPTED.load(Ordering::SeqCst) {
        0 => Ok(()),
        signal => {
            NOTICED.store(true, Ordering::SeqCst);
            Err(Interrupted(signal as i32).into())
        }
    }
}

/// The end of the program by a signal.
#[derive(Debug, thiserror::Error)]
#[error("{}", match *.0 { SIGTERM => "terminated by SIGTERM", SIGHUP => "terminated by SIGHUP", _ => "interrupted" })]
struct Interrupted(i32);

impl Explain for Interrupted {
    fn exit(&self) -> Exit {
        Exit::Interrupted
    }
}

/// Registers an action for the case that an interrupt ends the program without unwinding, such as the removal
/// of a temporary file. Dropping the guard forgets the action; it does not run it.
/// The action must be quick, and must neither register nor drop a guard.
pub fn cleanup(action: impl FnOnce() + Send + 'static) -> Cleanup {
    let id = NEXT.fetch_add(1, Ordering::SeqCst);
    actions().insert(id, Box::new(action));
    Cleanup(id)
}

/// While it exists, its action is run when an interrupt ends the program. See [`cleanup`].
#[derive(Debug)]
#[must_use = "dropping it at once forgets the action"]
pub struct Cleanup(u64);

impl Drop for Cleanup {
    fn drop(&mut self) {
        actions().remove(&self.0);
    }
}

/// The actions, even if another thread panicked while it held them: each insertion and removal is complete.
fn actions() -> MutexGuard<'static, BTreeMap<u64, Action>> {
    ACTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}
