//! The options that a source tree knows, read from its Kconfig files.
//!
//! Source: Linux `Documentation/kbuild/kconfig-language.rst`. Only what tells a mistyped option from one that is
//! merely not available is read: the names behind `config` and `menuconfig`, and the conditions behind `depends on`.
//! The files of all architectures count.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::error::ConfigurationError;
use super::fragment::RequestedOptions;
use crate::config::suggestion::closest;
use crate::failure::Result;
use crate::files::{io_failure, sorted_entries};
use crate::interrupt;

/// Bytes of a Kconfig file at most; the largest of Linux 6.12 has 100 KB.
const MAX_LEN: u64 = 4 << 20;
/// Directories at the top without Kconfig files of the kernel; `scripts` has those of kconfig's own tests.
const OTHER: [&str; 4] = ["Documentation", "LICENSES", "scripts", "tools"];

/// The options of a source tree, without `CONFIG_`, and what each depends on.
#[derive(Debug, Default)]
pub(crate) struct KnownOptions(BTreeMap<String, Vec<String>>);

impl KnownOptions {
    /// Reads every Kconfig file below `tree`.
    pub(crate) fn of_tree(tree: &Path) -> Result<Self> {
        let mut known = KnownOptions::default();
        for (name, path, metadata) in sorted_entries(tree)? {
            if metadata.is_dir() && !OTHER.contains(&name.as_str()) {
                known.walk(&path)?;
            }
        }
        known.read(&tree.join("Kconfig"))?;
        Ok(known)
    }

    fn walk(&mut self, directory: &Path) -> Result<()> {
        interrupt::check()?;
        for (name, path, metadata) in sorted_entries(directory)? {
            if metadata.is_dir() {
                self.walk(&path)?;
            } else if metadata.is_file() && name.starts_with("Kconfig") {
                self.read(&path)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        let file = std::fs::File::open(path).map_err(io_failure("read", path))?;
        let mut option = None;
        for line in BufReader::new(file.take(MAX_LEN)).split(b'\n') {
            let line = line.map_err(io_failure("read", path))?;
            self.line(&String::from_utf8_lossy(&line), &mut option);
        }
        Ok(())
    }

    /// Takes a line; `option` is the one that the lines before it were about.
    fn line(&mut self, line: &str, option: &mut Option<String>) {
        let line = line.trim();
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        match word {
            // A help text may begin a line with such a word, too; an option's name is one word.
            "config" | "menuconfig" if !rest.trim().contains(' ') => {
                let name = rest.trim().to_owned();
                self.0.entry(name.clone()).or_default();
                *option = Some(name);
            }
            "choice" | "menu" | "if" | "endif" | "endmenu" | "endchoice" | "source" | "comment" => {
                *option = None
            }
            "depends" => {
                let depends = option.as_ref().and_then(|name| self.0.get_mut(name));
                if let (Some(depends), Some(condition)) = (depends, rest.trim().strip_prefix("on ")) {
                    depends.push(condition.trim().to_owned());
                }
            }
            _ => {}
        }
    }

    /// The options of our fragments that this kernel does not know, because it is older or younger than what they
    /// were written for. Fails if an option of the user's is unknown.
    pub(crate) fn unknown(&self, requested: &RequestedOptions) -> Result<Vec<String>, ConfigurationError> {
        let (users, ours): (Vec<_>, Vec<_>) = requested
            .iter()
            .filter(|(name, _)| !self.0.contains_key(*name))
            .partition(|(_, option)| option.location.users);
        let Some((name, option)) = users.first() else {
            return Ok(ours.into_iter().map(|(name, _)| name.to_owned()).collect());
        };
        let nearest = closest(name, self.0.keys().map(String::as_str)).map(|near| near.to_string());
        Err(ConfigurationError::UnknownOption {
            location: option.location.clone(),
            option: (*name).to_owned(),
            nearest,
        })
    }

    /// Returns the conditions of the option `name`, to be shown.
    pub(crate) fn depends(&self, name: &str) -> Option<String> {
        let conditions = self.0.get(name).filter(|conditions| !conditions.is_empty())?;
        Some(conditions.join(" && "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Explain;

    fn tree() -> (tempfile::TempDir, KnownOptions) {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::create_dir_all(at("drivers/net")).unwrap();
        std::fs::create_dir_all(at("scripts")).unwrap();
        std::fs::write(at("Kconfig"), "mainmenu \"Linux\"\nsource \"drivers/Kconfig\"\n").unwrap();
        std::fs::write(at("scripts/Kconfig.test"), "config NOT_REAL\n").unwrap();
        std::fs::write(
            at("drivers/net/Kconfig"),
            "menuconfig NETDEVICES\n\tbool \"net\"\nif NETDEVICES\nconfig WIREGUARD\n\ttristate \"WireGuard\"\n\
             \tdepends on NET && INET\n\tdepends on IPV6 || !IPV6\n\thelp\n\t  config of it\nendif\n",
        )
        .unwrap();
        let known = KnownOptions::of_tree(directory.path()).unwrap();
        (directory, known)
    }

    #[test]
    fn options_are_found_with_their_conditions() {
        let (_directory, known) = tree();
        assert_eq!(known.depends("WIREGUARD").as_deref(), Some("NET && INET && IPV6 || !IPV6"));
        assert_eq!(known.depends("NETDEVICES"), None);
        assert!(known.0.contains_key("NETDEVICES") && !known.0.contains_key("NOT_REAL"));
    }

    #[test]
    fn unknown_option_of_the_users_is_an_error_with_the_nearest_one() {
        let (directory, known) = tree();
        let check = |text: &str| {
            let file = directory.path().join("own.config");
            std::fs::write(&file, text).unwrap();
            let mut requested = RequestedOptions::default();
            requested.add("ours", "CONFIG_YOUNGER=y\nCONFIG_NETDEVICES=y\n").unwrap();
            requested.add_file(&file).unwrap();
            known.unknown(&requested)
        };
        let error = check("CONFIG_NETDEVICES=y\nCONFIG_WIREGARD=y\n").unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("own.config:2: this kernel has no option CONFIG_WIREGARD"), "{text}");
        assert_eq!(error.help().as_deref(), Some("did you mean CONFIG_WIREGUARD?"));
        let error = check("CONFIG_SOMETHING_ELSE=n\n").unwrap_err();
        assert!(error.help().unwrap().starts_with("remove the line"));
        assert_eq!(check("CONFIG_WIREGUARD=y\n").unwrap(), ["YOUNGER"]);
    }
}
