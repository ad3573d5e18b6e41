//! `/init` of the initramfs, `/bin/init` of the root, and a small command for everyone else: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    krazy_init::role::run(std::env::args_os().collect())
}
