//! Takes an image apart for the judges, with the partition table that `sfdisk` prints and no code of ours.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::setup::judges;

/// A partition as `sfdisk` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// The type byte.
    pub kind: u8,
}

/// Reads the partition table of `image` with `sfdisk --json`. Also returns the disk's label id.
pub fn partitions(image: &Path) -> Result<(String, Vec<Partition>)> {
    let json = succeed(judges::command("sfdisk")?.arg("--json").arg(image))?.stdout;
    let json: Value = serde_json::from_slice(&json)?;
    let table = &json["partitiontable"];
    let id = table["id"].as_str().context("sfdisk printed no id")?.to_owned();
    let partitions = table["partitions"].as_array().context("sfdisk printed no partitions")?;
    let partitions = partitions.iter().map(|partition| {
        let number = |key: &str| partition[key].as_u64().with_context(|| format!("no {key}"));
        let kind = partition["type"].as_str().context("no type")?;
        Ok(Partition {
            start: number("start")? * 512,
            len: number("size")? * 512,
            kind: u8::from_str_radix(kind, 16)?,
        })
    });
    Ok((id, partitions.collect::<Result<_>>()?))
}

/// Copies a partition into a sparse file of its own in `directory`.
pub fn extract(image: &Path, partition: Partition, directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let mut source = File::open(image)?;
    source.seek(SeekFrom::Start(partition.start))?;
    let mut source = source.take(partition.len);
    let mut target = File::create(&path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut position = 0;
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        if buffer[..count].iter().any(|&byte| byte != 0) {
            target.seek(SeekFrom::Start(position))?;
            target.write_all(&buffer[..count])?;
        }
        position += count as u64;
    }
    target.set_len(position)?;
    Ok(path)
}

/// Runs a judge whose exit status 0 is its approval; the error carries what it printed.
pub fn succeed(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(output)
}

/// A file system in memory. It is unmounted when this value is dropped.
#[derive(Debug)]
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    /// Mounts a file system of `size` on the new `directory`.
    pub fn mount(directory: PathBuf, size: &str) -> Result<Self> {
        std::fs::create_dir(&directory)?;
        let options = format!("size={size}");
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "small"]).arg(&directory))?;
        Ok(SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        // While a test already fails, a second panic would hide its message.
        if !std::thread::panicking() {
            assert!(unmounted.is_ok_and(|status| status.success()));
        }
    }
}
