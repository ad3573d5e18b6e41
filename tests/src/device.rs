//! A machine that keeps its disk, and its appliance: booted, cut off, updated, and checked from outside.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::fixture::Package;
use crate::guest::{BOOT_LIMIT, Guest};
use crate::krazy::Krazy;
use crate::outcome::{Outcome, RunningPush};
use crate::process::succeed;
use crate::qmp::Qmp;

/// The appliance's program: it counts its starts on `/data`, prints the text of `/etc/mode`, and exits at once if that
/// begins with `crash`. If its directory has a file `fill`, it fills `/data` to the last byte. With a mode that begins
/// with `records`, it writes numbers and prints each one when it is durable.
const MAIN: &str = include_str!("device/unit.rs");

/// The longest wait for the network of an emulated Raspberry Pi, before it is started again.
const NETWORK_LIMIT: Duration = Duration::from_secs(240);

/// Parameters of every kernel for a PC. On a busy host the emulated timer is so late that a kernel takes it for broken
/// and panics ("IO-APIC + timer doesn't work"), which a trial does not survive. Linux leaves the check out by itself where
/// it knows its hypervisor.
const PC_CMDLINE: &str = "no_timer_check";

/// The name of the appliance and its service.
pub const NAME: &str = "unit";

/// The environment variable that chooses the firmware of all PCs: `KRAZY_TEST_FIRMWARE=uefi cargo suite system update::`.
const FIRMWARE: &str = "KRAZY_TEST_FIRMWARE";

/// The appliance and its machine.
#[derive(Debug)]
pub struct Device {
    /// The program that makes and updates it.
    pub krazy: Krazy,
    /// The disk.
    pub image: PathBuf,
    /// The firmware of a PC: `bios` or `uefi`.
    pub firmware: String,
    board: &'static str,
    package: Package,
    guest: Option<Guest>,
    precious: Vec<u8>,
}

impl Device {
    /// Makes the appliance with the mode `good 1` and switches it on. `metadata` is added to
    /// `[package.metadata.krazy]`.
    pub fn start(metadata: &str) -> Result<Self> {
        Self::start_board("x86_64", metadata)
    }

    /// The same for `board`.
    pub fn start_board(board: &'static str, metadata: &str) -> Result<Self> {
        let mut device = Self::new_board(board, metadata)?;
        device.switch_on()?;
        Ok(device)
    }

    /// Makes the appliance with the mode `good 1`, and does not boot it yet.
    pub fn new(metadata: &str) -> Result<Self> {
        Self::new_board("x86_64", metadata)
    }

    fn new_board(board: &'static str, metadata: &str) -> Result<Self> {
        let krazy = Krazy::new()?;
        let directory = krazy.directory.path();
        let cmdline = if board == "x86_64" { PC_CMDLINE } else { "" };
        let metadata = format!(
            "[package.metadata.krazy]\ncmdline = \"{cmdline}\"\n{metadata}\n[package.metadata.krazy.files]\n\"/etc/mode\" = \"mode\"\n\"/etc/ballast\" = \"ballast\""
        );
        let package = Package::new(directory, NAME, MAIN, &metadata)?;
        fs::write(package.directory.join("mode"), "good 1")?;
        fs::write(package.directory.join("ballast"), "")?;
        let image = directory.join("unit.img");
        let firmware = std::env::var(FIRMWARE).unwrap_or_else(|_| "bios".to_owned());
        let device =
            Device { krazy, image, firmware, board, package, guest: None, precious: noise(7, 100_000) };
        device.make_image()?;
        Ok(device)
    }

    /// Makes the image from the present state of the appliance and its secrets.
    pub fn make_image(&self) -> Result<()> {
        let mut command = self.krazy.command(["image", "--target", self.board, "--manifest-path"])?;
        succeed(command.arg(self.package.manifest()).arg("-o").arg(&self.image))?;
        Ok(())
    }

    /// Boots it for the first time, and writes a file to its `/data` that must survive everything.
    pub fn switch_on(&mut self) -> Result<()> {
        self.boot()?;
        self.put_precious()
    }

    /// Writes the file that must survive everything.
    pub fn put_precious(&self) -> Result<()> {
        self.put("precious", &self.precious)
    }

    /// Writes `content` to `/data/PATH`.
    pub fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        let file = self.krazy.directory.path().join("put");
        fs::write(&file, content)?;
        let put =
            self.krazy(&["put", "qemu", file.to_str().context("not UTF-8")?, &format!("/data/{path}")])?;
        ensure!(put.code == Some(0), "{}", put.stderr);
        Ok(())
    }

    /// Changes the next build: the text of `/etc/mode`, and bytes that make it large.
    pub fn change(&self, mode: &str, ballast: &[u8]) -> Result<()> {
        fs::write(self.package.directory.join("ballast"), ballast)?;
        Ok(fs::write(self.package.directory.join("mode"), mode)?)
    }

    /// Gives the next build these kernel parameters of its own.
    pub fn set_cmdline(&self, cmdline: &str) -> Result<()> {
        let pc = if self.board == "x86_64" { PC_CMDLINE } else { "" };
        let parameters = format!("{pc} {cmdline}");
        self.set("cmdline", &format!("{:?}", parameters.trim()))
    }

    /// Gives the next build a UEFI loader, or none.
    pub fn set_uefi(&self, loader: bool) -> Result<()> {
        self.set("uefi", &loader.to_string())
    }

    /// Gives the next build the kernel of this bundle, or else Debian's.
    pub fn set_kernel(&self, bundle: Option<&Path>) -> Result<()> {
        match bundle {
            Some(path) => self.set("kernel", &format!("{{ path = {path:?} }}")),
            None => self.set("kernel", "\"debian\""),
        }
    }

    /// Sets a key of `[package.metadata.krazy]`.
    fn set(&self, key: &str, value: &str) -> Result<()> {
        let manifest = fs::read_to_string(self.package.manifest())?;
        let old = format!("{key} = ");
        let mut text = String::new();
        for line in manifest.lines().filter(|line| !line.starts_with(&old)) {
            text.push_str(&format!("{line}\n"));
            if line == "[package.metadata.krazy]" {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        Ok(fs::write(self.package.manifest(), text)?)
    }

    /// Switches the machine on and waits for its API.
    pub fn boot(&mut self) -> Result<()> {
        self.boot_with(&[] as &[&OsStr])
    }

    /// The same with further arguments for QEMU.
    pub fn boot_with(&mut self, arguments: &[impl AsRef<OsStr>]) -> Result<()> {
        self.begin_boot(arguments)?;
        let limit = self.boot_limit();
        self.console()?.wait_for("serving https", limit)?;
        if self.board == "x86_64" {
            // Its network may come later.
            return self.status().map(drop);
        }
        // About one in two hundred starts of QEMU's Raspberry Pi on a busy host has no network, and the console says
        // nothing about it: its USB controller is emulated with timers of the host. The next start has one.
        let first = self.status_within(NETWORK_LIMIT, |_| true);
        let Err(error) = first else { return Ok(()) };
        eprintln!("{error:#}\nstarted again");
        self.cut_power()?;
        self.begin_boot(arguments)?;
        self.console()?.wait_for("serving https", limit)?;
        self.status().map(drop)
    }

    /// Switches the machine on, with further arguments for QEMU.
    pub fn begin_boot(&mut self, arguments: &[impl AsRef<OsStr>]) -> Result<()> {
        // Never under KVM: where that breaks only when the kernel is loaded, the boot sector has cleared a trial already, and
        // the emulated start that follows is another one.
        let options = ["run-qemu", "--target", self.board, "--accel", "tcg", "--timeout", "3600"];
        let mut command = self.krazy.command(options)?;
        if self.board == "x86_64" {
            command.args(["--firmware", &self.firmware]);
        }
        command.arg("--image").arg(&self.image).args(["--", "-qmp"]);
        command.arg(format!("unix:{},server=on,wait=off", self.monitor().display())).args(arguments);
        self.guest = Some(Guest::start(command)?);
        Ok(())
    }

    /// Returns the time limit of a boot. A foreign processor is emulated more slowly, and a trial takes two boots there.
    fn boot_limit(&self) -> Duration {
        if self.board == "x86_64" { BOOT_LIMIT } else { 2 * BOOT_LIMIT }
    }

    /// Cuts the power: the emulator is killed, and the disk keeps what it had written. Returns the console's text.
    pub fn cut_power(&mut self) -> Result<String> {
        self.guest.take().context("the machine is off")?.kill_emulator()
    }

    /// Switches it off as a user does, so that its file systems are unmounted.
    pub fn power_off(&mut self) -> Result<()> {
        let ended = self.krazy(&["poweroff", "qemu"])?;
        ensure!(ended.code == Some(0), "poweroff was refused: {}", ended.stderr);
        let guest = self.guest.take().context("the machine is off")?;
        guest.wait(self.boot_limit()).map(drop)
    }

    /// Presses the reset button: the machine restarts from its firmware.
    pub fn reset(&self) -> Result<()> {
        Qmp::connect(&self.monitor())?.reset()
    }

    /// Lets the disk take so many bytes a second.
    pub fn throttle_writes(&self, bytes: u64) -> Result<()> {
        Qmp::connect(&self.monitor())?.throttle_writes("disk", bytes)
    }

    /// Returns the running machine's console.
    pub fn console(&mut self) -> Result<&mut Guest> {
        self.guest.as_mut().context("the machine is off")
    }

    fn monitor(&self) -> PathBuf {
        self.krazy.directory.path().join("qmp")
    }

    /// The host's side of the appliance's secrets.
    pub fn secrets(&self) -> PathBuf {
        self.krazy.directory.path().join("state").join(NAME).join("secrets")
    }

    /// `cargo krazy bundle` of the present build.
    pub fn bundle(&self, name: &str) -> Result<PathBuf> {
        let path = self.krazy.directory.path().join(name);
        let mut command = self.krazy.command(["bundle", "--manifest-path"])?;
        succeed(command.arg(self.package.manifest()).arg("-o").arg(&path))?;
        Ok(path)
    }

    /// `cargo krazy push --bundle` of a file, with further arguments.
    pub fn push_bundle(&self, bundle: &Path, arguments: &[&str]) -> Result<Outcome> {
        Outcome::of(self.bundle_command(bundle, arguments)?.output()?)
    }

    /// Starts the same in the background.
    pub fn begin_push_bundle(&self, bundle: &Path, arguments: &[&str]) -> Result<RunningPush> {
        RunningPush::begin(self.bundle_command(bundle, arguments)?)
    }

    fn bundle_command(&self, bundle: &Path, arguments: &[&str]) -> Result<Command> {
        let mut command = self.krazy.command(["push", "--message-format", "json", "--bundle"])?;
        command.arg(bundle).args(arguments);
        Ok(command)
    }

    /// Returns the address of its API on loopback.
    pub fn address(&self) -> Result<SocketAddr> {
        let path = self.krazy.directory.path().join("state/machines.d/qemu.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("address = "));
        Ok(line.context("no address")?.trim_matches('"').parse()?)
    }

    /// Gives `port` on loopback the name `name`.
    pub fn name(&self, name: &str, port: u16) -> Result<()> {
        let text = format!("[{name}]\naddress = \"127.0.0.1:{port}\"\nappliance = \"{NAME}\"\n");
        Ok(fs::write(self.krazy.directory.path().join("state/hosts.toml"), text)?)
    }

    /// Runs `cargo krazy ARGUMENTS` with JSON messages.
    pub fn krazy(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = self.krazy.command(arguments.iter().chain(&["--message-format", "json"]))?;
        Outcome::of(command.output()?)
    }

    /// `cargo krazy push` of the present build, with these arguments.
    pub fn push(&self, arguments: &[&str]) -> Result<Outcome> {
        Outcome::of(self.push_command(arguments)?.output()?)
    }

    /// Starts the same in the background.
    pub fn begin_push(&self, arguments: &[&str]) -> Result<RunningPush> {
        RunningPush::begin(self.push_command(arguments)?)
    }

    fn push_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.krazy.command(["push", "--message-format", "json", "--manifest-path"])?;
        command.arg(self.package.manifest()).args(arguments);
        Ok(command)
    }

    /// Kills krazy-admind, which init restarts.
    pub fn kill_admind(&mut self) -> Result<()> {
        let signal = "services/krazy-admind/signal?signal=KILL";
        // The response may or may not arrive before the process dies.
        let answer = self.curl("POST", signal, None);
        let again = self.console()?.wait_for("serving https", BOOT_LIMIT);
        again.map(drop).with_context(|| format!("{answer:?}"))
    }

    /// `cargo krazy confirm`, as soon as the device is stable.
    pub fn confirm(&self) -> Result<()> {
        let end = Instant::now() + BOOT_LIMIT;
        loop {
            let ended = self.krazy(&["confirm", "qemu"])?;
            match ended.code {
                Some(0) => return Ok(()),
                _ if Instant::now() < end => std::thread::sleep(Duration::from_secs(1)),
                _ => bail!("the device did not confirm: {ended:#?}"),
            }
        }
    }

    /// Returns the device's status.
    pub fn status(&self) -> Result<Value> {
        self.status_when(|_| true)
    }

    /// Waits until the device runs from `slot`, and returns its status.
    pub fn wait_for_slot(&self, slot: &str) -> Result<Value> {
        self.status_when(|status| status["status"]["slot"] == slot)
    }

    /// Waits until the device runs from `slot` after a failed trial whose reason contains `words`, and returns the
    /// reason.
    pub fn wait_for_failed_trial(&self, slot: &str, words: &str) -> Result<String> {
        let reason = |status: &Value| status["status"]["failed_trial"]["reason"].as_str().map(str::to_owned);
        let failed = |status: &Value| reason(status).is_some_and(|reason| reason.contains(words));
        let status = self.status_when(|status| status["status"]["slot"] == slot && failed(status))?;
        reason(&status).context("no reason")
    }

    /// Waits for a status that `wanted` accepts.
    fn status_when(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.status_within(self.boot_limit(), wanted)
    }

    fn status_within(&self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + limit;
        loop {
            let ended = self.krazy(&["status", "qemu"])?;
            match ended.messages.last() {
                Some(message) if wanted(message) => return Ok(message.clone()),
                _ if Instant::now() < end => std::thread::sleep(Duration::from_secs(1)),
                _ => {
                    let console = self.guest.as_ref().map(Guest::take_unread).unwrap_or_default();
                    bail!("the device did not reach the expected status: {ended:#?}\n{console}");
                }
            }
        }
    }

    /// Checks that the device answers, runs the build with `mode` from `slot`, and has its `/data`.
    pub fn check(&self, slot: &str, mode: &str) -> Result<Value> {
        let status = self.status()?;
        ensure!(status["status"]["slot"] == slot, "slot {slot} is not the running one: {status:#}");
        let end = Instant::now() + self.boot_limit();
        let says = format!("mode {mode}");
        loop {
            let log = self.krazy(&["logs", "qemu", NAME, "-n", "1000"])?;
            let said = |message: &Value| message["text"].as_str().is_some_and(|text| text.ends_with(&says));
            match log.messages.iter().any(said) {
                true => break,
                // The API may serve before the service has started.
                false if Instant::now() < end => std::thread::sleep(Duration::from_secs(1)),
                false => bail!("the build with mode `{mode}` is not running: {log:?}"),
            }
        }
        let back = self.krazy.directory.path().join("back");
        let got = self.krazy(&["get", "qemu", "/data/precious", back.to_str().context("not UTF-8")?])?;
        let intact = got.code == Some(0) && fs::read(&back)? == self.precious;
        ensure!(intact, "/data is not intact: {}", got.stderr);
        Ok(status)
    }
}

/// Returns bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
