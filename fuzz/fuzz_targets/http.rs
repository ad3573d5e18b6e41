//! Requests with a valid credential in the seeds, to a device in a directory of its own.

#![no_main]

#[path = "../device.rs"]
mod device;

use std::cell::RefCell;
use std::path::Path;

use krazy_admind::fuzzing::Http;

thread_local! {
    static SERVER: RefCell<Http> = {
        // In memory: uploads are synced to the disk.
        let root = Path::new("/dev/shm").join(format!("krazy-fuzz-{}", std::process::id()));
        device::create(&root);
        RefCell::new(Http::new(root).expect("the server starts"))
    };
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| SERVER.with_borrow_mut(|server| server.serve(input)));
