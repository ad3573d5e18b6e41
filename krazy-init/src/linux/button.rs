//! The power button, as an input device. Source: Linux `include/uapi/linux/input.h`, `input-event-codes.h`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// `struct input_event` on 64-bit machines: two 8-byte times, type, code, value.
const EVENT_LEN: usize = 24;
const TYPE: usize = 16;
const CODE: usize = 18;
const VALUE: usize = 20;

/// The value of a key that goes down; 0 is up, 2 is repeated.
const PRESSED: i32 = 1;

/// The length of a bit set of all keys (`KEY_MAX` is 0x2ff).
const KEYS_LEN: usize = 96;

/// `EVIOCGBIT(EV_KEY, KEYS_LEN)`: `_IOC(_IOC_READ, 'E', 0x20 + EV_KEY, KEYS_LEN)`
const GET_KEYS: libc::c_ulong = 0x8000_4521 | ((KEYS_LEN as libc::c_ulong) << 16);

/// An input device with a power key.
#[derive(Debug)]
pub(crate) struct PowerButton(File);

impl PowerButton {
    /// Opens `node` if it has a power key.
    pub(crate) fn open(node: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(node)?;
        let mut keys = [0u8; KEYS_LEN];
        // SAFETY: the request writes at most KEYS_LEN bytes, which it carries in its number.
        if unsafe { libc::ioctl(file.as_raw_fd(), GET_KEYS as _, keys.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let has_power = keys[usize::from(KEY_POWER / 8)] & (1 << (KEY_POWER % 8)) != 0;
        Ok(has_power.then_some(PowerButton(file)))
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &File {
        &self.0
    }

    /// Reads the pending events; returns true if the button was pressed. An error means that the device is gone.
    pub(crate) fn pressed(&mut self) -> io::Result<bool> {
        let mut events = [0u8; 32 * EVENT_LEN];
        match self.0.read(&mut events) {
            Ok(length) => Ok(events[..length].chunks_exact(EVENT_LEN).any(is_press)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_press(event: &[u8]) -> bool {
    let kind = u16::from_ne_bytes([event[TYPE], event[TYPE + 1]]);
    let code = u16::from_ne_bytes([event[CODE], event[CODE + 1]]);
    let value = event[VALUE..].first_chunk().map_or(0, |value| i32::from_ne_bytes(*value));
    (kind, code, value) == (EV_KEY, KEY_POWER, PRESSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = [0u8; EVENT_LEN];
            bytes[TYPE..CODE].copy_from_slice(&kind.to_ne_bytes());
            bytes[CODE..VALUE].copy_from_slice(&code.to_ne_bytes());
            bytes[VALUE..].copy_from_slice(&value.to_ne_bytes());
            is_press(&bytes)
        };
        assert!(event(1, 116, 1));
        assert!(!event(1, 116, 0) && !event(1, 30, 1) && !event(0, 0, 0));
    }
}
