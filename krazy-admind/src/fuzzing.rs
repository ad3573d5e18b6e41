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

use crate::identity::certificate::{not_after, rfc3339};

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
