//! Where this user's appliances keep what must not stand in a checkout.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::{Exit, Failure};

/// The folder that holds one folder per appliance: `$KRAZY_STATE_DIR`, else `krazy` in `$XDG_STATE_HOME`, else
/// `~/.local/state/krazy` (XDG Base Directory Specification 0.8: a relative `$XDG_STATE_HOME` is ignored).
/// Nothing is created.
pub fn state_dir() -> Result<PathBuf, Failure> {
    resolve(|name| std::env::var_os(name), std::env::current_dir().ok())
}

fn resolve(var: impl Fn(&str) -> Option<OsString>, current_dir: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let path = |name: &str| var(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    if let Some(chosen) = path("KRAZY_STATE_DIR") {
        // Made absolute, so that it means the same after a change of directory and in messages.
        return Ok(current_dir.map_or_else(|| chosen.clone(), |dir| dir.join(&chosen)));
    }
    let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("krazy"))
        .ok_or_else(|| {
            Failure::new(Exit::Failed, "there is no place for the appliance's secrets: HOME is not set")
                .help("set KRAZY_STATE_DIR to a folder that only you can read")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Result<PathBuf, Failure> {
        let var = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        resolve(var, Some("/work".into()))
    }

    #[test]
    fn the_most_specific_variable_wins() {
        let all = [("KRAZY_STATE_DIR", "/k"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(&all).unwrap(), PathBuf::from("/k"));
        assert_eq!(with(&all[1..]).unwrap(), PathBuf::from("/x/krazy"));
        assert_eq!(with(&all[2..]).unwrap(), PathBuf::from("/h/.local/state/krazy"));
        assert_eq!(with(&[("KRAZY_STATE_DIR", "here")]).unwrap(), PathBuf::from("/work/here"));
        let relative = [("XDG_STATE_HOME", "x"), ("HOME", "/h"), ("KRAZY_STATE_DIR", "")];
        assert_eq!(with(&relative).unwrap(), PathBuf::from("/h/.local/state/krazy"));
    }

    #[test]
    fn without_a_home_the_variable_to_set_is_named() {
        let error = anyhow::Error::new(with(&[]).unwrap_err());
        assert_eq!(error.to_string(), "there is no place for the appliance's secrets: HOME is not set");
        assert_eq!(Failure::help_of(&error), Some("set KRAZY_STATE_DIR to a folder that only you can read"));
    }
}
