//! The descriptors that the loop waits for, with names instead of numbers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::control::LogStream;

/// A descriptor the loop waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Signals to init.
    Signals,
    /// The kernel's announcements of devices.
    Uevents,
    /// Reports of threads.
    Inbox,
    /// The console takes more.
    Console,
    /// A new connection to the control socket.
    Listener,
    /// A connection to the control socket.
    Client(u32),
    /// Output of a service.
    Output(u32, LogStream),
    /// A power button.
    Button(u32),
    /// Changes of network interfaces.
    Links,
    /// DHCP of the interface with this index.
    Dhcp(u32),
    /// Announcements of services that they are ready.
    Notify,
    /// Messages to the system's log.
    SystemLog,
    /// The outcome of a service's start.
    Launch(u32),
    /// The kernel's log.
    KernelLog,
}

impl Source {
    fn encode(self) -> u64 {
        let (kind, index) = match self {
            Source::Signals => (0, 0),
            Source::Uevents => (1, 0),
            Source::Inbox => (2, 0),
            Source::Console => (3, 0),
            Source::Listener => (4, 0),
            Source::Client(n) => (5, n),
            Source::Output(n, LogStream::Out) => (6, n),
            Source::Output(n, LogStream::Err) => (7, n),
            Source::Button(n) => (8, n),
            Source::Links => (9, 0),
            Source::Dhcp(n) => (10, n),
            Source::Notify => (11, 0),
            Source::SystemLog => (12, 0),
            Source::Launch(n) => (13, n),
            Source::KernelLog => (14, 0),
        };
        kind << 32 | u64::from(index)
    }

    fn decode(data: u64) -> Option<Self> {
        let index = (data & 0xffff_ffff) as u32;
        Some(match data >> 32 {
            0 => Source::Signals,
            1 => Source::Uevents,
            2 => Source::Inbox,
            3 => Source::Console,
            4 => Source::Listener,
            5 => Source::Client(index),
            6 => Source::Output(index, LogStream::Out),
            7 => Source::Output(index, LogStream::Err),
            8 => Source::Button(index),
            9 => Source::Links,
            10 => Source::Dhcp(index),
            11 => Source::Notify,
            12 => Source::SystemLog,
            13 => Source::Launch(index),
            14 => Source::KernelLog,
            _ => return None,
        })
    }
}

/// An epoll instance.
pub(super) struct Poller {
    epoll: Arc<OwnedFd>,
    events: Vec<Event>,
}

impl Poller {
    /// Creates one without descriptors.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Poller { epoll: Arc::new(epoll::create(CreateFlags::CLOEXEC)?), events: Vec::with_capacity(64) })
    }

    /// Waits for `descriptor` to become readable from now on. It leaves by being closed.
    pub(super) fn add(&self, descriptor: impl AsFd, source: Source) -> io::Result<()> {
        Ok(epoll::add(&*self.epoll, descriptor, EventData::new_u64(source.encode()), EventFlags::IN)?)
    }

    /// Returns the end for a part whose descriptors come and go.
    pub(super) fn registrar(&self) -> Registrar {
        Registrar(Arc::clone(&self.epoll))
    }

    /// Starts or stops waiting for room to write, besides input.
    pub(super) fn set_writing(&self, descriptor: impl AsFd, source: Source, writing: bool) -> io::Result<()> {
        let flags = if writing { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&*self.epoll, descriptor, EventData::new_u64(source.encode()), flags)?)
    }

    /// Waits for room to write only.
    pub(super) fn add_writing(&self, descriptor: impl AsFd, source: Source) -> io::Result<()> {
        Ok(epoll::add(&*self.epoll, descriptor, EventData::new_u64(source.encode()), EventFlags::OUT)?)
    }

    /// Stops waiting for it.
    pub(super) fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&*self.epoll, descriptor)?)
    }

    /// Waits at most `limit` for descriptors to become ready, and returns their names in `ready`.
    pub(super) fn wait(&mut self, limit: Option<Duration>, ready: &mut Vec<Source>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        // Old kernels count milliseconds in an int. The loop takes an early return for a tick without work.
        let limit = limit.map(|limit| limit.min(Duration::from_secs(3600))).map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        match epoll::wait(&*self.epoll, spare_capacity(&mut self.events), limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().filter_map(|event| Source::decode(event.data.u64())));
        Ok(())
    }
}

/// Adds descriptors to a [`Poller`] and removes them.
#[derive(Debug)]
pub(super) struct Registrar(Arc<OwnedFd>);

impl Registrar {
    /// Waits for `descriptor` to become readable from now on.
    pub(super) fn add(&self, descriptor: impl AsFd, source: Source) -> io::Result<()> {
        Ok(epoll::add(&*self.0, descriptor, EventData::new_u64(source.encode()), EventFlags::IN)?)
    }

    /// Stops waiting for it.
    pub(super) fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&*self.0, descriptor)?)
    }
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Poller").field(&self.epoll).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_without_loss() {
        let sources = [
            Source::Signals,
            Source::Uevents,
            Source::Inbox,
            Source::Console,
            Source::Listener,
            Source::Client(u32::MAX),
            Source::Output(7, LogStream::Out),
            Source::Output(7, LogStream::Err),
            Source::Button(1),
            Source::Links,
            Source::Dhcp(2),
            Source::Notify,
            Source::SystemLog,
            Source::Launch(3),
        ];
        for source in sources {
            assert_eq!(Source::decode(source.encode()), Some(source));
        }
        assert_eq!(Source::decode(u64::MAX), None);
    }
}
