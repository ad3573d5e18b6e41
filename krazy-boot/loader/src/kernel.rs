//! The start of a kernel by its EFI stub, which takes the initramfs from a `LOAD_FILE2` protocol on a handle with the device
//! path of `LINUX_EFI_INITRD_MEDIA_GUID`, and the command line from the image's load options.
//!
//! Source: UEFI Specification 2.10, 13.2 (Load File 2) and 9.1 (Loaded Image); Linux `drivers/firmware/efi/libstub`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr;

use krazy_boot::boot::slot_files::SlotFiles;
use uefi::boot::{self, LoadImageSource};
use uefi::proto::device_path::DevicePath;
use uefi::proto::device_path::build::{DevicePathBuilder, media};
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::load_file::LoadFile2;
use uefi::{Guid, Handle, Identify, Status, guid};
use uefi_raw::Boolean;
use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::protocol::media::LoadFile2Protocol;

/// `LINUX_EFI_INITRD_MEDIA_GUID`. Source: Linux `include/linux/efi.h`.
const INITRD_MEDIA: Guid = guid!("5568e427-68fc-4f3d-ac74-ca555231cc68");

/// An initramfs that a kernel may read. The protocol comes first: the firmware hands its address to the function.
#[repr(C)]
struct Initrd {
    protocol: LoadFile2Protocol,
    content: Vec<u8>,
    path: Vec<u8>,
}

/// An initramfs that kernels find.
struct Offered {
    initrd: *mut Initrd,
    handle: Handle,
}

/// Starts a kernel, and returns only if that fails, with the reason.
pub(crate) fn start(files: SlotFiles) -> String {
    match try_start(files) {
        Ok(()) => "its kernel returned to the firmware".into(),
        Err((what, status)) => format!("{what} ({status:?})"),
    }
}

fn try_start(files: SlotFiles) -> Result<(), (&'static str, Status)> {
    let SlotFiles { kernel, initramfs, command_line } = files;
    let source = LoadImageSource::FromBuffer { buffer: &kernel, file_path: None };
    let image = boot::load_image(boot::image_handle(), source)
        .map_err(|error| ("the firmware does not load its kernel", error.status()))?;
    drop(kernel);
    let options: Vec<u16> = command_line.as_str().encode_utf16().chain([0]).collect();
    let started = set_options(image, &options)
        .and_then(|()| Offered::new(initramfs))
        .and_then(|_offered| boot::start_image(image))
        .map_err(|error| ("the firmware does not start its kernel", error.status()));
    // Its memory is needed for the other slot. A kernel that returned has been unloaded already.
    let _unloaded = boot::unload_image(image);
    started
}

/// Sets the command line, which must live until the kernel has started.
fn set_options(image: Handle, options: &[u16]) -> uefi::Result {
    let mut loaded = boot::open_protocol_exclusive::<LoadedImage>(image)?;
    let size = u32::try_from(size_of_val(options)).map_err(|_| Status::INVALID_PARAMETER)?;
    // SAFETY: the caller keeps the options until the image has ended, and `size` is their length in bytes.
    unsafe { loaded.set_load_options(options.as_ptr().cast(), size) };
    Ok(())
}

impl Offered {
    fn new(content: Vec<u8>) -> uefi::Result<Self> {
        let mut path = Vec::new();
        DevicePathBuilder::with_vec(&mut path)
            .push(&media::Vendor { vendor_guid: INITRD_MEDIA, vendor_defined_data: &[] })
            .and_then(DevicePathBuilder::finalize)
            .map_err(|_| Status::OUT_OF_RESOURCES)?;
        let protocol = LoadFile2Protocol { load_file };
        let initrd = Box::into_raw(Box::new(Initrd { protocol, content, path }));
        // SAFETY: `initrd` was just allocated, and nothing else refers to it yet.
        let path = unsafe { (*initrd).path.as_ptr() };
        // SAFETY: both interfaces are of the type that their GUID names, and live until they are uninstalled by `drop`.
        let handle = unsafe {
            boot::install_protocol_interface(None, &DevicePath::GUID, path.cast()).and_then(|handle| {
                boot::install_protocol_interface(Some(handle), &LoadFile2::GUID, initrd.cast())
            })
        }?;
        Ok(Offered { initrd, handle })
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        // SAFETY: they were installed in `new` with these addresses. The memory is freed only if the firmware has let go
        // of both.
        unsafe {
            let path = (*self.initrd).path.as_ptr();
            let file = boot::uninstall_protocol_interface(self.handle, &LoadFile2::GUID, self.initrd.cast());
            let path = boot::uninstall_protocol_interface(self.handle, &DevicePath::GUID, path.cast());
            if file.and(path).is_ok() {
                drop(Box::from_raw(self.initrd));
            }
        }
    }
}

/// `EFI_LOAD_FILE2_PROTOCOL.LoadFile()`: copies the initramfs, or tells its length if there is no buffer or a shorter one.
unsafe extern "efiapi" fn load_file(
    this: *mut LoadFile2Protocol,
    _path: *const DevicePathProtocol,
    boot_policy: Boolean,
    buffer_size: *mut usize,
    buffer: *mut c_void,
) -> Status {
    if this.is_null() || buffer_size.is_null() {
        return Status::INVALID_PARAMETER;
    }
    if boot_policy != Boolean::FALSE {
        return Status::UNSUPPORTED;
    }
    // SAFETY: the protocol is the first field of an `Initrd`, at whose address it was installed.
    let content = unsafe { &(*this.cast::<Initrd>()).content };
    // SAFETY: the caller hands in a pointer to the size of its buffer.
    let room = unsafe { buffer_size.replace(content.len()) };
    if buffer.is_null() || room < content.len() {
        return Status::BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller's buffer has room for the content, as just checked, and is not ours.
    unsafe { ptr::copy_nonoverlapping(content.as_ptr(), buffer.cast(), content.len()) };
    Status::SUCCESS
}
