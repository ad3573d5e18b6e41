//! The UEFI loader: `EFI/BOOT/BOOTX64.EFI` and `BOOTAA64.EFI` on `/boot`.
//!
//! It starts the slot that the selector of its own disk names, by the decisions of `krazy_boot::boot::start`, which are
//! those of the BIOS' boot sector. It keeps no state of its own: no variables in the firmware's NVRAM, no configuration.
//!
//! | module | is |
//! |---|---|
//! | `console` | messages |
//! | `disk` | the whole disk behind the partition that the loader came from |
//! | `kernel` | the start of a kernel with initramfs and command line |
//! | `pc` | the machine that decides: disk, files and kernel together |
//!
//! Source: UEFI Specification 2.10; Linux `Documentation/admin-guide/efi-stub.rst`.

#![cfg_attr(target_os = "uefi", no_std, no_main)]

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod console;
#[cfg(target_os = "uefi")]
mod disk;
#[cfg(target_os = "uefi")]
mod kernel;
#[cfg(target_os = "uefi")]
mod pc;

/// For the host's tools, which check the whole workspace.
#[cfg(not(target_os = "uefi"))]
fn main() {}

/// The program that the firmware starts. It returns to the firmware only if the disk is not ours.
#[cfg(target_os = "uefi")]
#[uefi::entry]
fn main() -> uefi::Status {
    pc::run()
}

/// A fault of the loader itself: the machine is reset, as after a failure of both slots. The one of the crate `uefi` would
/// switch it off.
#[cfg(target_os = "uefi")]
#[panic_handler]
fn panic(fault: &core::panic::PanicInfo<'_>) -> ! {
    use core::sync::atomic::{AtomicBool, Ordering};

    static PANICKED: AtomicBool = AtomicBool::new(false);
    // The message itself may be the cause.
    if !PANICKED.swap(true, Ordering::Relaxed) {
        console::say(format_args!("krazy: the loader failed: {fault}"));
    }
    pc::reset()
}
