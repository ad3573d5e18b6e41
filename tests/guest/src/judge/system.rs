//! The environment of every service: file systems, names, network, clock, devices.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use krazy_boot::disk::slot::Slot;

use super::{ask, case, ensure, processes, read};
use crate::faults::BRIEF;
use crate::rights::{eventually, told};

/// Mount points and their file systems.
const MOUNTS: [(&str, &str); 11] = [
    ("/", "squashfs"),
    ("/proc", "proc"),
    ("/sys", "sysfs"),
    ("/sys/fs/cgroup", "cgroup2"),
    ("/dev", "devtmpfs"),
    ("/dev/pts", "devpts"),
    ("/dev/shm", "tmpfs"),
    ("/tmp", "tmpfs"),
    ("/run", "tmpfs"),
    ("/boot", "vfat"),
    ("/data", "ext4"),
];

pub fn judge() {
    case("every file system is mounted", || {
        eventually(|| {
            let mounts = read("/proc/mounts")?;
            let mounted = |target: &str, kind: &str| {
                mounts.lines().any(|line| {
                    let mut fields = line.split(' ').skip(1);
                    fields.next() == Some(target) && fields.next() == Some(kind)
                })
            };
            let missing = MOUNTS.iter().find(|(target, kind)| !mounted(target, kind));
            ensure(missing.is_none(), &format!("{missing:?}"))
        })
    });
    case("the boot is what it should be", || {
        let info = ask(|client| client.boot())?;
        ensure(info.slot == Some(Slot::A) && info.trial.is_none() && info.armed.is_none(), "slots")?;
        ensure(info.degraded.is_empty(), &info.degraded.join("; "))?;
        ensure(info.milestones.data && info.disk.as_deref() == Some("/dev/vda"), "data, disk")
    });
    case("/data reaches to the end of the disk", || {
        let number = |path: &str| read(path)?.trim().parse::<u64>().map_err(|error| error.to_string());
        let disk = number("/sys/class/block/vda/size")?;
        let (start, size) =
            (number("/sys/class/block/vda/vda4/start")?, number("/sys/class/block/vda/vda4/size")?);
        ensure(disk - (start + size) < 2048, &format!("{disk} sectors, /data to {}", start + size))?;
        eventually(|| {
            let stat = told(statvfs("/data"))?;
            ensure(stat.0 > size * 512 * 8 / 10, &format!("{} of {} bytes", stat.0, size * 512))
        })
    });
    case("host name, loopback and kernel settings", || {
        ensure(read("/proc/sys/kernel/hostname")?.trim() == "guest", "host name")?;
        let listener = told(TcpListener::bind("127.0.0.1:0"))?;
        told(TcpStream::connect(told(listener.local_addr())?).map(drop))?;
        let printk = read("/proc/sys/kernel/printk")?;
        ensure(printk.split_ascii_whitespace().next() == Some("4"), &printk)?;
        ensure(read("/proc/sys/kernel/panic")?.trim() == "10", "panic")?;
        ensure(read("/proc/sys/net/core/rmem_max")?.trim() == "2500000", "rmem_max")
    });
    case("the network has an address, a route and name servers", || {
        eventually(|| {
            ensure(ask(|client| client.boot())?.milestones.network, "no network")?;
            ensure(
                read("/proc/net/route")?.lines().any(|line| line.contains("\t00000000\t0202000A\t")),
                "no route",
            )?;
            let servers = read("/etc/resolv.conf")?;
            ensure(servers.contains("nameserver 10.0.2.3"), &servers)
        })
    });
    case("drivers are loaded for the devices that are there", || {
        let modules = read("/proc/modules")?;
        ensure(modules.contains("virtio_net ") && modules.contains("virtio_blk "), &modules)
    });
    case("the watchdog counts and is fed", || {
        eventually(|| {
            ensure(read("/sys/class/watchdog/watchdog0/state")?.trim() == "active", "not active")?;
            ensure(read("/sys/class/watchdog/watchdog0/timeout")?.trim() == "60", "another timeout")
        })
    });
    case("a random seed is kept on /data", || {
        eventually(|| {
            let metadata = told(std::fs::metadata("/data/krazy/random-seed"))?;
            ensure(
                metadata.len() == 32 && metadata.permissions().mode() & 0o777 == 0o600,
                "not as it should be",
            )
        })
    });
    case("a machine with a hardware clock and no time server trusts it", || {
        eventually(|| ensure(ask(|client| client.boot())?.milestones.clock, "no clock"))
    });
    case("orphans are reaped", || {
        for _ in 0..20 {
            let mut child = std::process::Command::new("/bin/daemon");
            told(child.arg(BRIEF).status().map(drop))?;
        }
        eventually(|| {
            let all = processes();
            let orphans = all.iter().filter(|(pid, parent, _)| *parent == 1 && is_daemon(*pid)).count();
            let zombies = all.iter().filter(|(_, parent, state)| *parent == 1 && *state == 'Z').count();
            ensure(orphans + zombies == 0, &format!("{orphans} orphans, {zombies} zombies"))
        })
    });
    case("/boot is the machine's own and read-only", || {
        let metadata = told(std::fs::metadata("/boot/a-cmdline.txt"))?;
        ensure(metadata.mode() & 0o077 == 0, "services can read it")?;
        ensure(std::fs::write(Path::new("/boot/x"), "x").is_err(), "it can be written")
    });
}

fn is_daemon(pid: i32) -> bool {
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.contains(BRIEF)
}

/// Bytes of a file system, in all and free.
pub fn statvfs(path: &str) -> std::io::Result<(u64, u64)> {
    let path = std::ffi::CString::new(path)?;
    // SAFETY: the structure is plain data, and the kernel fills it.
    let (outcome, stat) = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut stat), stat)
    };
    if outcome != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}
