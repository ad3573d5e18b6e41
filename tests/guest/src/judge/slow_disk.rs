//! A disk that the host has made slow while a service writes to it: init answers, and what is to be durable takes its time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use krazy_init::control::Command;

use super::{WAITING, ask, case, ensure, order, read};
use crate::rights::{eventually, told};

/// The file that is written. The host lets the disk take half a megabyte a second.
const FILE: &str = "/data/judge/much";

/// A confirmation of this slot, while 8 MiB wait for the disk.
pub fn confirm() {
    case("a slow disk delays a confirmation and nothing else", || {
        eventually(|| ensure(ask(|client| client.boot())?.stable, "not stable"))?;
        println!("{WAITING}: a slow disk");
        eventually(|| {
            let start = Instant::now();
            told(write(1 << 20))?;
            ensure(start.elapsed() > Duration::from_millis(1500), "the disk is fast")
        })?;
        let writer = thread::spawn(|| write(8 << 20));
        // Its pages have to be on their way before the confirmation is: a busy host's machine takes a while to get there.
        eventually(|| ensure(under_writeback()? >= 4 << 10, "nothing is on its way to the disk"))?;
        let start = Instant::now();
        let confirmation = thread::spawn(move || order(Command::Confirm).map(|()| start.elapsed()));
        let (mut answers, mut slowest) = (0, Duration::ZERO);
        while !confirmation.is_finished() {
            let asked = Instant::now();
            let info = ask(|client| client.boot())?;
            slowest = slowest.max(asked.elapsed());
            answers += usize::from(info.trial.is_some());
            thread::sleep(Duration::from_millis(200));
        }
        let taken = confirmation.join().map_err(|_| "a panic")??;
        told(writer.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))))?;
        println!("confirmed in {taken:?}; meanwhile {answers} answers, the slowest after {slowest:?}");
        ensure(
            slowest < taken / 3,
            &format!("init answered after {slowest:?}, the confirmation took {taken:?}"),
        )?;
        ensure(taken > Duration::from_secs(2) && answers > 5, &format!("{answers} answers in {taken:?}"))
    });
    println!("{WAITING}: a fast disk");
    // Not before the end of the case: the removal waits for the disk as well.
    if let Err(error) = fs::remove_file(FILE) {
        println!("{FILE} stays: {error}");
    }
}

fn write(length: usize) -> io::Result<()> {
    let mut file = File::create(FILE)?;
    file.write_all(&vec![b'x'; length])?;
    file.sync_all()
}

/// KiB of pages that the kernel has handed to disks and that have not arrived yet.
fn under_writeback() -> Result<u64, String> {
    let counts = read("/proc/meminfo")?;
    let count = counts.lines().find_map(|line| line.strip_prefix("Writeback:"));
    let count = count.and_then(|count| count.trim().trim_end_matches(" kB").parse().ok());
    count.ok_or_else(|| "/proc/meminfo does not count pages under writeback".to_owned())
}
