//! Loads the modules that devices ask for, in a thread of its own: a driver's start can take seconds, in which
//! init has services to look after.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::wake::{Report, Reporter};
use crate::linux::modules::{self, ModuleError, Modules};
use crate::linux::process;

/// Hands modaliases to the thread.
#[derive(Debug)]
pub struct DeviceLoader(Sender<String>);

impl DeviceLoader {
    /// Starts the thread. It first loads `named`, then what the devices present ask for, then what is handed to it.
    pub fn start(modules: Modules, named: Vec<String>, reporter: Reporter) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("devices".to_owned())
            .stack_size(256 << 10)
            .spawn(move || run(&modules, &named, &receiver, &reporter))?;
        Ok(DeviceLoader(sender))
    }

    /// A device came that wants a driver for `modalias`.
    pub fn wants(&self, modalias: String) {
        // The thread ends only with init.
        let _gone = self.0.send(modalias);
    }
}

fn run(modules: &Modules, named: &[String], receiver: &Receiver<String>, reporter: &Reporter) {
    process::yield_to_services();
    for name in named {
        match modules.request(name) {
            Ok(true) => {}
            Ok(false) if is_built_in(name) => {}
            Ok(false) => reporter.send(Report::Problem(format!("module {name} is not in the image"))),
            Err(error) => reporter.send(Report::Problem(format!("cannot load module {name}: {error}"))),
        }
    }
    let mut seen = BTreeSet::new();
    let mut wanted: Vec<String> =
        modules::present_aliases().into_iter().filter(|alias| seen.insert(alias.clone())).collect();
    loop {
        if !wanted.is_empty() {
            load(modules, &wanted, reporter);
        }
        let Ok(first) = receiver.recv() else { return };
        // A hub that is plugged in announces many devices; the alias file is read once for all of them.
        wanted = std::iter::once(first)
            .chain(receiver.try_iter())
            .filter(|alias| seen.insert(alias.clone()))
            .collect();
    }
}

fn load(modules: &Modules, wanted: &[String], reporter: &Reporter) {
    let names = match modules.for_aliases(wanted) {
        Ok(names) => names,
        Err(error) => {
            return reporter.send(Report::Problem(format!("cannot read the module aliases: {error}")));
        }
    };
    for name in names {
        match modules.load(&name) {
            Ok(_) => {}
            // The driver looked at the device and it is not for it.
            Err(ModuleError::Absent) => {}
            Err(error) => reporter.send(Report::Problem(format!("cannot load module {name}: {error}"))),
        }
    }
}

/// A module that is part of the kernel may show in sysfs, if it has parameters or a version.
fn is_built_in(name: &str) -> bool {
    let release = modules::release();
    let file = format!("/{}.ko", name.replace('-', "_"));
    Path::new("/sys/module").join(name.replace('-', "_")).exists()
        || fs::read_to_string(format!("/lib/modules/{release}/modules.builtin"))
            .is_ok_and(|text| text.lines().any(|line| line.replace('-', "_").ends_with(&file)))
}
