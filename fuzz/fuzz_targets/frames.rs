//! Frames of a front that was taken over, with a valid credential in the seeds, to a device in a directory of its own.

#![no_main]

#[path = "../device.rs"]
mod device;

use std::cell::RefCell;
use std::path::Path;

use krazy_admind::fuzzing::Frames;

thread_local! {
    static BACK: RefCell<Frames> = {
        // In memory: uploads are synced to the disk.
        let root = Path::new("/dev/shm").join(format!("krazy-fuzz-frames-{}", std::process::id()));
        device::create(&root);
        RefCell::new(Frames::new(root).expect("the back starts"))
    };
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| BACK.with_borrow_mut(|back| back.serve(input)));
