//! `cargo krazy schema`.

use crate::config;
use crate::failure::Result;
use crate::shell::{MessageFormat, Shell};

/// Prints the JSON Schema of the metadata
///
/// The schema (draft 2020-12) is one of Cargo.toml: it describes [package.metadata.krazy] and
/// [workspace.metadata.krazy] with all keys and their types, for editors and validators.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let schema = config::schema::json_schema();
        match shell.format() {
            MessageFormat::Human => Ok(shell.output(format!("{schema:#}\n"))?),
            MessageFormat::Json => Ok(shell.output(format!("{schema}\n"))?),
        }
    }
}
