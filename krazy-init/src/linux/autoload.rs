//! The kernel's requests for modules: open while init loads drivers and mounts file systems, which may need further modules,
//! and closed otherwise, so that nobody can make the kernel load code by a socket or a file of a rare kind.
//! Source: Linux `Documentation/admin-guide/sysctl/kernel.rst`, `modprobe`: the kernel loads nothing without a program.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::settings::{MODULE_HELPER, PROC_SYS};

/// The setting, below `/proc/sys`.
pub(crate) const SETTING: &str = "kernel/modprobe";

/// The number of [`Autoload`]s; `None` if init leaves the setting alone.
static OPEN: Mutex<Option<u32>> = Mutex::new(None);

/// Lets the kernel request modules until it is dropped.
#[derive(Debug)]
pub(crate) struct Autoload(());

/// Lets init change the setting from now on, unless the appliance has one of its own.
pub(crate) fn take_over() {
    *OPEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(0);
}

impl Autoload {
    /// Opens the requests.
    pub(crate) fn open() -> Self {
        change(1, |is_open| set(Path::new(PROC_SYS), is_open));
        Autoload(())
    }
}

impl Drop for Autoload {
    fn drop(&mut self) {
        change(-1, |is_open| set(Path::new(PROC_SYS), is_open));
    }
}

/// Adds to the count, and writes the setting when that changes it.
fn change(by: i32, write: impl FnOnce(bool) -> io::Result<()>) {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(count) = open.as_mut() else { return };
    let before = *count;
    *count = count.saturating_add_signed(by);
    if (before == 0) != (*count == 0) {
        // A kernel without modules has no such setting, and nothing to close.
        let _missing = write(*count > 0);
    }
}

fn set(top: &Path, is_open: bool) -> io::Result<()> {
    // A line end: the kernel takes an empty write for none.
    fs::OpenOptions::new().write(true).open(top.join(SETTING)).and_then(|mut file| {
        io::Write::write_all(&mut file, if is_open { MODULE_HELPER } else { "\n" }.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_open_while_anybody_needs_them() {
        let written = std::cell::RefCell::new(Vec::new());
        let step = |by| {
            change(by, |is_open| {
                written.borrow_mut().push(is_open);
                Ok(())
            });
        };
        step(1);
        assert_eq!(written.borrow().len(), 0, "before init takes it over");
        take_over();
        step(1);
        step(1);
        step(-1);
        assert_eq!(*written.borrow(), [true]);
        step(-1);
        assert_eq!(*written.borrow(), [true, false]);
    }
}
