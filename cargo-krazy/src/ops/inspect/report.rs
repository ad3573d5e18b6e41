//! The result of an inspection as plain data, and its text for people.

use std::fmt;
use std::path::PathBuf;

use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;
use krazy_boot::manifest::Manifest;
use serde::Serialize;

/// A disk.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The image file or device.
    pub(crate) image: PathBuf,
    /// Its length.
    pub(crate) bytes: Bytes,
    /// The disk signature in hex.
    pub(crate) disk_signature: String,
    /// The four partitions.
    pub(crate) partitions: Vec<Partition>,
    /// The version of the UEFI loader; none if UEFI firmware cannot start the disk.
    pub(crate) uefi_loader: Option<u16>,
    /// True if the first partition has the type that all UEFI firmware starts.
    pub(crate) efi_system_partition: bool,
    /// The selector: the slot that boots.
    pub(crate) selector: SelectorReport,
    /// Both slots.
    pub(crate) slots: Vec<SlotReport>,
}

/// A partition.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Partition {
    /// 1 to 4.
    pub(crate) number: u8,
    /// `boot`, `root A`, `root B`, `data`.
    pub(crate) name: &'static str,
    /// The file system found there; none if it is empty.
    pub(crate) file_system: Option<&'static str>,
    /// Its start on the disk.
    pub(crate) start: Bytes,
    /// Its length.
    pub(crate) bytes: Bytes,
    /// Used bytes, if the file system tells them.
    pub(crate) used: Option<Bytes>,
    /// The reason that it is not as it should be.
    pub(crate) problem: Option<String>,
}

/// The boot selector.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SelectorReport {
    /// The slot that boots when no trial is armed; none if no copy is readable.
    pub(crate) confirmed: Option<Slot>,
    /// The slot that boots once, next.
    pub(crate) trial: Option<Slot>,
    /// The slot that was armed and not confirmed since.
    pub(crate) candidate: Option<Slot>,
    /// The slot whose kernel the firmware of a Raspberry Pi loads, as `config.txt` says.
    pub(crate) config_txt: Option<Slot>,
    /// Set when that kernel starts the other slot's, once.
    pub(crate) launcher: bool,
    /// Counted up at every change.
    pub(crate) generation: Option<u32>,
    /// The reason that it is not as it should be.
    pub(crate) problem: Option<String>,
}

/// A slot.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SlotReport {
    /// The slot.
    pub(crate) slot: Slot,
    /// True if it has neither a root nor a kernel.
    pub(crate) empty: bool,
    /// Its kernel, if there is one.
    pub(crate) kernel: Option<KernelReport>,
    /// The length of its initramfs.
    pub(crate) initramfs: Option<Bytes>,
    /// Its kernel command line.
    pub(crate) cmdline: Option<String>,
    /// Its load table, compared with the files on `/boot`.
    pub(crate) load_table: LoadTableState,
    /// The manifest in its root.
    pub(crate) manifest: Option<Manifest>,
    /// The reason that it is not as it should be.
    pub(crate) problems: Vec<String>,
}

/// A kernel on `/boot`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KernelReport {
    /// The release, the first word of its version text.
    pub(crate) release: Option<String>,
    /// The whole version text.
    pub(crate) version_text: Option<String>,
    /// The length of the file.
    pub(crate) bytes: Bytes,
}

/// The relation of a load table to the files it loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LoadTableState {
    /// It loads the files as they are.
    Current,
    /// It was made for other files, or is damaged; the slot may not boot.
    Stale,
    /// There is none, or nothing it could load.
    Missing,
    /// Firmware loads the files themselves.
    Unneeded,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}, disk signature {}", self.image.display(), self.bytes, self.disk_signature)?;
        writeln!(f, "\n  #  partition  file system      start       size       used")?;
        for partition in &self.partitions {
            let used = partition.used.map_or_else(|| "-".to_owned(), |used| used.to_string());
            let (number, name) = (partition.number, partition.name);
            let (file_system, start) = (partition.file_system.unwrap_or("empty"), partition.start);
            writeln!(
                f,
                "  {number}  {name:<9}  {file_system:<11} {start:>10} {:>10} {used:>10}",
                partition.bytes
            )?;
            if let Some(problem) = &partition.problem {
                writeln!(f, "     problem: {problem}")?;
            }
        }
        match self.uefi_loader {
            Some(version) => {
                let kind = if self.efi_system_partition {
                    "0xef"
                } else {
                    "0x0c, which some firmware does not start"
                };
                writeln!(f, "\nUEFI: loader {version}, first partition of type {kind}")?;
            }
            None => writeln!(f, "\nUEFI: no loader")?,
        }
        writeln!(f, "{}", self.selector)?;
        for slot in &self.slots {
            write!(f, "\n{slot}")?;
        }
        Ok(())
    }
}

impl fmt::Display for SelectorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(confirmed) = self.confirmed else {
            return write!(f, "selector: unreadable ({})", self.problem.as_deref().unwrap_or_default());
        };
        write!(f, "selector: slot {confirmed} is confirmed")?;
        match (self.trial, self.candidate) {
            (Some(trial), _) => write!(f, ", slot {trial} is tried at the next start")?,
            (None, Some(candidate)) => write!(f, ", slot {candidate} was tried and not confirmed")?,
            (None, None) => {}
        }
        if let Some(slot) = self.config_txt {
            write!(f, "; config.txt loads the kernel of slot {slot}")?;
            if self.launcher {
                write!(f, ", which starts that of slot {}", !slot)?;
            }
        }
        match &self.problem {
            Some(problem) => write!(f, "\n  problem: {problem}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SlotReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.empty {
            return writeln!(f, "slot {}: empty", self.slot);
        }
        match &self.manifest {
            Some(manifest) => {
                let Manifest { name, version, board, hostname, build_id, .. } = manifest;
                writeln!(f, "slot {}: {name} {version} for {board}, host name {hostname}", self.slot)?;
                writeln!(f, "  build       {build_id}")?;
            }
            None => writeln!(f, "slot {}:", self.slot)?,
        }
        if let Some(kernel) = &self.kernel {
            let release = kernel.release.as_deref().unwrap_or("of unknown release");
            let origin = self.manifest.as_ref().map_or("", |manifest| &manifest.kernel.origin);
            let origin = if origin.is_empty() { String::new() } else { format!(", {origin}") };
            writeln!(f, "  kernel      {release} ({}{origin})", kernel.bytes)?;
        }
        if let Some(initramfs) = self.initramfs {
            writeln!(f, "  initramfs   {initramfs}")?;
        }
        if let Some(cmdline) = &self.cmdline {
            writeln!(f, "  cmdline     {cmdline}")?;
        }
        let state = match self.load_table {
            LoadTableState::Current => "loads these files",
            LoadTableState::Stale => "does not match these files",
            LoadTableState::Missing => "missing",
            LoadTableState::Unneeded => "none, the firmware loads files",
        };
        writeln!(f, "  load table  {state}")?;
        if let Some(manifest) = &self.manifest {
            let init = &manifest.init;
            writeln!(f, "  init        {} {} ({})", init.package, init.version, init.source)?;
            let width = manifest.services.iter().map(|service| service.name.len()).max().unwrap_or(0);
            for (number, service) in manifest.services.iter().enumerate() {
                let title = if number == 0 { "services" } else { "" };
                let program = &service.program;
                let (name, package, version) = (&service.name, &program.package, &program.version);
                writeln!(f, "  {title:<10}  {name:<width$}  {package} {version} ({})", program.source)?;
            }
        }
        for problem in &self.problems {
            writeln!(f, "  problem: {problem}")?;
        }
        Ok(())
    }
}
