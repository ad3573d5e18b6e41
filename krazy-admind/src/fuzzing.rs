//! One item for each parser: the fuzz targets in `/fuzz` call it, and a unit test, for less time. It is compiled only
//! for tests and with `--cfg fuzzing`, which `cargo fuzz` sets, and is no part of the API.

#[cfg(test)]
#[path = "../../fuzz/device.rs"]
pub(crate) mod device;
#[cfg(test)]
#[macro_use]
#[path = "../../fuzz/smoke.rs"]
mod smoke;

pub use crate::back::fuzzing::Frames;
pub use crate::net::fuzzing::Http;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::runtime::Runtime;

use crate::config::Config;
use crate::identity::certificate::{not_after, rfc3339};
use crate::server::{Server, StartError};

/// Makes a runtime of one thread, and a server with the defaults on the device at `root`.
pub(crate) fn server(root: PathBuf) -> Result<(Runtime, Server), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .map_err(StartError::Runtime)?;
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let server =
        runtime.block_on(Server::bind(Config { listen, root, announce: false, ..Config::device() }))?;
    Ok((runtime, server))
}

/// A certificate in DER, of which the end of its validity is read.
pub fn certificate(input: &[u8]) {
    let _ = not_after(input).map(rfc3339);
}

/// The bytes that a client sends after TLS, to a server in a thread of its own.
#[cfg(test)]
fn http(input: &[u8]) {
    use std::cell::RefCell;

    thread_local! {
        static SERVER: RefCell<(Http, tempfile::TempDir)> = {
            let root = tempfile::tempdir().unwrap();
            device::create(root.path());
            RefCell::new((Http::new(root.path().to_owned()).unwrap(), root))
        };
    }
    SERVER.with_borrow_mut(|(server, _)| server.serve(input));
}

/// The bytes that the front sends on the connection of a request, to a back in a thread of its own.
#[cfg(test)]
fn frames(input: &[u8]) {
    use std::cell::RefCell;

    thread_local! {
        static BACK: RefCell<(Frames, tempfile::TempDir)> = {
            let root = tempfile::tempdir().unwrap();
            device::create(root.path());
            RefCell::new((Frames::new(root.path().to_owned()).unwrap(), root))
        };
    }
    BACK.with_borrow_mut(|(back, _)| back.serve(input));
}

#[cfg(test)]
smoke_tests! {
    certificate: 500_000,
    frames: 1_000,
    http: 3_000,
}
