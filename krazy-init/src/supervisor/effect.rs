//! Requests from one part of PID 1 to the others: plain data that a part returns and the loop routes.
//!
//! A part never reaches into another one. It is given what it needs as arguments, changes its own fields, and lists
//! here what is to follow. The loop carries effects out in their order, and what follows from one before the next, so
//! the console and the disk see the same sequence as if the parts had called each other.

use std::time::Duration;

use super::disk_queue::DiskTask;
use super::state::Event;
use super::trial::Change;
use crate::linux::power::End;
use crate::net::sntp;

/// One thing to be done by the loop or by another part.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// Write a line to the console.
    Log(String),
    /// Write a line about something routine, which `quiet` on the kernel command line hides.
    Note(String),
    /// Write a line to the console, and list it among the problems of the boot information.
    Degrade(String),
    /// Pass an event to the services' state machine.
    Service(Event),
    /// The machine has an address and a route; at this time since the kernel's start.
    NetworkUp(Duration),
    /// Ask these time servers; none means the default ones.
    TimeServers(sntp::Servers),
    /// Do this in the thread that waits for the disk.
    Disk(DiskTask),
    /// The disk has taken a change of the boot state.
    Trial(Change),
    /// Stop all services and end the machine, for this reason.
    ShutDown(End, String),
    /// All services are down: end the machine now.
    End(End),
}

/// Effects in the order in which they are to be carried out.
#[derive(Debug, Default)]
pub(super) struct Effects(Vec<Effect>);

impl Effects {
    /// Adds any effect.
    pub(super) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Adds [`Effect::Log`].
    pub(super) fn log(&mut self, text: impl Into<String>) {
        self.push(Effect::Log(text.into()));
    }

    /// Adds [`Effect::Note`].
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.push(Effect::Note(text.into()));
    }

    /// Adds [`Effect::Disk`] of a task that nobody waits for.
    pub(super) fn on_disk(&mut self, name: &'static str, work: impl FnOnce(&mut Effects) + Send + 'static) {
        self.push(Effect::Disk(DiskTask::new(name, work)));
    }

    /// Adds [`Effect::Degrade`].
    pub(super) fn degrade(&mut self, text: impl Into<String>) {
        self.push(Effect::Degrade(text.into()));
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = std::vec::IntoIter<Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
