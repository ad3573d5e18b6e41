//! Facts from the kernel about memory and `/data`, and the manifest of the running root.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use krazy_boot::api::status::{Memory, Space};
use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::disk::slot::Slot;
use krazy_boot::manifest::{self, Manifest};

use crate::problem::{Kind, Problem};

/// Length at which a manifest is cut off; one with thousands of services is shorter.
const MAX_MANIFEST_LEN: u64 = 4 << 20;

/// Reads `/proc/meminfo` (proc(5)).
pub(super) fn read_memory(root: &Path) -> Result<Memory, Problem> {
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

/// Returns the space of the file system at `/data`.
pub(super) fn data_space(root: &Path) -> Result<Space, Problem> {
    let stat = rustix::fs::statvfs(root.join("data")).map_err(|errno| Problem::from_errno(errno, "/data"))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { total: bytes(stat.f_blocks), available: bytes(stat.f_bavail) })
}

/// Reads the manifest of the running root.
pub(crate) fn read_manifest(root: &Path) -> Result<Manifest, Problem> {
    let failed = |why: &dyn std::fmt::Display| {
        Problem::new(Kind::Internal, format!("failed to read /{}: {why}", manifest::PATH))
    };
    let file = File::open(root.join(manifest::PATH)).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST_LEN).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    Manifest::from_json(&bytes).map_err(|error| failed(&error))
}

/// Reads the running slot from the kernel command line. Returns `None` if that is unreadable or names no slot.
pub(super) fn running_slot(root: &Path) -> Option<Slot> {
    let line = std::fs::read_to_string(root.join("proc/cmdline")).ok()?;
    CommandLine::parse(&line).ok()?.slot()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_values_are_converted_to_bytes() {
        let text = "MemTotal:        8148776 kB\nMemFree: 1 kB\nMemAvailable:    7000000 kB\n";
        assert_eq!(parse_memory(text), Memory { total: 8_148_776 * 1024, available: 7_000_000 * 1024 });
        assert_eq!(parse_memory("nonsense"), Memory { total: 0, available: 0 });
    }
}
