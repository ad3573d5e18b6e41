//! One cgroup (version 2) a service: what it starts can be counted, limited, and ended as a whole.
//! Source: Linux `Documentation/admin-guide/cgroup-v2.rst`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The parent of all services' cgroups; init itself stays in the root.
const SERVICES: &str = "/sys/fs/cgroup/services";

/// Controllers that are of use if the kernel has them.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// The most processes and threads of one service, so that a fork bomb leaves the others room to live.
const MAX_TASKS: u64 = 4096;

/// A service's cgroup.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    folder: File,
}

/// Makes the parent of all services and hands the controllers down. A kernel without cgroups, or without some
/// controllers, is fine: what is missing is returned as an error only if there are no cgroups at all.
pub(crate) fn prepare() -> io::Result<()> {
    enable(Path::new(ROOT))?;
    match fs::create_dir(SERVICES) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    enable(Path::new(SERVICES))
}

fn enable(folder: &Path) -> io::Result<()> {
    let offered = fs::read_to_string(folder.join("cgroup.controllers"))?;
    for controller in offered.split_ascii_whitespace().filter(|name| CONTROLLERS.contains(name)) {
        fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(())
}

/// What a service may use; `None` is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of memory: all there is.
    pub(crate) memory: Option<u64>,
    /// Processes and threads: [`MAX_TASKS`] or half of what the machine has.
    pub(crate) tasks: Option<u32>,
    /// Share of a busy CPU: 100.
    pub(crate) cpu_weight: Option<u32>,
}

impl Cgroup {
    /// Makes the cgroup of service `name`. A limit whose controller the kernel lacks does not hold.
    pub(crate) fn create(name: &str, limits: Limits) -> io::Result<Self> {
        let path = Path::new(SERVICES).join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let folder = File::open(&path)?;
        let group = Cgroup { path, folder };
        group.set_if_there("pids.max", &limits.tasks.map_or_else(max_tasks, u64::from).to_string())?;
        if let Some(memory) = limits.memory {
            group.set_if_there("memory.max", &memory.to_string())?;
        }
        if let Some(weight) = limits.cpu_weight {
            group.set_if_there("cpu.weight", &weight.to_string())?;
        }
        // When memory runs out the service ends as a whole and is started again, instead of limping on.
        group.set_if_there("memory.oom.group", "1")?;
        Ok(group)
    }

    /// Its folder, for a child to be made in.
    pub(crate) fn folder(&self) -> &File {
        &self.folder
    }

    /// Kills every process in it, also those that fork meanwhile (Linux 5.14).
    pub(crate) fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Whether any process is left in it.
    pub(crate) fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
    }

    /// Memory of all its processes and its page cache in bytes, if the kernel counts it.
    pub(crate) fn memory(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("memory.current")).ok()?.trim().parse().ok()
    }

    fn set_if_there(&self, file: &str, value: &str) -> io::Result<()> {
        match OpenOptions::new().write(true).open(self.path.join(file)) {
            Ok(mut file) => io::Write::write_all(&mut file, value.as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// [`MAX_TASKS`], or half of what a small machine can have at all.
fn max_tasks() -> u64 {
    let all =
        fs::read_to_string("/proc/sys/kernel/threads-max").ok().and_then(|text| text.trim().parse().ok());
    all.map_or(MAX_TASKS, |all: u64| (all / 2).clamp(64, MAX_TASKS))
}
