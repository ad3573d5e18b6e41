//! The finished kernel as a bundle: a directory or a tar archive of the layout in [`bundle`](crate::kernel::bundle).
//!
//! It appears complete under its name or not at all. Files are sorted, owners and times are zero, so that the same
//! files give the same archive.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::make::Make;
use crate::failure::{Exit, Explain, Failure, Result};
use crate::files::{io_failure, sorted_entries};
use crate::interrupt;
use crate::kernel::bundle::image;
use crate::output::{Destination, write_failure};
use crate::shell::Shell;

/// zstd's level. The image is compressed already; only modules and device trees shrink.
const LEVEL: i32 = 19;

/// A bundle that cannot be made, or not at the requested place.
#[derive(Debug, thiserror::Error)]
enum PackError {
    #[error("{} does not tell its kernel's release", image.display())]
    NoRelease { image: PathBuf },
    #[error("{} is a file, and its name does not end in .tar.zst", output.display())]
    IsFile { output: PathBuf },
    #[error("{} is a directory with other things in it", output.display())]
    OtherContent { output: PathBuf },
}

impl Explain for PackError {
    fn exit(&self) -> Exit {
        match self {
            PackError::NoRelease { .. } => Exit::Build,
            PackError::IsFile { .. } | PackError::OtherContent { .. } => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        let places =
            "`-o` takes the name of a new directory, of a bundle to replace, or of a file ending in .tar.zst";
        match self {
            PackError::NoRelease { .. } => None,
            PackError::IsFile { .. } | PackError::OtherContent { .. } => Some(places.to_owned()),
        }
    }
}

/// The origin of a kernel, packed with the files of the build directory.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The origin of the source, to be shown.
    pub(crate) source: String,
    /// The compiler, as it calls itself.
    pub(crate) compiler: String,
}

/// Gathers the bundle of a finished build. Returns the kernel's release.
pub(crate) fn gather(make: &Make<'_>, origin: &Origin, bundle: &Unfinished, shell: Shell) -> Result<String> {
    let built = make.objects.join(make.target.image);
    let bytes = std::fs::read(&built).map_err(io_failure("read", &built))?;
    let release = image::release(&bytes).ok_or(PackError::NoRelease { image: built })?;
    bundle.write(Path::new("vmlinuz"), &bytes)?;
    bundle.copy(&make.objects.join(".config"), Path::new("config"))?;
    let modules = Path::new("lib/modules").join(&release);
    bundle.copy(&make.objects.join("modules.builtin"), &modules.join("modules.builtin"))?;
    if has_modules(&make.objects)? {
        install_modules(make, bundle, &modules, shell)?;
    }
    for dtbs in make.target.dtbs {
        let from = make.objects.join(dtbs);
        let to = Path::new("dtbs").join(from.file_name().unwrap_or_default());
        for (name, path, _) in sorted_entries(&from)? {
            if name.ends_with(".dtb") {
                bundle.copy(&path, &to.join(name))?;
            }
        }
    }
    let text = format!("source: {}\ncompiler: {}\n", origin.source, origin.compiler);
    bundle.write(Path::new("origin"), text.as_bytes())?;
    Ok(release)
}

/// Returns true if the configuration has modules, which our own fragments switch off.
pub(crate) fn has_modules(objects: &Path) -> Result<bool> {
    let file = objects.join(".config");
    let config = std::fs::read_to_string(&file).map_err(io_failure("read", &file))?;
    Ok(config.lines().any(|line| line == "CONFIG_MODULES=y"))
}

fn install_modules(make: &Make<'_>, bundle: &Unfinished, into: &Path, shell: Shell) -> Result<()> {
    let staging = tempfile::tempdir_in(&make.objects).map_err(io_failure("write", &make.objects))?;
    let to = format!("INSTALL_MOD_PATH={}", staging.path().display());
    // The image writer makes the tables of the modules it takes.
    make.run("the modules", &["modules_install"], &[to, "DEPMOD=true".to_owned()], shell)?;
    for (_, release, _) in sorted_entries(&staging.path().join("lib/modules"))? {
        bundle.copy_directory(&release.join("kernel"), &into.join("kernel"))?;
    }
    Ok(())
}

/// Checks that a bundle can be written to `output`; called before the build, which takes long. Links are resolved;
/// nothing is written.
pub(crate) fn check(output: &Path) -> Result<PathBuf> {
    if !output.is_dir() {
        let resolved = Destination::file(output)?;
        if !is_archive(output) && resolved.exists() {
            return Err(PackError::IsFile { output: output.to_owned() }.into());
        }
        return Ok(resolved);
    }
    if is_archive(output) || !replaceable(output)? {
        return Err(PackError::OtherContent { output: output.to_owned() }.into());
    }
    std::fs::canonicalize(output).map_err(io_failure("read", output))
}

/// An incomplete bundle beside its destination, so that a rename completes it.
pub(crate) struct Unfinished {
    directory: tempfile::TempDir,
    output: PathBuf,
    _cleanup: interrupt::Cleanup,
}

impl Unfinished {
    /// Makes room beside `output`, which [`check`] has checked.
    pub(crate) fn new(output: &Path) -> Result<Self> {
        let parent = match output.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let directory = tempfile::Builder::new()
            .prefix(".unfinished-kernel-")
            .tempdir_in(parent)
            .map_err(|error| write_failure(output, &error))?;
        let remove = directory.path().to_owned();
        // The program ends here anyway, so an error could not be reported.
        let cleanup = interrupt::cleanup(move || drop(std::fs::remove_dir_all(remove)));
        Ok(Unfinished { directory, output: output.to_owned(), _cleanup: cleanup })
    }

    /// Returns the directory of the bundle's files, which exists as soon as it has one.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    /// Adds a file; `to` is its path in the bundle.
    fn write(&self, to: &Path, bytes: &[u8]) -> Result<()> {
        let file = self.bundle().join(to);
        let directory = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        directory.and_then(|()| std::fs::write(&file, bytes)).map_err(|error| self.failure(error))
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let bytes = std::fs::read(from).map_err(io_failure("read", from))?;
        self.write(to, &bytes)
    }

    fn copy_directory(&self, from: &Path, to: &Path) -> Result<()> {
        if !from.exists() {
            return Ok(());
        }
        for (name, path, metadata) in sorted_entries(from)? {
            match metadata.is_dir() {
                true => self.copy_directory(&path, &to.join(name))?,
                false => self.copy(&path, &to.join(name))?,
            }
        }
        Ok(())
    }

    /// Gives the bundle its name.
    pub(crate) fn finish(self) -> Result<()> {
        if is_archive(&self.output) {
            let file = self.archive()?;
            return std::fs::rename(&file, &self.output).map_err(|error| self.failure(error));
        }
        if self.output.exists() {
            // Set aside rather than removed, so that a bundle is there at nearly every moment.
            let old = self.directory.path().join("old");
            std::fs::rename(&self.output, &old).map_err(|error| self.failure(error))?;
        }
        std::fs::rename(self.bundle(), &self.output).map_err(|error| self.failure(error))
    }

    /// Packs the bundle's files into an archive, which is on stable storage then.
    fn archive(&self) -> Result<PathBuf> {
        let failed = |error| self.failure(error);
        let file = self.directory.path().join("bundle.tar.zst");
        let output = File::create(&file).map_err(failed)?;
        let mut builder = tar::Builder::new(zstd::Encoder::new(output, LEVEL).map_err(failed)?);
        self.append(&mut builder, &self.bundle(), "")?;
        let output = builder.into_inner().and_then(zstd::Encoder::finish).map_err(failed)?;
        output.sync_all().map_err(failed)?;
        Ok(file)
    }

    fn append(&self, builder: &mut tar::Builder<impl Write>, directory: &Path, below: &str) -> Result<()> {
        for (name, path, metadata) in sorted_entries(directory)? {
            interrupt::check()?;
            let inner = format!("{below}{name}");
            if metadata.is_dir() {
                self.append(builder, &path, &format!("{inner}/"))?;
                continue;
            }
            let mut header = tar::Header::new_ustar();
            header.set_size(metadata.len());
            header.set_mode(0o644);
            header.set_mtime(0);
            let content = File::open(&path).map_err(io_failure("read", &path))?;
            builder.append_data(&mut header, &inner, content).map_err(|error| self.failure(error))?;
        }
        Ok(())
    }

    fn failure(&self, error: io::Error) -> Failure {
        write_failure(&self.output, &error)
    }
}

fn is_archive(output: &Path) -> bool {
    output.extension().is_some_and(|extension| extension == "zst")
}

/// Returns true if a directory is empty or a bundle.
fn replaceable(directory: &Path) -> Result<bool> {
    Ok(directory.join("vmlinuz").is_file() || sorted_entries(directory)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::tools::{Compiler, Toolchain};
    use super::*;
    use crate::board::Board;
    use crate::kernel::bundle::image::testing::bzimage;

    /// Packs a build directory with these options to `output`.
    fn pack(directory: &Path, config: &str, output: &Path) -> Result<String> {
        let objects = directory.join("objects");
        let toolchain =
            Toolchain { compiler: Compiler::Gcc, variables: Vec::new(), program: "gcc".to_owned() };
        let make = Make {
            tree: directory,
            log: directory.join("log"),
            target: &Board::named("x86_64").unwrap().kernel_build,
            toolchain: &toolchain,
            jobs: std::num::NonZeroUsize::MIN,
            objects,
        };
        make.begin().unwrap();
        std::fs::create_dir_all(make.objects.join("arch/x86/boot")).unwrap();
        std::fs::write(make.objects.join(make.target.image), bzimage("6.9.3-krazy")).unwrap();
        std::fs::write(make.objects.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        std::fs::write(make.objects.join(".config"), config).unwrap();
        let origin = Origin { source: "linux.tar.xz".to_owned(), compiler: "gcc 12".to_owned() };
        let unfinished = Unfinished::new(&check(output)?)?;
        let release = gather(&make, &origin, &unfinished, Shell::default())?;
        unfinished.finish()?;
        Ok(release)
    }

    fn names(directory: &Path) -> Vec<String> {
        sorted_entries(directory).unwrap().into_iter().map(|(name, ..)| name).collect()
    }

    #[test]
    fn bundle_has_the_layout_of_a_path_source() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        std::fs::create_dir(&out).unwrap();
        for name in ["a.tar.zst", "b.tar.zst", "bundle"] {
            assert_eq!(pack(directory.path(), "CONFIG_A=y\n", &out.join(name)).unwrap(), "6.9.3-krazy");
        }
        assert_eq!(names(&out), ["a.tar.zst", "b.tar.zst", "bundle"], "nothing unfinished stays");
        let read = |name: &str| std::fs::read(out.join(name)).unwrap();
        assert!(read("a.tar.zst") == read("b.tar.zst"));
        assert_eq!(names(&out.join("bundle")), ["config", "lib", "origin", "vmlinuz"]);
        for name in ["a.tar.zst", "bundle"] {
            let cache = crate::kernel::source::cache::KernelCache::new(directory.path().join("cache"));
            let bundle = cache.of_path(&out.join(name), "amd64", Shell::default()).unwrap();
            assert_eq!(bundle.release, "6.9.3-krazy");
            let modules = bundle.modules().unwrap();
            assert!(modules.is_builtin("ext4") && modules.modules().is_empty());
        }
    }

    #[test]
    fn bundle_replaces_another_but_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        pack(directory.path(), "CONFIG_A=y\n", &out).unwrap();
        pack(directory.path(), "CONFIG_B=y\n", &out).unwrap();
        assert_eq!(std::fs::read(out.join("config")).unwrap(), b"CONFIG_B=y\n");
        let error = pack(directory.path(), "", directory.path()).unwrap_err();
        assert!(error.to_string().ends_with("is a directory with other things in it"), "{error}");
        assert_eq!(error.exit(), Exit::Usage);
        let file = directory.path().join("notes.txt");
        std::fs::write(&file, "mine").unwrap();
        let error = pack(directory.path(), "", &file).unwrap_err();
        assert!(error.to_string().ends_with("notes.txt is a file, and its name does not end in .tar.zst"));
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        let error = pack(directory.path(), "", &directory.path().join("nowhere/a.tar.zst")).unwrap_err();
        assert!(error.to_string().ends_with("does not exist"), "{error}");
        assert_eq!(error.exit(), Exit::Image);
    }

    #[test]
    fn failed_packing_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        std::fs::create_dir(&out).unwrap();
        // Modules are configured, but there is no Makefile to install them with.
        let error = pack(directory.path(), "CONFIG_MODULES=y\n", &out.join("a.tar.zst")).unwrap_err();
        assert!(error.to_string().starts_with("failed to build the modules"), "{error}");
        assert_eq!(names(&out), [""; 0]);
    }
}
