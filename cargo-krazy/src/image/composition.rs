//! The content of an image as trees of files. Nothing is written yet.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::Context;
use krazy_boot::boot::cmdline::{CommandLine, CommandLineError};
use krazy_boot::boot::uefi_loader::{self, Loader};
use krazy_boot::digest::hex;
use krazy_boot::disk::slot::Slot;
use krazy_boot::image::tree::{Content, Entry, Tree};
use krazy_boot::manifest::{self, Manifest, Program, Service};
use krazy_boot::update::bundle::{self, BundleManifest, Part};
use sha2::{Digest, Sha256};

use super::board_files::{BoardFiles, board_files};
use super::system_files;
use crate::board::Boot;
use crate::config::{Appliance, OWN_INIT};
use crate::failure::{Explain, Failure, Result};
use crate::install::{Installation, Installed};
use crate::kernel::bundle::KernelBundle;
use crate::kernel::bundle::firmware::BootFirmware;
use crate::kernel::index::{Selection, SelectionError};
use crate::provision::Secrets;

/// Folders of the root that other file systems are mounted on.
const MOUNTPOINTS: [&str; 7] = ["/boot", "/data", "/dev", "/proc", "/run", "/sys", "/tmp"];

/// All files of a disk.
pub(crate) struct Composition {
    /// The description in the root.
    pub(crate) manifest: Manifest,
    /// The root file system.
    pub(crate) root: Tree,
    /// The initramfs: first stage and the modules that lead to the root.
    pub(crate) initramfs: Tree,
    /// The kernel image on the host.
    pub(crate) kernel: PathBuf,
    /// Slot A's command line.
    pub(crate) cmdline: CommandLine,
    /// The same as a launcher of the other slot, where a firmware starts the slots.
    pub(crate) launcher: Option<CommandLine>,
    /// The parameters in it that do not depend on slot and disk.
    pub(crate) parameters: Vec<String>,
    /// Files of `/boot` that depend on the board.
    pub(crate) board_files: BoardFiles,
    /// How the board boots.
    pub(crate) boot: Boot,
    /// The loader by which UEFI firmware starts the disk, if it does.
    pub(crate) loader: Option<&'static Loader>,
    /// `/data`: credentials of this appliance.
    pub(crate) data: Tree,
}

impl Composition {
    /// Puts together what was installed, the kernel and the secrets.
    pub(crate) fn new(
        appliance: &Appliance,
        installation: &Installation,
        kernel: &KernelBundle,
        firmware: Option<&BootFirmware>,
        secrets: &Secrets,
    ) -> Result<Self> {
        let board = appliance.board;
        let index = kernel.modules()?;
        let start = index.select(&board.start_modules.concat(), &[])?;
        let early = index.select(&board.initramfs_modules(), &[])?;
        let carried = index
            .select(&board.modules(), &appliance.modules)
            .map_err(|error| modules_failure(appliance, error))?;
        let loader = loader(appliance, kernel)?;
        let board_files = board_files(appliance, kernel, firmware, loader, Slot::A)?;
        let manifest = manifest(appliance, installation, kernel, &carried, &board_files)?;
        let parameters: Vec<_> = appliance.kernel_parameters().map(str::to_owned).collect();
        let texts = parameters.iter().map(String::as_str);
        let unusable = |error: CommandLineError| {
            let problem = format!("cannot be used: {error}");
            Failure::from(appliance.origins.invalid(&["cmdline"], problem))
        };
        let cmdline = CommandLine::for_slot(Slot::A, secrets.disk_signature(), texts).map_err(unusable)?;
        let launcher = match board.boot {
            Boot::RaspberryPi { .. } => Some(cmdline.launcher().map_err(unusable)?),
            Boot::Pc { .. } => None,
        };
        Ok(Composition {
            root: root(appliance, installation, kernel, &carried, &manifest, loader)?,
            initramfs: initramfs(&installation.first_stage, kernel, &start, &early)?,
            kernel: kernel.image.clone(),
            data: data(secrets)?,
            board_files,
            boot: board.boot,
            loader,
            manifest,
            cmdline,
            launcher,
            parameters,
        })
    }
}

impl Composition {
    /// Describes a slot that consists of `parts`.
    pub(crate) fn slot(&self, parts: Vec<Part>) -> BundleManifest {
        let Manifest { name, board, build_id, version, instructions, .. } = self.manifest.clone();
        BundleManifest {
            format: bundle::FORMAT,
            appliance: name,
            board,
            build_id,
            version,
            protocol: bundle::PROTOCOL,
            cmdline: self.parameters.clone(),
            instructions,
            parts,
        }
    }
}

/// Returns the appliance's UEFI loader if it can start `kernel`, which needs an EFI stub.
fn loader(appliance: &Appliance, kernel: &KernelBundle) -> Result<Option<&'static Loader>> {
    let Some(loader) = appliance.loader() else { return Ok(None) };
    match (has_efi_stub(kernel)?, appliance.uefi) {
        (true, _) => Ok(Some(loader)),
        (false, None) => Ok(None),
        (false, Some(_)) => {
            let problem = format!("cannot be true: the kernel {} has no EFI stub", kernel.release);
            let error = appliance.origins.invalid(&["uefi"], problem);
            Err(error.help("set CONFIG_EFI_STUB=y in it, or remove the key").into())
        }
    }
}

/// Returns true if a kernel is an EFI program, which it is by its stub. Source: Microsoft PE Format, "MS-DOS Stub".
fn has_efi_stub(kernel: &KernelBundle) -> anyhow::Result<bool> {
    /// The offset of the PE header's own offset.
    const PE_OFFSET: usize = 0x3c;
    let mut start = Vec::new();
    std::fs::File::open(&kernel.image)
        .and_then(|image| image.take(4096).read_to_end(&mut start))
        .with_context(|| format!("failed to read {}", kernel.image.display()))?;
    let pe = start.get(PE_OFFSET..PE_OFFSET + 2).map(|at| usize::from(u16::from_le_bytes([at[0], at[1]])));
    let has_pe = pe.is_some_and(|at| start.get(at..at + 4) == Some(b"PE\0\0".as_slice()));
    Ok(start.starts_with(b"MZ") && has_pe)
}

/// Returns the failure for modules that the kernel cannot provide. Those that the user requests have their place.
fn modules_failure(appliance: &Appliance, error: SelectionError) -> Failure {
    match &error {
        SelectionError::NoModule { .. } | SelectionError::NoDirectory { .. } => {
            let place = appliance.origins.invalid(&["modules"], format!("cannot be used: {error}"));
            match error.help() {
                Some(help) => place.help(help).into(),
                None => place.into(),
            }
        }
        SelectionError::Incomplete { .. } => error.into(),
    }
}

fn program(binary: &Installed) -> Program {
    Program {
        package: binary.package.clone(),
        version: binary.version.clone(),
        source: binary.source.clone(),
        sha256: binary.sha256.clone(),
    }
}

/// The services: every binary but the init.
fn services(installation: &Installation) -> impl Iterator<Item = &Installed> {
    installation.bins.iter().filter(|&binary| binary != installation.init())
}

fn manifest(
    appliance: &Appliance,
    installation: &Installation,
    kernel: &KernelBundle,
    modules: &Selection<'_>,
    board_files: &BoardFiles,
) -> anyhow::Result<Manifest> {
    let mut services: Vec<_> = services(installation)
        .map(|binary| {
            let settings = appliance.services.get(&binary.bin).cloned().unwrap_or_default();
            let checks = appliance.checks.get(&binary.bin).cloned().unwrap_or_default();
            Service { name: binary.bin.clone(), program: program(binary), settings, checks }
        })
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let mut manifest = Manifest {
        format: manifest::FORMAT,
        disk_format: manifest::DISK_FORMAT,
        name: appliance.name.clone(),
        version: appliance.version.clone(),
        board: appliance.board.name.to_owned(),
        build_id: String::new(),
        hostname: appliance.hostname.clone(),
        kernel: manifest::Kernel {
            release: kernel.release.clone(),
            origin: kernel.origin.clone(),
            sha256: kernel.sha256.clone(),
        },
        init: program(installation.init()),
        services,
        boot_writable: appliance.boot_writable,
        modules: appliance.modules.clone(),
        network: appliance.network.clone(),
        hosts: appliance.hosts.clone(),
        instructions: installation.instructions.clone(),
        sysctl: appliance.sysctl.clone(),
    };
    manifest.build_id = build_id(&manifest, appliance, &installation.first_stage, modules, board_files)?;
    Ok(manifest)
}

/// Returns a hash of everything that decides what runs, the same on every machine and at every time.
fn build_id(
    manifest: &Manifest,
    appliance: &Appliance,
    first_stage: &Installed,
    modules: &Selection<'_>,
    board_files: &BoardFiles,
) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(env!("CARGO_PKG_VERSION").as_bytes());
    part(&manifest.to_json());
    part(first_stage.sha256.as_bytes());
    for module in modules.modules() {
        part(module.path.as_bytes());
    }
    for parameter in appliance.kernel_parameters() {
        part(parameter.as_bytes());
    }
    for (path, entry) in system_files::of(appliance, manifest) {
        part(path.as_bytes());
        part(format!("{:?}", entry.node).as_bytes());
    }
    for (destination, source) in &appliance.files {
        part(destination.as_bytes());
        part(&std::fs::read(source).with_context(|| format!("failed to read {}", source.display()))?);
    }
    for file in board_files.of_slot.iter().chain(&board_files.shared) {
        part(file.name.as_bytes());
        let mut content = Vec::new();
        file.content
            .open()
            .and_then(|mut reader| reader.read_to_end(&mut content))
            .with_context(|| format!("failed to read {}", file.content))?;
        part(&content);
    }
    Ok(hex(&hash.finalize()))
}

fn root(
    appliance: &Appliance,
    installation: &Installation,
    kernel: &KernelBundle,
    modules: &Selection<'_>,
    manifest: &Manifest,
    loader: Option<&Loader>,
) -> anyhow::Result<Tree> {
    let mut tree = Tree::new();
    for mountpoint in MOUNTPOINTS {
        tree.add(mountpoint, Entry::directory(), "a mount point")?;
    }
    if matches!(appliance.board.boot, Boot::RaspberryPi { .. }) {
        // A trial with another kernel mounts that kernel's modules here.
        tree.add("/lib/modules", Entry::directory(), "a mount point")?;
    }
    if let Some(loader) = loader {
        // A device takes it from here to `/boot`.
        let path = format!("{}/{}", uefi_loader::ROOT_DIRECTORY, loader.name);
        tree.add(&path, Entry::file(Content::Bytes(loader.file())), "cargo krazy")?;
    }
    let init = installation.init();
    tree.add("/bin/init", Entry::executable(Content::File(init.path.clone())), origin(init))?;
    for binary in services(installation) {
        let entry = Entry::executable(Content::File(binary.path.clone()));
        tree.add(&format!("/bin/{}", binary.bin), entry, origin(binary))?;
    }
    for (path, entry) in system_files::of(appliance, manifest) {
        tree.add(&path, entry, "cargo krazy")?;
    }
    if appliance.init == OWN_INIT {
        // A service that may talk to init finds the client on its PATH.
        tree.add("/sbin/krazy", Entry::symlink("/bin/init"), "cargo krazy")?;
    }
    let json = Entry::file(Content::Bytes(manifest.to_json()));
    tree.add(&format!("/{}", manifest::PATH), json, "cargo krazy")?;
    add_modules(&mut tree, kernel, modules)?;
    for (destination, source) in &appliance.files {
        let metadata =
            source.metadata().with_context(|| format!("failed to inspect {}", source.display()))?;
        // As in git, only the executable bit counts: umasks differ between machines.
        let mode = if metadata.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        let entry = Entry::file(Content::File(source.clone())).mode(mode);
        tree.add(destination, entry, format!("`files` ({})", source.display())).map_err(|error| {
            let problem = format!("cannot be in the image: {error}");
            Failure::from(appliance.origins.file_invalid(destination, problem))
        })?;
    }
    Ok(tree)
}

fn origin(binary: &Installed) -> String {
    format!("the crate {} v{}", binary.package, binary.version)
}

/// The modules and their tables below `/lib/modules/RELEASE`.
fn add_modules(tree: &mut Tree, kernel: &KernelBundle, modules: &Selection<'_>) -> anyhow::Result<()> {
    // A kernel with everything built in has a list of that, in which init looks up modules that it is to load.
    if modules.modules().is_empty() && modules.modules_builtin().is_empty() {
        return Ok(());
    }
    for module in modules.modules() {
        let content = Content::File(kernel.module_file(module));
        tree.add(&format!("/{}", kernel.path_in_image(&module.path)), Entry::file(content), "the kernel")?;
    }
    for (name, content) in modules.tables() {
        let entry = Entry::file(Content::Bytes(content.into_bytes()));
        tree.add(&format!("/{}", kernel.path_in_image(name)), entry, "the kernel")?;
    }
    Ok(())
}

/// The initramfs with the modules `start`, which the first stage always loads, and the other ones of `early`, which it
/// loads for devices that are present.
fn initramfs(
    first_stage: &Installed,
    kernel: &KernelBundle,
    start: &Selection<'_>,
    early: &Selection<'_>,
) -> anyhow::Result<Tree> {
    let mut tree = Tree::new();
    for directory in ["/dev", "/proc", "/sys", "/sysroot"] {
        tree.add(directory, Entry::directory(), "a mount point")?;
    }
    // The kernel opens it for PID 1 before anything is mounted.
    tree.add("/dev/console", Entry::character_device(5, 1), "the first stage")?;
    tree.add("/init", Entry::executable(Content::File(first_stage.path.clone())), origin(first_stage))?;
    for module in early.modules() {
        let path = format!("/{}", kernel.path_in_image(&module.path));
        tree.add(&path, Entry::file(Content::File(kernel.module_file(module))), "the kernel")?;
    }
    for (name, text) in early.tables() {
        let path = format!("/{}", kernel.path_in_image(name));
        tree.add(&path, Entry::file(Content::Bytes(text.into_bytes())), "the kernel")?;
    }
    for (path, modules) in [("/etc/krazy/start-modules", start), ("/etc/krazy/modules", early)] {
        let paths = modules.modules().iter().map(|module| kernel.path_in_image(&module.path));
        let list: String = paths.map(|path| format!("/{path}\n")).collect();
        tree.add(path, Entry::file(Content::Bytes(list.into_bytes())), "the first stage")?;
    }
    Ok(tree)
}

fn data(secrets: &Secrets) -> anyhow::Result<Tree> {
    let mut tree = Tree::new();
    for directory in ["/krazy", "/krazy/tls"] {
        tree.add(directory, Entry::directory().mode(0o700), "credentials")?;
    }
    for file in secrets.data_files()? {
        let mode = u16::try_from(file.mode).context("file modes have 12 bits")?;
        tree.add(
            &format!("/{}", file.path),
            Entry::file(Content::Bytes(file.bytes)).mode(mode),
            "credentials",
        )?;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests;
