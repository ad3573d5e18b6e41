//! From a request on the command line and the metadata tables to an [`Appliance`] with nothing left to decide.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cargo_metadata::semver::Version;
use cargo_metadata::{Metadata, Package};
use krazy_boot::boot::cmdline::CommandLine;
use krazy_boot::disk::layout::{DiskSignature, PartitionSizes};
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;
use krazy_boot::manifest::ServiceSettings;
use krazy_boot::manifest::checks::Checks;
use krazy_boot::manifest::network::NetworkSettings;

use super::de::{Kind, Problem, read};
use super::error::{ConfigError, Result};
use super::origins::{Layer, Origins};
use super::own_crate::{self, OwnFeatures};
use super::own_programs::{self, OWN_ADMIND, OWN_INIT};
use super::suggestion::did_you_mean;
use super::tables::{self, Krazy};
use super::values::{self, Either};
use super::{
    Appliance, Install, KernelSource, PiSettings, crate_spec, files, kernel, kernel_parameters, names,
    network, package, ports, service, sysctl, user,
};
use crate::board::{BOARDS, Board};
use crate::failure::Failure;

/// Level of the root's compression unless the metadata says otherwise: the best that still takes seconds.
const DEFAULT_COMPRESSION_LEVEL: i32 = 15;

/// The request for an appliance: the resolved arguments of a command that builds.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The Cargo.toml of a package or workspace; the working directory's when unset.
    pub(crate) manifest_path: Option<PathBuf>,
    /// The package; the one cargo would take, or the only one with a table, when unset.
    pub(crate) package: Option<String>,
    /// The board.
    pub(crate) board: &'static Board,
    /// Features of the own package, added to those of the metadata.
    pub(crate) features: OwnFeatures,
    /// Cargo profile of the own package, instead of the metadata's.
    pub(crate) profile: Option<String>,
    /// Size of the disk image, instead of the metadata's.
    pub(crate) disk: Option<Bytes>,
    /// True if a missing or stale lock file of the workspace is an error.
    pub(crate) locked: bool,
    /// True if the network must not be used.
    pub(crate) offline: bool,
}

/// Returns the appliance for `request`. Reads manifests and nothing else.
pub(crate) fn load(request: &Request) -> std::result::Result<Appliance, Failure> {
    let metadata = package::workspace(request.manifest_path.as_deref())?;
    user::check(metadata.workspace_root.as_std_path())?;
    let package = package::select(&metadata, request.package.as_deref())?;
    Ok(resolve(&metadata, package, request)?)
}

fn resolve(metadata: &Metadata, package: &Package, request: &Request) -> Result<Appliance> {
    let root = metadata.workspace_root.join("Cargo.toml");
    let manifest = package.manifest_path.as_std_path();
    let layer = |manifest: &Path, kind: &str, value| {
        let value = package::krazy(value)?.clone();
        let path = [kind, "metadata", "krazy"].map(str::to_owned).to_vec();
        Some(Layer { manifest: manifest.to_owned(), path, value })
    };
    let workspace = layer(root.as_std_path(), "workspace", &metadata.workspace_metadata);
    let own = layer(manifest, "package", &package.metadata);
    let Settings {
        krazy,
        mut origins,
        init,
        installs: entries,
        mut services,
        checks,
        files,
        kernel,
        network,
        sysctl,
        pi,
    } = settings(manifest, workspace.into_iter().chain(own).collect(), request.board)?;

    let no_default = |key: &str, name: &str, expected: &str| {
        let message = format!("[package.metadata.krazy] needs `{key}`, because `{name}` is not {expected}");
        origins.error(&[], message).help(format!("set `{key}` there"))
    };
    let name = match krazy.name {
        Some(name) => name.0,
        None => {
            names::appliance(&package.name).map_err(|expected| no_default("name", &package.name, expected))?
        }
    };
    let hostname = match krazy.hostname {
        Some(hostname) => hostname.0,
        None => names::hostname(&names::default_hostname(&name))
            .map_err(|expected| no_default("hostname", &name, expected))?,
    };
    let mut features = OwnFeatures {
        features: krazy.features,
        all_features: krazy.all_features | request.features.all_features,
        no_default_features: krazy.no_default_features | request.features.no_default_features,
    };
    let requested = &request.features.features;
    features.features.extend(requested.iter().cloned());
    let bins = krazy.bins.map(|bins| bins.0);
    let profile = request.profile.clone().or(krazy.profile);
    let others = !entries.is_empty() || init.install.is_some();
    let own = own_crate::install(package, features, requested, bins, profile, others, &origins)?;
    let mut binaries = own.iter().flat_map(|own| &own.binaries);
    if init.binary != "init" && binaries.any(|binary| binary == "init") {
        return Err(service::init_conflict(&origins, &init.binary));
    }

    let mut installs: Vec<_> = own.into_iter().map(|own| own.install).collect();
    installs.extend(entries);
    installs.extend(init.install);
    let admind = match krazy.admind {
        None | Some(Either::Value(true)) => Some(tables::Admind::default()),
        Some(Either::Value(false)) => None,
        Some(Either::Table(admind)) => Some(admind),
    };
    if let Some(admind) = admind {
        installs.push(own_programs::install(OWN_ADMIND));
        // It writes partitions and mounts; an account of its own could not.
        let service = services.entry(OWN_ADMIND.to_owned()).or_default();
        service.user.get_or_insert_with(|| "root".to_owned());
        // Its settings are arguments, and so part of the root: an update brings them, tries them like everything
        // else in it, and takes them back when it fails.
        let tls12 = admind.tls12.then_some("--tls-1.2");
        let mdns = (admind.mdns == Some(false)).then_some("--no-mdns");
        let signed_only = admind.signed_only.then_some("--signed-only");
        let floor = floor(admind.floor.map(|floor| floor.0), &package.version, &origins)?;
        let flags = tls12.into_iter().chain(mdns).chain(signed_only).map(str::to_owned);
        service.args.splice(..0, flags.chain(floor));
    }
    if let Some(duplicate) = duplicate(&installs) {
        return Err(origins.invalid(&["install", duplicate], "is installed already: names must differ"));
    }
    if let Some(cycle) = service::cycle(&services) {
        let path = ["service", cycle.first().copied().unwrap_or_default(), "after"];
        let problem = format!("makes services wait for each other: {}", cycle.join(" → "));
        return Err(origins.invalid(&path, problem));
    }
    ports::check(&services, &origins)?;
    let serial_console = krazy.serial_console.unwrap_or(true);
    let cmdline = krazy.cmdline.0;
    let parameters = kernel_parameters(request.board, serial_console, &cmdline);
    CommandLine::for_slot(Slot::A, DiskSignature(0), parameters)
        .map_err(|error| origins.invalid(&["cmdline"], format!("is wrong: {error}")))?;

    if request.disk.is_some() {
        origins.forget("size");
    }
    let sizes = PartitionSizes::default();
    Ok(Appliance {
        name,
        version: package.version.to_string(),
        hostname,
        board: request.board,
        manifest_path: manifest.to_owned(),
        workspace_root: metadata.workspace_root.clone().into_std_path_buf(),
        target_directory: metadata.target_directory.clone().into_std_path_buf(),
        init: init.binary,
        first_stage: own_programs::install(OWN_INIT),
        installs,
        services,
        checks,
        files,
        hosts: hosts(krazy.hosts, &origins)?,
        timezone: krazy.timezone.map(|zone| zone.0),
        ca_certificates: krazy.ca_certificates.unwrap_or(true),
        sizes: PartitionSizes {
            disk: request.disk.or(krazy.size.map(|size| size.0)).unwrap_or(sizes.disk),
            boot: krazy.boot_size.map_or(sizes.boot, |size| size.0),
            root: krazy.root_size.map_or(sizes.root, |size| size.0),
        },
        compression_level: krazy
            .compression_level
            .and_then(|level| i32::try_from(level.0).ok())
            .unwrap_or(DEFAULT_COMPRESSION_LEVEL),
        kernel,
        cmdline,
        modules: krazy.modules.into_iter().map(|module| module.0).collect(),
        network,
        sysctl,
        boot_writable: krazy.boot_writable,
        uefi: krazy.uefi,
        serial_console,
        pi,
        locked: request.locked,
        offline: request.offline,
        origins,
    })
}

/// Returns the argument for the lowest version of updates. A build below its own floor could not be pushed again.
fn floor(floor: Option<Version>, own: &Version, origins: &Origins) -> Result<Option<String>> {
    match floor {
        Some(floor) if floor > *own => {
            let problem = format!("is {floor}, above the version {own} of this package");
            let error = origins.invalid(&["admind", "floor"], problem);
            Err(error.help("raise `version` in [package], or lower the floor"))
        }
        floor => Ok(floor.map(|floor| format!("--floor={floor}"))),
    }
}

/// The metadata for one board, with every value that can be checked without the package.
pub(super) struct Settings {
    krazy: Krazy,
    origins: Origins,
    init: Init,
    installs: Vec<Install>,
    services: BTreeMap<String, ServiceSettings>,
    checks: BTreeMap<String, Checks>,
    files: BTreeMap<String, PathBuf>,
    kernel: KernelSource,
    network: NetworkSettings,
    sysctl: BTreeMap<String, String>,
    pi: PiSettings,
}

/// The program that becomes `/bin/init`.
struct Init {
    /// The binary's name.
    binary: String,
    /// The install that gives it, if it has one of its own.
    install: Option<Install>,
}

/// Returns the settings for `board` from `layers`, which are the tables of the workspace and of the package with the
/// Cargo.toml `manifest`.
///
/// The tables of other boards are checked too, so that a mistake does not wait for the other board's build.
pub(super) fn settings(manifest: &Path, layers: Vec<Layer>, board: &Board) -> Result<Settings> {
    for layer in &layers {
        check(layer)?;
    }
    let of_board = |board: &Board| {
        let tables = layers.iter().flat_map(|layer| [Some(layer.clone()), board_layer(layer, board.name)]);
        Origins::new(manifest, tables.flatten().collect())
    };
    let has_table = |other: &&Board| layers.iter().any(|layer| board_layer(layer, other.name).is_some());
    for other in BOARDS.iter().filter(has_table).filter(|other| other.name != board.name) {
        board_settings(of_board(other), other)?;
    }
    board_settings(of_board(board), board)
}

/// Checks the types of all values of a table, and the names of all keys and boards.
fn check(layer: &Layer) -> Result<()> {
    let krazy = read::<Krazy>(&layer.value).map_err(|problem| error(layer, problem))?;
    for (name, table) in &krazy.board {
        if !BOARDS.iter().any(|board| board.name == name) {
            let help = did_you_mean(name, "boards", BOARDS.iter().map(|board| board.name));
            return Err(layer.unknown(&["board", name], "board", help));
        }
        let nested = layer.value.pointer(&format!("/board/{name}/board")).is_some();
        if nested || !table.board.is_empty() {
            return Err(layer.invalid(&["board", name, "board"], "cannot stand within a board's table"));
        }
    }
    Ok(())
}

/// Returns the error for a value that the types of the tables do not take.
fn error(layer: &Layer, problem: Problem) -> Box<ConfigError> {
    let path: Vec<_> = problem.path.iter().map(String::as_str).collect();
    match &problem.kind {
        Kind::UnknownKey { key, known } => {
            let path: Vec<_> = path.into_iter().chain([key.as_str()]).collect();
            layer.unknown(&path, "key", did_you_mean(key, "keys", known.iter().copied()))
        }
        Kind::MissingKey(_) => layer.table_invalid(&path, &problem),
        Kind::UnknownName { name, known } => {
            let help = did_you_mean(name, "names", known.iter().copied());
            layer.invalid(&path, &problem).help(help)
        }
        Kind::Type { .. } | Kind::Value { .. } | Kind::Other(_) => layer.invalid(&path, &problem),
    }
}

/// Returns the table of a board within `layer`.
fn board_layer(layer: &Layer, board: &str) -> Option<Layer> {
    let value = layer.value.get("board")?.get(board)?.clone();
    let path = layer.path.iter().cloned().chain(["board".to_owned(), board.to_owned()]).collect();
    Some(Layer { manifest: layer.manifest.clone(), path, value })
}

fn board_settings(origins: Origins, board: &Board) -> Result<Settings> {
    // Each table was read by itself; together they could only be wrong in a required key of a table in a table.
    let mut krazy = read::<Krazy>(&origins.merged()).map_err(|problem| {
        origins.table_invalid(&problem.path.iter().map(String::as_str).collect::<Vec<_>>(), &problem)
    })?;
    let installs = krazy.install.iter().map(|(name, entry)| crate_spec::entry(name, entry, &origins));
    let installs = installs.collect::<Result<_>>()?;
    let init = match &krazy.init {
        None => Init { binary: OWN_INIT.to_owned(), install: None },
        Some(Either::Value(binary)) => Init { binary: binary.0.clone(), install: None },
        Some(Either::Table(table)) => {
            let install = crate_spec::init(table, &origins)?;
            let binary = match &install.bins[..] {
                [] => install.name.clone(),
                [bin] => bin.clone(),
                _ => return Err(origins.invalid(&["init", "bins"], "must name one binary: the init")),
            };
            Init { binary, install: Some(install) }
        }
    };
    Ok(Settings {
        init,
        installs,
        checks: service::checks(&krazy.service, &origins)?,
        services: service::settings(std::mem::take(&mut krazy.service), &origins)?,
        files: files::list(&krazy.files, &origins)?,
        kernel: kernel::source(&krazy, &origins, board)?,
        network: network::settings(&krazy.network, &origins)?,
        sysctl: sysctl::settings(std::mem::take(&mut krazy.sysctl), &origins)?,
        pi: PiSettings::new(&krazy, &origins)?,
        krazy,
        origins,
    })
}

/// Returns the addresses of the table `hosts`, whose names are checked.
fn hosts(table: BTreeMap<String, values::NameServer>, origins: &Origins) -> Result<BTreeMap<String, IpAddr>> {
    let host = |(name, address): (String, values::NameServer)| {
        names::hostname(&name)
            .map_err(|expected| origins.invalid(&["hosts", &name], format!("must be {expected}")))?;
        Ok((name, address.0))
    };
    table.into_iter().map(host).collect()
}

/// Returns a name that two installs have.
fn duplicate(installs: &[Install]) -> Option<&str> {
    let name = |index: usize| installs.get(index).map(|install| install.name.as_str());
    (0..installs.len()).find(|&index| (0..index).any(|earlier| name(earlier) == name(index))).and_then(name)
}
