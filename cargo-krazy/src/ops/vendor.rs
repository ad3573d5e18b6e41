//! Everything that an image needs and this project does not have, in one directory: crates, kernel, firmware and zig.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::Appliance;
use crate::failure::{Exit, Explain, Result};
use crate::files::io_failure;
use crate::kernel::source;
use crate::shell::Shell;
use crate::toolchain::{CCompiler, Environment, Toolchain};
use crate::vendored::DOWNLOADS;
use crate::{install, interrupt};

/// `--offline` was given.
#[derive(Debug, thiserror::Error)]
#[error("what an image needs is brought from the network, and --offline forbids to use it")]
struct Offline;

impl Explain for Offline {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("run it without --offline".to_owned())
    }
}

/// A directory with everything. Prints as the configuration that leads there.
#[derive(Serialize)]
pub(crate) struct Vendored {
    directory: PathBuf,
    /// For `.cargo/config.toml`.
    config: String,
}

impl fmt::Display for Vendored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.config)
    }
}

/// Fills `directory` for `appliance`. What it holds from an earlier run and still fits is kept.
pub(crate) fn vendor(appliance: &Appliance, directory: &Path, shell: Shell) -> Result<Vendored> {
    if appliance.offline {
        return Err(Offline.into());
    }
    let package = appliance.manifest_path.parent().unwrap_or(Path::new("."));
    let toolchain = Toolchain::detect(Environment::current(), appliance.board, package, false)?;
    let config = install::vendor(appliance, &toolchain, directory, shell)?;
    let downloads = directory.join(DOWNLOADS);
    fs::create_dir_all(&downloads).map_err(io_failure("create", &downloads))?;
    source::vendor(appliance, &downloads, shell)?;
    interrupt::check()?;
    if let CCompiler::Zig(zig) = toolchain.c_compiler() {
        zig.vendor(&downloads, shell)?;
    }
    shell.status("Vendored", format!("{} for {}", directory.display(), appliance.board.name));
    shell.note("to build from it, add this to .cargo/config.toml here:\n");
    Ok(Vendored { directory: directory.to_owned(), config: config.to_string() })
}
