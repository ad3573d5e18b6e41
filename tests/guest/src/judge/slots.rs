//! Slot B: filled here as an update would fill it, tried, explained, confirmed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use krazy_boot::boot::slot_area;
use krazy_boot::disk::ordered_write::write_in_order;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::history::{self, History, Outcome};
use krazy_init::control::{Client, ClientError, Command, ErrorKind, ServiceState};

use super::{Verdict, WAITING, ask, case, ensure, log, order, read, slow_disk, status};
use crate::kernel_log;
use crate::rights::{eventually, told};

/// The disk.
const DISK: &str = "/dev/vda";

/// The file that breaks the required service.
const BROKEN: &str = "/data/fragile/broken";

/// The home of a service that behaves.
const HOME: &str = "/data/steady";

/// End of boot 1: slot B is written, armed, and the machine restarts.
pub fn arm() {
    case("an empty slot cannot be armed", || {
        refused(Command::Switch { slot: Slot::B }, ErrorKind::SlotIncomplete)?;
        refused(Command::Rollback, ErrorKind::SlotIncomplete)?;
        refused(Command::Arm { slot: Slot::A, build_id: build_id()? }, ErrorKind::NotNow)
    });
    case("/boot can be written while it is asked for", || {
        order(Command::RemountBoot { writable: true })?;
        fill_boot()?;
        order(Command::RemountBoot { writable: false })
    });
    case("a slot without its root or its loader's table cannot be armed", || {
        refused(Command::Switch { slot: Slot::B }, ErrorKind::SlotIncomplete)?;
        let mut disk = told(OpenOptions::new().read(true).write(true).open(DISK))?;
        told(forget_cached(&disk))?;
        let writes = slot_area::refresh(&mut disk, Slot::B).map_err(|error| error.to_string())?;
        told(write_in_order(&mut disk, &writes, |disk: &mut File| disk.sync_data()))?;
        refused(Command::Switch { slot: Slot::B }, ErrorKind::SlotIncomplete)?;
        told(copy_root())
    });
    case("another build than the one named is not armed", || {
        refused(Command::Arm { slot: Slot::B, build_id: "another".to_owned() }, ErrorKind::SlotIncomplete)
    });
    case("a trial that was armed can be forgotten", || {
        order(Command::Arm { slot: Slot::B, build_id: build_id()? })?;
        ensure(ask(|client| client.boot())?.armed == Some(Slot::B), "it is not armed")?;
        order(Command::Disarm)?;
        ensure(ask(|client| client.boot())?.armed.is_none(), "it is armed")?;
        order(Command::Disarm)?;
        last_attempt(Outcome::Withdrawn, None)
    });
    case("a complete slot is armed", || {
        told(fs::write(BROKEN, ""))?;
        order(Command::Arm { slot: Slot::B, build_id: build_id()? })?;
        last_attempt(Outcome::Pending, None)
    });
    told(give_away(Path::new(HOME))).unwrap_or_else(|why| println!("{HOME} stays as it is: {why}"));
    restart();
}

/// Boot 2: the required service exits again and again.
pub fn on_trial() {
    case("a trial knows that it is one, and its watchdog counts", || {
        let info = ask(|client| client.boot())?;
        ensure(info.slot == Some(Slot::B) && info.trial.is_some(), &format!("{info:?}"))?;
        eventually(|| ensure(read("/sys/class/watchdog/watchdog0/state")?.trim() == "active", "no watchdog"))
    });
    case("a trial is not confirmed while a required service fails", || {
        eventually(|| ensure(status("fragile")?.restarts > 0, "it runs"))?;
        refused(Command::Confirm, ErrorKind::NotStable)?;
        refused(Command::Switch { slot: Slot::A }, ErrorKind::NotNow)
    });
}

/// Boot 3: slot A after the rollback.
pub fn returned() {
    let reason = "service fragile keeps exiting: exit status 7; it wrote last: a part is missing";
    case("a failed trial is explained, and by the service that failed it", || {
        let info = ask(|client| client.boot())?;
        ensure(info.slot == Some(Slot::A) && info.trial.is_none() && info.armed.is_none(), "another slot")?;
        let failed = info.failed_trial.ok_or("no trial failed")?;
        ensure(failed.slot == Slot::B && failed.build_id == info.build_id, "another trial")?;
        ensure(failed.reason == reason, &failed.reason)?;
        ensure(
            info.previous_end.as_deref() == Some(&format!("restarting: {reason}")),
            &format!("{:?}", info.previous_end),
        )
    });
    case("the failed attempt is kept", || last_attempt(Outcome::Failed, Some(reason)));
    case("kept output outlives restarts", || {
        let lines = log("kept")?;
        ensure(lines.matches(" boot ").count() >= 3, &lines)
    });
    case("an orderly end leaves /data clean, although init keeps files open there", || {
        let mounted = |message: &str| message.starts_with("EXT4-fs (vda4): mounted filesystem");
        ensure(kernel_log::find(mounted).is_some(), "the kernel does not say that it mounted it")?;
        let recovered = |message: &str| message.starts_with("EXT4-fs (vda4): recovery complete");
        ensure(kernel_log::find(recovered).is_none(), "its journal had to be replayed")
    });
    case("a home that was another account's is the service's again, with what is in it", || {
        let status = status("steady")?;
        ensure(status.state == ServiceState::Running, &format!("{status:?}"))?;
        for path in [HOME, "/data/steady/given"] {
            let owner = told(fs::metadata(path))?.uid();
            ensure(owner == status.uid, &format!("{path} is {owner}'s"))?;
        }
        Ok(())
    });
    case("the newest time is kept", || {
        let saved: u64 = read("/data/krazy/clock")?.trim().parse().map_err(|_| "no number")?;
        let now = told(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other),
        )?;
        ensure(
            saved <= now.as_secs() + 60 && saved > 1_767_225_600,
            &format!("{saved}, now {}", now.as_secs()),
        )
    });
    case("a rollback from a confirmed slot tries the other one", || {
        told(fs::remove_file(BROKEN))?;
        order(Command::Rollback)?;
        ensure(ask(|client| client.boot())?.armed == Some(Slot::B), "it is not armed")
    });
    restart();
}

/// Boot 4: the required service is stable.
pub fn confirm() {
    case("the second trial runs", || {
        ensure(ask(|client| client.boot())?.trial.is_some(), "no trial")?;
        give_all_words()
    });
    slow_disk::confirm();
    case("a stable trial is confirmed", || {
        eventually(|| order(Command::Confirm))?;
        let info = ask(|client| client.boot())?;
        ensure(info.slot == Some(Slot::B) && info.trial.is_none() && info.stable, &format!("{info:?}"))?;
        last_attempt(Outcome::Confirmed, None)
    });
    println!("hitting init");
    // Not before it has passed these lines on.
    let heard = eventually(|| ensure(log("judge")?.contains("hitting init"), "init does not read"));
    heard.unwrap_or_else(|why| println!("case init reads what is written: FAILED {why}"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    // SAFETY: kill has no effect on memory.
    let hit = unsafe { libc::kill(1, libc::SIGSEGV) };
    println!("hit init: {hit}");
}

/// Boot 5: the last one.
pub fn end() {
    case("a confirmed slot stays, and an end without notice is told", || {
        let info = ask(|client| client.boot())?;
        ensure(
            info.slot == Some(Slot::B) && info.trial.is_none() && info.failed_trial.is_none(),
            &format!("{info:?}"),
        )?;
        let end = info.previous_end.unwrap_or_default();
        ensure(end.starts_with("without notice"), &end)
    });
    println!("{WAITING}: a network adapter");
    case("a USB network adapter that is plugged in gets an address", || {
        eventually(|| {
            let count = told(fs::read_dir("/sys/class/net"))?.count();
            ensure(count == 3, &format!("{count} interfaces"))?;
            // 192.168.3.0, the network of that adapter alone.
            let routes = read("/proc/net/route")?;
            ensure(routes.contains("\t0003A8C0\t"), &routes)
        })
    });
    case("/data that turns read-only stops nobody", || {
        told(fs::write("/sys/fs/ext4/vda4/trigger_fs_error", "a test"))?;
        ensure(fs::write("/data/judge/x", "x").is_err(), "it can be written")?;
        for service in ["steady", "kept"] {
            let before = status(service)?.pid;
            order(Command::Restart { service: service.to_owned() })?;
            eventually(|| {
                let now = status(service)?.pid;
                ensure(now.is_some() && now != before, &format!("{service} was not started"))
            })?;
        }
        Ok(())
    });
    println!("{WAITING}: the power button");
}

fn give_all_words() -> Verdict {
    for service in ["notifier", "listener"] {
        super::give_word(service)?;
    }
    Ok(())
}

fn restart() {
    if let Err(why) = order(Command::Reboot) {
        println!("case the machine restarts: FAILED {why}");
    }
}

fn build_id() -> Result<String, String> {
    Ok(ask(|client| client.boot())?.build_id)
}

fn refused(command: Command, wanted: ErrorKind) -> Verdict {
    let outcome = Client::connect().and_then(|mut client| client.order(command.clone()));
    match outcome {
        Err(ClientError::Refused(error)) if error.kind == wanted => Ok(()),
        other => Err(format!("{command:?} gave {other:?}")),
    }
}

/// Makes a home look as if its service had run as another account.
fn give_away(home: &Path) -> io::Result<()> {
    let given = home.join("given");
    fs::write(&given, "")?;
    chown(&given, Some(4242), Some(4242))?;
    chown(home, Some(4242), Some(4242))
}

fn last_attempt(outcome: Outcome, reason: Option<&str>) -> Verdict {
    let history =
        History::read(&Path::new("/data").join(history::PATH)).map_err(|error| error.to_string())?;
    let last = history.attempts.last().ok_or("the history is empty")?;
    let holds = last.outcome == outcome && last.reason.as_deref() == reason && last.build_id == build_id()?;
    ensure(holds && last.slot == Slot::B, &format!("{last:?}"))
}

/// Slot A's files on `/boot` become slot B's; only the command line differs.
fn fill_boot() -> Verdict {
    for entry in told(fs::read_dir("/boot"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(file) = name.strip_prefix(Slot::A.boot_prefix()) else { continue };
        let mut bytes = told(fs::read(entry.path()))?;
        if file == "cmdline.txt" {
            let line = String::from_utf8_lossy(&bytes).replace("krazy.slot=a", "krazy.slot=b");
            bytes = line.replacen("-02 ", "-03 ", 1).into_bytes();
        }
        let path = Path::new("/boot").join(Slot::B.boot_file(file));
        told(File::create(path).and_then(|mut copy| copy.write_all(&bytes).and_then(|()| copy.sync_all())))?;
    }
    Ok(())
}

/// Drops what the kernel keeps of the whole disk: `/boot` was written through its partition, whose page cache is another.
fn forget_cached(disk: &File) -> io::Result<()> {
    // SAFETY: posix_fadvise has no effect on memory.
    match unsafe { libc::posix_fadvise(disk.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// As much of root A as its SquashFS uses. Source: the superblock's `bytes_used` at offset 40.
fn copy_root() -> io::Result<()> {
    let mut from = File::open("/dev/vda2")?;
    let mut superblock = [0u8; 96];
    from.read_exact(&mut superblock)?;
    let mut used = [0u8; 8];
    used.copy_from_slice(&superblock[40..48]);
    let used = u64::from_le_bytes(used).next_multiple_of(4096);
    from.seek(SeekFrom::Start(0))?;
    let mut to = OpenOptions::new().write(true).open("/dev/vda3")?;
    io::copy(&mut from.take(used), &mut to)?;
    to.sync_all()
}
