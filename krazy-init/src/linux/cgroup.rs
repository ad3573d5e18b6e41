//! Cgroups (version 2), one for each service: its processes are counted, limited and killed as a whole.
//! Source: Linux `Documentation/admin-guide/cgroup-v2.rst`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::mounts;

/// The mount point of the hierarchy.
const ROOT: &str = "/sys/fs/cgroup";

/// The parent of all services' cgroups; init itself stays in the root.
const SERVICES: &str = "/sys/fs/cgroup/services";

/// Controllers that are enabled if the kernel has them.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// The most processes and threads of one service, so that a fork bomb leaves some to the others.
const MAX_TASKS: u64 = 4096;

/// A service's cgroup.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: File,
}

/// Creates the parent of all services and enables the controllers below it. Fails only if the kernel has no cgroups:
/// controllers that it lacks are skipped.
pub(crate) fn prepare() -> io::Result<()> {
    // Top down: a cgroup offers only those controllers that its parent has enabled. The root alone may have processes
    // besides children with controllers, so init can stay in it ("No Internal Process Constraint").
    enable(Path::new(ROOT))?;
    mounts::create_directory(SERVICES)?;
    enable(Path::new(SERVICES))
}

fn enable(group: &Path) -> io::Result<()> {
    let offered = fs::read_to_string(group.join("cgroup.controllers"))?;
    for controller in offered.split_ascii_whitespace().filter(|name| CONTROLLERS.contains(name)) {
        fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(())
}

/// Resource limits of a service; `None` is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of memory. Default: no limit; the plan of services gives [`default_memory`].
    pub(crate) memory: Option<u64>,
    /// Processes and threads. Default: [`MAX_TASKS`], or half of those of the machine.
    pub(crate) tasks: Option<u32>,
    /// Weight of its share of a busy CPU. Default: 100.
    pub(crate) cpu_weight: Option<u32>,
}

impl Cgroup {
    /// Creates the cgroup of service `name`. A limit has no effect if the kernel lacks its controller.
    pub(crate) fn create(name: &str, limits: Limits) -> io::Result<Self> {
        let path = Path::new(SERVICES).join(name);
        mounts::create_directory(&path)?;
        let directory = File::open(&path)?;
        let group = Cgroup { path, directory };
        group.set_if_supported("pids.max", &limits.tasks.map_or_else(max_tasks, u64::from).to_string())?;
        if let Some(memory) = limits.memory {
            group.set_if_supported("memory.max", &memory.to_string())?;
        }
        if let Some(weight) = limits.cpu_weight {
            group.set_if_supported("cpu.weight", &weight.to_string())?;
        }
        // When memory runs out, the whole service is killed and restarted, because the loss of one process of several
        // may leave the others waiting for it.
        group.set_if_supported("memory.oom.group", "1")?;
        Ok(group)
    }

    /// Its directory, for [`launch`](super::launch) to create a child in.
    pub(crate) fn directory(&self) -> &File {
        &self.directory
    }

    /// Kills all its processes, also those that fork meanwhile (Linux 5.14).
    pub(crate) fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Returns true if any process is left in it.
    pub(crate) fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
    }

    /// Returns the memory of its processes and page cache in bytes, if the kernel counts it.
    pub(crate) fn memory(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("memory.current")).ok()?.trim().parse().ok()
    }

    /// Returns how often one of its processes, or all together, were killed because memory ran out, if the kernel counts it.
    pub(crate) fn out_of_memory_kills(&self) -> Option<u64> {
        let text = fs::read_to_string(self.path.join("memory.events")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
    }

    fn set_if_supported(&self, file: &str, value: &str) -> io::Result<()> {
        match OpenOptions::new().write(true).open(self.path.join(file)) {
            Ok(mut file) => io::Write::write_all(&mut file, value.as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The memory of the machine in bytes, without what the kernel itself has taken at its start.
pub(crate) fn total_memory() -> u64 {
    let memory = rustix::system::sysinfo();
    memory.totalram as u64 * u64::from(memory.mem_unit)
}

/// The memory limit of a service that has none of its own: three quarters of the machine's, so that a service that takes
/// all is the one that ends, before the kernel has to choose among all of them.
pub(crate) fn default_memory() -> u64 {
    total_memory() / 4 * 3
}

/// Returns [`MAX_TASKS`], or half of the threads that a small machine can have.
fn max_tasks() -> u64 {
    let all =
        fs::read_to_string("/proc/sys/kernel/threads-max").ok().and_then(|text| text.trim().parse().ok());
    all.map_or(MAX_TASKS, |all: u64| (all / 2).clamp(64, MAX_TASKS))
}
