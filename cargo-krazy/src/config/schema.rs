//! The JSON Schema of the metadata, and the list of keys that `cargo krazy --help` prints. Both come from
//! [`tables`](super::tables).

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::de::{Kind, read};
use super::tables::{Admind, Health, Install, Interface, Kernel, Krazy, Network, Sandbox, Service};

/// The keyword for the label of a value in `--help`.
const LABEL: &str = "x-label";

/// Returns the JSON Schema (draft 2020-12) of a Cargo.toml: the tables `[package.metadata.krazy]` and
/// `[workspace.metadata.krazy]`. Everything else in the file is free.
///
/// It is of the whole file because editors apply a schema to a file, not to a table in it.
pub(crate) fn json_schema() -> Value {
    let mut generator = generator();
    let krazy = generator.subschema_for::<Krazy>();
    let table = json!({
        "type": "object",
        "properties": { "metadata": { "type": "object", "properties": { "krazy": krazy } } },
    });
    let mut schema = json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Cargo.toml with the metadata of cargo krazy",
        "type": "object",
        "properties": { "package": table, "workspace": table },
        "$defs": generator.take_definitions(true),
    });
    remove_labels(&mut schema);
    schema.to_value()
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().with_transform(TomlTypes).into_generator()
}

fn labelled<T: JsonSchema>() -> Schema {
    generator().into_root_schema_for::<T>()
}

/// Removes null, which TOML does not have: a key that is not set is left out.
#[derive(Clone)]
struct TomlTypes;

impl Transform for TomlTypes {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = &types[..] {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        if schema.get("default").is_some_and(Value::is_null) {
            schema.remove("default");
        }
        if let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") {
            alternatives.retain(|alternative| alternative != &json!({ "type": "null" }));
            if let [Value::Object(only)] = &alternatives[..] {
                let only = only.clone();
                schema.remove("anyOf");
                for (keyword, value) in only {
                    // The description of the key stays, not that of its type.
                    schema.ensure_object().entry(keyword).or_insert(value);
                }
            }
        }
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace('\n', " ");
        }
        transform_subschemas(self, schema);
    }
}

fn remove_labels(schema: &mut Schema) {
    schema.remove(LABEL);
    transform_subschemas(&mut |schema: &mut Schema| remove_labels(schema), schema);
}

/// Returns the list for `cargo krazy --help`: every table with its keys.
pub(crate) fn reference() -> String {
    let mut text = String::new();
    table::<Krazy>("[package.metadata.krazy]", &mut text);
    table::<Install>("[package.metadata.krazy.install.NAME]", &mut text);
    table::<Service>("[package.metadata.krazy.service.NAME]", &mut text);
    table::<Health>("[package.metadata.krazy.service.NAME.health]", &mut text);
    table::<Sandbox>("[package.metadata.krazy.service.NAME.sandbox]", &mut text);
    table::<Admind>("[package.metadata.krazy.admind]", &mut text);
    table::<Network>("[package.metadata.krazy.network]", &mut text);
    table::<Interface>("[package.metadata.krazy.network.interfaces.NAME]", &mut text);
    table::<Kernel>("[package.metadata.krazy.kernel]", &mut text);
    text
}

fn table<T: JsonSchema + for<'de> Deserialize<'de>>(header: &str, text: &mut String) {
    let schema = labelled::<T>();
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "  {header}");
    for key in keys::<T>() {
        let Some(value) = schema.get("properties").and_then(|properties| properties.get(key)) else {
            continue;
        };
        let doc = value.get("description").and_then(Value::as_str).unwrap_or_default();
        let _infallible = writeln!(text, "    {key} = {}\n        {doc}", label(value));
    }
}

/// Returns the keys of a table in the order of declaration: those that the error for an unknown key lists. The keys
/// of a schema are sorted.
pub(super) fn keys<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    match read::<T>(&json!({ "": null })).map_err(|problem| problem.kind) {
        Err(Kind::UnknownKey { known, .. }) => known,
        _ => &[],
    }
}

/// Returns the label of the values that `schema` takes.
fn label(schema: &Value) -> String {
    if let Some(label) = schema.get(LABEL).and_then(Value::as_str) {
        return label.to_owned();
    }
    if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
        return alternatives.iter().map(label).collect::<Vec<_>>().join(" or ");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => "STRING".to_owned(),
        Some("boolean") => "BOOL".to_owned(),
        Some("integer") => {
            let bound = |name: &str| schema.get(name).map(Value::to_string).unwrap_or_default();
            format!("{}..{}", bound("minimum"), bound("maximum"))
        }
        Some("array") => format!("[{}]", schema.get("items").map(label).unwrap_or_default()),
        _ => "TABLE".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::config::tests::documentation::examples;

    #[test]
    fn every_key_is_in_the_reference_with_label_and_text() {
        let reference = reference();
        let lines: Vec<_> = reference.lines().collect();
        for keys in [keys::<Krazy>(), keys::<Install>(), keys::<Service>(), keys::<Kernel>()] {
            assert!(!keys.is_empty());
            for key in keys {
                let start = format!("    {key} = ");
                let at = lines.iter().position(|line| line.starts_with(&start)).unwrap();
                assert!(lines[at].len() > start.len() && lines[at + 1].trim().len() > 3, "{key}");
            }
        }
    }

    /// Runs a Python program with the schema and further values as JSON on its standard input.
    fn judge(program: &str, instances: &[Value]) {
        // `cargo suite` installs the judge; this test's executable is in `debug/deps` of the target directory.
        let executable = std::env::current_exe().unwrap();
        let python = executable.ancestors().nth(3).unwrap().join("suite/openapi/bin/python");
        assert!(
            python.exists(),
            "{} is missing; run `cargo suite unit`, which installs it",
            python.display()
        );
        let mut python = Command::new(python).args(["-c", program]).stdin(Stdio::piped()).spawn().unwrap();
        let input = json!([json_schema(), instances]).to_string();
        python.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(python.wait().unwrap().success(), "the package jsonschema of PyPI rejects it");
    }

    /// The metadata of the manifest at `path` below the workspace.
    fn metadata(path: &str) -> Value {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path);
        krazy(&std::fs::read_to_string(file).unwrap())
    }

    fn krazy(manifest: &str) -> Value {
        let value = manifest.parse::<toml::Table>().unwrap();
        serde_json::to_value(&value["package"]["metadata"]["krazy"]).unwrap()
    }

    #[test]
    fn a_foreign_validator_takes_the_schema_and_judges_metadata_as_we_do() {
        let wrong = [json!({ "hostnam": "a" }), json!({ "size": true }), json!({ "compression-level": 23 })];
        let mut right = vec![
            json!({}),
            json!({ "size": "2 GiB", "admind": { "mdns": false } }),
            metadata("examples/hello/Cargo.toml"),
        ];
        right.extend(examples().iter().map(|(_, text)| krazy(text)));
        for value in &wrong {
            assert!(read::<Krazy>(value).is_err(), "{value}");
        }
        for value in &right {
            read::<Krazy>(value).unwrap();
        }
        let manifests = |tables: Vec<Value>, part: &str| -> Vec<Value> {
            tables
                .into_iter()
                .map(|krazy| json!({ part: { "name": "a", "metadata": { "krazy": krazy } } }))
                .collect()
        };
        let wrong = [manifests(wrong.to_vec(), "package"), manifests(wrong.to_vec(), "workspace")].concat();
        let right = [manifests(right.clone(), "package"), manifests(right, "workspace")].concat();
        judge(
            "import json, sys, jsonschema\n\
             schema, (wrong, right) = json.load(sys.stdin)\n\
             jsonschema.Draft202012Validator.check_schema(schema)\n\
             judge = jsonschema.Draft202012Validator(schema)\n\
             assert not any(map(judge.is_valid, wrong)), 'accepts what is wrong'\n\
             for value in right: judge.validate(value)\n",
            &[json!(wrong), json!(right)],
        );
    }
}
