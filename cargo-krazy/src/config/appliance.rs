//! What is to be made, fully resolved for one board: no defaults are left to fill in, nothing has happened yet.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use krazy_boot::boot::uefi_loader::Loader;
use krazy_boot::disk::layout::PartitionSizes;
use krazy_boot::manifest::ServiceSettings;
use krazy_boot::manifest::checks::Checks;
use krazy_boot::manifest::network::NetworkSettings;
use serde::Serialize;

use super::origins::Origins;
use super::pi::PiSettings;
use crate::board::{Board, Boot};

/// An appliance for one board.
#[derive(Clone, Debug)]
pub(crate) struct Appliance {
    /// The appliance's name: the package's unless metadata sets another.
    pub(crate) name: String,
    /// The version of the user's package.
    pub(crate) version: String,
    /// Host name of the device.
    pub(crate) hostname: String,
    /// The board it is made for.
    pub(crate) board: &'static Board,
    /// The Cargo.toml that carries the metadata.
    pub(crate) manifest_path: PathBuf,
    /// The folder of the workspace's Cargo.lock.
    pub(crate) workspace_root: PathBuf,
    /// Cargo's target directory; ours is `krazy` below it.
    pub(crate) target_directory: PathBuf,
    /// What becomes `/bin/init`: the binary of this name from `installs`, or, if it is
    /// [`OWN_INIT`](super::OWN_INIT), that of `first_stage`.
    pub(crate) init: String,
    /// krazy-init. It is the first stage in every appliance's initramfs, whatever `/bin/init` is, and it goes
    /// into `/bin` only as the init, never as a service.
    pub(crate) first_stage: Install,
    /// Everything else to install, the user's own crate first. All binaries but the init become services.
    pub(crate) installs: Vec<Install>,
    /// Settings per service name. A service without an entry runs with the defaults.
    pub(crate) services: BTreeMap<String, ServiceSettings>,
    /// Checks per service name, of services that have any.
    pub(crate) checks: BTreeMap<String, Checks>,
    /// Additional files: absolute path in the root, and the host's file.
    pub(crate) files: BTreeMap<String, PathBuf>,
    /// Addresses of names, besides the device's own.
    pub(crate) hosts: BTreeMap<String, IpAddr>,
    /// The local time of programs; UTC if unset.
    pub(crate) timezone: Option<String>,
    /// True if the root has the certificates of authorities.
    pub(crate) ca_certificates: bool,
    /// Sizes of disk and partitions.
    pub(crate) sizes: PartitionSizes,
    /// Level of the root's zstd compression, 1 to 22.
    pub(crate) compression_level: i32,
    /// Where the kernel comes from.
    pub(crate) kernel: KernelSource,
    /// Kernel parameters after the board's.
    pub(crate) cmdline: Vec<String>,
    /// Modules to carry besides the board's, and to load at boot.
    pub(crate) modules: Vec<String>,
    /// Addresses that are the same on every device.
    pub(crate) network: NetworkSettings,
    /// Kernel settings by name.
    pub(crate) sysctl: BTreeMap<String, String>,
    /// Whether `/boot` is mounted writable from the start.
    pub(crate) boot_writable: bool,
    /// True if UEFI firmware must be able to start the disk, false if it must not; otherwise it can if board and kernel allow
    /// it.
    pub(crate) uefi: Option<bool>,
    /// Whether the kernel speaks on the serial line.
    pub(crate) serial_console: bool,
    /// What is particular to a Raspberry Pi; nothing on other boards.
    pub(crate) pi: PiSettings,
    /// `--locked`: a lock file of the workspace that is missing or stale is an error instead of being written.
    pub(crate) locked: bool,
    /// `--offline`: nothing may be downloaded.
    pub(crate) offline: bool,
    /// The tables it comes from, for errors with file and line.
    pub(crate) origins: Origins,
}

impl Appliance {
    /// Whether it can be managed over the network.
    pub(crate) fn has_admind(&self) -> bool {
        self.installs.iter().any(|install| install.name == super::OWN_ADMIND)
    }

    /// The loader by which UEFI firmware starts its disk, if that is wanted.
    pub(crate) fn loader(&self) -> Option<&'static Loader> {
        match self.board.boot {
            Boot::Pc { uefi } if self.uefi != Some(false) => Some(uefi),
            Boot::Pc { .. } | Boot::RaspberryPi { .. } => None,
        }
    }

    /// All kernel parameters but the slot's own: the board's, then the appliance's.
    pub(crate) fn kernel_parameters(&self) -> impl Iterator<Item = &str> {
        kernel_parameters(self.board, self.serial_console, &self.cmdline)
    }
}

/// The parameters of `board`, with or without its serial console, and then `own` ones.
pub(crate) fn kernel_parameters<'a>(
    board: &'a Board,
    serial_console: bool,
    own: &'a [String],
) -> impl Iterator<Item = &'a str> {
    let wanted = move |parameter: &&str| serial_console || *parameter != board.serial_console;
    board.cmdline.iter().copied().filter(wanted).chain(own.iter().map(String::as_str))
}

/// One `cargo install`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Install {
    /// The name it has in metadata, for messages.
    pub(crate) name: String,
    /// The path of its key below the metadata, for the position of a failure; empty for the package itself and our own
    /// programs.
    pub(crate) key: Vec<String>,
    /// The source of the crate.
    pub(crate) source: Source,
    /// Only these binaries; empty for all.
    pub(crate) bins: Vec<String>,
    /// `--features`.
    pub(crate) features: Vec<String>,
    /// `--all-features`.
    pub(crate) all_features: bool,
    /// `--no-default-features`.
    pub(crate) no_default_features: bool,
    /// `--profile`; cargo's default for installs when unset.
    pub(crate) profile: Option<String>,
    /// Whether the crate's lock file is honoured (`--locked`).
    pub(crate) locked: bool,
    /// Environment for the build, such as profile settings of our own programs.
    pub(crate) env: BTreeMap<String, String>,
    /// True for our own programs, which are built the same whatever the user's cargo configuration says about compilers.
    pub(crate) ours: bool,
}

/// Where a crate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The default registry, or `registry` by its name in cargo's configuration.
    Registry {
        /// The crate.
        package: String,
        /// A version requirement; the newest if unset.
        version: Option<String>,
        /// Another registry than the default.
        registry: Option<String>,
    },
    /// A folder on this machine, absolute.
    Path {
        /// The package's folder.
        path: PathBuf,
    },
    /// A git repository.
    Git {
        /// Its URL, without `%CRATE`.
        url: String,
        /// The crate in it.
        package: String,
        /// Which commit.
        reference: GitReference,
    },
}

/// A commit of a git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum GitReference {
    /// The remote's HEAD.
    #[default]
    Head,
    /// A branch's tip.
    Branch(String),
    /// A tag.
    Tag(String),
    /// A commit id.
    Rev(String),
}

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KernelSource {
    /// The Debian archive.
    Debian {
        /// The meta package, such as `linux-image-amd64` or `linux-image-cloud-amd64`.
        package: String,
        /// The distribution's code name.
        suite: String,
        /// A mirror's base URL; the host's own sources, then an official mirror, when unset.
        mirror: Option<String>,
    },
    /// A kernel bundle behind an URL: a .deb, or a .tar.zst laid out like the folder of `path`.
    Url {
        /// http or https.
        url: String,
        /// SHA-256 of the file, in hex.
        sha256: String,
    },
    /// A kernel bundle on this machine: a folder, a .deb or a .tar.zst.
    Path(PathBuf),
}

/// Prints it in a few words.
impl fmt::Display for KernelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelSource::Debian { package, suite, mirror } => {
                write!(f, "{package} from Debian {suite}")?;
                mirror.iter().try_for_each(|mirror| write!(f, " at {mirror}"))
            }
            KernelSource::Url { url, .. } => f.write_str(url),
            KernelSource::Path(path) => write!(f, "{}", path.display()),
        }
    }
}
