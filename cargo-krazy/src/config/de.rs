//! A serde deserializer for the tables of `cargo metadata` whose errors are data: the path of the key, and what was
//! found and expected.
//!
//! `serde_json::Value` and serde_path_to_error give the path, but the reason only as a text, without the list of keys
//! that a suggestion needs.

use std::fmt::{self, Display};

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// Reads a `T`.
pub(super) fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, Problem> {
    T::deserialize(Node(value))
}

/// A value that a key does not take.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The keys that lead to the value, or to the table with an unknown or missing key.
    pub(crate) path: Vec<String>,
    /// True for an element of a list.
    in_list: bool,
    /// The mistake.
    pub(crate) kind: Kind,
}

/// The kinds of mistakes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another type.
    Type {
        /// With its article: "a string".
        expected: String,
        /// The type found.
        found: Type,
    },
    /// The right type, and a value that is none of those possible.
    Value {
        /// A noun phrase.
        expected: String,
        /// The value as one writes it.
        found: String,
    },
    /// A key that does not exist.
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that do, in order of declaration.
        known: &'static [&'static str],
    },
    /// A list of names with one that does not exist.
    UnknownName {
        /// The name.
        name: String,
        /// The names that do.
        known: &'static [&'static str],
    },
    /// A key that a table needs.
    MissingKey(&'static str),
    /// Anything else: the predicate of a sentence about the key.
    Other(String),
}

impl Problem {
    fn new(kind: Kind) -> Self {
        Problem { path: Vec::new(), in_list: false, kind }
    }
}

/// Prints the predicate of a sentence whose subject is the key.
impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, self.in_list) {
            (Kind::Type { found, .. }, true) => {
                // Every list is of strings, but that of ports.
                let wanted = if found.plural() == "strings" { "numbers" } else { "strings" };
                write!(f, "must be a list of {wanted}, not of {}", found.plural())
            }
            (Kind::Type { expected, found }, false) => {
                write!(f, "must be {expected}, not {}", found.singular())
            }
            (Kind::Value { expected, found }, true) => write!(f, "has {found} where it needs {expected}"),
            (Kind::Value { expected, found }, false) => write!(f, "must be {expected}, not {found}"),
            (Kind::UnknownName { name, .. }, _) => write!(f, "has {name:?}, which does not exist"),
            (Kind::UnknownKey { key, .. }, _) => write!(f, "has the unknown key `{key}`"),
            (Kind::MissingKey(key), _) => write!(f, "needs `{key}`"),
            (Kind::Other(problem), _) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: Display>(message: T) -> Self {
        Problem::new(Kind::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Problem::new(Kind::Type { expected: expected.to_string(), found: Type::of(&found) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => format!("{text:?}"),
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Unsigned(number) => number.to_string(),
            other => other.to_string(),
        };
        Problem::new(Kind::Value { expected: expected.to_string(), found })
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        // More than a sentence can list get a suggestion.
        if known.len() > 5 {
            return Problem::new(Kind::UnknownName { name: name.to_owned(), known });
        }
        let quoted: Vec<_> = known.iter().map(|name| format!("{name:?}")).collect();
        let expected = match &quoted[..] {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            quoted => quoted.concat(),
        };
        Problem::new(Kind::Value { expected, found: format!("{name:?}") })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Problem::new(Kind::UnknownKey { key: key.to_owned(), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Problem::new(Kind::MissingKey(key))
    }
}

/// The types of TOML, as messages name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Nothing,
    Boolean,
    Integer,
    Float,
    String,
    List,
    Table,
}

impl Type {
    fn of(found: &Unexpected<'_>) -> Self {
        match found {
            Unexpected::Bool(_) => Type::Boolean,
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => Type::Integer,
            Unexpected::Float(_) => Type::Float,
            Unexpected::Str(_) | Unexpected::Char(_) | Unexpected::Bytes(_) => Type::String,
            Unexpected::Seq | Unexpected::TupleVariant => Type::List,
            Unexpected::Map | Unexpected::StructVariant => Type::Table,
            _ => Type::Nothing,
        }
    }

    fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Type::Nothing,
            Value::Bool(_) => Type::Boolean,
            Value::Number(number) if number.is_f64() => Type::Float,
            Value::Number(_) => Type::Integer,
            Value::String(_) => Type::String,
            Value::Array(_) => Type::List,
            Value::Object(_) => Type::Table,
        }
    }

    fn singular(self) -> &'static str {
        match self {
            Type::Nothing => "nothing",
            Type::Boolean => "a boolean",
            Type::Integer => "an integer",
            Type::Float => "a float",
            Type::String => "a string",
            Type::List => "a list",
            Type::Table => "a table",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Type::Nothing => "nothing",
            Type::Boolean => "booleans",
            Type::Integer | Type::Float => "numbers",
            Type::String => "strings",
            Type::List => "lists",
            Type::Table => "tables",
        }
    }
}

/// A value.
#[derive(Clone, Copy)]
struct Node<'de>(&'de Value);

impl<'de> Node<'de> {
    /// Reads a value of the type `required`, which messages call `expected`.
    fn typed<V: Visitor<'de>>(self, required: Type, expected: &str, visitor: V) -> Result<V::Value, Problem> {
        let found = Type::of_value(self.0);
        if found == required {
            return self.deserialize_any(visitor);
        }
        Err(Problem::new(Kind::Type { expected: expected.to_owned(), found }))
    }
}

/// The elements of a list. Their errors are marked.
struct Elements<'de>(std::slice::Iter<'de, Value>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Problem;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        let Some(value) = self.0.next() else { return Ok(None) };
        seed.deserialize(Node(value)).map(Some).map_err(|mut problem| {
            problem.in_list |= problem.path.is_empty();
            problem
        })
    }
}

/// The entries of a table. Their errors get the key.
struct Entries<'de> {
    rest: serde_json::map::Iter<'de>,
    entry: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Problem;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        self.entry = self.rest.next().map(|(key, value)| (key.as_str(), value));
        self.entry.map(|(key, _)| seed.deserialize(BorrowedStrDeserializer::new(key))).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        let (key, value) = self.entry.unwrap_or(("", &Value::Null));
        seed.deserialize(Node(value)).map_err(|mut problem| {
            problem.path.insert(0, key.to_owned());
            problem
        })
    }
}

/// Checks the type first, so that every message names types in the terms of TOML.
macro_rules! typed {
    ($($method:ident: $required:ident, $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            self.typed(Type::$required, $expected, visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_i64(number),
                (_, Some(number), _) => visitor.visit_u64(number),
                (_, _, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(list) => visitor.visit_seq(Elements(list.iter())),
            Value::Object(table) => visitor.visit_map(Entries { rest: table.iter(), entry: None }),
        }
    }

    /// TOML has no null: a key that is there has a value.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_map(visitor)
    }

    /// An enum of names.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let Value::String(text) = self.0 else { return self.deserialize_str(visitor) };
        visitor.visit_enum(IntoDeserializer::<Problem>::into_deserializer(text.as_str()))
    }

    typed! {
        deserialize_bool: Boolean, "true or false";
        deserialize_i64: Integer, "an integer";
        deserialize_u32: Integer, "an integer";
        deserialize_u64: Integer, "an integer";
        deserialize_str: String, "a string";
        deserialize_string: String, "a string";
        deserialize_seq: List, "a list of strings";
        deserialize_map: Table, "a table";
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}
