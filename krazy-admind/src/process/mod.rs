//! The two processes of the service. The one that init starts is the back; it executes itself again, as its child, to be
//! the front. Each ends when the other does, and init starts both again.

pub(crate) mod front;

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use krazy_boot::api::control::SOCKET;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Resource, geteuid, getrlimit, setrlimit};
use tokio::time::sleep;

use crate::server::{Server, StartError};

/// The executable of this process, also when an update has replaced its file.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// The most open descriptors of the back: one for each request, and what these open.
const OPEN_FILES: u64 = 4096;

/// Time that the front has to exit after it has closed the channel, and the pause between two looks.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The child process, killed when dropped.
#[derive(Debug)]
struct Front(Child);

/// Serves with the front in a process of its own. Returns when that has ended.
pub(crate) async fn serve(server: Server, root: &Path) -> Result<(), StartError> {
    let address = server.local_addr();
    let Server { listener, back, front, .. } = server;
    let listener = listener.into_std().map_err(StartError::Front)?;
    let channel = front.into_descriptor().map_err(StartError::Front)?;
    raise_limit();
    let announces = back.settings.announced.is_some();
    let mut front = Front::start(listener.into(), channel, root, announces).map_err(StartError::Front)?;
    back.run(|| crate::log::write(format_args!("serving https on {address}"))).await;
    let end = front.end().await.map_err(StartError::Front)?;
    crate::log::write(format_args!("the network process has ended ({end}); this one ends, too"));
    Ok(())
}

/// Lets this process open more descriptors than a service usually does. A failure shows when they run out.
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        let _unchanged = setrlimit(Resource::Nofile, limit);
    }
}

impl Front {
    /// Starts the front with both descriptors, which it inherits.
    fn start(listener: OwnedFd, channel: OwnedFd, root: &Path, announces: bool) -> io::Result<Self> {
        for descriptor in [&listener, &channel] {
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        let mut command = Command::new(OWN_EXECUTABLE);
        command.arg0("krazy-admind").args((!announces).then_some("--no-mdns")).arg(front::ARGUMENT);
        command.env_clear().stdin(Stdio::null());
        command.args([&listener, &channel].map(|descriptor| descriptor.as_raw_fd().to_string()));
        // Only root can change its root.
        if geteuid().is_root() {
            command.args(empty_directory(root).as_deref().map(OsStr::new));
        }
        command.spawn().map(Front)
    }

    /// Waits for the end of a front that has closed the channel, and ends it if it does not.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        for _ in 0..EXIT_TIMEOUT.as_millis() / EXIT_POLL_INTERVAL.as_millis() {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            sleep(EXIT_POLL_INTERVAL).await;
        }
        self.0.kill()?;
        self.0.wait()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Both fail only if it has been waited for.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Makes the directory that becomes the root of the front. A failure is only logged: other restrictions remain.
fn empty_directory(root: &Path) -> Option<PathBuf> {
    let path = root.join(SOCKET.trim_start_matches('/')).with_file_name("empty-root");
    match DirBuilder::new().recursive(true).mode(0o555).create(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            crate::log::write(format_args!("failed to make the directory {}: {error}", path.display()));
            None
        }
    }
}
