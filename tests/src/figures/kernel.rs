//! The size of our own kernel, what building it takes, how it is hardened, and how soon an appliance answers with it:
//! beside Debian's kernel, and beside a busybox whose kernel QEMU loads itself.
//!
//! Objects of an earlier build are used again; an empty directory in `KRAZY_CACHE_DIR` makes it a full build.

use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::build::median;
use crate::guest::free_port;
use crate::krazy::Krazy;
use crate::own_kernel::{self, Hardware, OwnKernel, machine, pc};
use crate::process;
use crate::process::succeed;
use crate::setup::judges;
use crate::setup::workspace;

/// Rounds; each boots every machine once, so that a noisy host disturbs all.
const ROUNDS: usize = 5;
/// Attempts for a machine that exits before it answers.
const STARTS: usize = 5;
/// The time limit of an answer.
const LIMIT: Duration = Duration::from_secs(120);
/// A new attempt to connect is made this often: an emulator's forwarded port accepts before the guest listens.
const ATTEMPTS: Duration = Duration::from_millis(20);
const CARD: &str = "virtio-net-pci";
const VIRTIO: Hardware = Hardware { disk: &["virtio-blk-pci,drive=disk,bootindex=0"], card: CARD };

/// The modules of Debian's kernel that busybox needs to serve a page, in load order.
const MODULES: [&str; 8] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

/// The whole system of busybox: it loads its modules, gets an address, and serves a page.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module.ko; done
/bin/busybox ip link set lo up
/bin/busybox ip link set eth0 up
/bin/busybox udhcpc -q -n -i eth0 -s /lease
exec /bin/busybox httpd -f -p 80 -h /www
";

/// The script that udhcpc calls with its lease.
const LEASE: &str = "#!/bin/busybox sh
[ \"$1\" = bound ] && /bin/busybox ip addr add $ip/$mask dev $interface
exit 0
";

/// QEMU's command line for a machine that answers at a port.
type Start<'m> = Box<dyn Fn(u16) -> Result<Command> + 'm>;

/// Builds, boots and prints.
pub fn print() -> Result<()> {
    let krazy = Krazy::new()?;
    let kernel = own_kernel::build(&krazy)?;
    size_and_time(&kernel)?;
    hardening(&kernel)?;

    let debian = debian(&krazy)?;
    let image = |name: &str, kernel: Option<&Path>| {
        let package = own_kernel::example(&krazy, name, kernel)?;
        own_kernel::image(&krazy, &package.manifest(), &format!("{name}.img"))
    };
    let (ours, theirs) = (image("ours", Some(&kernel.bundle))?, image("theirs", None)?);
    let busybox = busybox(&debian, krazy.directory.path())?;
    let machines: [(&str, Start<'_>); 3] = [
        ("our kernel, from the disk", Box::new(|port| machine(&ours, VIRTIO, port))),
        ("Debian's kernel, from the disk", Box::new(|port| machine(&theirs, VIRTIO, port))),
        (
            "busybox on Debian's, -kernel",
            Box::new(|port| {
                let mut command = pc(port, CARD)?;
                command.arg("-kernel").arg(&debian).arg("-initrd").arg(&busybox);
                command.args(["-append", "console=ttyS0,115200 quiet panic=10"]);
                Ok(command)
            }),
        ),
    ];
    let mut answers = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for ((_, machine), answers) in machines.iter().zip(&mut answers) {
            answers.push(first_answer(machine)?);
        }
    }
    println!("QEMU's start to the first HTTP byte, {ROUNDS} rounds   median    minimum   processor time");
    let mut medians = Vec::new();
    for ((name, _), answers) in machines.iter().zip(&mut answers) {
        let mut times: Vec<_> = answers.iter().map(|answer| answer.time).collect();
        let mut processor: Vec<_> = answers.iter().map(|answer| answer.processor).collect();
        let (time, processor) = (median(&mut times).as_secs_f64(), median(&mut processor).as_secs_f64());
        println!("  {name:<44} {time:>7.3} s {:>7.3} s {processor:>10.2} s", times[0].as_secs_f64());
        medians.push([time, processor]);
    }
    let [time, processor] = [0, 1].map(|column| medians[0][column] / medians[2][column]);
    println!("  ours / busybox {time:>38.2} {processor:>23.2}     (goal: ≤ 1.0)");
    Ok(())
}

fn size_and_time(kernel: &OwnKernel) -> Result<()> {
    let number = |key: &str| kernel.message[key].as_f64().with_context(|| format!("no {key} in the message"));
    println!("{}", kernel.message["release"].as_str().unwrap_or("the kernel"));
    println!("  image      {:>10.2} MiB   (goal: ≤ 5 MiB)", number("image_bytes")? / f64::from(1 << 20));
    println!(
        "  built in   {:>10.0} s     {} objects compiled   (goal: ≤ 480 s for all of them on 2 cores)",
        number("seconds")?,
        number("objects")?
    );
    Ok(())
}

/// The counts of `kernel-hardening-checker`, where it is installed. What it finds missing must have its reason in our
/// fragments.
fn hardening(kernel: &OwnKernel) -> Result<()> {
    let Some(checker) = process::find("kernel-hardening-checker") else {
        println!("  hardening  kernel-hardening-checker is not installed: it is at github.com/a13xp0p0v");
        return Ok(());
    };
    let directory = kernel.bundle.with_extension("unpacked");
    std::fs::create_dir_all(&directory)?;
    succeed(judges::command("tar")?.args(["--zstd", "-xf"]).arg(&kernel.bundle).arg("-C").arg(&directory))?;
    let mut command = Command::new(checker);
    let output = succeed(command.args(["-m", "show_fail", "-c"]).arg(directory.join("config")))?;
    let text = String::from_utf8(output.stdout)?;
    let counts = text
        .lines()
        .find(|line| line.contains("Check is finished"))
        .context("the checker counted nothing")?;
    println!("  hardening  {}", counts.trim_start_matches("[+] ").replace(" (suppressed in output)", ""));
    let mut fragments = String::new();
    for entry in std::fs::read_dir(workspace().join("cargo-krazy/src/kernel/build/config"))? {
        fragments += &std::fs::read_to_string(entry?.path())?;
    }
    let reasons: Vec<_> = fragments
        .split(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    for line in text.lines().filter(|line| line.contains("FAIL: ")) {
        let option = line.split('|').next().unwrap_or_default().trim();
        ensure!(reasons.contains(&option), "the fragments have no reason for {line}");
    }
    Ok(())
}

/// The image of the Debian kernel that the example is locked to.
fn debian(krazy: &Krazy) -> Result<PathBuf> {
    let mut command = krazy.command(["kernel", "fetch", "-p", "hello", "--message-format", "json"])?;
    let text = String::from_utf8(succeed(&mut command)?.stdout)?;
    let message: Value =
        serde_json::from_str(text.lines().last().context("the program printed no message")?)?;
    Ok(message["image"].as_str().context("the message names no image")?.into())
}

/// An uncompressed initramfs of busybox and the modules it needs of the Debian kernel with this image.
fn busybox(kernel: &Path, directory: &Path) -> Result<PathBuf> {
    let root = directory.join("busybox");
    for name in ["bin", "proc", "sys", "dev", "modules", "www"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    let program =
        process::find("busybox").context("busybox is not installed; install the package busybox-static")?;
    std::fs::copy(program, root.join("bin/busybox"))?;
    std::fs::write(root.join("www/index.html"), "busybox\n")?;
    let modules = kernel.parent().context("the kernel is in no directory")?.join("lib/modules");
    let mut order = String::new();
    for name in MODULES {
        let found =
            succeed(Command::new("find").arg(&modules).args(["-name", &format!("{name}.ko")]))?.stdout;
        // A module that is missing is built in.
        if let Some(path) = String::from_utf8(found)?.lines().next() {
            std::fs::copy(path, root.join(format!("modules/{name}.ko")))?;
            order += &format!("{name}\n");
        }
    }
    std::fs::write(root.join("modules/order"), order)?;
    for (name, text) in [("init", INIT), ("lease", LEASE)] {
        std::fs::write(root.join(name), text)?;
        succeed(Command::new("chmod").arg("755").arg(root.join(name)))?;
    }
    let initramfs = directory.join("busybox.cpio");
    let pack = "find . | cpio --quiet -o -H newc -R 0:0 > \"$1\"";
    succeed(Command::new("sh").current_dir(&root).args(["-c", pack, "sh"]).arg(&initramfs))?;
    Ok(initramfs)
}

/// The time until a machine answered.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// Since the start of the emulator.
    time: Duration,
    /// Processor time of the emulator by then; other work of the host hardly changes it.
    processor: Duration,
}

/// The processor time of a process and all its threads, from `/proc/PID/stat`; see proc_pid_stat(5).
fn processor_time(pid: u32) -> Result<Duration> {
    /// Linux reports 100 ticks a second to user space on every architecture of ours.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it may have blanks; state is field 3, utime and stime are 14 and 15.
    let fields = stat.rsplit_once(')').context("no name in /proc/PID/stat")?.1.split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).map(str::parse::<u32>).sum::<Result<_, _>>()?;
    Ok(TICK * ticks)
}

/// A machine. It is killed when this value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Starts a machine until it answers. While a kernel tests its timer, the emulator of a busy host may lose too many
/// ticks: the kernel panics, which ends the machine, and it is started anew.
fn first_answer(machine: &Start<'_>) -> Result<Answer> {
    for _ in 0..STARTS {
        let port = free_port()?;
        match first_byte(machine(port)?, port)? {
            Ok(answer) => return Ok(answer),
            Err(console) => eprintln!("a machine ended before it answered, and is started anew: {console}"),
        }
    }
    bail!("a machine ended {STARTS} times before it answered")
}

/// Starts a machine, and waits for the first byte from its port 80. If it ends before, returns its kernel's last error.
fn first_byte(mut command: Command, port: u16) -> Result<Result<Answer, String>> {
    let mut console = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console.try_clone()?);
    let begin = Instant::now();
    let mut running = Running(command.spawn().with_context(|| format!("failed to start {command:?}"))?);
    let (sender, receiver) = channel();
    while begin.elapsed() < LIMIT {
        let sender = sender.clone();
        // Each attempt has its own thread: one that the emulator delays must not delay the next.
        std::thread::spawn(move || {
            if attempt(port).is_ok() {
                // The first one counts; the others are not awaited.
                let _late = sender.send(begin.elapsed());
            }
        });
        if let Ok(time) = receiver.recv_timeout(ATTEMPTS) {
            return Ok(Ok(Answer { time, processor: processor_time(running.0.id())? }));
        }
        if let Some(status) = running.0.try_wait()? {
            let mut bytes = Vec::new();
            console.seek(SeekFrom::Start(0))?;
            console.read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            let complaint = text.lines().find(|line| line.contains("Kernel panic")).or(text.lines().last());
            return Ok(Err(format!("{status}, {}", complaint.unwrap_or("without a word"))));
        }
    }
    bail!("{command:?} did not answer within {LIMIT:?}")
}

fn attempt(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    ensure!(stream.read(&mut [0])? == 1, "the connection was closed");
    Ok(())
}
