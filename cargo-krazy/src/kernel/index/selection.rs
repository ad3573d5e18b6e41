//! The modules that an image carries, in the order they load, and the tables that go with them.
//!
//! The tables have the formats of `depmod` (kmod's `modules.dep(5)`): `modules.dep`, `modules.alias`,
//! `modules.softdep`, `modules.builtin`. They cover the selection only, so a program that follows them never
//! meets a module that is not there.

use std::collections::HashSet;
use std::fmt::Write;

use crate::config::suggestion::closest;
use crate::failure::{Exit, Explain};
use crate::kernel::index::ModuleIndex;
use crate::kernel::index::modinfo::Module;

/// Modules of one [`ModuleIndex`] with everything they depend on.
#[derive(Clone, Debug)]
pub(crate) struct Selection<'a> {
    index: &'a ModuleIndex,
    modules: Vec<&'a Module>,
}

impl ModuleIndex {
    /// The modules named by `defaults` and `required`, and everything they need, in load order.
    ///
    /// Each entry is a name (`virtio_net`, `-` and `_` are the same) or a directory below `kernel/` that ends
    /// in `/` (`drivers/watchdog/`). What a kernel does not have is left out silently for `defaults`, which
    /// are a board's and written for many kernels, and is an error for `required`, which are the user's.
    /// Names of what is built in select nothing.
    pub(crate) fn select(
        &self,
        defaults: &[&str],
        required: &[String],
    ) -> Result<Selection<'_>, SelectionError> {
        let mut wanted: Vec<&Module> = defaults.iter().flat_map(|entry| self.named(entry)).collect();
        for entry in required {
            let found = self.named(entry);
            if found.is_empty() && !self.is_builtin(entry) {
                return Err(self.unknown(entry));
            }
            wanted.extend(found);
        }
        let mut walk = Walk { index: self, seen: HashSet::new(), order: Vec::new() };
        for module in wanted {
            walk.visit(module)?;
        }
        Ok(Selection { index: self, modules: walk.order })
    }

    fn named(&self, entry: &str) -> Vec<&Module> {
        if entry.ends_with('/') {
            let directory = format!("kernel/{}", entry.trim_start_matches('/'));
            self.modules().iter().filter(|module| module.path.starts_with(&directory)).collect()
        } else {
            self.get(entry).into_iter().collect()
        }
    }

    fn unknown(&self, entry: &str) -> SelectionError {
        if entry.ends_with('/') {
            return SelectionError::NoDirectory { entry: entry.to_owned() };
        }
        let names = self.modules().iter().map(|module| &module.name).chain(self.builtin());
        let nearest = closest(entry, names.map(String::as_str)).map(|name| name.to_string());
        SelectionError::NoModule { entry: entry.to_owned(), nearest }
    }
}

/// A requested module that a kernel cannot provide.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectionError {
    /// No module is below the directory.
    #[error("the kernel has no modules below `kernel/{entry}`")]
    NoDirectory {
        /// The directory, which ends in `/`.
        entry: String,
    },
    /// No module has the name.
    #[error("the kernel has no module `{entry}`")]
    NoModule {
        /// The name.
        entry: String,
        /// The most similar name of a module that it has.
        nearest: Option<String>,
    },
    /// A module of the kernel lacks one that it depends on.
    #[error("the kernel's module `{module}` depends on `{dependency}`, which this kernel does not provide")]
    Incomplete {
        /// The module.
        module: String,
        /// The missing module.
        dependency: String,
    },
}

impl Explain for SelectionError {
    fn exit(&self) -> Exit {
        match self {
            SelectionError::NoDirectory { .. } | SelectionError::NoModule { .. } => Exit::Config,
            SelectionError::Incomplete { .. } => Exit::Fetch,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            SelectionError::NoDirectory { .. } => {
                "a directory in `modules` is one below lib/modules/RELEASE/kernel, such as `drivers/watchdog/`"
                    .to_owned()
            }
            SelectionError::NoModule { nearest: Some(name), .. } => format!("did you mean `{name}`?"),
            SelectionError::NoModule { nearest: None, .. } => {
                "remove it from `modules`, or choose a kernel that has it".to_owned()
            }
            SelectionError::Incomplete { .. } => {
                "the kernel bundle is incomplete: give it all modules of its build".to_owned()
            }
        })
    }
}

/// A depth-first walk: what a module needs comes before it, what it asks for afterwards follows it.
struct Walk<'a> {
    index: &'a ModuleIndex,
    seen: HashSet<&'a str>,
    order: Vec<&'a Module>,
}

impl<'a> Walk<'a> {
    /// An explicit stack: dependency chains come from files and must not decide how deep we recurse.
    fn visit(&mut self, module: &'a Module) -> Result<(), SelectionError> {
        enum Step<'a> {
            Enter(&'a Module),
            Leave(&'a Module),
        }
        let mut stack = vec![Step::Enter(module)];
        while let Some(step) = stack.pop() {
            match step {
                Step::Leave(module) => self.order.push(module),
                Step::Enter(module) => {
                    if !self.seen.insert(&module.name) {
                        continue;
                    }
                    stack.extend(self.soft(&module.post).rev().map(Step::Enter));
                    stack.push(Step::Leave(module));
                    let mut needed = Vec::new();
                    needed.extend(self.soft(&module.pre));
                    needed.extend(self.hard(module)?);
                    stack.extend(needed.into_iter().rev().map(Step::Enter));
                }
            }
        }
        Ok(())
    }

    fn soft(&self, names: &'a [String]) -> impl DoubleEndedIterator<Item = &'a Module> + use<'a> {
        let index = self.index;
        names.iter().filter_map(move |name| index.get(name))
    }

    fn hard(&self, module: &'a Module) -> Result<Vec<&'a Module>, SelectionError> {
        let mut needed = Vec::new();
        for name in &module.depends {
            match self.index.get(name) {
                Some(dependency) => needed.push(dependency),
                None if self.index.is_builtin(name) => {}
                None => {
                    let (module, dependency) = (module.name.clone(), name.clone());
                    return Err(SelectionError::Incomplete { module, dependency });
                }
            }
        }
        Ok(needed)
    }
}

impl<'a> Selection<'a> {
    /// The modules, in an order in which each can be loaded.
    pub(crate) fn modules(&self) -> &[&'a Module] {
        &self.modules
    }

    /// The tables for `lib/modules/RELEASE/`: file name and content, sorted by name.
    pub(crate) fn tables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("modules.alias", self.modules_alias()),
            ("modules.builtin", self.modules_builtin()),
            ("modules.dep", self.modules_dep()),
            ("modules.softdep", self.modules_softdep()),
        ]
    }

    /// `PATH: PATH…`, in load order. A line's dependencies are complete and stand so that loading them from
    /// the last to the first is right, as `modprobe` does.
    pub(crate) fn modules_dep(&self) -> String {
        let mut text = String::new();
        for (at, module) in self.modules.iter().enumerate() {
            let _infallible = write!(text, "{}:", module.path);
            let mut needed: HashSet<&str> = module.depends.iter().map(String::as_str).collect();
            // Each of these loads before `module`, so one pass backwards over what precedes it closes the set.
            for earlier in self.modules[..at].iter().rev() {
                if needed.contains(earlier.name.as_str()) {
                    needed.extend(earlier.depends.iter().map(String::as_str));
                    let _infallible = write!(text, " {}", earlier.path);
                }
            }
            text.push('\n');
        }
        text
    }

    /// `alias PATTERN MODULE`, by module in load order.
    pub(crate) fn modules_alias(&self) -> String {
        let mut text = String::new();
        for module in &self.modules {
            for alias in module.aliases() {
                let _infallible = writeln!(text, "alias {alias} {}", module.name);
            }
        }
        text
    }

    /// `softdep MODULE pre: NAME… post: NAME…` with names of modules in the selection.
    pub(crate) fn modules_softdep(&self) -> String {
        let mut text = String::new();
        for module in self.modules.iter().filter(|m| !m.pre.is_empty() || !m.post.is_empty()) {
            let _infallible = write!(text, "softdep {}", module.name);
            for (side, names) in [("pre:", &module.pre), ("post:", &module.post)] {
                if !names.is_empty() {
                    let _infallible = write!(text, " {side} {}", names.join(" "));
                }
            }
            text.push('\n');
        }
        text
    }

    /// `kernel/NAME.ko` for everything built in. The kernel's own list has longer paths; only the names count.
    pub(crate) fn modules_builtin(&self) -> String {
        self.index.builtin().iter().fold(String::new(), |mut text, name| {
            let _infallible = writeln!(text, "kernel/{name}.ko");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::index::testing::index;

    fn sample() -> ModuleIndex {
        index(
            &[
                ("fs/ext4.ko", &["depends=mbcache,jbd2", "softdep=pre: crypto-crc32c", "alias=fs-ext4"]),
                ("fs/jbd2.ko", &["softdep=pre: crypto-crc32c"]),
                ("fs/mbcache.ko", &[]),
                ("crypto/crc32c.ko", &["alias=crypto-crc32c"]),
                ("drivers/net/phy/realtek.ko", &["depends=libphy"]),
                ("drivers/net/phy/libphy.ko", &[]),
                ("drivers/net/r8169.ko", &["depends=libphy", "softdep=pre: realtek"]),
                ("vfio.ko", &["softdep=post: vfio_iommu"]),
                ("vfio_iommu.ko", &["depends=vfio"]),
            ],
            &["drivers/block/virtio-blk"],
        )
    }

    fn names<'a>(selection: &Selection<'a>) -> Vec<&'a str> {
        selection.modules().iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn needs_come_first_and_late_ones_last() {
        let index = sample();
        assert_eq!(names(&index.select(&["ext4"], &[]).unwrap()), ["crc32c", "mbcache", "jbd2", "ext4"]);
        assert_eq!(names(&index.select(&[], &["vfio".into()]).unwrap()), ["vfio", "vfio_iommu"]);
        let net = index.select(&["drivers/net/"], &[]).unwrap();
        assert_eq!(names(&net), ["libphy", "realtek", "r8169"]);
    }

    #[test]
    fn loop_of_dependencies_ends() {
        let index = index(&[("a.ko", &["depends=b"]), ("b.ko", &["depends=a"])], &[]);
        assert_eq!(names(&index.select(&["a"], &[]).unwrap()), ["b", "a"]);
    }

    #[test]
    fn missing_module_is_an_error_for_users_only() {
        let index = sample();
        assert!(index.select(&["nvme", "virtio_blk", "drivers/gpu/"], &[]).unwrap().modules().is_empty());
        assert!(index.select(&[], &["virtio-blk".into()]).unwrap().modules().is_empty(), "built in");

        let error = index.select(&[], &["r8619".into()]).unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no module `r8619`");
        assert_eq!(error.help().as_deref(), Some("did you mean `r8169`?"));
        assert_eq!(error.exit(), Exit::Config);

        let error = index.select(&[], &["drivers/gpu/".into()]).unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no modules below `kernel/drivers/gpu/`");
    }

    #[test]
    fn missing_dependency_is_named() {
        let index = index(&[("a.ko", &["depends=b"])], &[]);
        let error = index.select(&["a"], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kernel's module `a` depends on `b`, which this kernel does not provide"
        );
    }

    #[test]
    fn tables_have_depmods_form() {
        let index = sample();
        let selection = index.select(&["ext4", "r8169", "vfio"], &[]).unwrap();
        let dep = selection.modules_dep();
        assert!(dep.contains("kernel/fs/ext4.ko: kernel/fs/jbd2.ko kernel/fs/mbcache.ko\n"), "{dep}");
        assert!(dep.contains("kernel/fs/mbcache.ko:\n"), "{dep}");
        assert_eq!(selection.modules_alias(), "alias crypto-crc32c crc32c\nalias fs-ext4 ext4\n");
        assert_eq!(
            selection.modules_softdep(),
            "softdep jbd2 pre: crc32c\nsoftdep ext4 pre: crc32c\n\
             softdep r8169 pre: realtek\nsoftdep vfio post: vfio_iommu\n"
        );
        assert_eq!(selection.modules_builtin(), "kernel/virtio_blk.ko\n");
        let files: Vec<_> = selection.tables().into_iter().map(|(name, _)| name).collect();
        assert_eq!(files, ["modules.alias", "modules.builtin", "modules.dep", "modules.softdep"]);
    }
}
