//! Groups of kernel modules that several boards have.

/// File systems of the root, `/boot` and `/data`.
pub(super) const FILE_SYSTEMS: &[&str] =
    &["squashfs", "overlay", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8", "ext4"];

/// Keyboards and other input.
pub(super) const INPUT: &[&str] = &["evdev", "hid", "hid_generic", "usbhid", "uinput", "gpio_keys"];

/// Serial lines over USB.
pub(super) const USB_SERIAL: &[&str] = &["cdc_acm", "ch341", "cp210x", "ftdi_sio", "pl2303", "option"];
