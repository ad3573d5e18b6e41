//! Output of services that is kept on `/data`, written by the thread that waits for the disk.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use super::super::boot;
use super::super::effect::Effects;
use super::Services;
use super::unit::Unit;
use crate::linux::data::DataMount;

/// The directory of kept output among the machine's own files.
const LOGS: &str = "log";

impl Services {
    /// Queues what waits for the disk.
    pub(super) fn write_kept(&mut self, effects: &mut Effects) {
        // One task at a time: what is written meanwhile waits for its end, which is an event.
        if Arc::strong_count(&self.kept_writer) > 1 {
            return;
        }
        let chunks: Vec<_> = self.units.iter_mut().flat_map(Unit::take_waiting).collect();
        if !chunks.is_empty() {
            let writer = Arc::clone(&self.kept_writer);
            effects.on_disk("writing kept output", move |_| {
                chunks.into_iter().for_each(|chunk| chunk.write());
                drop(writer);
            });
        }
    }
}

/// Keeps a service's output on `/data`, if that is the disk's.
pub(super) fn keep_output(unit: &mut Unit, data: &DataMount) -> io::Result<()> {
    if matches!(data, DataMount::Temporary(_)) {
        return Err(io::Error::other("/data is temporary"));
    }
    let directory = boot::machine_file(LOGS);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => unit.keep_output(&directory),
    }
}
