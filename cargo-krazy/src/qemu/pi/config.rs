//! `config.txt` as the firmware reads it.
//!
//! Source: Raspberry Pi documentation, "config.txt": file format, `include`, conditional filters. Of the filters the
//! models, `[all]` and `[none]` are known; a section behind any other is left out.

use std::collections::HashMap;

use krazy_boot::disk::boot_fat::FatError;

/// Depth of files that include one another at most.
const MAX_DEPTH: usize = 4;

/// The settings that apply.
#[derive(Debug, Default)]
pub(crate) struct Config {
    settings: HashMap<String, String>,
    initramfs: Option<String>,
}

impl Config {
    /// Reads `name` and the files it includes; `filters` are those that are true for the machine.
    pub(crate) fn read(
        name: &str,
        filters: &[&str],
        read: &mut dyn FnMut(&str) -> Result<Vec<u8>, FatError>,
    ) -> Result<Self, FatError> {
        let mut config = Config::default();
        config.add(name, filters, read, 0)?;
        Ok(config)
    }

    fn add(
        &mut self,
        name: &str,
        filters: &[&str],
        read: &mut dyn FnMut(&str) -> Result<Vec<u8>, FatError>,
        depth: usize,
    ) -> Result<(), FatError> {
        let text = read(name)?;
        let mut applies = true;
        for line in String::from_utf8_lossy(&text).lines().map(str::trim) {
            if let Some(filter) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                applies = filters.contains(&filter);
            } else if !applies || line.starts_with('#') {
                continue;
            } else if let Some(included) = line.strip_prefix("include ") {
                if depth < MAX_DEPTH {
                    self.add(included.trim(), filters, read, depth + 1)?;
                }
            } else if let Some(rest) = line.strip_prefix("initramfs ") {
                // A name and the address, which is the loader's business.
                self.initramfs = rest.split_whitespace().next().map(str::to_owned);
            } else if let Some((key, value)) = line.split_once('=') {
                self.settings.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    /// The value of a setting; the last one counts.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// The name of the initramfs.
    pub(crate) fn initramfs(&self) -> Option<&str> {
        self.initramfs.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use krazy_boot::boot::config_txt;
    use krazy_boot::disk::slot::Slot;
    use proptest::prelude::*;

    use super::*;

    fn read(files: &[(&str, &[u8])]) -> Result<Config, FatError> {
        Config::read("config.txt", &["all", "pi3"], &mut |name| {
            let file = files.iter().find(|(known, _)| *known == name);
            file.map(|(_, content)| content.to_vec()).ok_or_else(|| FatError::NotFound(name.to_owned()))
        })
    }

    #[test]
    fn slots_settings_come_from_its_own_file() {
        let selector = config_txt::encode(Slot::B.into());
        let slot =
            b"arm_64bit=1\ninitramfs initramfs followkernel\nkernel=vmlinuz\n[pi4]\nkernel=other\n[all]\n";
        let config = read(&[("config.txt", &selector), ("b-config.txt", slot)]).unwrap();
        assert_eq!(config.get("os_prefix"), Some("b-"));
        assert_eq!((config.get("kernel"), config.initramfs()), (Some("vmlinuz"), Some("initramfs")));
        assert!(read(&[("config.txt", &selector)]).unwrap_err().to_string().contains("b-config.txt"));
    }

    #[test]
    fn file_that_includes_itself_has_an_end() {
        let config = read(&[("config.txt", b"include config.txt\na=1\n# a=2\n[none]\na=3\n")]).unwrap();
        assert_eq!(config.get("a"), Some("1"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\[|\\]|pi3|all|include |config.txt|initramfs |=|[a-z ]{0,5}|\n){0,40}") {
            let _any = read(&[("config.txt", text.as_bytes())]);
        }
    }
}
