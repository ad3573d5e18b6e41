//! Instructions that the user's flags allow the compiler, beyond those that every processor of the target has.

use super::Toolchain;
use super::settings::Codegen;
use crate::failure::Result;

/// The settings that change them. Source: rustc book, "Codegen Options".
const SETTINGS: [&str; 2] = ["target-cpu=", "target-feature="];

/// A feature of the C library, and none of a processor.
const STATIC: &str = "crt-static";

impl Toolchain {
    /// Returns rustc's names of the target features that `codegen` adds, sorted; rustc is asked only if a flag names a
    /// processor or features.
    ///
    /// # Errors
    /// If rustc does not know a processor.
    pub(crate) fn instructions(&self, codegen: &Codegen) -> Result<Vec<String>> {
        let setting = |flag: &String| {
            let start = SETTINGS.iter().find_map(|setting| flag.find(setting))?;
            Some(format!("-C{}", &flag[start..])).filter(|flag| !flag.ends_with("=+crt-static"))
        };
        let flags: Vec<String> = codegen.rustflags.iter().filter_map(setting).collect();
        if flags.is_empty() {
            return Ok(Vec::new());
        }
        let features = |flags: &[String]| self.rustc.features(&self.env, &self.triple, flags);
        let plain = features(&[])?;
        Ok(features(&flags)?.into_iter().filter(|name| name != STATIC && !plain.contains(name)).collect())
    }
}
