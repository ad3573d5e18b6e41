//! The error that ends the program: its message with the chain of causes, the user's next step, and the exit code.
//!
//! An operation declares its errors as an enum and implements [`Explain`] for it, so that each variant states its
//! exit code and its help. [`Failure`] carries any of them to the top. Functions that return such an enum's variants
//! return [`Result`]: `anyhow` would take the enum as an ordinary error, without exit code and help.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

pub(crate) use krazy_boot::error_chain::chain;

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

impl Exit {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Exit; 10] = [
        Exit::Failed,
        Exit::Usage,
        Exit::Config,
        Exit::Build,
        Exit::MissingTool,
        Exit::Fetch,
        Exit::Image,
        Exit::Expect,
        Exit::Device,
        Exit::Interrupted,
    ];

    /// Returns the description for `--help`.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Exit::Failed => "an error without a code of its own",
            Exit::Usage => "wrong arguments",
            Exit::Config => "[package.metadata.krazy] is missing or wrong",
            Exit::Build => "a crate or a kernel did not build, or a binary cannot run on the board",
            Exit::MissingTool => "the toolchain, QEMU or another tool is missing",
            Exit::Fetch => "the kernel or another download failed, or did not verify",
            Exit::Image => "an image, a bundle or a file could not be made or written",
            Exit::Expect => "`run-qemu --expect` did not see its text, or `--timeout` ended the machine",
            Exit::Device => "a device refused, or was not reached",
            Exit::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error that knows its exit code and the user's next step: the error enum of an operation.
///
/// Messages start in lower case and name the file, key or device.
pub(crate) trait Explain: Error + Send + Sync + 'static {
    /// Returns the exit code of a program that ends with this error.
    fn exit(&self) -> Exit;

    /// Returns the text after `help:`, the next step, if there is one.
    fn help(&self) -> Option<String> {
        None
    }
}

/// The result of an operation.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// An error with an exit code and, where there is one, the user's next step.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    help: Option<String>,
    /// The position of the setting that led to it, in front of the message.
    place: Option<String>,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// Returns an error of a library, which has neither an exit code of its own nor help.
    pub(crate) fn other(error: impl Error + Send + Sync + 'static) -> Self {
        anyhow::Error::from(error).into()
    }

    /// Adds the position of the setting that led to it, `FILE:LINE`.
    #[must_use]
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(place.to_string());
        self
    }

    /// Returns the exit code of the program.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns the text after `help:`.
    pub(crate) fn next_step(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Returns the error that it carries, then its causes.
    pub(crate) fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        let error: &(dyn Error + 'static) = &*self.error;
        std::iter::successors(Some(error), |&cause| cause.source())
    }

    /// Returns the exit code of `error`: that of the first [`Failure`] in its chain.
    pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
        Self::all(error).next().map_or(Exit::Failed, |failure| failure.exit)
    }

    /// Returns the help of `error`: that of the first [`Failure`] in its chain that has one.
    pub(crate) fn help_of(error: &anyhow::Error) -> Option<&str> {
        Self::all(error).find_map(Failure::next_step)
    }

    /// The outermost one first. One that was added as context is not in the chain; anyhow finds it.
    fn all(error: &anyhow::Error) -> impl Iterator<Item = &Failure> {
        error.downcast_ref().into_iter().chain(error.chain().filter_map(|cause| cause.downcast_ref()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        self.error.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure { exit: error.exit(), help: error.help(), place: None, error: Box::new(error) }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure {
            exit: Self::exit_of(&error),
            help: Self::help_of(&error).map(str::to_owned),
            place: None,
            error: error.into_boxed_dyn_error(),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum WriteError {
        #[error("failed to write `a.img`")]
        Write(#[source] std::io::Error),
    }

    impl Explain for WriteError {
        fn exit(&self) -> Exit {
            Exit::Image
        }

        fn help(&self) -> Option<String> {
            Some("free some space".to_owned())
        }
    }

    fn write() -> Result<()> {
        Err(WriteError::Write(std::io::Error::other("disk full")))?;
        Ok(())
    }

    #[test]
    fn typed_error_keeps_its_code_help_and_cause() {
        let failure = write().unwrap_err();
        assert_eq!((failure.exit(), failure.next_step()), (Exit::Image, Some("free some space")));
        assert_eq!(chain(&failure), "failed to write `a.img`: disk full");
        let failure = Failure::from(write().context("failed to make the image").unwrap_err());
        assert_eq!((failure.exit(), failure.next_step()), (Exit::Image, Some("free some space")));
        assert_eq!(chain(&failure), "failed to make the image: failed to write `a.img`: disk full");
    }

    #[test]
    fn code_and_help_survive_added_context() {
        let told =
            |error: &anyhow::Error| (Failure::exit_of(error), Failure::help_of(error).map(str::to_owned));
        let expected = (Exit::Image, Some("free some space".to_owned()));
        assert_eq!(told(&write().context("failed to make the image").unwrap_err()), expected);
        assert_eq!(told(&anyhow::anyhow!("cause").context(write().unwrap_err())), expected);
        assert_eq!(told(&anyhow::anyhow!("other")), (Exit::Failed, None));
    }
}
