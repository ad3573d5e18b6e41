//! The description in a kernel module: the `.modinfo` section of its ELF file.
//!
//! The section is a row of NUL-terminated `key=value` strings (Linux `include/linux/moduleparam.h`,
//! `MODULE_INFO`). A Debian package holds no `modules.dep` or `modules.alias`, since `depmod` makes them when
//! the package is configured, so these strings are the only source of dependencies and aliases.
//!
//! Not read: parameters, `import_ns`, `weakdep`, and values that are not UTF-8 (some authors' names).

use object::{Object, ObjectSection};
use serde::{Deserialize, Serialize};

/// One kernel module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Module {
    /// The name the kernel knows it by: every `-` is a `_`.
    pub(crate) name: String,
    /// Its file below `lib/modules/RELEASE`, such as `kernel/fs/ext4/ext4.ko`.
    pub(crate) path: String,
    /// Bytes of the uncompressed file.
    pub(crate) size: u64,
    /// Names of the modules whose symbols it uses.
    pub(crate) depends: Vec<String>,
    /// Modules to load before it that no symbol shows; `pre:` of its soft dependencies, resolved to names.
    pub(crate) pre: Vec<String>,
    /// Modules to load after it; `post:` of its soft dependencies, resolved to names.
    pub(crate) post: Vec<String>,
    /// Its soft dependencies as written: `pre: NAME… post: NAME…`. The names may be aliases.
    pub(crate) softdeps: Vec<String>,
    /// Firmware files it may ask for, relative to `/lib/firmware`; may hold wildcards.
    pub(crate) firmware: Vec<String>,
    /// Alias patterns, each followed by a space; no pattern holds one.
    aliases: String,
}

/// The reason that a file is not a kernel module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModinfoError {
    /// Not an ELF file, or a damaged one.
    #[error("not a readable ELF file: {0}")]
    Elf(#[from] object::Error),
    /// An ELF file of another kind.
    #[error("it has no .modinfo section")]
    Missing,
}

impl Module {
    /// Reads the module stored in `elf`, whose file is `path` below `lib/modules/RELEASE`.
    ///
    /// [`Module::pre`] and [`Module::post`] stay empty: resolving them takes all modules.
    pub(crate) fn parse(path: &str, elf: &[u8]) -> Result<Self, ModinfoError> {
        let file = object::File::parse(elf)?;
        let section = file.section_by_name(".modinfo").ok_or(ModinfoError::Missing)?;
        let mut module = Module::from_modinfo(path, section.data()?);
        module.size = elf.len() as u64;
        Ok(module)
    }

    fn from_modinfo(path: &str, section: &[u8]) -> Self {
        let mut module = Module { path: path.to_owned(), ..Module::default() };
        for string in section.split(|&byte| byte == 0) {
            let Some((key, value)) = std::str::from_utf8(string).ok().and_then(|text| text.split_once('='))
            else {
                continue;
            };
            match key {
                "name" => module.name = normalized(value),
                "depends" => {
                    module.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(normalized));
                }
                "alias" => module.add_alias(value),
                "softdep" => module.softdeps.push(value.to_owned()),
                "firmware" => module.firmware.push(value.to_owned()),
                _ => {}
            }
        }
        if module.name.is_empty() {
            module.name = name_of(path);
        }
        module
    }

    /// Its alias patterns, such as `pci:v00008086d00001000sv*sd*bc*sc*i*`, in the order of the file.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = &str> {
        self.aliases.split_terminator(' ')
    }

    /// Adds an alias pattern. One that is empty or holds white space could not stand in `modules.alias`
    /// and is dropped, as `depmod` does.
    pub(crate) fn add_alias(&mut self, pattern: &str) {
        if !pattern.is_empty() && !pattern.contains(char::is_whitespace) {
            self.aliases.push_str(pattern);
            self.aliases.push(' ');
        }
    }
}

/// The kernel's form of a module name: `snd-hda-intel` is `snd_hda_intel`.
pub(crate) fn normalized(name: &str) -> String {
    name.trim().replace('-', "_")
}

/// The module a file holds, by its name: `kernel/sound/snd-hda.ko.xz` is `snd_hda`.
pub(crate) fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normalized(file.split_once(".ko").map_or(file, |(stem, _)| stem))
}

/// The names after `pre:` and after `post:` in a soft dependency; others are ignored, as kmod does.
pub(crate) fn softdep_names(softdep: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut pre, mut post) = (Vec::new(), Vec::new());
    let mut into = None;
    for word in softdep.split_whitespace() {
        match (word, &mut into) {
            ("pre:", into) => *into = Some(true),
            ("post:", into) => *into = Some(false),
            (name, Some(true)) => pre.push(name),
            (name, Some(false)) => post.push(name),
            (_, None) => {}
        }
    }
    (pre, post)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Kernel modules for tests, small but real ELF files.

    use object::write::Object;
    use object::{Architecture, BinaryFormat, Endianness, SectionKind};

    /// An x86-64 ELF object whose `.modinfo` holds `info`, such as `["name=ext4", "depends=jbd2"]`.
    pub(crate) fn module(info: &[&str]) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let section = object.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::ReadOnlyData);
        let mut data = info.join("\0").into_bytes();
        data.push(0);
        object.append_section_data(section, &data, 1);
        object.write().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_matters() {
        let elf = testing::module(&[
            "alias=fs-ext4",
            "alias=two words",
            "softdep=pre: crypto-crc32c",
            "author=Somebody",
            "depends=mbcache,jbd2,crc-16",
            "firmware=some/file.bin",
            "name=ext4",
        ]);
        let module = Module::parse("kernel/fs/ext4/ext4.ko", &elf).unwrap();
        assert_eq!(module.name, "ext4");
        assert_eq!(module.size, elf.len() as u64);
        assert_eq!(module.depends, ["mbcache", "jbd2", "crc_16"]);
        assert_eq!(module.aliases().collect::<Vec<_>>(), ["fs-ext4"]);
        assert_eq!(module.softdeps, ["pre: crypto-crc32c"]);
        assert_eq!(module.firmware, ["some/file.bin"]);
    }

    #[test]
    fn name_falls_back_to_the_file() {
        let module = Module::parse("kernel/a/snd-hda.ko", &testing::module(&["license=GPL"])).unwrap();
        assert_eq!(module.name, "snd_hda");
    }

    #[test]
    fn other_file_is_an_error() {
        let error = Module::parse("a.ko", b"not elf").unwrap_err().to_string();
        assert!(error.starts_with("not a readable ELF file"), "{error}");
    }

    #[test]
    fn soft_dependencies_keep_their_side() {
        assert_eq!(softdep_names("pre: a b post: c"), (vec!["a", "b"], vec!["c"]));
        assert_eq!(softdep_names("a pre: b"), (vec!["b"], vec![]), "kmod ignores words before a side");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = Module::parse("a.ko", &bytes);
            let _ = Module::from_modinfo("a.ko", &bytes);
        }

        #[test]
        fn never_panics_on_a_damaged_module(at in 0usize..600, byte: u8) {
            let mut elf = testing::module(&["name=a", "depends=b", "alias=c"]);
            let at = at % elf.len();
            elf[at] = byte;
            let _ = Module::parse("a.ko", &elf);
        }
    }
}
