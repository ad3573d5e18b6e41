//! From a request on the command line and the metadata tables to an [`Appliance`] with nothing left to decide.

use std::path::PathBuf;

use cargo_metadata::{Metadata, Package};
use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::disk::layout::DiskSignature;
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;

use super::layers::Layers;
use super::metadata::Settings;
use super::own_crate::{self, OwnFeatures, Problem};
use super::own_programs::{self, OWN_ADMIND, OWN_INIT};
use super::{Appliance, Install, kernel_parameters, names, package, service};
use crate::board::Board;
use crate::failure::Failure;

/// What is asked for: the resolved arguments of a command that builds.
#[derive(Clone, Debug)]
pub struct Request {
    /// The Cargo.toml of a package or workspace; the working directory's when unset.
    pub manifest_path: Option<PathBuf>,
    /// The package; the one cargo would take, or the only one with a table, when unset.
    pub package: Option<String>,
    /// The board.
    pub board: &'static Board,
    /// Features of the own package, added to those of the metadata.
    pub features: OwnFeatures,
    /// Cargo profile of the own package, instead of the metadata's.
    pub profile: Option<String>,
    /// Size of the disk image, instead of the metadata's.
    pub disk: Option<Bytes>,
    /// Whether a missing or stale lock file of the workspace is an error.
    pub locked: bool,
    /// Whether the network must not be used.
    pub offline: bool,
}

/// The appliance that `request` asks for. Reads manifests and nothing else.
pub fn load(request: &Request) -> Result<Appliance, Failure> {
    let metadata = package::workspace(request.manifest_path.as_deref())?;
    let package = package::select(&metadata, request.package.as_deref())?;
    resolve(&metadata, package, request)
}

/// The host name of an appliance that does not set one: its name, as far as RFC 1123 allows.
pub fn default_hostname(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-").trim_matches('-').to_owned()
}

fn resolve(metadata: &Metadata, package: &Package, request: &Request) -> Result<Appliance, Failure> {
    let root = metadata.workspace_root.join("Cargo.toml");
    let layers = Layers::of(metadata, package, root.as_std_path());
    let mut settings = Settings::defaults(request.board);
    for table in layers.tables() {
        settings.apply(&table?, request.board)?;
    }
    settings.features.extend(request.features.features.iter().cloned());
    settings.all_features |= request.features.all_features;
    settings.no_default_features |= request.features.no_default_features;
    settings.profile = request.profile.clone().or(settings.profile);
    settings.sizes.disk = request.disk.unwrap_or(settings.sizes.disk);

    let name = match settings.name {
        Some(name) => name,
        None => names::appliance(&package.name)
            .map_err(|expected| no_default(&layers, "name", &package.name, expected))?,
    };
    let hostname = match settings.hostname {
        Some(hostname) => hostname,
        None => names::hostname(&default_hostname(&name))
            .map_err(|expected| no_default(&layers, "hostname", &name, expected))?,
    };
    let own = own_crate::install(
        package,
        OwnFeatures {
            features: settings.features,
            all_features: settings.all_features,
            no_default_features: settings.no_default_features,
        },
        settings.bins,
        settings.profile,
    )
    .map_err(|Problem { key, message, help }| {
        key.map_or_else(|| layers.error(&message), |key| layers.invalid(&[key], &message)).help(help)
    })?;

    let mut installs = vec![own.install];
    installs.extend(settings.installs.into_values());
    installs.extend(settings.init.install);
    let init = settings.init.binary;
    if init != "init" && own.binaries.iter().any(|binary| binary == "init") {
        return Err(service::init_conflict(&|message| layers.error(&message), &init));
    }
    let mut services = settings.services;
    if settings.admind.installed {
        installs.push(own_programs::install(OWN_ADMIND));
        // It writes partitions and mounts; an own account could not.
        let service = services.entry(OWN_ADMIND.to_owned()).or_default();
        service.user.get_or_insert_with(|| "root".to_owned());
        service.args.splice(..0, settings.admind.arguments());
    }
    if let Some(duplicate) = duplicate(&installs) {
        return Err(layers.invalid(&["install", duplicate], "is installed already: names must differ"));
    }
    if let Some(cycle) = service::cycle(&services) {
        let path = ["service", cycle.first().copied().unwrap_or_default(), "after"];
        return Err(
            layers.invalid(&path, format!("makes services wait for each other: {}", cycle.join(" → ")))
        );
    }
    let parameters = kernel_parameters(request.board, settings.serial_console, &settings.cmdline);
    CommandLine::for_slot(Slot::A, DiskSignature(0), parameters)
        .map_err(|error| layers.invalid(&["cmdline"], format!("is wrong: {error}")))?;

    Ok(Appliance {
        name,
        version: package.version.to_string(),
        hostname,
        board: request.board,
        manifest_path: package.manifest_path.clone().into_std_path_buf(),
        workspace_root: metadata.workspace_root.clone().into_std_path_buf(),
        target_directory: metadata.target_directory.clone().into_std_path_buf(),
        init,
        first_stage: own_programs::install(OWN_INIT),
        installs,
        services,
        files: settings.files,
        sizes: settings.sizes,
        compression_level: settings.compression_level,
        kernel: settings.kernel,
        cmdline: settings.cmdline,
        modules: settings.modules,
        network: settings.network,
        boot_writable: settings.boot_writable,
        serial_console: settings.serial_console,
        pi: settings.pi,
        locked: request.locked,
        offline: request.offline,
    })
}

/// The error for a `key` that is needed because the name it defaults to does not do.
fn no_default(layers: &Layers<'_>, key: &str, name: &str, expected: &str) -> Failure {
    layers
        .error(format!("[package.metadata.krazy] needs `{key}`, because `{name}` is not {expected}"))
        .help(format!("set `{key}` there"))
}

/// A name that two installs have.
fn duplicate(installs: &[Install]) -> Option<&str> {
    let name = |index: usize| installs.get(index).map(|install| install.name.as_str());
    (0..installs.len()).find(|&index| (0..index).any(|earlier| name(earlier) == name(index))).and_then(name)
}
