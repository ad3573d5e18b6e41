//! Machines of `run-qemu` that run now: a file each in the state directory, so that `qemu` is a host's name.
//!
//! The file holds the process that runs the machine. One whose process has gone is stale and counts for nothing, so a
//! machine that was killed leaves nothing behind that matters.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use super::hosts::Host;
use crate::interrupt::{self, Cleanup};
use crate::output::Scratch;

/// The directory in the state directory. The point in its name keeps it apart from the appliances' directories.
const DIRECTORY: &str = "machines.d";

/// The first machine's name; further ones are `qemu-2`, `qemu-3`.
const NAME: &str = "qemu";

/// The most machines of one user that get a name.
const MAX: usize = 64;

#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    host: Host,
    /// The process that runs the machine.
    pid: i32,
}

/// A machine's name, until it is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    /// The name for the command line.
    pub(crate) name: String,
    path: PathBuf,
    _cleanup: Cleanup,
}

/// Registers a machine of this process as `qemu`, or the next free name.
pub(crate) fn register(state_dir: &Path, host: Host) -> anyhow::Result<Registration> {
    let directory = state_dir.join(DIRECTORY);
    let failed = || format!("failed to register the machine in {}", directory.display());
    fs::create_dir_all(&directory).with_context(failed)?;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let text = toml::to_string(&Record { host, pid }).with_context(failed)?;
    let scratch = Scratch::in_directory(&directory)?;
    scratch.as_file().write_all(text.as_bytes()).with_context(failed)?;
    for number in 1..=MAX {
        let name = if number == 1 { NAME.to_owned() } else { format!("{NAME}-{number}") };
        let path = directory.join(format!("{name}.toml"));
        if path.exists() && running(&path).is_none() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(failed),
                _ => {}
            }
        }
        // It appears with its text, lest another `run-qemu` takes it for stale.
        match fs::hard_link(scratch.path(), &path) {
            Ok(()) => {
                let doomed = path.clone();
                let cleanup = interrupt::cleanup(move || drop(fs::remove_file(doomed)));
                return Ok(Registration { name, path, _cleanup: cleanup });
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(failed),
        }
    }
    anyhow::bail!("{MAX} machines are running already")
}

/// Returns the machine of this name, if it runs.
pub(crate) fn find(state_dir: &Path, name: &str) -> Option<Host> {
    running(&state_dir.join(DIRECTORY).join(format!("{name}.toml")))
}

/// Returns true if `name` could be a machine's, running or not.
pub(crate) fn is_name(name: &str) -> bool {
    let number = name.strip_prefix(NAME).map(|rest| rest.strip_prefix('-').map(str::parse::<usize>));
    matches!(number, Some(Some(Ok(_)))) || name == NAME
}

/// Returns the host in `path`, unless its process has ended. A file that cannot be read is stale, too.
fn running(path: &Path) -> Option<Host> {
    let record: Record = toml::from_str(&fs::read_to_string(path).ok()?).ok()?;
    match test_kill_process(Pid::from_raw(record.pid)?) {
        // It belongs to someone else, but it is there.
        Ok(()) | Err(rustix::io::Errno::PERM) => Some(record.host),
        Err(_) => None,
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            // Once this process has ended the file is stale; only its removal by hand is no surprise.
            debug_assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::hosts::Address;

    fn host(port: u16) -> Host {
        Host { address: Address { host: "127.0.0.1".into(), port }, appliance: Some("hello".into()) }
    }

    #[test]
    fn machines_have_names_while_they_run() {
        let state = tempfile::tempdir().unwrap();
        let first = register(state.path(), host(1)).unwrap();
        let second = register(state.path(), host(2)).unwrap();
        assert_eq!((first.name.as_str(), second.name.as_str()), ("qemu", "qemu-2"));
        assert_eq!(find(state.path(), "qemu-2"), Some(host(2)));
        drop(first);
        assert_eq!(find(state.path(), "qemu"), None);
        assert_eq!(register(state.path(), host(3)).unwrap().name, "qemu");
    }

    #[test]
    fn what_a_killed_machine_left_counts_for_nothing() {
        let state = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let record = Record { host: host(1), pid: child.id() as i32 };
        child.wait().unwrap();
        fs::create_dir(state.path().join(DIRECTORY)).unwrap();
        let path = state.path().join(DIRECTORY).join("qemu.toml");
        fs::write(&path, toml::to_string(&record).unwrap()).unwrap();
        assert_eq!(find(state.path(), "qemu"), None);
        let registered = register(state.path(), host(2)).unwrap();
        assert_eq!(registered.name, "qemu");
        assert_eq!(find(state.path(), "qemu"), Some(host(2)));
    }

    #[test]
    fn names_are_told_apart_from_hosts() {
        for (name, is) in
            [("qemu", true), ("qemu-12", true), ("qemu-x", false), ("qemus", false), ("", false)]
        {
            assert_eq!(is_name(name), is, "{name}");
        }
    }
}
