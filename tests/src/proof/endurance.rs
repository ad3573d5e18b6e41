//! `cargo proof endurance`: many updates, power cuts and power cycles of one machine. Runs add up: each is a row of a
//! table, and has its own random times.
//!
//! At a power cut the disk loses what it had not been told to keep: QEMU is killed, and the disk is rebuilt from its
//! recording with a random part of the writes since the last flush. The host's cache cannot help.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::Scale;
use super::judge;
use super::random::Random;
use super::record::SMALL;
use super::recording::Recording;
use super::states::State;
use super::write_log::Command;
use crate::device::{Device, NAME};
use crate::guest::BOOT_LIMIT;

/// The longest time for which the service writes between two power cuts.
const WRITING: Duration = Duration::from_secs(4);

/// The outcome.
#[derive(Debug)]
pub struct Report {
    pushes: usize,
    cuts: usize,
    cycles: usize,
    formats: usize,
    records: u64,
    lost_writes: usize,
    time: Duration,
}

/// Runs the machine in rounds until the scale's number of them or `limit` is reached: a power cycle, a power cut while
/// the service writes, pushes, a power cut after them, and a format of `/data` that a cut interrupts. Any loss is an error.
pub fn run(scale: Scale, limit: Option<Duration>) -> Result<Report> {
    let begin = Instant::now();
    let [rounds, pushes] = [scale.of([1, 50, 500]), scale.of([1, 4, 4])];
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut machine = Machine::new()?;
    let mut report = Report {
        pushes: 0,
        cuts: 0,
        cycles: 0,
        formats: 0,
        records: 0,
        lost_writes: 0,
        time: Duration::ZERO,
    };

    // The first boot makes `/data` larger, and takes longer than those that follow.
    machine.boot()?;
    machine.cut(&mut random)?;
    for round in 0..rounds {
        if limit.is_some_and(|limit| begin.elapsed() >= limit) {
            break;
        }
        let context = || format!("round {round}");
        let time = machine.boot_time.mul_f64(random.below(120) as f64 / 100.0);
        machine.cycle(time, &mut random).with_context(context)?;
        report.cycles += 1;

        machine.boot().with_context(context)?;
        std::thread::sleep(WRITING.mul_f64((1 + random.below(100)) as f64 / 100.0));
        machine.cut(&mut random).with_context(context)?;

        machine.boot().with_context(context)?;
        for _push in 0..pushes {
            let version = format!("records {}", report.pushes % 2);
            machine.device.change(&version, &[])?;
            machine.device.push(&["qemu"])?.expect(0, "updated").with_context(context)?;
            machine.check_records().with_context(context)?;
            report.pushes += 1;
        }
        machine.cut(&mut random).with_context(context)?;
        report.cuts += 2;

        machine.boot().with_context(context)?;
        machine.format(&mut random).with_context(context)?;
        report.formats += 1;
        println!("round {round}: {} pushes, {} records", report.pushes, machine.records);
    }
    machine.boot()?;
    machine.device.power_off()?;
    ensure!(judge::boot_file_system(&machine.device.image)?, "fsck.fat has a remark about /boot");
    judge::data_file_system(&machine.device.image, &[])?;
    let Machine { records, formatted, lost_writes, .. } = machine;
    Ok(Report { records: formatted + records, lost_writes, time: begin.elapsed(), ..report })
}

/// The machine, and what it has acknowledged.
struct Machine {
    device: Device,
    recording: Recording,
    /// The last record that was acknowledged as durable.
    records: u64,
    /// The length of the console's text up to which records were looked for.
    read: usize,
    /// Records that a requested format has removed.
    formatted: u64,
    lost_writes: usize,
    boot_time: Duration,
}

impl Machine {
    fn new() -> Result<Self> {
        let device = Device::new(SMALL)?;
        device.change("records 1", &[])?;
        device.make_image()?;
        let recording = Recording::of(&device.image, device.krazy.directory.path())?;
        Ok(Machine {
            device,
            recording,
            records: 0,
            read: 0,
            formatted: 0,
            lost_writes: 0,
            boot_time: Duration::ZERO,
        })
    }

    /// Boots it, and checks its records.
    fn boot(&mut self) -> Result<()> {
        let begin = Instant::now();
        self.recording = Recording::of(&self.device.image, self.device.krazy.directory.path())?;
        self.device.boot_with(&self.recording.arguments()?)?;
        self.boot_time = begin.elapsed();
        self.read = 0;
        self.check_records()
    }

    /// Checks, after a start, that every record is there that was acknowledged before it.
    fn check_records(&mut self) -> Result<()> {
        let words = "records are there";
        let console = self.device.console()?;
        if !console.seen()[self.read..].contains(words) {
            console.wait_for(words, BOOT_LIMIT)?;
        }
        let text = &console.seen()[self.read..];
        let (before, _) = text.rsplit_once(words).context("no start")?;
        let acknowledged = last_number(before, &record(), "").unwrap_or(0).max(self.records);
        let found = last_number(text, "", words).with_context(|| format!("no number: {text}"))?;
        ensure!(found >= acknowledged, "{acknowledged} records were acknowledged, {found} are there");
        self.records = found;
        self.read = console.seen().len();
        Ok(())
    }

    /// Switches it on, and cuts the power after `time`.
    fn cycle(&mut self, time: Duration, random: &mut Random) -> Result<()> {
        self.recording = Recording::of(&self.device.image, self.device.krazy.directory.path())?;
        self.device.begin_boot(&self.recording.arguments()?)?;
        std::thread::sleep(time);
        self.cut(random)
    }

    /// Requests a new `/data`, cuts the power, and again at a random time of the start that formats it. The start after
    /// that has a file system, and no record of the old one.
    fn format(&mut self, random: &mut Random) -> Result<()> {
        let format = self.device.krazy(&["data", "format", "qemu", "--yes", "--no-reboot"])?;
        ensure!(format.code == Some(0), "{}", format.stderr);
        self.cut(random)?;
        let old = std::mem::take(&mut self.records);
        let time = self.boot_time.mul_f64(random.below(120) as f64 / 100.0);
        self.cycle(time, random)?;
        self.boot()?;
        self.formatted += old;
        // Those of the new file system, if it was there at the cut, had less time.
        ensure!(old == 0 || self.records < old, "{} of {old} records are there after a format", self.records);
        self.cut(random)
    }

    /// Holds further writes back until those that have begun are in the log. A long one that is missing there would hide
    /// all that follow it. A machine that has just been switched on has no monitor yet, and has written nothing.
    fn let_writes_end(&self) -> Result<()> {
        let Ok(()) = self.device.throttle_writes(1) else { return Ok(()) };
        let mut seen = None;
        loop {
            let now = self.recording.now()?;
            if seen == Some(now) {
                return Ok(());
            }
            seen = Some(now);
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Cuts the power: the disk keeps a random part of what was written since the last flush.
    fn cut(&mut self, random: &mut Random) -> Result<()> {
        self.let_writes_end()?;
        let console = self.device.cut_power()?;
        self.records = last_number(&console, &record(), "").unwrap_or(0).max(self.records);
        let disk = self.recording.read()?;
        let flush = disk.events.iter().rposition(|event| event.command == Command::Flush);
        let durable = flush.map_or(0, |flush| flush + 1);
        let kept: Vec<_> = (durable..disk.events.len()).filter(|_| random.below(2) == 0).collect();
        self.lost_writes += disk.events.len() - durable - kept.len();
        let next = self.device.image.with_extension("next");
        disk.replay().disk(&State { durable, kept, torn: None }).write_to(&next)?;
        Ok(fs::rename(next, &self.device.image)?)
    }
}

/// Returns the number between `before` and `after` in the last line that has one.
fn last_number(text: &str, before: &str, after: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| {
        let (_, line) = line.split_once(before)?;
        let line = if after.is_empty() { line } else { line.split_once(after)?.0 };
        line.split_whitespace().next_back()?.parse().ok()
    })
}

/// The beginning of the console's line about a durable record.
fn record() -> String {
    format!("{NAME}: record ")
}

impl Report {
    /// The columns of [`Report::row`].
    pub const COLUMNS: &str = "| pushes, all confirmed | power cuts | power cycles | formats of `/data`, cut off | records, every printed one kept | unflushed writes lost at the cuts | minutes |";

    /// The outcome as a row of a table.
    pub fn row(&self) -> String {
        let Report { pushes, cuts, cycles, formats, records, lost_writes, time } = self;
        let minutes = time.as_secs() / 60;
        format!("| {pushes} | {cuts} | {cycles} | {formats} | {records} | {lost_writes} | {minutes} |")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_printed_number_is_found() {
        let text = "unit: record 7\nunit: 9 records are there\nunit: record 10\nunit: rec\n";
        assert_eq!(last_number(text, "unit: record ", ""), Some(10));
        assert_eq!(last_number(text, "", "records are there"), Some(9));
        assert_eq!(last_number("nothing", "", "records are there"), None);
    }
}
