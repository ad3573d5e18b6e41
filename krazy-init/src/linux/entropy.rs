//! A random seed that is kept in a file from boot to boot, for machines that have little entropy of their own.
//! Source: random(4), RNDADDENTROPY.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The length of a seed, which is that of the kernel's generator.
const SEED_LEN: usize = 32;

/// `_IOW('R', 0x03, int[2])`
const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;

/// The kernel's `struct rand_pool_info` with room for one seed.
#[repr(C)]
struct PoolInfo {
    bits: libc::c_int,
    length: libc::c_int,
    seed: [u8; SEED_LEN],
}

/// Gives the kernel the seed of the last boot and replaces it at once, so that no seed is used twice even if the power is
/// cut. The first boot has none.
pub(crate) fn load_and_replace(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(mut file) => {
            let mut seed = [0u8; SEED_LEN];
            file.read_exact(&mut seed)?;
            credit(seed)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    save(path)
}

/// Replaces the seed atomically.
pub(crate) fn save(path: &Path) -> io::Result<()> {
    let mut seed = [0u8; SEED_LEN];
    // Does not wait until the generator is ready: a weak seed is no worse than none.
    let filled = rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::INSECURE)?;
    if filled != SEED_LEN {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(&seed)?;
    file.sync_all()?;
    fs::rename(new, path)
}

fn credit(seed: [u8; SEED_LEN]) -> io::Result<()> {
    let random = OpenOptions::new().write(true).open("/dev/urandom")?;
    let info = PoolInfo { bits: 8 * SEED_LEN as libc::c_int, length: SEED_LEN as libc::c_int, seed };
    // SAFETY: the structure has the layout of the request and holds its own length.
    if unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, &info) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_saved_seed_differs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        save(&path).unwrap();
        let first = fs::read(&path).unwrap();
        save(&path).unwrap();
        assert_eq!(first.len(), SEED_LEN);
        assert_ne!(first, fs::read(&path).unwrap());
    }
}
