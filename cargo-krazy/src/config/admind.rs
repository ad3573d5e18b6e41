//! The key `admind`: whether the API is on the device, and what it may do there.
//!
//! Its settings are arguments of the service, and so part of the root: an update brings them, tries them like
//! everything else in it, and takes them back when it fails.

use serde_json::Value;

use super::schema;
use super::table::Table;
use crate::failure::Failure;

/// What the key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admind {
    /// Whether it is installed.
    pub installed: bool,
    /// `tls12`.
    pub tls12: bool,
    /// `mdns`.
    pub mdns: bool,
}

impl Default for Admind {
    fn default() -> Self {
        Admind { installed: true, tls12: false, mdns: true }
    }
}

impl Admind {
    /// Sets what `table`, an appliance's, says.
    pub fn apply(&mut self, table: &Table<'_>) -> Result<(), Failure> {
        match table.value("admind") {
            None => {}
            Some(Value::Bool(installed)) => self.installed = *installed,
            Some(Value::Object(_)) => {
                let Some(settings) = table.table("admind")? else { return Ok(()) };
                settings.check_keys(schema::ADMIND)?;
                self.installed = true;
                self.tls12 = settings.boolean("tls12")?.unwrap_or(self.tls12);
                self.mdns = settings.boolean("mdns")?.unwrap_or(self.mdns);
            }
            Some(_) => return Err(table.wrong_type("admind", "true or false or a table")),
        }
        Ok(())
    }

    /// The arguments of krazy-admind that say the same.
    pub fn arguments(self) -> impl Iterator<Item = String> {
        let tls12 = self.tls12.then_some("--tls-1.2");
        let mdns = (!self.mdns).then_some("--no-mdns");
        tls12.into_iter().chain(mdns).map(str::to_owned)
    }
}
