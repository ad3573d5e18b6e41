//! A service without sandbox that sets traps for init and for whoever reads logs.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use crate::judge::{Verdict, case, ensure};
use crate::{await_word, rest};

/// The last line.
pub const END: &str = "all traps are set";

/// Tries to take, remove and replace the names of others' logs.
pub fn trapper() {
    await_word("trapper");
    case("trapper: names of logs can be neither made, removed nor replaced", || {
        let mine = "/tmp/of-trapper";
        fs::write(mine, "x").map_err(|error| error.to_string())?;
        for directory in ["/tmp", "/run/log"] {
            for name in ["steady.log", "steady.err", "steady.log.1", "steady.err.1", "trapper.log"] {
                let path = format!("{directory}/{name}");
                refused(&path, "mkfifo", mkfifo(&path))?;
                refused(&path, "symlink", symlink("/etc/passwd", &path))?;
                refused(&path, "unlink", fs::remove_file(&path))?;
                refused(&path, "rename", fs::rename(mine, &path))?;
                refused(&path, "rename away", fs::rename(&path, "/tmp/away"))?;
            }
        }
        refused("/run/log/x.log", "mkfifo", mkfifo("/run/log/x.log"))
    });
    case("trapper: what it may make in /tmp", || {
        // Names that look like logs of services that are not there.
        for name in ["nobody.log", "nobody.log.1", "nobody.err"] {
            mkfifo(&format!("/tmp/{name}")).map_err(|error| format!("{name}: {error}"))?;
        }
        ensure(fs::symlink_metadata("/tmp/nobody.log").is_ok(), "no pipe")
    });
    println!("{END}");
    rest();
}

fn mkfifo(path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    // SAFETY: the text ends with NUL and outlives the call.
    match unsafe { libc::mkfifo(path.as_ptr(), 0o666) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Expects a refusal by permissions, or by a name that is taken and can only be left alone.
fn refused(path: &str, what: &str, outcome: io::Result<()>) -> Verdict {
    let refusals = [libc::EACCES, libc::EPERM, libc::EEXIST, libc::ENOENT, libc::EXDEV].map(Some);
    match outcome {
        Err(error) if refusals.contains(&error.raw_os_error()) => Ok(()),
        other => Err(format!("{what} of {path}: {other:?}")),
    }
}
