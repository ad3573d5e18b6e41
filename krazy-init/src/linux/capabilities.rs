//! Capabilities that a service keeps when it changes to its own account. Source: capabilities(7), capget(2).

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3`
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// A set of capabilities, one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(pub(crate) u64);

impl Capabilities {
    /// Returns the set of these names, or the first unknown name.
    pub(crate) fn named(names: &[String]) -> Result<Self, &str> {
        let mut set = 0;
        for name in names {
            set |= 1u64 << krazy_boot::manifest::capability::number(name).ok_or(name.as_str())?;
        }
        Ok(Capabilities(set))
    }

    fn numbers(self) -> impl Iterator<Item = libc::c_int> {
        (0..64).filter(move |number| self.0 >> number & 1 == 1)
    }

    /// Drops all others from the bounding set, so that no program can regain them, and makes these survive the change of
    /// account. Called as root between fork and exec, where only system calls are allowed.
    pub(crate) fn keep(self) -> io::Result<()> {
        // SAFETY: prctl on integers.
        unsafe {
            for number in 0..64 {
                // The kernel has fewer than 64; the first unknown one ends the list.
                if self.0 >> number & 1 == 0 && libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) != 0 {
                    break;
                }
            }
            if self.0 != 0 && libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Reduces the process to these, and makes them survive exec. Called after the change of account.
    pub(crate) fn take(self) -> io::Result<()> {
        if self.0 == 0 {
            // The change of account has cleared all of them.
            return Ok(());
        }
        self.set()?;
        for number in self.numbers() {
            // SAFETY: prctl on integers.
            if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Reduces the process to these, until exec.
    pub(crate) fn set(self) -> io::Result<()> {
        let header = Header { version: VERSION, pid: 0 };
        let half = |bits: u32| Data { effective: bits, permitted: bits, inheritable: bits };
        let data = [half(self.0 as u32), half((self.0 >> 32) as u32)];
        // SAFETY: both structures have the kernel's layout for this version.
        match unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_names_become_bits() {
        let names = ["net-admin".to_owned(), "CAP_CHOWN".to_owned()];
        assert_eq!(Capabilities::named(&names), Ok(Capabilities(1 << 12 | 1)));
        assert_eq!(Capabilities::named(&["magic".to_owned()]), Err("magic"));
    }
}
