//! The power button, as an input device. Source: Linux `include/uapi/linux/input.h`, `input-event-codes.h`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// `sizeof(struct input_event)` on 64-bit machines: two 8-byte times, type, code, value.
const EVENT: usize = 24;

/// Bytes of a bit set of all keys (`KEY_MAX` is 0x2ff).
const KEYS: usize = 96;

/// `EVIOCGBIT(EV_KEY, KEYS)`: `_IOC(_IOC_READ, 'E', 0x20 + EV_KEY, KEYS)`
const GET_KEYS: libc::c_ulong = 0x8000_4521 | ((KEYS as libc::c_ulong) << 16);

/// An input device with a power key.
#[derive(Debug)]
pub(crate) struct PowerButton(File);

impl PowerButton {
    /// Opens `node` if it has a power key.
    pub(crate) fn open(node: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(node)?;
        let mut keys = [0u8; KEYS];
        // SAFETY: the request writes at most KEYS bytes, which it carries in its number.
        if unsafe { libc::ioctl(file.as_raw_fd(), GET_KEYS as _, keys.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let has_power = keys[usize::from(KEY_POWER / 8)] & (1 << (KEY_POWER % 8)) != 0;
        Ok(has_power.then_some(PowerButton(file)))
    }

    /// The descriptor to wait on.
    pub(crate) fn descriptor(&self) -> &File {
        &self.0
    }

    /// Reads what happened; whether the button was pressed. An error means that the device is gone.
    pub(crate) fn pressed(&mut self) -> io::Result<bool> {
        let mut events = [0u8; 32 * EVENT];
        match self.0.read(&mut events) {
            Ok(length) => Ok(events[..length].chunks_exact(EVENT).any(is_press)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_press(event: &[u8]) -> bool {
    let kind = u16::from_ne_bytes([event[16], event[17]]);
    let code = u16::from_ne_bytes([event[18], event[19]]);
    let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
    (kind, code, value) == (EV_KEY, KEY_POWER, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = [0u8; EVENT];
            bytes[16..18].copy_from_slice(&kind.to_ne_bytes());
            bytes[18..20].copy_from_slice(&code.to_ne_bytes());
            bytes[20..].copy_from_slice(&value.to_ne_bytes());
            is_press(&bytes)
        };
        assert!(event(1, 116, 1));
        assert!(!event(1, 116, 0) && !event(1, 30, 1) && !event(0, 0, 0));
    }
}
