//! An error and its causes on one line, for consoles, statuses and messages.

use std::error::Error;
use std::io;

/// ext4 and others report it for a damaged file system. Source: Linux `include/uapi/asm-generic/errno.h`.
const EUCLEAN: i32 = 117;

/// musl's text for it. Source: musl `src/errno/__strerror.h`, which ends with it.
const UNKNOWN_TO_MUSL: &str = "No error information (os error 117)";

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

/// Replaces musl's text for a damaged file system wherever an error was formatted into `text`.
pub fn with_system_texts(text: String) -> String {
    match text.contains(UNKNOWN_TO_MUSL) {
        true => text.replace(UNKNOWN_TO_MUSL, &system_text(&io::Error::from_raw_os_error(EUCLEAN))),
        false => text,
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
        let formatted = "/data/krazy/clock: No error information (os error 117); twice: ".repeat(2);
        let expected = "/data/krazy/clock: the file system is damaged (os error 117); twice: ".repeat(2);
        assert_eq!(with_system_texts(formatted), expected);
        assert_eq!(with_system_texts("No error information (os error 200)".into()).len(), 35);
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
