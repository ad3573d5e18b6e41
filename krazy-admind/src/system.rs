//! What the kernel tells about memory and `/data`.

use std::path::Path;

use serde::Serialize;

use crate::problem::Problem;

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    /// What programs could still take without swapping.
    pub(crate) available: u64,
}

/// Space in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Space {
    pub(crate) total: u64,
    /// What is left for everybody but root's reserve.
    pub(crate) available: u64,
}

impl Memory {
    /// From `/proc/meminfo` (proc(5)).
    pub(crate) fn read(root: &Path) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(root.join("proc/meminfo"))
            .map_err(|error| Problem::from_io(&error, "/proc/meminfo"))?;
        Ok(Memory::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
            kib.unwrap_or(0).saturating_mul(1024)
        };
        Memory { total: field("MemTotal"), available: field("MemAvailable") }
    }
}

impl Space {
    /// Of the file system that `/data` is on.
    pub(crate) fn of_data(root: &Path) -> Result<Self, Problem> {
        let stat =
            rustix::fs::statvfs(root.join("data")).map_err(|errno| Problem::from_errno(errno, "/data"))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { total: bytes(stat.f_blocks), available: bytes(stat.f_bavail) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:        8148776 kB\nMemFree: 1 kB\nMemAvailable:    7000000 kB\n";
        assert_eq!(Memory::parse(text), Memory { total: 8_148_776 * 1024, available: 7_000_000 * 1024 });
        assert_eq!(Memory::parse("nonsense"), Memory { total: 0, available: 0 });
    }
}
