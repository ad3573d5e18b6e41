//! Init beside busybox's and runit, with the same kernel, first stage, root and ten services: only `/bin/init` and its
//! files differ. Times are the guest's, so the emulator's start does not count. Other work of the host would count: an
//! emulated processor that waits is slow in the guest's time. The machines therefore run at real-time priority where the
//! host allows it (root may have it).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::guest::{Guest, emulator};
use crate::krazy::Krazy;
use crate::process;
use crate::process::succeed;
use crate::root::{Root, service};

/// Boots of each; they take turns, so that a noisy machine disturbs all.
const ROUNDS: usize = 5;

/// Services besides the one that measures.
const COPIES: usize = 9;

/// For one boot, with other work on the machine.
const LIMIT: Duration = Duration::from_secs(600);

/// A peer: its name, and the change that makes a root run it.
type Peer = (&'static str, fn(&Root) -> Result<()>);

const PEERS: [Peer; 3] = [("krazy-init", krazy), ("busybox init", busybox), ("runit", runit)];

/// The measurements of one boot.
#[derive(Clone, Debug, Default)]
struct Boot {
    /// From the first stage's start to the first service's, in microseconds.
    started: f64,
    /// Resident memory of all that supervises, in KiB.
    memory: f64,
    /// From a service's end to its successor, in microseconds.
    restarts: Vec<f64>,
}

/// Prints the figures.
pub fn print() -> Result<()> {
    let krazy = Krazy::new()?;
    let directory = krazy.directory.path();
    let image = directory.join("guest.img");
    let mut command = krazy.command(["image", "-p", "krazy-guest", "-q", "-o"])?;
    succeed(command.arg(&image))?;
    let mut peers = Vec::new();
    for (number, (name, prepare)) in PEERS.into_iter().enumerate() {
        let root = Root::unpack(&image, &directory.join(format!("peer-{number}")))?;
        for copy in names() {
            fs::hard_link(root.directory.join("bin/steady"), root.directory.join("bin").join(copy))?;
        }
        prepare(&root)?;
        let copy = directory.join(format!("peer-{number}.img"));
        succeed(Command::new("cp").arg("--sparse=always").arg(&image).arg(&copy))?;
        root.pack(&copy)?;
        peers.push((name, copy, Vec::new()));
    }
    let size = fs::metadata(directory.join("peer-0/root/bin/init"))?.len();
    for _ in 0..ROUNDS {
        for (name, image, boots) in &mut peers {
            boots.push(boot(image).with_context(|| format!("{name} did not come to its end"))?);
        }
    }
    let figures: Vec<[f64; 3]> = peers
        .iter()
        .map(|(_, _, boots)| {
            let restarts = boots.iter().flat_map(|boot| boot.restarts.iter().copied()).collect();
            [
                median(boots.iter().map(|boot| boot.started).collect()) / 1000.0,
                median(boots.iter().map(|boot| boot.memory).collect()),
                median(restarts) / 1000.0,
            ]
        })
        .collect();
    if !may_go_first() {
        println!("beside whatever else this host does: only root may have that wait");
    }
    println!("ten services, medians of {ROUNDS} boots   first service   memory        restart");
    for ((name, _, _), [started, memory, restart]) in peers.iter().zip(&figures) {
        println!("  {name:<30} {started:>10.1} ms   {memory:>6.0} KiB   {restart:>8.1} ms");
    }
    let [ours, busybox, runit] = &figures[..] else { return Ok(()) };
    println!(
        "  krazy-init / busybox init      {:>10.2}      {:>6.2}       {:>8.2}",
        ours[0] / busybox[0],
        ours[1] / busybox[1],
        ours[2] / busybox[2]
    );
    println!(
        "  krazy-init / runit             {:>10.2}      {:>6.2}       {:>8.2}",
        ours[0] / runit[0],
        ours[1] / runit[1],
        ours[2] / runit[2]
    );
    println!("  first service after busybox's  {:>+10.1} ms   (goal: ≤ 60 ms)", ours[0] - busybox[0]);
    println!("  resident with ten services     {:>10.2} MiB  (goal: ≤ 2.5 MiB)", ours[1] / 1024.0);
    println!(
        "  restart after its back-off     {:>+10.1} ms   (back-off 100 ms; goal: ≤ 100 ms)",
        ours[2] - 100.0
    );
    println!(
        "  size of the binary             {:>10.2} MiB  (goal: ≤ 1.5 MiB)",
        size as f64 / f64::from(1 << 20)
    );
    Ok(())
}

/// The probe comes first.
fn names() -> Vec<String> {
    std::iter::once("a-probe".to_owned())
        .chain((0..COPIES).map(|number| format!("copy-{number:03}")))
        .collect()
}

fn krazy(root: &Root) -> Result<()> {
    let mut manifest = root.manifest()?;
    let steady = service(&manifest, "steady")?;
    let services = names().into_iter().map(|name| {
        let mut service = steady.clone();
        if name == "a-probe" {
            service["settings"]["args"] = json!(["--probe"]);
            // For /dev/kmsg.
            service["settings"]["user"] = json!("root");
        }
        service["name"] = json!(name);
        service
    });
    manifest["services"] = services.collect();
    root.set_manifest(&manifest)
}

fn busybox(root: &Root) -> Result<()> {
    fs::copy(peer("busybox", "busybox-static")?, root.directory.join("bin/init"))?;
    let lines = names().into_iter().map(|name| format!("::respawn:{}\n", command(&name)));
    fs::write(root.directory.join("etc/inittab"), lines.collect::<String>())?;
    Ok(())
}

/// Debian's runit: its programs and their libraries, and busybox for its start scripts.
fn runit(root: &Root) -> Result<()> {
    fs::copy(peer("busybox", "busybox-static")?, root.directory.join("bin/busybox"))?;
    // `runit` is PID 1 under any name; `runit-init` only asks a running one to stop.
    for (program, place) in [("runit", "bin/init"), ("runsvdir", "bin/runsvdir"), ("runsv", "bin/runsv")] {
        let source = peer(program, "runit")?;
        for library in libraries(&source)? {
            let target = root.directory.join(library.strip_prefix("/").unwrap_or(&library));
            fs::create_dir_all(target.parent().unwrap_or(&root.directory))?;
            fs::copy(&library, &target)?;
        }
        fs::copy(&source, root.directory.join(place))?;
    }
    let script = |path: PathBuf, text: String| -> Result<()> {
        fs::write(&path, format!("#!/bin/busybox sh\n{text}"))?;
        Ok(fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?)
    };
    let etc = root.directory.join("etc/runit");
    fs::create_dir_all(&etc)?;
    script(etc.join("1"), "/bin/busybox mount -t tmpfs run /run\n".to_owned())?;
    script(etc.join("2"), "PATH=/bin exec /bin/runsvdir -P /etc/service\n".to_owned())?;
    script(etc.join("3"), String::new())?;
    for name in names() {
        let directory = root.directory.join("etc/service").join(&name);
        fs::create_dir_all(&directory)?;
        symlink(format!("/run/supervise.{name}"), directory.join("supervise"))?;
        script(directory.join("run"), format!("exec {}\n", command(&name)))?;
    }
    Ok(())
}

/// A peer's program. The suite does not need it, so it is not installed automatically.
pub(super) fn peer(program: &str, package: &str) -> Result<PathBuf> {
    process::find(program).with_context(|| {
        format!("{program} is not installed; install the Debian package {package} and run this again")
    })
}

fn command(name: &str) -> String {
    if name == "a-probe" { format!("/bin/{name} --probe") } else { format!("/bin/{name}") }
}

/// The files a program is linked with at run time; none for a static one.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("failed to run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path =
        |line: &str| line.split_ascii_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}

/// The command that gives a program real-time priority, so that the host's other work does not delay it.
const FIRST: [&str; 3] = ["chrt", "--rr", "1"];

pub(super) fn may_go_first() -> bool {
    let [chrt, options @ ..] = FIRST;
    Command::new(chrt).args(options).arg("true").stderr(Stdio::null()).status().is_ok_and(|end| end.success())
}

/// Returns `command` at real-time priority, if that is allowed.
pub(super) fn go_first(command: Command) -> Command {
    if !may_go_first() {
        return command;
    }
    let [chrt, options @ ..] = FIRST;
    let mut first = Command::new(chrt);
    first.args(options).arg(command.get_program()).args(command.get_args());
    first
}

/// Boots `image` and reads the probe's lines.
fn boot(image: &Path) -> Result<Boot> {
    let mut command = go_first(emulator(image)?);
    command.arg("-snapshot");
    let mut guest = Guest::start(command)?;
    let mut number = |what: &str| -> Result<f64> {
        let line = guest.wait_for(&format!("probe {what} "), LIMIT)?;
        let word = line.trim_end().rsplit(' ').next().unwrap_or_default();
        word.parse().with_context(|| format!("no number in `{line}`"))
    };
    let started = number("started")?;
    let memory = number("memory")?;
    let restarts: Vec<f64> = (0..5).map(|_| number("restart")).collect::<Result<_>>()?;
    ensure!(!restarts.is_empty(), "nothing was restarted");
    Ok(Boot { started, memory, restarts })
}

/// Returns the median.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
