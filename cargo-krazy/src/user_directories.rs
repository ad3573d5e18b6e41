//! The directories of this user's caches and secrets, outside of any checkout.
//!
//! Source: XDG Base Directory Specification 0.8, which asks to ignore relative paths in its variables.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::{Exit, Explain};

/// A directory of this program, and the variables that locate it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserDirectory {
    /// The environment variable that names it directly.
    pub(crate) variable: &'static str,
    /// The variable of the specification; the directory is `krazy` in it.
    pub(crate) xdg: &'static str,
    /// The default of `xdg`, below the home directory.
    pub(crate) below_home: &'static str,
    /// Its content, in messages.
    pub(crate) holds: &'static str,
}

/// The user's caches: kernels, the C compiler, and parts of updates.
pub(crate) const CACHE: UserDirectory = UserDirectory {
    variable: "KRAZY_CACHE_DIR",
    xdg: "XDG_CACHE_HOME",
    below_home: ".cache",
    holds: "kernels, the C compiler and parts of updates",
};

/// A directory that cannot be located.
#[derive(Debug, thiserror::Error)]
#[error("there is no directory to keep {} in: HOME is not set", .0.holds)]
pub(crate) struct NoDirectory(UserDirectory);

impl Explain for NoDirectory {
    fn exit(&self) -> Exit {
        Exit::Failed
    }

    fn help(&self) -> Option<String> {
        Some(format!("set {} to a directory of your own", self.0.variable))
    }
}

impl UserDirectory {
    /// Returns its absolute path. Nothing is created. Fails if neither a variable nor the home directory is known.
    pub(crate) fn find(&self) -> Result<PathBuf, NoDirectory> {
        self.resolve(|name| std::env::var_os(name), std::env::home_dir(), std::env::current_dir().ok())
    }

    /// The same by the variables of another environment than this process's.
    pub(crate) fn find_by(
        &self,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<PathBuf, NoDirectory> {
        let home = variable("HOME").map(PathBuf::from);
        self.resolve(variable, home, std::env::current_dir().ok())
    }

    fn resolve(
        &self,
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
        current: Option<PathBuf>,
    ) -> Result<PathBuf, NoDirectory> {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(chosen) = path(self.variable) {
            // Made absolute, so that it means the same after a change of directory and in messages.
            return Ok(current.map_or_else(|| chosen.clone(), |directory| directory.join(&chosen)));
        }
        let base = path(self.xdg).filter(|path| path.is_absolute());
        let home = home.filter(|path| path.is_absolute()).map(|path| path.join(self.below_home));
        base.or(home).map(|base| base.join("krazy")).ok_or(NoDirectory(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)], home: Option<&str>) -> Result<String, NoDirectory> {
        let directory = UserDirectory {
            variable: "KRAZY_X_DIR",
            xdg: "XDG_X_HOME",
            below_home: ".local/x",
            holds: "things",
        };
        let value = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let path = directory.resolve(value, home.map(PathBuf::from), Some("/work".into()));
        path.map(|path| path.display().to_string())
    }

    #[test]
    fn most_specific_variable_wins() {
        let path = |set: &[(&str, &str)], home| with(set, home).unwrap();
        let (own, xdg) = (("KRAZY_X_DIR", "/k"), ("XDG_X_HOME", "/x"));
        assert_eq!(path(&[own, xdg], Some("/h")), "/k");
        assert_eq!(path(&[("KRAZY_X_DIR", "here"), xdg], None), "/work/here");
        assert_eq!(path(&[("KRAZY_X_DIR", ""), xdg], Some("/h")), "/x/krazy");
        assert_eq!(path(&[("XDG_X_HOME", "relative")], Some("/h")), "/h/.local/x/krazy");
        assert_eq!(path(&[], Some("/h")), "/h/.local/x/krazy");
    }

    #[test]
    fn missing_home_names_the_variable_to_set() {
        for home in [None, Some("relative")] {
            let error = with(&[], home).unwrap_err();
            assert_eq!(error.to_string(), "there is no directory to keep things in: HOME is not set");
            assert_eq!(error.help().as_deref(), Some("set KRAZY_X_DIR to a directory of your own"));
        }
    }
}
