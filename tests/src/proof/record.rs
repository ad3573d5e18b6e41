//! `cargo proof record`: one machine's life, recorded, and every disk that a power cut could have left of it.
//!
//! The life: the first boot with growth of `/data`, a push with its confirmation, a rollback, new credentials, a push
//! that is cut in the middle of the write, the boot after that with the repair of `/boot`, and a trial that is armed.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Scale;
use super::judge::{self, BootJudge};
use super::recording::{Moment, RecordedDisk, Recording};
use super::states::{State, sample};
use super::write_log::Command;
use crate::device::{Device, noise};
use crate::guest::{BOOT_LIMIT, Guest};
use crate::krazy::Krazy;
use crate::outcome::PUSH_LIMIT;
use crate::proxy::Proxy;

/// A small disk, which is cheap to copy.
pub(super) const SMALL: &str = "size = \"320M\"\nboot-size = \"64M\"\nroot-size = \"64M\"";

/// The space behind the image on a larger disk.
const GROWTH: u64 = 64 << 20;

/// Bytes of an update that do not compress.
const NEW: usize = 4 << 20;

/// A file on `/data`, and the moment at which the device had acknowledged it.
struct Acknowledged {
    path: &'static str,
    content: Vec<u8>,
    at: Moment,
}

/// The outcome.
#[derive(Debug)]
pub struct Report {
    recorded: Duration,
    judged: Judged,
}

/// Numbers of what was judged.
#[derive(Debug)]
struct Judged {
    commands: [usize; 2],
    states: usize,
    distinct: usize,
    file_systems: usize,
    clean_boot: usize,
    booted: usize,
    random: usize,
    time: Duration,
}

/// Records the machine, and judges its disks. Any loss is an error.
pub fn run(scale: Scale) -> Result<Report> {
    let begin = Instant::now();
    let mut device = Device::new(SMALL)?;
    let (recording, files) = record(&mut device)?;
    let recorded = begin.elapsed();
    let image = device.krazy.directory.path().join("state.img");
    let judged = judge_all(&recording.read()?, &files, scale, &image, |image| boot(&device.krazy, image))?;
    Ok(Report { recorded, judged })
}

/// Judges the states of a recorded disk: all of them by their content, a sample by its file systems, and one by starting
/// it with `boot`. `image` is the file for one state.
fn judge_all(
    disk: &RecordedDisk,
    files: &[Acknowledged],
    scale: Scale,
    image: &Path,
    boot: impl Fn(&Path) -> Result<()>,
) -> Result<Judged> {
    let begin = Instant::now();
    let first_boot = files.first().context("nothing was acknowledged")?.at;
    let random = scale.of([8, 32, 128]);
    let states = sample(&disk.events, random);
    let in_state = |judged: Result<bool>, state: &State| {
        judged.with_context(|| format!("lost: {state}, of {} events", disk.events.len()))
    };

    let new = disk.replay().disk(&State::default());
    let mut boots = BootJudge::new(&new)?;
    let mut replay = disk.replay();
    let mut distinct = Vec::new();
    for (number, state) in states.iter().enumerate() {
        let judged = boots.judge(&replay.disk(state), disk.includes(state.durable, first_boot));
        if in_state(judged, state)? {
            distinct.push(number);
        }
    }

    let all: Vec<_> = (0..states.len()).collect();
    let checked = evenly(&all, scale.of([8, 100, usize::MAX]));
    let mut clean_boot = 0;
    let mut replay = disk.replay();
    for number in &checked {
        let state = &states[*number];
        replay.disk(state).write_to(image)?;
        clean_boot += usize::from(in_state(file_systems(disk, state, image, files), state)?);
    }

    let started = evenly(&distinct, scale.of([2, 20, usize::MAX]));
    let mut replay = disk.replay();
    for number in &started {
        let state = &states[*number];
        replay.disk(state).write_to(image)?;
        in_state(boot(image).map(|()| true), state)?;
    }
    let count = |flush| disk.events.iter().filter(|event| (event.command == Command::Flush) == flush).count();
    Ok(Judged {
        commands: [count(false), count(true)],
        states: states.len(),
        distinct: distinct.len(),
        file_systems: checked.len(),
        clean_boot,
        booted: started.len(),
        random,
        time: begin.elapsed(),
    })
}

/// Lets the machine live, and returns the recording and the files that it has acknowledged.
fn record(device: &mut Device) -> Result<(Recording, Vec<Acknowledged>)> {
    let image = OpenOptions::new().write(true).open(&device.image)?;
    image.set_len(image.metadata()?.len() + GROWTH)?;
    let mut recording = Recording::of(&device.image, device.krazy.directory.path())?;
    let mut files = Vec::new();
    let put = |device: &Device, recording: &Recording, path: &'static str, content: Vec<u8>| {
        device.put(path, &content)?;
        Ok::<_, anyhow::Error>(Acknowledged { path, content, at: recording.now()? })
    };

    device.boot_with(&recording.arguments()?)?;
    device.put_precious()?;
    files.push(put(device, &recording, "first", noise(11, 50_000))?);
    device.change("good 2", &noise(2, NEW))?;
    device.push(&["qemu"])?.expect(0, "updated")?;
    files.push(put(device, &recording, "updated", noise(12, 5_000))?);
    ensure!(device.krazy(&["rollback", "qemu"])?.code == Some(0), "rollback was refused");
    device.wait_for_slot("a")?;
    device.check("a", "good 1")?;
    device.confirm()?;
    for rotated in ["certificate", "token"] {
        let rotated = device.krazy(&[rotated, "rotate", "qemu"])?;
        ensure!(rotated.code == Some(0), "{rotated:#?}");
    }
    files.push(put(device, &recording, "rotated", noise(13, 500))?);

    // In the middle of the write.
    device.change("good 3", &noise(3, NEW))?;
    let line = Proxy::start(device.address()?)?;
    device.name("line", line.port)?;
    line.hold_after(NEW as u64 / 2);
    let push = device.begin_push(&["line"])?;
    line.wait_until_held(PUSH_LIMIT)?;
    device.cut_power()?;
    push.kill()?;
    device.boot_with(&recording.arguments()?)?;
    device.check("a", "good 1")?;
    device.krazy(&["switch", "qemu", "b"])?.refused("push an update into that slot first")?;

    device.push(&["qemu", "--stage"])?.expect(0, "staged")?;
    files.push(put(device, &recording, "staged", noise(14, 5_000))?);
    ensure!(device.krazy(&["switch", "qemu", "b", "--no-reboot"])?.code == Some(0), "switch was refused");
    device.cut_power()?;
    Ok((recording, files))
}

/// Judges the file systems of `image`, a disk in `state`. Returns true if `/boot` needs no repair.
fn file_systems(disk: &RecordedDisk, state: &State, image: &Path, files: &[Acknowledged]) -> Result<bool> {
    let expected = files.iter().filter(|file| disk.includes(state.durable, file.at));
    let expected: Vec<_> = expected.map(|file| (file.path, &file.content[..])).collect();
    judge::data_file_system(image, &expected)?;
    judge::boot_file_system(image)
}

/// Boots `image` until it serves its API.
fn boot(krazy: &Krazy, image: &Path) -> Result<()> {
    let mut command = krazy.command(["run-qemu", "--target", "x86_64", "--timeout", "3600", "--image"])?;
    command.arg(image);
    Guest::start(command)?.wait_for("serving https", BOOT_LIMIT).map(drop)
}

/// Returns at most `count` of `numbers`, the first and the last among them.
fn evenly(numbers: &[usize], count: usize) -> Vec<usize> {
    let last = numbers.len().saturating_sub(1);
    let steps = count.min(numbers.len()).saturating_sub(1).max(1);
    (0..=steps)
        .filter_map(|n| numbers.get(last * n / steps))
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judged { commands: [writes, flushes], states, distinct, random, .. } = self.judged;
        let Judged { file_systems, clean_boot, booted, time, .. } = self.judged;
        writeln!(f, "{states} states, {states} bootable, 0 lost")?;
        writeln!(
            f,
            "\n- recorded: {writes} writes and discards, {flushes} flushes, in {:.0} s",
            self.recorded.as_secs_f64()
        )?;
        writeln!(
            f,
            "- states at every flush: no write since the last one, all, all but one (each of at most 8, else 8\n  random \
             ones), {random} random subsets if there are more than 2 writes, all with the last one torn at 4 KiB"
        )?;
        writeln!(
            f,
            "- partition table, selector, load table, hashes and credentials: all states, {distinct} different in front\n  \
             of `/data`"
        )?;
        writeln!(
            f,
            "- `e2fsck` and `fsck.fat`: {file_systems} evenly spaced; all have every acknowledged file. `/boot` of {} \
             had to\n  be repaired, without a change to the confirmed slot",
            file_systems - clean_boot
        )?;
        write!(f, "- booted until the API serves: {booted}; judged in {:.0} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_evenly_spaced() {
        assert_eq!(evenly(&[5, 6, 7, 8, 9], 3), [5, 7, 9]);
        assert_eq!(evenly(&[5, 6], 3), [5, 6]);
        assert_eq!(evenly(&[5], 3), [5]);
        assert!(evenly(&[], 3).is_empty());
        assert_eq!(evenly(&[5, 6, 7], usize::MAX), [5, 6, 7]);
    }
}
