//! The plan of a build, as plain data: computed before any work, and printable.

mod install_arguments;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use krazy_boot::disk::layout::{DiskLayout, LayoutError};
use krazy_boot::disk::size::Bytes;
use krazy_boot::manifest::checks::Checks;
use krazy_boot::manifest::network::NetworkSettings;
use krazy_boot::manifest::sandbox::Sandbox;
use krazy_boot::manifest::{Restart, ServiceSettings, Start};
use serde::Serialize;

pub(crate) use self::install_arguments::{install_arguments, quote};
use crate::config::{Appliance, Install, KernelSource, Location, OWN_INIT};
use crate::failure::{Exit, Explain, Result};

/// A build that has not begun.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The appliance.
    pub(crate) appliance: Appliance,
    /// The file or device it is written to.
    pub(crate) output: PathBuf,
    /// The disk's partitions.
    pub(crate) layout: DiskLayout,
}

/// Sizes that do not make a disk.
#[derive(Debug, thiserror::Error)]
#[error("{}{error}", location.as_ref().map(|location| format!("{location}: ")).unwrap_or_default())]
struct SizeError {
    /// The line of the setting that is to blame, if one is set.
    location: Option<Location>,
    error: LayoutError,
}

impl Explain for SizeError {
    fn exit(&self) -> Exit {
        Exit::Config
    }

    fn help(&self) -> Option<String> {
        Some(
            "`size`, `boot-size` and `root-size` in [package.metadata.krazy], or `--size`, set the sizes"
                .to_owned(),
        )
    }
}

impl Plan {
    /// The plan for `appliance`, written to `output` or to `krazy/NAME-BOARD.img` in cargo's target directory.
    ///
    /// Fails if the sizes do not make a disk.
    pub(crate) fn new(appliance: Appliance, output: Option<PathBuf>) -> Result<Self> {
        let layout = DiskLayout::new(appliance.sizes).map_err(|error| {
            let keys: &[&[&str]] = match &error {
                LayoutError::DiskTooSmall { .. } | LayoutError::DiskTooLarge(_) => {
                    &[&["size"], &["root-size"], &["boot-size"]]
                }
                LayoutError::PartitionTooSmall { name, .. } | LayoutError::Unaligned { name, .. } => {
                    if *name == "root" { &[&["root-size"]] } else { &[&["boot-size"]] }
                }
            };
            SizeError { location: appliance.origins.location(keys), error }
        })?;
        let output = output.unwrap_or_else(|| {
            let file = format!("{}-{}.img", appliance.name, appliance.board.name);
            appliance.target_directory.join("krazy").join(file)
        });
        Ok(Plan { appliance, output, layout })
    }

    /// The plan as the object `--message-format json` prints.
    pub(crate) fn message(&self) -> impl Serialize {
        let appliance = &self.appliance;
        Message {
            name: &appliance.name,
            version: &appliance.version,
            hostname: &appliance.hostname,
            board: appliance.board.name,
            triple: appliance.board.triple,
            manifest_path: &appliance.manifest_path,
            output: &self.output,
            bytes: self.layout.disk().bytes(),
            partitions: self.partitions(),
            installs: self.installs(),
            init: &appliance.init,
            kernel: &appliance.kernel,
            cmdline: self.cmdline(),
            modules: &appliance.modules,
            services: &appliance.services,
            checks: &appliance.checks,
            files: &appliance.files,
            hosts: &appliance.hosts,
            timezone: appliance.timezone.as_deref(),
            ca_certificates: appliance.ca_certificates,
            compression_level: appliance.compression_level,
            network: &appliance.network,
            sysctl: &appliance.sysctl,
            boot_writable: appliance.boot_writable,
        }
    }

    fn partitions(&self) -> [Partition; 4] {
        let [boot, root_a, root_b, data] = self.layout.partitions();
        let partition = |number, name, file_system, extent: krazy_boot::disk::layout::Extent| Partition {
            number,
            name,
            file_system,
            start: extent.start.bytes(),
            bytes: extent.len.bytes(),
        };
        [
            partition(1, "boot", "fat32", boot),
            partition(2, "root A", "squashfs", root_a),
            partition(3, "root B", "squashfs", root_b),
            partition(4, "data", "ext4", data),
        ]
    }

    fn installs(&self) -> Vec<PlannedInstall<'_>> {
        let appliance = &self.appliance;
        let installs = appliance.installs.iter().chain([&appliance.first_stage]);
        installs
            .map(|install| PlannedInstall {
                name: &install.name,
                command: self.command(install),
                env: &install.env,
            })
            .collect()
    }

    /// Returns the command line in outline: without directories and linker settings of this machine.
    fn command(&self, install: &Install) -> String {
        let mut words = vec!["cargo".to_owned(), "install".to_owned()];
        let arguments = install_arguments(install, self.appliance.board.triple, self.appliance.offline);
        words.extend(arguments.iter().map(|word| word.display().to_string()));
        let quoted =
            |word: &String| match word.contains(|c: char| c.is_whitespace() || "<>*?'\"$&;|".contains(c)) {
                true => quote(word),
                false => word.clone(),
            };
        words.iter().map(quoted).collect::<Vec<_>>().join(" ")
    }

    fn cmdline(&self) -> Vec<&str> {
        self.appliance.kernel_parameters().collect()
    }
}

#[derive(Serialize)]
struct Message<'a> {
    name: &'a str,
    version: &'a str,
    hostname: &'a str,
    board: &'a str,
    triple: &'a str,
    manifest_path: &'a PathBuf,
    output: &'a PathBuf,
    bytes: Bytes,
    partitions: [Partition; 4],
    installs: Vec<PlannedInstall<'a>>,
    init: &'a str,
    kernel: &'a KernelSource,
    cmdline: Vec<&'a str>,
    modules: &'a [String],
    services: &'a BTreeMap<String, ServiceSettings>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    checks: &'a BTreeMap<String, Checks>,
    files: &'a BTreeMap<String, PathBuf>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    hosts: &'a BTreeMap<String, IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<&'a str>,
    ca_certificates: bool,
    compression_level: i32,
    #[serde(skip_serializing_if = "NetworkSettings::is_empty")]
    network: &'a NetworkSettings,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctl: &'a BTreeMap<String, String>,
    boot_writable: bool,
}

#[derive(Serialize)]
struct Partition {
    number: u8,
    name: &'static str,
    file_system: &'static str,
    start: Bytes,
    bytes: Bytes,
}

#[derive(Serialize)]
struct PlannedInstall<'a> {
    name: &'a str,
    command: String,
    env: &'a BTreeMap<String, String>,
}

/// Prints the plan, to be read before the build.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let appliance = &self.appliance;
        writeln!(f, "Appliance {} v{} for {}", appliance.name, appliance.version, appliance.board.name)?;
        writeln!(f, "  hostname     {}", appliance.hostname)?;
        writeln!(f, "  output       {}", self.output.display())?;
        writeln!(f, "  kernel       {}", appliance.kernel)?;
        writeln!(f, "  parameters   {}", self.cmdline().join(" "))?;
        if !appliance.modules.is_empty() {
            writeln!(f, "  modules      {}", appliance.modules.join(" "))?;
        }
        for (name, address) in &appliance.hosts {
            writeln!(f, "  host         {name} is {address}")?;
        }
        for (name, value) in &appliance.sysctl {
            writeln!(f, "  sysctl       {name} = {value}")?;
        }
        if let Some(zone) = &appliance.timezone {
            writeln!(f, "  time zone    {zone}")?;
        }
        if !appliance.ca_certificates {
            writeln!(f, "  certificates none of authorities")?;
        }
        writeln!(f, "  compression  zstd {}", appliance.compression_level)?;
        writeln!(f, "  /bin/init    {}", appliance.init)?;
        writeln!(f, "  /boot        {}", if appliance.boot_writable { "writable" } else { "read-only" })?;
        writeln!(f, "\nDisk of {}", self.layout.disk().bytes())?;
        for Partition { number, name, file_system, start, bytes } in self.partitions() {
            writeln!(f, "  {number} {name:<7} {file_system:<9} {bytes:>9} at {start}")?;
        }
        writeln!(f, "\nInstalls")?;
        for PlannedInstall { name, command, .. } in self.installs() {
            let note = match name == OWN_INIT {
                true if appliance.init == OWN_INIT => " (first stage and init)",
                true => " (first stage only)",
                false => "",
            };
            writeln!(f, "  {name}{note}\n    {command}")?;
        }
        if !appliance.services.is_empty() {
            writeln!(f, "\nServices with settings (all others run with the defaults)")?;
        }
        for (name, settings) in &appliance.services {
            writeln!(f, "  {}", ServiceLine(name, settings, appliance.checks.get(name)))?;
        }
        if !appliance.files.is_empty() {
            writeln!(f, "\nFiles")?;
        }
        for (destination, source) in &appliance.files {
            writeln!(f, "  {destination} from {}", source.display())?;
        }
        Ok(())
    }
}

/// A service and what differs from the defaults.
struct ServiceLine<'a>(&'a str, &'a ServiceSettings, Option<&'a Checks>);

impl fmt::Display for ServiceLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceLine(name, settings, checks) = self;
        write!(f, "{name}")?;
        for arg in &settings.args {
            if arg.contains(char::is_whitespace) || arg.is_empty() {
                write!(f, " {arg:?}")?
            } else {
                write!(f, " {arg}")?
            }
        }
        let defaults = ServiceSettings::default();
        if !settings.env.is_empty() {
            write!(f, "; env {}", settings.env.keys().map(String::as_str).collect::<Vec<_>>().join(" "))?;
        }
        if !settings.after.is_empty() {
            write!(f, "; after {}", settings.after.join(" "))?;
        }
        if let Some(user) = &settings.user {
            write!(f, "; user {user}")?;
        }
        if let Some(workdir) = &settings.workdir {
            write!(f, "; in {workdir}")?;
        }
        if settings.start == Start::Manual {
            write!(f, "; started by hand")?;
        }
        match settings.restart {
            Restart::Always => {}
            Restart::OnFailure => write!(f, "; restarted on failure")?,
            Restart::Never => write!(f, "; never restarted")?,
        }
        if (&settings.stop_signal, settings.stop_timeout) != (&defaults.stop_signal, defaults.stop_timeout) {
            write!(f, "; stopped by {}, killed after {} s", settings.stop_signal, settings.stop_timeout)?;
        }
        if settings.ready != defaults.ready {
            write!(f, "; ready when {}", settings.ready)?;
        }
        if let Some(Checks { http, watchdog, health, stable_after, unlimited_memory }) = checks {
            if let Some(page) = http {
                write!(f, "; ready when {page}")?;
            }
            if let Some(limit) = watchdog {
                write!(f, "; watchdog of {limit} s")?;
            }
            if let Some(health) = health {
                write!(f, "; healthy by `{}` every {} s", health.command.join(" "), health.every)?;
            }
            if let Some(time) = stable_after {
                write!(f, "; stable after {time} s")?;
            }
            if *unlimited_memory {
                write!(f, "; no limit of memory")?;
            }
        }
        if !settings.capabilities.is_empty() {
            write!(f, "; may {}", settings.capabilities.join(" "))?;
        }
        match settings.sandbox {
            Sandbox::FULL => {}
            Sandbox::NONE => write!(f, "; no sandbox")?,
            parts => {
                let lifted = parts.values().into_iter().filter(|(_, applies)| !applies);
                write!(f, "; sandbox without {}", lifted.map(|(key, _)| key).collect::<Vec<_>>().join(" "))?;
            }
        }
        if let Some(limit) = settings.memory_limit {
            write!(f, "; at most {limit} of memory")?;
        }
        if let Some(limit) = settings.task_limit {
            write!(f, "; at most {limit} tasks")?;
        }
        if let Some(limit) = settings.file_limit {
            write!(f, "; at most {limit} open files")?;
        }
        if let Some(weight) = settings.cpu_weight {
            write!(f, "; CPU weight {weight}")?;
        }
        if settings.required { Ok(()) } else { write!(f, "; not required") }
    }
}
