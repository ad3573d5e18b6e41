//! An error and its causes on one line, for consoles, statuses and messages.

use std::error::Error;
use std::io;

/// ext4 and others report it for a damaged file system. Source: Linux `include/uapi/asm-generic/errno.h`.
const EUCLEAN: i32 = 117;

/// Returns an error and its causes on one line, each cause once: some libraries tell the reason only in the causes,
/// some repeat it on the way.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string);
    causes.fold(
        error.to_string(),
        |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") },
    )
}

/// Returns the text of a system error. musl has none for that of a damaged file system.
pub fn system_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(EUCLEAN) => format!("the file system is damaged (os error {EUCLEAN})"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Step {
        text: &'static str,
        source: io::Error,
    }

    #[test]
    fn damaged_file_system_has_a_text_of_its_own() {
        let text = |code| system_text(&io::Error::from_raw_os_error(code));
        assert_eq!(text(117), "the file system is damaged (os error 117)");
        assert!(text(2).contains("os error 2"));
    }

    #[test]
    fn every_cause_is_named_once() {
        let refused = || io::Error::other("connection refused");
        let connect = Step { text: "failed to connect: connection refused", source: refused() };
        let fetch = Step { text: "failed to fetch", source: io::Error::other(connect) };
        assert_eq!(chain(&fetch), "failed to fetch: failed to connect: connection refused");
        assert_eq!(
            chain(&Step { text: "failed to read", source: refused() }),
            "failed to read: connection refused"
        );
    }
}
