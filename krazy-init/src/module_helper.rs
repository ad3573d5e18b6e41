//! The helper that the kernel runs when it needs a module itself: a file system at mount, a protocol at `socket`.
//! Source: Linux `kernel/module/kmod.c`: `HELPER -q -- ALIAS`, where HELPER is `kernel.modprobe`.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use crate::linux::modules::{Modules, Parameters};

/// Returns the requested alias if these are the kernel's arguments.
pub(crate) fn request(arguments: &[OsString]) -> Option<&str> {
    match arguments {
        [_, quiet, end, alias] if quiet == OsStr::new("-q") && end == OsStr::new("--") => alias.to_str(),
        _ => None,
    }
}

/// Loads the module for `alias`. The kernel checks the status only, and reports itself what is missing.
pub(crate) fn run(alias: &str) -> ExitCode {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    match Modules::running(Parameters::from_command_line(&line)).request(alias) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arguments_of_the_kernel_are_a_request() {
        let arguments = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(request(&arguments(&["/bin/init", "-q", "--", "fs-vfat"])), Some("fs-vfat"));
        assert_eq!(request(&arguments(&["/bin/init", "status"])), None);
        assert_eq!(request(&arguments(&["/bin/init", "-q", "--"])), None);
    }
}
