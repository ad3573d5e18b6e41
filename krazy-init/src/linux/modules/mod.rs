//! Kernel modules: from a device's modalias to the files to load. Source: modules.dep(5) of kmod, and `modules.alias` in
//! its text form, both written by depmod.
//!
//! The files are streamed and never held in memory, because `modules.alias` of a distribution's kernel alone is larger
//! than the memory of PID 1. Not supported: compressed modules; images have them uncompressed in a compressed file system.

mod glob;
mod present;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

pub(crate) use glob::matches;
pub(crate) use present::present_aliases;

/// The modules of one kernel release.
#[derive(Clone, Debug)]
pub(crate) struct Modules {
    directory: PathBuf,
    parameters: Parameters,
}

/// Module parameters of the kernel command line: `NAME.PARAMETER=VALUE`, `modprobe.blacklist=NAME,NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    values: BTreeMap<String, String>,
    blacklist: Vec<String>,
}

impl Parameters {
    /// Parses the module parameters of a command line.
    pub(crate) fn from_command_line(line: &str) -> Self {
        let mut parameters = Parameters::default();
        for word in line.split_ascii_whitespace() {
            if let Some(names) = word.strip_prefix("modprobe.blacklist=") {
                parameters.blacklist.extend(names.split(',').map(normalized));
            } else if let Some((name, assignment)) = word.split_once('.')
                && !name.contains('=')
            {
                let values = parameters.values.entry(normalized(name)).or_default();
                if !values.is_empty() {
                    values.push(' ');
                }
                values.push_str(assignment);
            }
        }
        parameters
    }

    fn of(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// Returns true if the command line has a parameter for module `name`.
    pub(crate) fn mention(&self, name: &str) -> bool {
        self.values.contains_key(&normalized(name))
    }
}

impl Modules {
    /// Returns the modules in `directory`, usually `/lib/modules/RELEASE`. It need not exist, because a kernel may have
    /// everything built in.
    pub(crate) fn new(directory: PathBuf, parameters: Parameters) -> Self {
        Modules { directory, parameters }
    }

    /// Returns the modules of the running kernel.
    pub(crate) fn running(parameters: Parameters) -> Self {
        Modules::new(Path::new("/lib/modules").join(release()), parameters)
    }

    /// Returns the names of the modules for devices with these modaliases, without those on the blacklist.
    pub(crate) fn for_aliases(&self, aliases: &[String]) -> io::Result<Vec<String>> {
        let mut found: Vec<String> = Vec::new();
        let Some(mut lines) = Lines::open(&self.directory.join("modules.alias"))? else {
            return Ok(found);
        };
        while let Some(line) = lines.next()? {
            let Some((pattern, name)) = parse_alias(line) else { continue };
            if aliases.iter().any(|alias| matches(pattern, alias))
                && !found.iter().any(|known| known == name)
                && !self.is_blacklisted(name)
            {
                found.push(name.to_owned());
            }
        }
        Ok(found)
    }

    /// Returns true if the command line forbids to load `name` for a device.
    pub(crate) fn is_blacklisted(&self, name: &str) -> bool {
        self.parameters.blacklist.contains(&normalized(name))
    }

    /// Loads module `name` after everything it depends on or asks for. Returns false if it is not in `modules.dep` or has
    /// no file, because it is built in or not in the image.
    pub(crate) fn load(&self, name: &str) -> Result<bool, ModuleError> {
        self.load_once(name, &mut Vec::new())
    }

    /// The same for a module that is not in `begun`, because soft dependencies can go in circles.
    fn load_once(&self, name: &str, begun: &mut Vec<String>) -> Result<bool, ModuleError> {
        let name = normalized(name);
        if begun.contains(&name) {
            return Ok(true);
        }
        begun.push(name.clone());
        let Some((path, dependencies)) = self.find(&name)? else { return Ok(false) };
        if !self.directory.join(&path).exists() {
            return Ok(false);
        }
        // depmod lists a module's dependencies before those of the dependencies, so they load from the end.
        for file in dependencies.split_ascii_whitespace().rev().chain([path.as_str()]) {
            let soft = self.soft_dependencies(&module_name(file))?;
            // The module runs without these, if not as well.
            for before in &soft.before {
                let _optional = self.load_once(before, begun);
            }
            self.insert(file)?;
            for after in &soft.after {
                let _optional = self.load_once(after, begun);
            }
        }
        Ok(true)
    }

    fn soft_dependencies(&self, name: &str) -> io::Result<SoftDependencies> {
        let Some(mut lines) = Lines::open(&self.directory.join("modules.softdep"))? else {
            return Ok(SoftDependencies::default());
        };
        let mut found = SoftDependencies::default();
        while let Some(line) = lines.next()? {
            let mut words = line.split_ascii_whitespace();
            if words.next() == Some("softdep") && words.next().is_some_and(|word| normalized(word) == name) {
                found.extend(words);
            }
        }
        Ok(found)
    }

    /// Returns the file of module `name`, relative to the directory; `None` if `modules.dep` does not list it.
    pub(crate) fn path_of(&self, name: &str) -> io::Result<Option<String>> {
        Ok(self.find(name)?.map(|(path, _)| path))
    }

    /// Returns the file of module `name`, and the files that it depends on.
    fn find(&self, name: &str) -> io::Result<Option<(String, String)>> {
        let name = normalized(name);
        let Some(mut lines) = Lines::open(&self.directory.join("modules.dep"))? else { return Ok(None) };
        while let Some(line) = lines.next()? {
            if let Some((path, dependencies)) = line.split_once(':')
                && module_name(path) == name
            {
                return Ok(Some((path.to_owned(), dependencies.to_owned())));
            }
        }
        Ok(None)
    }

    /// Loads the modules that `request` names, by name or by an alias such as `fs-vfat`. Returns true if one was loaded.
    pub(crate) fn request(&self, request: &str) -> Result<bool, ModuleError> {
        if self.load(request)? {
            return Ok(true);
        }
        let mut loaded = false;
        for name in self.for_aliases(&[request.to_owned()])? {
            loaded |= self.load(&name)?;
        }
        Ok(loaded)
    }

    fn insert(&self, path: &str) -> Result<(), ModuleError> {
        insert(&self.directory.join(path), &self.parameters)
    }
}

/// Returns the running kernel's release.
pub(crate) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The modules that one asks for without needing their symbols.
#[derive(Debug, Default, PartialEq, Eq)]
struct SoftDependencies {
    before: Vec<String>,
    after: Vec<String>,
}

impl SoftDependencies {
    /// Adds the rest of a line of `modules.softdep`: `pre: NAME… post: NAME…`.
    fn extend<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        let mut side = None;
        for word in words {
            match word {
                "pre:" => side = Some(&mut self.before),
                "post:" => side = Some(&mut self.after),
                name => {
                    if let Some(side) = &mut side {
                        side.push(name.to_owned());
                    }
                }
            }
        }
    }
}

/// The reason why a module was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    /// Its hardware is missing, which is no failure: an image has the drivers of machines of all kinds.
    #[error("its hardware is not there")]
    Absent,
    /// It uses symbols of a module that is not loaded.
    #[error("it needs a module that is not loaded, or is for another kernel")]
    Symbols,
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Loads the module file at `path` with its parameters of the command line, unless it is loaded.
fn insert(path: &Path, parameters: &Parameters) -> Result<(), ModuleError> {
    use rustix::io::Errno;
    let name = module_name(&path.to_string_lossy());
    // The kernel notices a second time only when it has read, verified and unpacked the file.
    if std::fs::read_to_string(format!("/sys/module/{name}/initstate")).is_ok_and(|state| state == "live\n") {
        return Ok(());
    }
    let file = File::open(path)?;
    let parameters = parameters.of(&name);
    let parameters = CString::new(parameters).map_err(io::Error::from)?;
    match rustix::system::finit_module(&file, &parameters, 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NODEV) => Err(ModuleError::Absent),
        // The file has been opened, so the missing entry is a symbol.
        Err(Errno::NOENT) => Err(ModuleError::Symbols),
        Err(error) => Err(ModuleError::Io(error.into())),
    }
}

/// Returns the name of the module in file `path`.
pub(crate) fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normalized(file.split(".ko").next().unwrap_or(file))
}

/// Replaces `-` by `_`: the kernel and its files use both for the same name.
fn normalized(name: &str) -> String {
    name.replace('-', "_")
}

/// Parses `alias PATTERN NAME`.
fn parse_alias(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_ascii_whitespace();
    (words.next()? == "alias").then_some(())?;
    Some((words.next()?, words.next()?))
}

/// Lines of a text file, read through one buffer.
struct Lines {
    reader: BufReader<File>,
    buffer: Vec<u8>,
}

impl Lines {
    /// Opens a file; `None` if it does not exist.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Lines { reader: BufReader::new(file), buffer: Vec::new() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn next(&mut self) -> io::Result<Option<&str>> {
        self.buffer.clear();
        if self.reader.read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(None);
        }
        Ok(Some(std::str::from_utf8(self.buffer.trim_ascii_end()).unwrap_or("")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(alias: &str, parameters: &str) -> (tempfile::TempDir, Modules) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("modules.alias"), alias).unwrap();
        let modules = Modules::new(dir.path().to_owned(), Parameters::from_command_line(parameters));
        (dir, modules)
    }

    #[test]
    fn aliases_of_devices_find_each_module_once() {
        let alias = "# Aliases extracted from modules themselves.\n\
            alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
            alias virtio:d00000001v* virtio_net\n\
            alias virtio:d0000000[12]v* virtio_net\n\
            alias virtio:d00000001v* virtio_bad\n";
        let (_dir, modules) = modules(alias, "quiet modprobe.blacklist=virtio-bad");
        let aliases = ["virtio:d00000001v00001AF4".to_owned(), "acpi:PNP0103:".to_owned()];
        assert_eq!(modules.for_aliases(&aliases).unwrap(), ["virtio_net"]);
    }

    #[test]
    fn kernel_without_modules_loads_none() {
        let modules = Modules::new("/nowhere".into(), Parameters::default());
        assert!(modules.for_aliases(&["pci:x".to_owned()]).unwrap().is_empty());
        assert!(!modules.request("fs-vfat").unwrap());
    }

    #[test]
    fn soft_dependencies_are_found_by_either_spelling() {
        let (dir, modules) = modules("", "");
        let table = "softdep r8169 pre: realtek\nsoftdep jbd2 pre: a b post: c\nsoftdep jbd-2 post: d\n";
        std::fs::write(dir.path().join("modules.softdep"), table).unwrap();
        let strings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let found = modules.soft_dependencies("jbd2").unwrap();
        assert_eq!((found.before, found.after), (strings(&["a", "b"]), strings(&["c"])));
        assert_eq!(modules.soft_dependencies("jbd_2").unwrap().after, ["d"]);
        assert_eq!(modules.soft_dependencies("ext4").unwrap(), SoftDependencies::default());
    }

    #[test]
    fn soft_dependencies_in_a_circle_end() {
        let (dir, modules) = modules("", "");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("modules.softdep", "softdep a pre: b\nsoftdep b pre: a post: nowhere\n");
        write("modules.dep", "kernel/a.ko:\nkernel/b.ko:\n");
        std::fs::create_dir(dir.path().join("kernel")).unwrap();
        write("kernel/a.ko", "not a module");
        write("kernel/b.ko", "not a module");
        assert!(matches!(modules.load("a"), Err(ModuleError::Io(_))));
    }

    #[test]
    fn module_parameters_are_parsed_from_the_command_line() {
        let parameters =
            Parameters::from_command_line("root=PARTUUID=1.2 nvme-core.io_timeout=9 nvme_core.debug x");
        assert_eq!(parameters.of("nvme_core"), "io_timeout=9 debug");
        assert!(parameters.mention("nvme-core") && !parameters.mention("nvme"));
        assert_eq!(parameters.of("root=PARTUUID=1"), "");
        assert_eq!(module_name("kernel/drivers/nvme/host/nvme-core.ko"), "nvme_core");
    }
}
