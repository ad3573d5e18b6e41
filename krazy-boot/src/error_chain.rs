//! An error and its causes on one line, for consoles, statuses and messages.

use std::error::Error;

/// Returns an error and its causes on one line, each cause once: some libraries tell the reason only in the causes,
/// some repeat it on the way.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string);
    causes.fold(
        error.to_string(),
        |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") },
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Step {
        text: &'static str,
        source: io::Error,
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
