//! What the kernel tells about memory and `/data`, and what the root tells about itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use krazy_boot::api::status::{Memory, Space};
use krazy_boot::manifest::{self, Manifest};

use crate::problem::{Kind, Problem};

/// The longest manifest that is read: far beyond what a root with thousands of services has.
const MAX_MANIFEST: u64 = 4 << 20;

/// Reads `/proc/meminfo` (proc(5)).
pub(crate) fn read_memory(root: &Path) -> Result<Memory, Problem> {
    let text = std::fs::read_to_string(root.join("proc/meminfo"))
        .map_err(|error| Problem::from_io(&error, "/proc/meminfo"))?;
    Ok(parse_memory(&text))
}

fn parse_memory(text: &str) -> Memory {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    };
    Memory { total: field("MemTotal"), available: field("MemAvailable") }
}

/// Returns the space of the file system that `/data` is on.
pub(crate) fn data_space(root: &Path) -> Result<Space, Problem> {
    let stat = rustix::fs::statvfs(root.join("data")).map_err(|errno| Problem::from_errno(errno, "/data"))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { total: bytes(stat.f_blocks), available: bytes(stat.f_bavail) })
}

/// The manifest of the root that runs.
pub(crate) fn read_manifest(root: &Path) -> Result<Manifest, Problem> {
    let failed = |why: &dyn std::fmt::Display| {
        Problem::new(Kind::Internal, format!("failed to read /{}: {why}", manifest::PATH))
    };
    let file = File::open(root.join(manifest::PATH)).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    Manifest::from_json(&bytes).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:        8148776 kB\nMemFree: 1 kB\nMemAvailable:    7000000 kB\n";
        assert_eq!(parse_memory(text), Memory { total: 8_148_776 * 1024, available: 7_000_000 * 1024 });
        assert_eq!(parse_memory("nonsense"), Memory { total: 0, available: 0 });
    }
}
