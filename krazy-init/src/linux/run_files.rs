//! `/run`: files of this one device, to which links in `/etc` lead because the root is read-only and the same on every
//! device, and the directories of services.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::Path;

use krazy_boot::digest::hex;
use krazy_boot::manifest::hosts;

/// `/etc/hosts` is a link to this file.
const HOSTS: &str = "/run/hosts";

/// `/etc/machine-id` is a link to this file. Source: machine-id(5).
const MACHINE_ID: &str = "/run/machine-id";

/// Init's own directory.
const OWN: &str = "/run/krazy";

/// Writes the addresses of the device's own name and of `further` ones.
pub(crate) fn write_hosts(hostname: &str, further: &BTreeMap<String, IpAddr>) -> io::Result<()> {
    fs::write(HOSTS, hosts::text(hostname, further))
}

/// Writes the machine's identifier, which the file `kept` on `/data` holds; a new one is kept there.
pub(crate) fn write_machine_id(kept: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(kept) {
        Ok(text) if is_machine_id(&text) => text,
        _ => {
            let text = new_machine_id()?;
            let unfinished = kept.with_extension("new");
            fs::write(&unfinished, &text)?;
            fs::rename(unfinished, kept)?;
            text
        }
    };
    fs::write(MACHINE_ID, text)
}

/// Makes init's own directory, which services cannot enter.
pub(crate) fn make_own_directory() -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o710).create(OWN) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes the `directory` of a service whose account is `uid`. Others may look into it, as they may with systemd, and
/// connect to its sockets.
pub(crate) fn make_directory(directory: &Path, uid: u32) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // `/run` is root's, so that nobody else can have put a link here.
    lchown(directory, Some(uid), Some(uid))?;
    fs::set_permissions(directory, Permissions::from_mode(0o755))
}

fn is_machine_id(text: &str) -> bool {
    text.len() == 33
        && text.ends_with('\n')
        && text.trim_end().bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Returns a random one, which is a UUID of version 4 as well. Source: machine-id(5); RFC 9562, section 5.4.
fn new_machine_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(format!("{}\n", hex(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_of_a_service_is_its_own_and_open_to_readers() {
        let me = rustix::process::geteuid().as_raw();
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("web");
        make_directory(&directory, me).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        make_directory(&directory, me).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o755);
    }

    #[test]
    fn new_identifiers_differ_and_have_the_form_of_machine_id_5() {
        let (one, two) = (new_machine_id().unwrap(), new_machine_id().unwrap());
        assert_ne!(one, two);
        assert!(is_machine_id(&one) && one.as_bytes()[12] == b'4', "{one}");
        assert!(
            !is_machine_id("") && !is_machine_id("uninitialized\n") && !is_machine_id(&one.to_uppercase())
        );
    }
}
