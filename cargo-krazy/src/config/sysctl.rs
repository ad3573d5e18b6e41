//! The table `sysctl`: kernel settings.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use krazy_boot::manifest::sysctl;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::error::Result;
use super::origins::Origins;

/// The value of a kernel setting: a text or an integer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SysctlValue(String);

impl<'de> Deserialize<'de> for SysctlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = SysctlValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an integer")
            }

            fn visit_i64<E: Error>(self, number: i64) -> std::result::Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> std::result::Result<SysctlValue, E> {
                Ok(SysctlValue(number.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> std::result::Result<SysctlValue, E> {
                match text.contains(|c: char| c.is_control() && c != '\t') {
                    true => Err(E::custom("must be a text without control characters")),
                    false => Ok(SysctlValue(text.to_owned())),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, _table: A) -> std::result::Result<SysctlValue, A::Error> {
                let problem =
                    "must be a string or an integer, not a table; a name has quotes: \"net.core.rmem_max\"";
                Err(A::Error::custom(problem))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

impl JsonSchema for SysctlValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SysctlValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}

/// Returns the settings by name. A name must have the form of one, and must not be the init's.
pub(super) fn settings(
    table: BTreeMap<String, SysctlValue>,
    origins: &Origins,
) -> Result<BTreeMap<String, String>> {
    let setting = |(name, value): (String, SysctlValue)| {
        let wrong = |problem: &str| origins.invalid(&["sysctl", &name], problem);
        let path = sysctl::path(&name)
            .ok_or_else(|| wrong("cannot be a kernel setting; one is called like \"net.core.rmem_max\""))?;
        match sysctl::reserved(&path) {
            Some(reason) => Err(wrong(&format!("cannot be set: {reason}"))),
            None => Ok((name, value.0)),
        }
    };
    table.into_iter().map(setting).collect()
}
