//! Config fragments: the options requested of a kernel, one a line, the last one wins.
//!
//! Source: Linux `Documentation/kbuild/kconfig.rst` and `scripts/kconfig/confdata.c`. Understood are
//! `CONFIG_NAME=VALUE`, `# CONFIG_NAME is not set` and comments; everything else is an error, where kconfig itself
//! would pass over it with a warning at most.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;

use super::error::ConfigurationError;

/// Bytes of a fragment at most. A complete `.config` of a distribution has 300 KB.
pub(super) const MAX_LEN: u64 = 4 << 20;
/// The start of every option's name.
const PREFIX: &str = "CONFIG_";

/// The line that requests an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The fragment's name.
    pub(crate) fragment: String,
    /// The line, from 1.
    pub(crate) line: usize,
    /// True if the fragment is the user's.
    pub(crate) users: bool,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.fragment, self.line)
    }
}

/// A requested value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestedOption {
    /// As in the file: `y`, `n`, `m`, a number, or a quoted string.
    pub(crate) value: String,
    /// The line that won.
    pub(crate) location: Location,
}

/// Options by name, without `CONFIG_`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedOptions(BTreeMap<String, RequestedOption>);

impl RequestedOptions {
    /// Adds a fragment of ours, called `name`; its requests replace earlier ones.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> Result<(), ConfigurationError> {
        self.read(name, text, false)
    }

    fn read(&mut self, name: &str, text: &str, users: bool) -> Result<(), ConfigurationError> {
        for (at, line) in text.lines().enumerate() {
            let location = Location { fragment: name.to_owned(), line: at + 1, users };
            match parse(line) {
                Ok(None) => {}
                Ok(Some((option, value))) => {
                    self.0.insert(option.to_owned(), RequestedOption { value: value.to_owned(), location });
                }
                Err(problem) => {
                    return Err(ConfigurationError::Line { location, problem });
                }
            }
        }
        Ok(())
    }

    /// Adds the user's fragment in `file`.
    pub(crate) fn add_file(&mut self, file: &Path) -> Result<(), ConfigurationError> {
        let name = file.display().to_string();
        let failed = |error| ConfigurationError::Read { path: file.to_owned(), error };
        if std::fs::metadata(file).map_err(failed)?.len() > MAX_LEN {
            return Err(ConfigurationError::TooLarge { path: file.to_owned() });
        }
        self.read(&name, &std::fs::read_to_string(file).map_err(failed)?, true)
    }

    /// Removes the request for `name`.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Returns names and requests, sorted by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &RequestedOption)> {
        self.0.iter().map(|(name, option)| (name.as_str(), option))
    }

    /// Returns the request for `name`, which has no `CONFIG_`.
    pub(crate) fn get(&self, name: &str) -> Option<&RequestedOption> {
        self.0.get(name)
    }

    /// Returns all requests as one file for kconfig, sorted by name.
    pub(crate) fn to_config(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (name, option)| {
            // Writing to a String cannot fail.
            let _infallible = match option.value.as_str() {
                "n" => writeln!(text, "# {PREFIX}{name} is not set"),
                value => writeln!(text, "{PREFIX}{name}={value}"),
            };
            text
        })
    }
}

/// A line that is no request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    /// It has no `=`.
    #[error("`{0}` sets nothing")]
    NoValue(String),
    /// The part before `=` is not a name.
    #[error("`{0}` is not the name of an option, which begins with `{PREFIX}`")]
    Name(String),
    /// The part behind `=` is not a value.
    #[error("{0:?} is not a value; it can be y, n, m, a number or a \"string\"")]
    Value(String),
}

/// Returns the option and the value of a line; `None` for a comment or an empty line.
pub(crate) fn parse(line: &str) -> Result<Option<(&str, &str)>, LineError> {
    let line = line.trim();
    if let Some(comment) = line.strip_prefix('#') {
        let option = comment.trim().strip_suffix(" is not set").map(str::trim);
        let name = option.and_then(|option| option.strip_prefix(PREFIX));
        return Ok(name.filter(|name| is_name(name)).map(|name| (name, "n")));
    }
    if line.is_empty() {
        return Ok(None);
    }
    let Some((option, value)) = line.split_once('=') else { return Err(LineError::NoValue(line.to_owned())) };
    let Some(name) = option.strip_prefix(PREFIX).filter(|name| is_name(name)) else {
        return Err(LineError::Name(option.to_owned()));
    };
    if !is_value(value) {
        return Err(LineError::Value(value.to_owned()));
    }
    Ok(Some((name, value)))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_value(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        let mut escaped = false;
        // A quote inside is escaped; a backslash at the end would escape the closing one.
        let sound = inner.chars().all(|c| {
            let sound = escaped || c != '"';
            escaped = !escaped && c == '\\';
            sound
        });
        return sound && !escaped;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let hex = digits.strip_prefix("0x");
    matches!(text, "y" | "n" | "m")
        || hex.is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        || !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requested(fragments: &[(&str, &str)]) -> RequestedOptions {
        let mut requested = RequestedOptions::default();
        for (name, text) in fragments {
            requested.add(name, text).unwrap();
        }
        requested
    }

    #[test]
    fn later_fragment_wins() {
        let first = "# about\n\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_NAME=\"a \\\"b\\\"\"\nCONFIG_N=-12\n";
        let requested = requested(&[("first", first), ("own", "# CONFIG_B is not set\nCONFIG_N=0xfF\n")]);
        assert_eq!(
            requested.to_config(),
            "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=0xfF\nCONFIG_NAME=\"a \\\"b\\\"\"\n"
        );
        assert_eq!(requested.get("B").unwrap().location.to_string(), "own:1");
    }

    #[test]
    fn line_that_kconfig_ignores_is_an_error() {
        for (line, problem) in [
            ("CONFIG_A", "`CONFIG_A` sets nothing"),
            ("A=y", "`A` is not the name of an option, which begins with `CONFIG_`"),
            ("CONFIG_A=yes", "\"yes\" is not a value; it can be y, n, m, a number or a \"string\""),
            ("CONFIG_A=\"a\"b\"", "is not a value"),
            ("CONFIG_A=\"a\\\"", "is not a value"),
            ("CONFIG_A=", "\"\" is not a value"),
            ("CONFIG_A =y", "is not the name of an option"),
        ] {
            let error = RequestedOptions::default().add("own", &format!("CONFIG_B=y\n{line}\n")).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("own:2: ") && text.contains(problem), "{text}");
        }
    }

    #[test]
    fn missing_fragment_is_named() {
        let error = RequestedOptions::default().add_file(Path::new("/nowhere/own.config")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("failed to read the config fragment /nowhere/own.config: No such file"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_written_the_same(text in "(CONFIG_|# |[A-Z_]{1,4}|=|y|n|\"|\\\\|0x| is not set|\n|.){0,24}") {
            let mut requested = RequestedOptions::default();
            if requested.add("a", &text).is_ok() {
                let mut again = RequestedOptions::default();
                again.add("a", &requested.to_config()).unwrap();
                prop_assert_eq!(again.to_config(), requested.to_config());
            }
        }
    }
}
