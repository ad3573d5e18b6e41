//! What the metadata tables say, one table applied on the other.
//!
//! [`Settings`] starts with the defaults; each table changes what it names. So the order of application is the
//! precedence, and tables such as `service.NAME` merge by key without a rule of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use krazy_boot::disk::layout::PartitionSizes;
use krazy_boot::disk::size::Bytes;
use krazy_boot::manifest::ServiceSettings;
use krazy_boot::manifest::network::NetworkSettings;
use serde_json::Value;

use super::admind::Admind;
use super::pi::PiSettings;
use super::table::Table;
use super::{Install, KernelSource, OWN_INIT, crate_spec, files, kernel, names, network, schema, service};
use crate::board::{BOARDS, Board};
use crate::failure::Failure;

/// Level of the root's compression unless the metadata says otherwise: the best that still takes seconds.
const DEFAULT_COMPRESSION_LEVEL: i32 = 15;

/// What `/bin/init` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The binary's name.
    pub binary: String,
    /// The install that gives it, if it has one of its own.
    pub install: Option<Install>,
}

/// Everything the metadata tables can say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `name`.
    pub name: Option<String>,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `init`.
    pub init: Init,
    /// `admind`.
    pub admind: Admind,
    /// `install`.
    pub installs: BTreeMap<String, Install>,
    /// `bins`, empty for all.
    pub bins: Vec<String>,
    /// `features`.
    pub features: Vec<String>,
    /// `all-features`.
    pub all_features: bool,
    /// `no-default-features`.
    pub no_default_features: bool,
    /// `profile`.
    pub profile: Option<String>,
    /// `service`.
    pub services: BTreeMap<String, ServiceSettings>,
    /// `files`: path on the device, and the host's file.
    pub files: BTreeMap<String, PathBuf>,
    /// `size`, `boot-size`, `root-size`.
    pub sizes: PartitionSizes,
    /// `compression-level`.
    pub compression_level: i32,
    /// `kernel`.
    pub kernel: KernelSource,
    /// `cmdline`, split into parameters.
    pub cmdline: Vec<String>,
    /// `modules`.
    pub modules: Vec<String>,
    /// `network`.
    pub network: NetworkSettings,
    /// `boot-writable`.
    pub boot_writable: bool,
    /// `serial-console`.
    pub serial_console: bool,
    /// `config-txt`, `dtbs` and `dtoverlays`.
    pub pi: PiSettings,
}

impl Settings {
    /// What holds when no table says anything.
    pub fn defaults(board: &Board) -> Self {
        Settings {
            name: None,
            hostname: None,
            init: Init { binary: OWN_INIT.to_owned(), install: None },
            admind: Admind::default(),
            installs: BTreeMap::new(),
            bins: Vec::new(),
            features: Vec::new(),
            all_features: false,
            no_default_features: false,
            profile: None,
            services: BTreeMap::new(),
            files: BTreeMap::new(),
            sizes: PartitionSizes::default(),
            compression_level: DEFAULT_COMPRESSION_LEVEL,
            kernel: kernel::default(board),
            cmdline: Vec::new(),
            modules: Vec::new(),
            network: NetworkSettings::default(),
            boot_writable: false,
            serial_console: true,
            pi: PiSettings::default(),
        }
    }

    /// Sets what `table` says, and then what its `board.NAME` says for `board`.
    ///
    /// The tables of other boards are checked too, so that a mistake does not wait for the other board's build.
    pub fn apply(&mut self, table: &Table<'_>, board: &Board) -> Result<(), Failure> {
        table.check_keys(schema::APPLIANCE)?;
        self.apply_keys(table, board)?;
        let Some(boards) = table.table("board")? else { return Ok(()) };
        for name in boards.names() {
            let Some(other) = BOARDS.iter().find(|board| board.name == name) else {
                return Err(boards.unknown(name, "board", BOARDS.iter().map(|board| board.name)));
            };
            let Some(table) = boards.table(name)? else { continue };
            if table.has("board") {
                return Err(table.invalid("board", "cannot stand within a board's table"));
            }
            table.check_keys(schema::APPLIANCE)?;
            if other.name == board.name {
                self.apply_keys(&table, board)?;
            } else {
                self.clone().apply_keys(&table, other)?;
            }
        }
        Ok(())
    }

    fn apply_keys(&mut self, table: &Table<'_>, board: &Board) -> Result<(), Failure> {
        set_some(&mut self.name, table.parsed("name", names::appliance)?);
        set_some(&mut self.hostname, table.parsed("hostname", names::hostname)?);
        set(&mut self.init, init(table)?);
        self.admind.apply(table)?;
        if let Some(install) = table.table("install")? {
            for name in install.names() {
                self.installs.insert(name.to_owned(), crate_spec::read(&install, name)?);
            }
        }
        set(&mut self.bins, crate_spec::binaries(table)?);
        set(&mut self.features, table.strings("features")?);
        set(&mut self.all_features, table.boolean("all-features")?);
        set(&mut self.no_default_features, table.boolean("no-default-features")?);
        set_some(&mut self.profile, table.string("profile")?.map(str::to_owned));
        self.apply_services(table)?;
        if let Some(table) = table.table("files")? {
            files::apply(&table, &mut self.files)?;
        }
        set(&mut self.sizes.disk, size(table, "size")?);
        set(&mut self.sizes.boot, size(table, "boot-size")?);
        set(&mut self.sizes.root, size(table, "root-size")?);
        if let Some(level) = table.integer("compression-level", 1..=22)? {
            // Cannot fail within the range just checked.
            self.compression_level = i32::try_from(level).unwrap_or(DEFAULT_COMPRESSION_LEVEL);
        }
        set(&mut self.kernel, kernel::read(table, board)?);
        set(&mut self.cmdline, parameters(table)?);
        if let Some(modules) = table.strings("modules")? {
            for module in &modules {
                names::module(module).map_err(|expected| {
                    table.invalid("modules", format!("has {module:?} where it needs {expected}"))
                })?;
            }
            self.modules = modules;
        }
        if let Some(table) = table.table("network")? {
            network::apply(&table, &mut self.network)?;
        }
        set(&mut self.boot_writable, table.boolean("boot-writable")?);
        set(&mut self.serial_console, table.boolean("serial-console")?);
        self.pi.apply(table)?;
        Ok(())
    }

    fn apply_services(&mut self, table: &Table<'_>) -> Result<(), Failure> {
        let Some(services) = table.table("service")? else { return Ok(()) };
        for name in services.names() {
            names::binary(name)
                .map_err(|_| services.invalid(name, "cannot be a service: a file in /bin is not named so"))?;
            if let Some(table) = services.table(name)? {
                service::apply(&table, self.services.entry(name.to_owned()).or_default())?;
            }
        }
        Ok(())
    }
}

fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

fn set_some<T>(setting: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *setting = value;
    }
}

fn init(table: &Table<'_>) -> Result<Option<Init>, Failure> {
    match table.value("init") {
        None => Ok(None),
        Some(Value::String(_)) => {
            let binary = table.parsed("init", names::binary)?;
            Ok(binary.map(|binary| Init { binary, install: None }))
        }
        Some(Value::Object(_)) => {
            let Some(spec) = table.table("init")? else { return Ok(None) };
            let install = crate_spec::from_table(&spec, None)?;
            let binary = match &install.bins[..] {
                [] => install.name.clone(),
                [bin] => bin.clone(),
                _ => return Err(spec.invalid("bins", "must name one binary: the init")),
            };
            Ok(Some(Init { binary, install: Some(install) }))
        }
        Some(_) => Err(table.wrong_type("init", "a binary's name or a table")),
    }
}

fn size(table: &Table<'_>, key: &str) -> Result<Option<Bytes>, Failure> {
    match table.value(key) {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(bytes) => Ok(Some(Bytes(bytes))),
            None => Err(table.wrong_type(key, "a size such as \"256 MiB\"")),
        },
        Some(Value::String(text)) => match Bytes::from_str(text) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(table.invalid(key, format!("is wrong: {error}"))),
        },
        Some(_) => Err(table.wrong_type(key, "a size such as \"256 MiB\"")),
    }
}

/// The kernel parameters of `cmdline`: a list, or a text separated by spaces outside double quotes.
fn parameters(table: &Table<'_>) -> Result<Option<Vec<String>>, Failure> {
    let lines = match table.value("cmdline") {
        None => return Ok(None),
        Some(Value::String(line)) => vec![line.clone()],
        Some(Value::Array(_)) => table.strings("cmdline")?.unwrap_or_default(),
        Some(_) => return Err(table.wrong_type("cmdline", "a string or a list of strings")),
    };
    let mut parameters = Vec::new();
    for line in &lines {
        let mut quoted = false;
        let parts = line.split(|c: char| {
            quoted ^= c == '"';
            c == ' ' && !quoted
        });
        parameters.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
        if line.matches('"').count() % 2 == 1 {
            return Err(table.invalid("cmdline", format!("has an open quote in {line:?}")));
        }
    }
    Ok(Some(parameters))
}
