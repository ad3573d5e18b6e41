//! A machine that keeps its disk, and the appliance on it: booted, cut off, updated, and looked at from outside.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::disk::succeed;
use crate::fixture::Package;
use crate::guest::{BOOT_LIMIT, Guest};
use crate::krazy::Krazy;

/// What the appliance runs: it counts its starts on `/data`, says
/// what `/etc/mode` says, and ends at once if that begins with `crash`.
const MAIN: &str = r#"
fn main() {
    let mode = std::fs::read_to_string("/etc/mode").unwrap_or_default();
    let count = std::env::var("HOME").unwrap_or_default() + "/count";
    let starts: u64 = std::fs::read_to_string(&count).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if let Err(error) = std::fs::write(&count, (starts + 1).to_string()) {
        println!("cannot count: {error}");
    }
    println!("mode {}", mode.trim());
    if mode.starts_with("crash") {
        std::process::exit(3);
    }
    loop { std::thread::park(); }
}
"#;

/// The name of the appliance and its service.
pub const NAME: &str = "unit";

/// How long a push may take: an update and a boot or two under emulation on a busy machine.
pub const PUSH_LIMIT: Duration = Duration::from_secs(600);

/// How a `cargo krazy` ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it said.
    pub stderr: String,
    /// Its messages.
    pub messages: Vec<Value>,
}

/// The appliance and its machine.
#[derive(Debug)]
pub struct Device {
    /// How it is made.
    pub krazy: Krazy,
    /// The disk.
    pub image: PathBuf,
    package: Package,
    guest: Option<Guest>,
    precious: Vec<u8>,
}

impl Device {
    /// Makes the appliance with the mode `good 1`, boots it, and puts a file on its `/data` that must survive
    /// everything. `metadata` is added to `[package.metadata.krazy]`.
    pub fn start(metadata: &str) -> Result<Self> {
        let krazy = Krazy::new()?;
        let folder = krazy.folder.path();
        let metadata = format!(
            "[package.metadata.krazy]\n{metadata}\n[package.metadata.krazy.files]\n\"/etc/mode\" = \"mode\"\n\"/etc/ballast\" = \"ballast\""
        );
        let package = Package::new(folder, NAME, MAIN, &metadata)?;
        fs::write(package.folder.join("mode"), "good 1")?;
        fs::write(package.folder.join("ballast"), "")?;
        let image = folder.join("unit.img");
        let mut command = krazy.command(["image", "--manifest-path"])?;
        succeed(command.arg(package.manifest()).arg("-o").arg(&image))?;
        let mut device = Device { krazy, image, package, guest: None, precious: noise(7, 100_000) };
        device.boot()?;
        let file = device.krazy.folder.path().join("precious");
        fs::write(&file, &device.precious)?;
        let file = file.to_str().context("not UTF-8")?.to_owned();
        let put = device.krazy(&["put", "qemu", &file, "/data/precious"])?;
        ensure!(put.code == Some(0), "{}", put.stderr);
        Ok(device)
    }

    /// What the next build is: the content of `/etc/mode`, and bytes that make it large.
    pub fn change(&self, mode: &str, ballast: &[u8]) -> Result<()> {
        fs::write(self.package.folder.join("ballast"), ballast)?;
        Ok(fs::write(self.package.folder.join("mode"), mode)?)
    }

    /// Gives the next build these kernel parameters of its own.
    pub fn set_cmdline(&self, cmdline: &str) -> Result<()> {
        self.set("cmdline", &format!("{cmdline:?}"))
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
        let mut command = self.krazy.command(["run-qemu", "--timeout", "3600", "--image"])?;
        command.arg(&self.image);
        let guest = self.guest.insert(Guest::start(command)?);
        guest.wait_for("serving https", BOOT_LIMIT)?;
        Ok(())
    }

    /// Takes the power away: the emulator is killed, and what it had written is what is on the disk.
    pub fn cut_power(&mut self) -> Result<()> {
        self.guest.take().context("the machine is off")?.kill_emulator()
    }

    /// Where its API is on loopback.
    pub fn address(&self) -> Result<SocketAddr> {
        let path = self.krazy.folder.path().join("state/machines.d/qemu.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("address = "));
        Ok(line.context("no address")?.trim_matches('"').parse()?)
    }

    /// Gives `port` on loopback the name `name`.
    pub fn name(&self, name: &str, port: u16) -> Result<()> {
        let text = format!("[{name}]\naddress = \"127.0.0.1:{port}\"\nappliance = \"{NAME}\"\n");
        Ok(fs::write(self.krazy.folder.path().join("state/hosts.toml"), text)?)
    }

    /// Runs `cargo krazy ARGUMENTS` with JSON messages.
    pub fn krazy(&self, arguments: &[&str]) -> Result<Ended> {
        let mut command = self.krazy.command(arguments.iter().chain(&["--message-format", "json"]))?;
        ended(command.output()?)
    }

    /// `cargo krazy push` of the present build, with these arguments.
    pub fn push(&self, arguments: &[&str]) -> Result<Ended> {
        ended(self.push_command(arguments)?.output()?)
    }

    /// The same, begun and left to itself.
    pub fn begin_push(&self, arguments: &[&str]) -> Result<Pushing> {
        let mut command = self.push_command(arguments)?;
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        Ok(Pushing(child))
    }

    fn push_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.krazy.command(["push", "--message-format", "json", "--manifest-path"])?;
        command.arg(self.package.manifest()).args(arguments);
        Ok(command)
    }

    /// What the device says about itself.
    pub fn status(&self) -> Result<Value> {
        self.status_when(|_| true)
    }

    /// Waits until the device runs from `slot`, and returns what it says then.
    pub fn wait_for_slot(&self, slot: &str) -> Result<Value> {
        self.status_when(|status| status["status"]["slot"] == slot)
    }

    /// Waits until the device runs from `slot` after a trial that failed for a reason with these words, and returns
    /// the reason.
    pub fn wait_for_failed_trial(&self, slot: &str, words: &str) -> Result<String> {
        let reason = |status: &Value| status["status"]["failed_trial"]["reason"].as_str().map(str::to_owned);
        let failed = |status: &Value| reason(status).is_some_and(|reason| reason.contains(words));
        let status = self.status_when(|status| status["status"]["slot"] == slot && failed(status))?;
        reason(&status).context("no reason")
    }

    /// The first status that is as `wanted`.
    fn status_when(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + BOOT_LIMIT;
        loop {
            let ended = self.krazy(&["status", "qemu"])?;
            match ended.messages.last() {
                Some(message) if wanted(message) => return Ok(message.clone()),
                _ if Instant::now() < end => std::thread::sleep(Duration::from_secs(1)),
                _ => bail!("the device does not answer, or not as it should: {ended:#?}"),
            }
        }
    }

    /// Checks that the device answers, runs the whole build with `mode` from `slot`, and has its `/data`.
    pub fn check(&self, slot: &str, mode: &str) -> Result<Value> {
        let status = self.status()?;
        ensure!(status["status"]["slot"] == slot, "another slot than {slot} runs: {status:#}");
        let end = Instant::now() + BOOT_LIMIT;
        let says = format!("mode {mode}");
        loop {
            let log = self.krazy(&["logs", "qemu", NAME, "-n", "1000"])?;
            let said = |message: &Value| message["text"].as_str().is_some_and(|text| text.ends_with(&says));
            match log.messages.iter().any(said) {
                true => break,
                // The API may serve before the service has started.
                false if Instant::now() < end => std::thread::sleep(Duration::from_secs(1)),
                false => bail!("`{mode}` does not run: {log:?}"),
            }
        }
        let back = self.krazy.folder.path().join("back");
        let got = self.krazy(&["get", "qemu", "/data/precious", back.to_str().context("not UTF-8")?])?;
        let intact = got.code == Some(0) && fs::read(&back)? == self.precious;
        ensure!(intact, "/data is not intact: {}", got.stderr);
        Ok(status)
    }
}

/// A push under way. Dropped, it goes on.
#[derive(Debug)]
pub struct Pushing(std::process::Child);

impl Pushing {
    /// Waits for its end.
    pub fn wait(mut self) -> Result<Ended> {
        let end = Instant::now() + PUSH_LIMIT;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > end {
                self.0.kill()?;
                bail!("the push goes on and on: {:?}", ended(self.0.wait_with_output()?)?);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        ended(self.0.wait_with_output()?)
    }

    /// Takes the host away.
    pub fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

fn ended(output: Output) -> Result<Ended> {
    let messages = String::from_utf8(output.stdout)?;
    let messages = messages.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Ended { code: output.status.code(), stderr, messages })
}

impl Ended {
    /// The field `name` of the last message.
    pub fn last(&self, name: &str) -> Value {
        self.messages.last().map_or(Value::Null, |message| message[name].clone())
    }

    /// Checks how a push ended.
    pub fn expect(&self, code: i32, outcome: &str) -> Result<()> {
        ensure!(self.code == Some(code) && self.last("outcome") == outcome, "not {outcome}: {self:#?}");
        Ok(())
    }

    /// Checks that the program failed with exit code 9 and these words.
    pub fn refused(&self, words: &str) -> Result<()> {
        ensure!(self.code == Some(9) && self.stderr.contains(words), "no `{words}`: {self:#?}");
        Ok(())
    }
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
