//! The types of values that several keys have: checked texts, sizes, numbers in a range, and keys that take either of
//! two types.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};

use cargo_metadata::semver::Version;
use krazy_boot::disk::size::Bytes;
use krazy_boot::manifest::checks::HttpReady;
use krazy_boot::manifest::network::Cidr;
use krazy_boot::manifest::{Ready, capability};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{
    Deserialize, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::names::{self, Expected};

/// Defines a type for texts that a function checks, with its label in `--help`.
///
/// The function returns the value, or describes the expected text.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($value:ty) = $parse:expr, $label:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(super) $value);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let expected = |expected| D::Error::invalid_value(Unexpected::Str(&text), &Phrase(expected));
                ($parse)(&text).map($name).map_err(expected)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "x-label": $label })
            }
        }
    )*};
}

texts! {
    /// The name of an appliance.
    ApplianceName(String) = names::appliance, "STRING";
    /// A host name.
    Hostname(String) = names::hostname, "STRING";
    /// The name of a binary.
    Binary(String) = names::binary, "BINARY";
    /// A version requirement; none for `*`.
    Requirement(Option<String>) = names::requirement, "VERSION";
    /// The version of a package.
    PackageVersion(Version) = names::version, "VERSION";
    /// The name of a kernel module.
    Module(String) = names::module, "STRING";
    /// The name of an account.
    Account(String) = names::account, "STRING";
    /// The name of a signal.
    Signal(String) = names::signal, "SIGNAL";
    /// An http or https URL.
    HttpUrl(String) = names::http_url, "URL";
    /// A SHA-256.
    Sha256(String) = names::sha256, "HEX";
    /// A name in the Debian archive.
    ArchiveName(String) = names::archive, "STRING";
    /// The text `debian`.
    Debian(()) = |text: &str| if text == "debian" { Ok(()) } else { Err(Debian::OR_TABLE) }, "\"debian\"";
    /// A text that can be passed to a process.
    ProcessText(String) = names::process_text, "STRING";
    /// A service or a milestone.
    Dependency(String) = |text: &str| names::binary(text).map_err(|_| Expected::Dependency), "STRING";
    /// A device node.
    DeviceNode(String) = names::device_node, "STRING";
    /// A pattern of files in sysfs.
    SysfsPattern(String) = names::sysfs_pattern, "STRING";
    /// A path on the device.
    WorkingDirectory(String) = |text: &str| if text == "/" { Ok(text.to_owned()) } else { names::device_path(text) },
        "PATH";
    /// A condition for a service to count as started.
    Readiness((Ready, Option<HttpReady>)) = names::readiness, "STRING";
    /// The most memory of a service; none for no limit.
    MemoryLimit(Option<Bytes>) = |text: &str| match text {
        "none" => Ok(None),
        _ => names::memory(text).map(Some),
    }, "SIZE";
    /// An address with prefix length.
    Address(Cidr) = |text: &str| text.parse::<Cidr>(), "ADDRESS/PREFIX";
    /// A gateway.
    Gateway(Ipv4Addr) = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| "an IPv4 address"), "ADDRESS";
    /// A name server.
    NameServer(IpAddr) = |text: &str| text.parse::<IpAddr>().map_err(|_| "an IP address"), "ADDRESS";
    /// A time zone.
    TimeZone(String) = names::timezone, "ZONE";
    /// A time server.
    Host(String) = names::host, "HOST";
}

/// A phrase that describes the expected value.
struct Phrase<T>(T);

impl<T: Display> serde::de::Expected for Phrase<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A capability of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capability(pub(super) String);

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match capability::number(&name) {
            Some(_) => Ok(Capability(name)),
            None => Err(D::Error::unknown_variant(&name, &capability::CAPABILITIES)),
        }
    }
}

/// A size: a text such as "256 MiB", or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(super) Bytes);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"256 MiB\"")
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                match u64::try_from(bytes) {
                    Ok(bytes) => Ok(Size(Bytes(bytes))),
                    Err(_) => Err(E::invalid_type(Unexpected::Signed(bytes), &self)),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map(Size).map_err(|error| E::custom(format_args!("is wrong: {error}")))
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}

/// An integer from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ranged<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Ranged<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u32::try_from(number) {
            Ok(value) if (MIN..=MAX).contains(&value) => Ok(Ranged(value)),
            _ => {
                let range = Phrase(format_args!("from {MIN} to {MAX}"));
                Err(D::Error::invalid_value(Unexpected::Signed(number), &range))
            }
        }
    }
}

/// A time of `MIN` to `MAX` seconds: a text such as "30s", "5min" or "1h", or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Time<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor<const MIN: u32, const MAX: u32>;

        impl<const MIN: u32, const MAX: u32> Visitor<'_> for TimeVisitor<MIN, MAX> {
            type Value = Time<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a time such as \"30s\", from {MIN} to {MAX} s")
            }

            fn visit_i64<E: Error>(self, seconds: i64) -> Result<Self::Value, E> {
                match u32::try_from(seconds) {
                    Ok(value) if (MIN..=MAX).contains(&value) => Ok(Time(value)),
                    _ => Err(E::invalid_value(Unexpected::Signed(seconds), &self)),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                match names::seconds(text) {
                    Some(value) if (MIN..=MAX).contains(&value) => Ok(Time(value)),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(TimeVisitor)
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Time<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Time{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "minimum": MIN, "maximum": MAX, "x-label": "TIME" })
    }
}

/// A selection of binaries: a list with at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binaries(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Binaries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Vec::<Binary>::deserialize(deserializer)? {
            list if list.is_empty() => Err(D::Error::custom("is empty; leave it out for all binaries")),
            list => Ok(Binaries(list.into_iter().map(|binary| binary.0).collect())),
        }
    }
}

/// A selection of the own package's binaries: a list that may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnBinaries(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for OwnBinaries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<Binary>::deserialize(deserializer)?;
        Ok(OwnBinaries(list.into_iter().map(|binary| binary.0).collect()))
    }
}

/// Kernel parameters: a list, or a text separated by spaces outside double quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParametersVisitor;

        impl<'de> Visitor<'de> for ParametersVisitor {
            type Value = Parameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, line: &str) -> Result<Parameters, E> {
                split(&[line.to_owned()])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Parameters, A::Error> {
                split(&Vec::deserialize(SeqAccessDeserializer::new(list))?)
            }
        }

        deserializer.deserialize_any(ParametersVisitor)
    }
}

fn split<E: Error>(lines: &[String]) -> Result<Parameters, E> {
    let mut parameters = Vec::new();
    for line in lines {
        let mut quoted = false;
        let parts = line.split(|c: char| {
            quoted ^= c == '"';
            c == ' ' && !quoted
        });
        parameters.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
        if line.matches('"').count() % 2 == 1 {
            return Err(E::custom(format_args!("has an open quote in {line:?}")));
        }
    }
    Ok(Parameters(parameters))
}

/// A type whose values may stand for a table.
pub(crate) trait OrTable: Sized {
    /// The phrase for messages.
    const OR_TABLE: &'static str;
    /// True if the values are texts, false if they are booleans.
    const IS_TEXT: bool = true;
}

impl OrTable for bool {
    const OR_TABLE: &'static str = "true or false or a table";
    const IS_TEXT: bool = false;
}

impl OrTable for Binary {
    const OR_TABLE: &'static str = "a binary's name or a table";
}

impl OrTable for Requirement {
    const OR_TABLE: &'static str = "a version or a table";
}

impl OrTable for Debian {
    const OR_TABLE: &'static str = "\"debian\" or a table";
}

/// A plain value or a table.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(crate) enum Either<V, T> {
    /// The value.
    Value(V),
    /// The table.
    Table(T),
}

impl<'de, V: Deserialize<'de> + OrTable, T: Deserialize<'de>> Deserialize<'de> for Either<V, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherVisitor<V, T>(PhantomData<(V, T)>);

        impl<'de, V: Deserialize<'de> + OrTable, T: Deserialize<'de>> Visitor<'de> for EitherVisitor<V, T> {
            type Value = Either<V, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(V::OR_TABLE)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                if V::IS_TEXT {
                    return Err(E::invalid_type(Unexpected::Bool(value), &self));
                }
                V::deserialize(value.into_deserializer()).map(Either::Value)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                if !V::IS_TEXT {
                    return Err(E::invalid_type(Unexpected::Str(text), &self));
                }
                V::deserialize(StrDeserializer::new(text)).map(Either::Value)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(table)).map(Either::Table)
            }
        }

        deserializer.deserialize_any(EitherVisitor(PhantomData))
    }
}

/// Implements [`JsonSchema`] for a type that is written in place.
macro_rules! inline_schemas {
    ($($name:ident: $schema:expr;)*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

inline_schemas! {
    Capability: json_schema!({ "type": "string" });
    Size: json_schema!({ "type": ["string", "integer"], "minimum": 0, "x-label": "SIZE" });
    Binaries: json_schema!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
    OwnBinaries: json_schema!({ "type": "array", "items": { "type": "string" } });
    Parameters: json_schema!({
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
    });
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Ranged<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("From{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}
