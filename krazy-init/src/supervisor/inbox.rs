//! Reports of threads to the loop: a queue, and an eventfd on which the loop waits.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use rustix::event::{EventfdFlags, eventfd};

use super::disk_queue::DiskOutcome;
use crate::net::sntp::{Consensus, SntpError};

/// A report of a thread.
#[derive(Debug)]
pub(super) enum Report {
    /// Something did not work.
    Problem(String),
    /// The home of this service was prepared; an error if it could not be.
    HomePrepared(usize, io::Result<()>),
    /// A task of the thread that waits for the disk is done.
    Disk(DiskOutcome),
    /// The answer of the time servers; an error if there is none.
    Clock(Result<Consensus, SntpError>),
}

/// The loop's end.
#[derive(Debug)]
pub(super) struct Inbox {
    receiver: Receiver<Report>,
    event: Arc<OwnedFd>,
}

/// A thread's end.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    sender: Sender<Report>,
    event: Arc<OwnedFd>,
}

/// Creates both ends.
pub(super) fn channel() -> io::Result<(Reporter, Inbox)> {
    let (sender, receiver) = mpsc::channel();
    let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    Ok((Reporter { sender, event: Arc::clone(&event) }, Inbox { receiver, event }))
}

impl Reporter {
    /// Puts a report in the queue and wakes the loop.
    pub(super) fn send(&self, report: Report) {
        // Neither end closes while init runs, and an eventfd at its limit is readable all the more.
        let _gone = self.sender.send(report);
        let _full = rustix::io::write(&*self.event, &1u64.to_ne_bytes());
    }
}

impl Inbox {
    /// The descriptor to wait on.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.event
    }

    /// Takes all reports that have come.
    pub(super) fn take(&self) -> Vec<Report> {
        let mut counter = [0u8; 8];
        // Nothing to read only means that nothing has come.
        let _empty = rustix::io::read(&*self.event, &mut counter);
        self.receiver.try_iter().collect()
    }
}
