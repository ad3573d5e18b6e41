//! `cargo proof endurance`: many updates, power cuts and power cycles of one machine.
//!
//! At a power cut the disk loses what it had not been told to keep: QEMU is killed, and the disk is rebuilt from its
//! recording with a random part of the writes since the last flush. The host's cache cannot help.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

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
    records: u64,
    lost_writes: usize,
    time: Duration,
}

/// Runs the machine. Any loss is an error.
pub fn run(scale: Scale) -> Result<Report> {
    let begin = Instant::now();
    let [pushes, cuts, cycles] = [scale.of([1, 200, 2000]), scale.of([2, 100, 1000]), scale.of([1, 50, 500])];
    let mut random = Random::new(2);
    let mut machine = Machine::new()?;

    for n in 0..cuts {
        let time = WRITING.mul_f64((1 + random.below(100)) as f64 / 100.0);
        machine.cut_while_writing(time, &mut random).with_context(|| format!("power cut {n}"))?;
    }
    for n in 0..cycles {
        let time = machine.boot_time.mul_f64(random.below(120) as f64 / 100.0);
        machine.cycle(time, &mut random).with_context(|| format!("power cycle {n} after {time:?}"))?;
    }
    machine.boot()?;
    for n in 0..pushes {
        let version = format!("records {}", 2 - n % 2);
        machine.device.change(&version, &[])?;
        machine.device.push(&["qemu"])?.expect(0, "updated").with_context(|| format!("push {n}"))?;
        machine.check_records()?;
    }
    machine.device.power_off()?;
    ensure!(judge::boot_file_system(&machine.device.image)?, "fsck.fat has a remark about /boot");
    judge::data_file_system(&machine.device.image, &[])?;
    let Machine { records, lost_writes, .. } = machine;
    Ok(Report { pushes, cuts, cycles, records, lost_writes, time: begin.elapsed() })
}

/// The machine, and what it has acknowledged.
struct Machine {
    device: Device,
    recording: Recording,
    /// The last record that was acknowledged as durable.
    records: u64,
    lost_writes: usize,
    boot_time: Duration,
}

impl Machine {
    fn new() -> Result<Self> {
        let device = Device::new(SMALL)?;
        device.change("records 1", &[])?;
        device.make_image()?;
        let recording = Recording::of(&device.image, device.krazy.directory.path())?;
        Ok(Machine { device, recording, records: 0, lost_writes: 0, boot_time: Duration::ZERO })
    }

    /// Boots it, and checks its records.
    fn boot(&mut self) -> Result<()> {
        let begin = Instant::now();
        self.recording = Recording::of(&self.device.image, self.device.krazy.directory.path())?;
        self.device.boot_with(&self.recording.arguments()?)?;
        self.boot_time = begin.elapsed();
        self.check_records()
    }

    /// Checks that every record is there that was acknowledged before the start.
    fn check_records(&mut self) -> Result<()> {
        let words = "records are there";
        let console = self.device.console()?;
        let seen = console.seen().lines().rev().find(|line| line.contains(words)).map(str::to_owned);
        let found = match seen {
            Some(line) => line,
            None => console.wait_for(words, BOOT_LIMIT)?,
        };
        let found = last_number(&found, "", words).with_context(|| format!("no number: {found}"))?;
        ensure!(found >= self.records, "{} records were acknowledged, {found} are there", self.records);
        self.records = found;
        Ok(())
    }

    /// Boots, lets the service write for `time`, and cuts the power.
    fn cut_while_writing(&mut self, time: Duration, random: &mut Random) -> Result<()> {
        self.boot()?;
        std::thread::sleep(time);
        self.cut(random)
    }

    /// Switches it on, and cuts the power after `time`.
    fn cycle(&mut self, time: Duration, random: &mut Random) -> Result<()> {
        self.recording = Recording::of(&self.device.image, self.device.krazy.directory.path())?;
        self.device.begin_boot(&self.recording.arguments()?)?;
        std::thread::sleep(time);
        self.cut(random)
    }

    /// Cuts the power: the disk keeps a random part of what was written since the last flush.
    fn cut(&mut self, random: &mut Random) -> Result<()> {
        let console = self.device.cut_power()?;
        self.records = last_number(&console, &format!("{NAME}: record "), "").unwrap_or(0).max(self.records);
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { pushes, cuts, cycles, records, lost_writes, .. } = self;
        writeln!(f, "{pushes} pushes, {cuts} power cuts, {cycles} power cycles, 0 lost")?;
        writeln!(f, "\n- pushes of two versions by turns: {pushes} confirmed")?;
        writeln!(
            f,
            "- power cuts under a service that appends, fsyncs and prints records: {records} records; every printed one\n  \
             was there after every start"
        )?;
        writeln!(f, "- power cycles: cut at a random time of the boot")?;
        writeln!(f, "- unflushed writes that the disk lost at the cuts: {lost_writes}")?;
        write!(
            f,
            "- at the end `fsck.fat -n` and `e2fsck -fn` have no remark; {:.1} min",
            self.time.as_secs_f64() / 60.0
        )
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
