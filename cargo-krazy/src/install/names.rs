//! Every binary lands in one directory, `/bin`, so every name may be there once.

use super::Installed;
use crate::failure::{Exit, Explain};

/// Binaries that cannot be in one directory. A crate is its name and version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    /// Two crates have a binary of one name.
    #[error("two binaries are called `{bin}`: one is of {other}, one of {one}")]
    Twice {
        /// The name.
        bin: String,
        /// A crate.
        one: String,
        /// Another crate.
        other: String,
    },
    /// A binary that is not the init has its name.
    #[error("the binary `init` of {one} is in the way of /bin/init, which is `{init}`")]
    InTheWay {
        /// The crate.
        one: String,
        /// The binary that becomes the init.
        init: String,
    },
    /// No binary becomes the init.
    #[error("no installed crate has a binary `{init}` to become /bin/init")]
    NoInit {
        /// The configured name.
        init: String,
        /// The names of all binaries, sorted.
        names: Vec<String>,
    },
}

impl Explain for NameError {
    fn exit(&self) -> Exit {
        match self {
            NameError::Twice { .. } | NameError::InTheWay { .. } => Exit::Build,
            NameError::NoInit { .. } => Exit::Config,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            NameError::Twice { .. } => {
                "choose with `bins = [\"…\"]` in the table of one of them under [package.metadata.krazy.install]"
                    .to_owned()
            }
            NameError::InTheWay { .. } => {
                "leave it out with `bins`, or make it the init with `init = \"init\"`".to_owned()
            }
            NameError::NoInit { init, names } => {
                match names.iter().find(|name| name.contains(init) || init.contains(*name)) {
                    Some(name) => format!("did you mean `init = \"{name}\"`?"),
                    None => format!("the binaries are: {}", names.join(", ")),
                }
            }
        })
    }
}

/// Checks the binaries installed so far.
///
/// # Errors
/// [`Exit::Build`] when two crates bring a binary of the same name, or one called `init` that is not the init.
pub(crate) fn check_unique(installed: &[Installed], init: &str) -> Result<(), NameError> {
    for (index, one) in installed.iter().enumerate() {
        if let Some(other) = installed[..index].iter().find(|other| other.bin == one.bin) {
            let (one, other) = (one.to_string(), other.to_string());
            return Err(NameError::Twice { bin: installed[index].bin.clone(), one, other });
        }
        if one.bin == "init" && init != "init" {
            return Err(NameError::InTheWay { one: one.to_string(), init: init.to_owned() });
        }
    }
    Ok(())
}

/// Checks that the binary that becomes `/bin/init` is among all that is installed.
///
/// # Errors
/// [`Exit::Config`] naming the closest binary.
pub(crate) fn check_init(installed: &[Installed], init: &str) -> Result<(), NameError> {
    if installed.iter().any(|one| one.bin == init) {
        return Ok(());
    }
    let mut names: Vec<_> = installed.iter().map(|one| one.bin.as_str()).collect();
    names.sort_unstable();
    let names = names.into_iter().map(str::to_owned).collect();
    Err(NameError::NoInit { init: init.to_owned(), names })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(install: &str, bin: &str) -> Installed {
        Installed {
            install: install.to_owned(),
            bin: bin.to_owned(),
            path: "/x".into(),
            package: install.to_owned(),
            version: "1.0.0".to_owned(),
            source: "path".to_owned(),
            sha256: String::new(),
            bytes: 0,
        }
    }

    #[test]
    fn two_binaries_of_one_name_name_both_crates() {
        let both = [installed("a", "web"), installed("b", "web")];
        assert_eq!(
            check_unique(&both, "krazy-init").unwrap_err().to_string(),
            "two binaries are called `web`: one is of `a` v1.0.0, one of `b` v1.0.0"
        );
        check_unique(&both[..1], "krazy-init").unwrap();
    }

    #[test]
    fn binary_called_init_is_the_init_or_in_the_way() {
        let one = [installed("mine", "init")];
        check_unique(&one, "init").unwrap();
        assert_eq!(
            check_unique(&one, "krazy-init").unwrap_err().to_string(),
            "the binary `init` of `mine` v1.0.0 is in the way of /bin/init, which is `krazy-init`"
        );
        let error = check_init(&one, "krazy-init").unwrap_err();
        assert_eq!(error.to_string(), "no installed crate has a binary `krazy-init` to become /bin/init");
        assert_eq!(error.help().as_deref(), Some("did you mean `init = \"init\"`?"));
    }
}
