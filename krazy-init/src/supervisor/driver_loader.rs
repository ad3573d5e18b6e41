//! The thread that loads modules for devices. It is a thread because a driver's start can take seconds, and init has
//! services to supervise meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::inbox::{Report, Reporter};
use crate::linux::autoload::Autoload;
use crate::linux::modules::{self, ModuleError, Modules};
use crate::linux::process;

/// Hands modaliases to the thread.
#[derive(Debug)]
pub(super) struct DriverLoader(Sender<String>);

impl DriverLoader {
    /// Starts the thread. It loads `named`, then the drivers of the devices present, then those that are requested.
    pub(super) fn start(modules: Modules, named: Vec<String>, reporter: Reporter) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        // From here on it is open only while something is loaded.
        let autoload = Autoload::open();
        thread::Builder::new()
            .name("devices".to_owned())
            .stack_size(256 << 10)
            .spawn(move || run(&modules, &named, &receiver, &reporter, autoload))?;
        Ok(DriverLoader(sender))
    }

    /// Requests the driver for `modalias`.
    pub(super) fn request(&self, modalias: String) {
        // The thread ends only with init.
        let _gone = self.0.send(modalias);
    }
}

fn run(
    modules: &Modules,
    named: &[String],
    receiver: &Receiver<String>,
    reporter: &Reporter,
    autoload: Autoload,
) {
    let mut autoload = Some(autoload);
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
    let mut requested: Vec<String> =
        modules::present_aliases().into_iter().filter(|alias| seen.insert(alias.clone())).collect();
    loop {
        if !requested.is_empty() {
            let _open = autoload.take().unwrap_or_else(Autoload::open);
            load(modules, &requested, reporter);
        }
        drop(autoload.take());
        let Ok(first) = receiver.recv() else { return };
        // A hub that is plugged in announces many devices; the alias file is read once for all of them.
        requested = std::iter::once(first)
            .chain(receiver.try_iter())
            .filter(|alias| seen.insert(alias.clone()))
            .collect();
    }
}

fn load(modules: &Modules, requested: &[String], reporter: &Reporter) {
    let names = match modules.for_aliases(requested) {
        Ok(names) => names,
        Err(error) => {
            return reporter.send(Report::Problem(format!("cannot read the module aliases: {error}")));
        }
    };
    for name in names {
        match modules.load(&name) {
            Ok(_) => {}
            // The driver examined the device and does not support it.
            Err(ModuleError::Absent) => {}
            Err(error) => reporter.send(Report::Problem(format!("cannot load module {name}: {error}"))),
        }
    }
}

/// Returns true if a module is part of the kernel. Such a module may show in sysfs, if it has parameters or a version.
fn is_built_in(name: &str) -> bool {
    let release = modules::release();
    let file = format!("/{}.ko", name.replace('-', "_"));
    Path::new("/sys/module").join(name.replace('-', "_")).exists()
        || fs::read_to_string(format!("/lib/modules/{release}/modules.builtin"))
            .is_ok_and(|text| text.lines().any(|line| line.replace('-', "_").ends_with(&file)))
}
