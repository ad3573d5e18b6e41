//! The modules of one kernel and how they depend on each other.

pub(crate) mod modinfo;
mod selection;

pub(crate) use self::selection::{Selection, SelectionError};

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Explain, Failure, Result};
use crate::files::io_failure;
use crate::kernel::index::modinfo::{Module, name_of, normalized, softdep_names};

/// Raised whenever the stored form changes; an older index is made anew.
const FORMAT: u32 = 1;

/// The failure of reading a stored index.
#[derive(Debug, thiserror::Error)]
enum IndexError {
    #[error("failed to read the module index {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("failed to read the module index {}: {error}", path.display())]
    Syntax { path: PathBuf, error: serde_json::Error },
    #[error("failed to read the module index {}: it has format {found}, not {FORMAT}", path.display())]
    Format { path: PathBuf, found: u32 },
}

impl Explain for IndexError {
    fn exit(&self) -> Exit {
        Exit::Fetch
    }

    fn help(&self) -> Option<String> {
        Some("remove the directory it is in; the next run makes it anew".to_owned())
    }
}

/// All modules of a kernel, read once when its package is unpacked and stored beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModuleIndex {
    format: u32,
    /// Sorted by name.
    modules: Vec<Module>,
    /// Names of what is built into the kernel image, sorted.
    builtin: Vec<String>,
}

impl ModuleIndex {
    /// An index of `modules`, with `builtin` the text of `modules.builtin` (one path a line).
    pub(crate) fn new(mut modules: Vec<Module>, builtin: &str) -> Self {
        modules.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
        modules.dedup_by(|a, b| a.name == b.name);
        let mut builtin: Vec<_> =
            builtin.lines().map(str::trim).filter(|l| !l.is_empty()).map(name_of).collect();
        builtin.sort();
        builtin.dedup();
        let mut index = ModuleIndex { format: FORMAT, modules, builtin };
        index.resolve_softdeps();
        index
    }

    /// Turns the names in soft dependencies, which may be aliases, into modules. Names that match no
    /// module are dropped: a soft dependency may be absent, and may be built in.
    fn resolve_softdeps(&mut self) {
        let mut wanted: HashSet<&str> = HashSet::new();
        for softdep in self.modules.iter().flat_map(|module| &module.softdeps) {
            let (pre, post) = softdep_names(softdep);
            wanted.extend(pre.into_iter().chain(post));
        }
        let mut answers: HashMap<String, Vec<String>> = HashMap::new();
        for &name in &wanted {
            if let Some(module) = self.get(name) {
                answers.insert(name.to_owned(), vec![module.name.clone()]);
            }
        }
        for module in &self.modules {
            for alias in module.aliases().filter(|alias| wanted.contains(alias) && self.get(alias).is_none())
            {
                let found = answers.entry(alias.to_owned()).or_default();
                if found.last() != Some(&module.name) {
                    found.push(module.name.clone());
                }
            }
        }
        let resolve = |names: Vec<&str>| -> Vec<String> {
            names.into_iter().filter_map(|name| answers.get(name)).flatten().cloned().collect()
        };
        for module in &mut self.modules {
            for softdep in &module.softdeps {
                let (pre, post) = softdep_names(softdep);
                module.pre.extend(resolve(pre));
                module.post.extend(resolve(post));
            }
        }
    }

    /// Every module, sorted by name.
    pub(crate) fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Names of what is built into the kernel image, sorted.
    pub(crate) fn builtin(&self) -> &[String] {
        &self.builtin
    }

    /// The module called `name`; `-` and `_` are the same.
    pub(crate) fn get(&self, name: &str) -> Option<&Module> {
        let name = normalized(name);
        self.modules
            .binary_search_by(|module| module.name.as_str().cmp(&name))
            .ok()
            .map(|at| &self.modules[at])
    }

    /// Returns true if `name` is part of the kernel image; `-` and `_` are the same.
    pub(crate) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.binary_search(&normalized(name)).is_ok()
    }

    /// Reads an index stored by [`ModuleIndex::save`].
    pub(crate) fn load(file: &Path) -> Result<Self> {
        let path = || file.to_owned();
        let bytes = std::fs::read(file).map_err(|error| IndexError::Read { path: path(), error })?;
        let index: ModuleIndex =
            serde_json::from_slice(&bytes).map_err(|error| IndexError::Syntax { path: path(), error })?;
        if index.format != FORMAT {
            return Err(IndexError::Format { path: path(), found: index.format }.into());
        }
        Ok(index)
    }

    /// Writes the index to `file`, to be read by [`ModuleIndex::load`].
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(Failure::other)?;
        std::fs::write(file, bytes).map_err(io_failure("write", file))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A small index for tests of what uses one.

    use super::*;
    use crate::kernel::index::modinfo::testing::module;

    /// Modules as `(path below kernel/, .modinfo strings)`; the name comes from the path.
    pub(crate) fn index(modules: &[(&str, &[&str])], builtin: &[&str]) -> ModuleIndex {
        let modules = modules
            .iter()
            .map(|(path, info)| Module::parse(&format!("kernel/{path}"), &module(info)).unwrap())
            .collect();
        let builtin: String = builtin.iter().map(|name| format!("kernel/{name}.ko\n")).collect();
        ModuleIndex::new(modules, &builtin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_dependencies_find_modules_behind_aliases() {
        let index = testing::index(
            &[
                ("fs/ext4.ko", &["softdep=pre: crypto-crc32c vanished zram", "softdep=post: late-one"]),
                ("crypto/crc32c_generic.ko", &["alias=crc32c", "alias=crypto-crc32c"]),
                ("crypto/crc32c-intel.ko", &["alias=crypto-crc32c"]),
                ("late_one.ko", &["alias=nothing"]),
            ],
            &["zram"],
        );
        let ext4 = index.get("ext4").unwrap();
        assert_eq!(ext4.pre, ["crc32c_generic", "crc32c_intel"]);
        assert_eq!(ext4.post, ["late_one"]);
    }

    #[test]
    fn survives_a_round_trip_and_names_a_damaged_file() {
        let index = testing::index(&[("a/b-c.ko", &["alias=x", "alias=y"])], &["drivers/d-e"]);
        assert!(index.is_builtin("d_e") && index.is_builtin("d-e") && !index.is_builtin("b_c"));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("modules.json");
        index.save(&file).unwrap();
        assert_eq!(ModuleIndex::load(&file).unwrap(), index);

        std::fs::write(&file, r#"{"format":0,"modules":[],"builtin":[]}"#).unwrap();
        let error = ModuleIndex::load(&file).unwrap_err();
        assert!(error.to_string().ends_with("modules.json: it has format 0, not 1"), "{error}");
        assert_eq!(error.exit(), Exit::Fetch);
    }
}
