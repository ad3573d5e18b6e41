//! What ends the program: a message, the next step, and an exit code.

use std::fmt;
use std::process::ExitCode;

/// The documented exit codes. Scripts may rely on them; `cargo krazy --help` and the README list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: anything without a code of its own.
    Failed = 1,
    /// 2: wrong arguments.
    Usage = 2,
    /// 3: `[package.metadata.krazy]` is missing or wrong.
    Config = 3,
    /// 4: a crate or a kernel did not build, or a binary cannot run on the board.
    Build = 4,
    /// 5: the toolchain, QEMU or another tool is missing.
    MissingTool = 5,
    /// 6: the kernel or another download failed, or did not verify.
    Fetch = 6,
    /// 7: an image, a bundle or a file could not be made or written.
    Image = 7,
    /// 8: `run-qemu --expect` did not see its text, or `--timeout` ended the machine.
    Expect = 8,
    /// 9: a device refused, or was not reached.
    Device = 9,
    /// 130: interrupted.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error with a documented exit code and, where there is one, the user's next step.
///
/// The message starts in lower case and names the file, key or device. Put it at the point where the next
/// step is known; `anyhow` context may be added around it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    help: Option<String>,
}

impl Failure {
    /// An error without help.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into(), help: None }
    }

    /// Adds the `help:` line: what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The exit code of `error`: that of the first [`Failure`] in its chain.
    pub fn exit_of(error: &anyhow::Error) -> Exit {
        Self::all(error).next().map_or(Exit::Failed, |failure| failure.exit)
    }

    /// The help of `error`: that of the first [`Failure`] in its chain that has one.
    pub fn help_of(error: &anyhow::Error) -> Option<&str> {
        Self::all(error).find_map(|failure| failure.help.as_deref())
    }

    /// The outermost one first. One that was added as context is not in the chain; anyhow finds it.
    fn all(error: &anyhow::Error) -> impl Iterator<Item = &Failure> {
        error.downcast_ref().into_iter().chain(error.chain().filter_map(|cause| cause.downcast_ref()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error and its causes on one line, each cause once: some libraries tell the reason only in the causes, some
/// repeat it on the way.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
    causes.fold(
        error.to_string(),
        |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") },
    )
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = anyhow::anyhow!("connection refused").context("failed to connect: connection refused");
        let error = error.context("failed to fetch");
        let text = chain(error.as_ref());
        assert_eq!(text, "failed to fetch: failed to connect: connection refused");
    }

    #[test]
    fn code_and_help_survive_added_context() {
        let failure = Failure::new(Exit::Config, "unknown key `hostnam`").help("did you mean `hostname`?");
        let error = Err::<(), _>(failure).context("failed to read Cargo.toml").unwrap_err();
        assert_eq!(Failure::exit_of(&error), Exit::Config);
        assert_eq!(Failure::help_of(&error), Some("did you mean `hostname`?"));
        assert_eq!(Failure::exit_of(&anyhow::anyhow!("other")), Exit::Failed);
        let context = anyhow::anyhow!("cause").context(Failure::new(Exit::Image, "failed").help("try again"));
        assert_eq!(
            (Failure::exit_of(&context), Failure::help_of(&context)),
            (Exit::Image, Some("try again"))
        );
    }
}
