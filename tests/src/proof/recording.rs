//! A machine's disk, recorded from a moment on, and every disk that a power cut could have left of it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use anyhow::{Context, Result};
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::engine::Target;

use super::runs::{Runs, Source};
use super::states::State;
use super::write_log::{self, Command, Entry};
use crate::process::succeed;

/// A recording: the disk as it was, and a log of every start of its machine.
#[derive(Debug)]
pub struct Recording {
    base: PathBuf,
    logs: Vec<PathBuf>,
}

/// A moment of a recording: the number of the log, and a position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(usize, u64);

/// A recorded command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The command.
    pub command: Command,
    /// The number of its log.
    pub log: usize,
    /// The position behind it in its log.
    pub log_end: u64,
}

impl Recording {
    /// Copies `image`, the disk of a machine that is off, into `directory`.
    pub fn of(image: &Path, directory: &Path) -> Result<Self> {
        let base = directory.join("recorded.img");
        copy(image, &base)?;
        Ok(Recording { base, logs: Vec::new() })
    }

    /// Returns QEMU's arguments for the next start of the machine, whose disk is the drive `disk`. They insert the log
    /// between the drive and its file.
    pub fn arguments(&mut self) -> Result<Vec<OsString>> {
        let log = self.base.with_extension(format!("log{}", self.logs.len()));
        File::create(&log)?;
        let mut path = OsString::from("drive.disk.log.filename=");
        path.push(&log);
        self.logs.push(log);
        // The head of the log then counts all of its entries at every flush.
        let interval = "drive.disk.log-super-update-interval=1".into();
        let settings =
            ["drive.disk.format=blklogwrites".into(), "drive.disk.log.driver=file".into(), path, interval];
        Ok(settings.into_iter().flat_map(|setting| ["-set".into(), setting]).collect())
    }

    /// Returns the present moment: everything that was acknowledged up to now is in the log in front of it.
    pub fn now(&self) -> Result<Moment> {
        let log = self.logs.last().context("nothing was recorded")?;
        Ok(Moment(self.logs.len() - 1, log.metadata()?.len()))
    }

    /// Reads the logs. A machine that was killed loses nothing of its disk, so every start but the last ends with a flush.
    pub fn read(&self) -> Result<RecordedDisk> {
        let base = File::open(&self.base)?;
        let logs = self.logs.iter().map(File::open).collect::<Result<Vec<_>, _>>()?;
        let mut events = Vec::new();
        for (log, file) in logs.iter().enumerate() {
            let entries = write_log::read(file).with_context(|| format!("{}", self.logs[log].display()))?;
            events.extend(entries.into_iter().map(|Entry { command, log_end }| Event {
                command,
                log,
                log_end,
            }));
            if log + 1 < logs.len() {
                events.push(Event { command: Command::Flush, log, log_end: u64::MAX });
            }
        }
        Ok(RecordedDisk { path: self.base.clone(), base, logs, events })
    }
}

/// A recording that has ended.
#[derive(Debug)]
pub struct RecordedDisk {
    path: PathBuf,
    base: File,
    logs: Vec<File>,
    /// The recorded commands.
    pub events: Vec<Event>,
}

impl RecordedDisk {
    /// Returns true if everything in front of `moment` is among the first `durable` events.
    pub fn includes(&self, durable: usize, moment: Moment) -> bool {
        let next = self.events.get(durable);
        next.is_none_or(|event| Moment(event.log, event.log_end) > moment)
    }

    /// Returns the builder of this disk's states.
    pub fn replay(&self) -> Replay<'_> {
        Replay { recorded: self, durable: Runs::default(), next: 0 }
    }
}

/// Builds the states of a recorded disk in the order of the recording.
#[derive(Debug)]
pub struct Replay<'a> {
    recorded: &'a RecordedDisk,
    durable: Runs,
    next: usize,
}

impl<'a> Replay<'a> {
    /// Returns the disk in `state`, which must not be an earlier one than the last.
    pub fn disk(&mut self, state: &State) -> Disk<'a> {
        while self.next < state.durable {
            apply(&mut self.durable, &self.recorded.events[self.next]);
            self.next += 1;
        }
        let mut runs = self.durable.clone();
        for kept in &state.kept {
            apply(&mut runs, &self.recorded.events[*kept]);
        }
        if let Some((event, range)) = &state.torn {
            let mut whole = Runs::default();
            apply(&mut whole, &self.recorded.events[*event]);
            for (range, source) in whole.parts(range.clone()) {
                runs.write(range, source);
            }
        }
        Disk { recorded: self.recorded, runs }
    }
}

fn apply(runs: &mut Runs, event: &Event) {
    match event.command {
        Command::Write { start, end, data } => {
            runs.write(start..end, Source::Log { log: event.log, at: data })
        }
        Command::Discard { start, end } => runs.write(start..end, Source::Zero),
        Command::Flush => {}
    }
}

/// A recorded disk in one state, without a copy of it. It cannot be written to.
#[derive(Debug)]
pub struct Disk<'a> {
    recorded: &'a RecordedDisk,
    /// The written parts.
    pub runs: Runs,
}

impl Disk<'_> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.recorded.base.read_exact_at(buffer, offset)?;
        for (range, source) in self.runs.parts(offset..offset + buffer.len() as u64) {
            let part = &mut buffer[(range.start - offset) as usize..(range.end - offset) as usize];
            match source {
                Source::Zero => part.fill(0),
                Source::Log { log, at } => self.recorded.logs[log].read_exact_at(part, at)?,
            }
        }
        Ok(())
    }

    /// Returns a reader of the whole disk.
    pub fn reader(&self) -> DiskReader<'_> {
        DiskReader { disk: self, position: 0 }
    }

    /// Writes it to the new file `image`, as far as it differs from zeros.
    pub fn write_to(&self, image: &Path) -> Result<()> {
        copy(&self.recorded.path, image)?;
        let file = OpenOptions::new().write(true).open(image)?;
        let mut buffer = Vec::new();
        for (range, _) in self.runs.parts(0..u64::MAX) {
            buffer.resize((range.end - range.start) as usize, 0);
            self.read(range.start, &mut buffer)?;
            file.write_all_at(&buffer, range.start)?;
        }
        Ok(())
    }
}

/// Copies a disk without its zeros.
fn copy(from: &Path, to: &Path) -> Result<()> {
    succeed(Program::new("cp").arg("--sparse=always").arg(from).arg(to)).map(drop)
}

/// A reader of a [`Disk`].
#[derive(Debug)]
pub struct DiskReader<'a> {
    disk: &'a Disk<'a>,
    position: u64,
}

impl Read for DiskReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read(self.position, buffer)?;
        self.position += buffer.len() as u64;
        Ok(buffer.len())
    }
}

impl Seek for DiskReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(distance) => self.position.saturating_add_signed(distance),
            SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(self.position)
    }
}

impl Target for Disk<'_> {
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        self.read(offset.0, buffer)
    }

    fn read_back(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        self.read(offset.0, buffer)
    }

    fn write_at(&mut self, _offset: Bytes, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn repair_boot(&mut self, _slot: Slot) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn boot_free(&self) -> io::Result<Bytes> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_boot(&mut self, _name: &str, _new: bool, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove_boot(&mut self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_boot(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
