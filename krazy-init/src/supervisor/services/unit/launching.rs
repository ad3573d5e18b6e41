//! The time between the creation of a service's process and the execution of its program.

use std::io;
use std::time::Duration;

use super::{Unit, in_context};
use crate::linux::launched::Launched;

impl Unit {
    /// The process that has not executed its program yet.
    pub(in super::super) fn launched(&self) -> Option<&Launched> {
        self.launched.as_ref().map(|(launched, _)| launched)
    }

    /// The time at which the start is given up.
    pub(in super::super) fn launch_deadline(&self) -> Option<Duration> {
        self.launched.as_ref().map(|(_, deadline)| *deadline)
    }

    /// The outcome of the start, once it is known.
    pub(in super::super) fn launch_outcome(&mut self) -> Option<io::Result<()>> {
        let (launched, _) = self.launched.as_mut()?;
        Some(launched.outcome()?.map_err(|error| in_context(error, &self.spec.program)))
    }

    /// Kills a process that has not executed its program, and returns the error to report.
    pub(in super::super) fn give_up_launch(&self) -> io::Result<()> {
        self.launched().map_or(Ok(()), |launched| Err(in_context(launched.give_up(), &self.spec.program)))
    }

    /// Ends the start. The process remains the main process unless it is forgotten.
    pub(in super::super) fn take_launched(&mut self) -> Option<Launched> {
        self.launched.take().map(|(launched, _)| launched)
    }

    /// Forgets a process that did not become the service.
    pub(in super::super) fn forget_process(&mut self) {
        self.pid = None;
    }
}
