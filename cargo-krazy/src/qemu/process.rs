//! QEMU as a child process: started, stopped, and never left behind.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::error::StartError;
use crate::failure::Result;

/// Time QEMU has to close its files after SIGTERM.
const STOP_GRACE_PERIOD: Duration = Duration::from_secs(2);

/// A QEMU that is killed when dropped.
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn start(program: &str, arguments: &[OsString]) -> Result<Self> {
        let mut command = Command::new(program);
        // A process group of its own, so that the terminal's signals reach only this program.
        command.args(arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            // A cargo-krazy that is killed must not leave a machine running, either.
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        match command.spawn() {
            Ok(child) => Ok(Running(child)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StartError::NotInstalled { program: program.to_owned() }.into())
            }
            Err(error) => Ok(Err(error).with_context(|| format!("failed to start `{program}`"))?),
        }
    }

    /// Asks QEMU to close the disk and exit; kills it after [`STOP_GRACE_PERIOD`].
    pub(super) fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(status);
        }
        // Not waited for yet, so the number is still our child's.
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let deadline = Instant::now() + STOP_GRACE_PERIOD;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.0.kill()?;
        self.0.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already waited for on every path but an error's, which is then the one to report.
        let _dead = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Returns the command line nearly as a shell would take it, to be read only.
pub(super) fn shown(program: &str, arguments: &[OsString]) -> String {
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    let quoted =
        arguments.map(|text| if text.contains([' ', '\'']) { format!("{text:?}") } else { text.into() });
    std::iter::once(program.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use crate::qemu::install_hint;

    #[test]
    fn missing_emulator_names_its_package() {
        let error = Running::start("qemu-system-pdp11", &[]).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "`qemu-system-pdp11` is not installed");
        assert_eq!(error.exit(), Exit::MissingTool);
        assert!(install_hint("qemu-system-x86_64").contains("apt install qemu-system-x86`"));
        assert!(install_hint("qemu-system-aarch64").contains("apt install qemu-system-arm`"));
    }
}
