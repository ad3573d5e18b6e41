//! The front as a process: it gives up what it can, and serves.

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use krazy_boot::manifest::accounts::NETWORK_UID;
use krazy_init::seal::{Seal, Shortfall};
use tokio::net::TcpListener;

use crate::net::{Front, FrontError};
use crate::transport::Channel;

/// The option that makes this process the front. It is for the back only, and in no help.
pub(crate) const ARGUMENT: &str = "--front";

/// The most open descriptors: a connection each, and [`MAX_STREAMS`](crate::config::MAX_STREAMS) requests on it.
const OPEN_FILES: u32 = 1024;

/// The most threads: one that serves, one of mdns-sd, and some that are about to exit.
const THREADS: u32 = 8;

/// The descriptors and facts that the back hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inheritance {
    pub(crate) listener: RawFd,
    pub(crate) channel: RawFd,
    /// The directory that becomes the root.
    pub(crate) empty: Option<PathBuf>,
    /// Set if it is to announce the device, for which it needs sockets for UDP.
    pub(crate) datagrams: bool,
}

/// Runs the front until the back ends, which needs no message.
pub(crate) fn run(inheritance: &Inheritance) -> ExitCode {
    let Inheritance { listener, channel, empty, datagrams } = inheritance;
    let [Some(listener), Some(channel)] = [*listener, *channel].map(inherited) else {
        crate::log::write("`--front` is for krazy-admind itself\nhelp: run `krazy-admind --help`");
        return ExitCode::from(2);
    };
    // A name of its own among the processes of the machine. A failure changes nothing else.
    let _unnamed = rustix::thread::set_name(c"admind-network");
    let shortfalls = restrict(&[listener.as_fd(), channel.as_fd()], empty.as_deref(), *datagrams);
    if !shortfalls.is_empty() {
        let list: Vec<String> = shortfalls.iter().map(Shortfall::to_string).collect();
        crate::log::write(format_args!("the network process is not fully restricted: {}", list.join("; ")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(serve(listener, channel)),
        Err(error) => error.into(),
    };
    if !matches!(&served, FrontError::Channel(error) if error.kind() == std::io::ErrorKind::UnexpectedEof) {
        crate::log::write(format_args!("the network process fails: {served}"));
    }
    ExitCode::FAILURE
}

/// Takes a descriptor that this process was started with, if there is one with this number.
fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: the kernel is only asked whether it is open.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
    // SAFETY: it is open, and nothing in this process knows it but this caller.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Restricts this process as far as its rights and the kernel allow. Returns what is missing.
pub(crate) fn restrict(
    descriptors: &[BorrowedFd<'_>],
    empty: Option<&Path>,
    datagrams: bool,
) -> Vec<Shortfall> {
    let seal = Seal {
        account: NETWORK_UID,
        root: empty,
        descriptors,
        open_files: OPEN_FILES,
        threads: THREADS,
        datagrams,
    };
    seal.apply()
}

async fn serve(listener: OwnedFd, channel: OwnedFd) -> FrontError {
    let opened = Channel::from_descriptor(channel)
        .and_then(|channel| Ok((channel, TcpListener::from_std(std::net::TcpListener::from(listener))?)));
    match opened {
        Ok((channel, listener)) => match Front::new(channel).await {
            Ok(front) => front.serve(listener).await,
            Err(error) => error,
        },
        Err(error) => error.into(),
    }
}
