//! The OpenAPI document of the API (OpenAPI Specification 3.1.0), made from the table of operations.
//!
//! krazy-admind serves the committed [`OPENAPI`](super::OPENAPI) instead of making it, so that the server carries
//! neither the generator nor the schemas' code. A test compares the two.

use std::fmt::Write;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::operation::{Access, Content, Definition, Operation, Success};
use super::problem::{self, ProblemDetails};

/// The path of schemas in the document.
const SCHEMAS: &str = "/components/schemas";

/// Returns the document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = SCHEMAS.into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for &operation in Operation::ALL {
        let Definition { method, pattern, .. } = operation.definition();
        let path = paths.entry(*pattern).or_insert_with(|| json!({}));
        path[method.name().to_lowercase()] = operation_object(operation, &mut generator);
    }
    generator.subschema_for::<ProblemDetails>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cargo krazy device management",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0" },
            "description": "Tokens are sent as Bearer or as the password of Basic. Names in paths are percent-encoded; \
                `{path}` matches any number of them, separated by `/`.",
        },
        "servers": [{
            "url": "https://{device}:8443",
            "variables": { "device": { "default": "device.local", "description": "address or name of the device" } },
        }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "basic": { "type": "http", "scheme": "basic" },
            },
            "responses": {
                "Problem": {
                    "description": "the request failed",
                    "content": { problem::MEDIA_TYPE: { "schema": generator.subschema_for::<ProblemDetails>() } },
                },
            },
            "schemas": generator.take_definitions(true),
        },
    })
}

/// Returns the document as text: a line for each operation and each schema, so that changes are easy to review and the
/// server's copy stays short.
pub fn text() -> String {
    let mut text = String::new();
    write_value(&mut text, &document(), 0);
    text.push('\n');
    text
}

/// Writes objects down to this depth with a line for each member.
const EXPANDED_DEPTH: usize = 3;

fn write_value(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if depth < EXPANDED_DEPTH && !members.is_empty() => {
            let mut separator = "{\n";
            for (name, member) in members {
                let _infallible = write!(text, "{separator}{}: ", Value::from(name.as_str()));
                write_value(text, member, depth + 1);
                separator = ",\n";
            }
            text.push_str("\n}");
        }
        value => {
            let _infallible = write!(text, "{value}");
        }
    }
}

fn operation_object(operation: Operation, generator: &mut SchemaGenerator) -> Value {
    let Definition { access, body, successes, .. } = operation.definition();
    let mut responses = Map::new();
    for Success { status, description, content } in *successes {
        let mut response = json!({ "description": description });
        if let Some(content) = content {
            response["content"] = content_object(content, generator);
        }
        responses.insert(status.to_string(), response);
    }
    // What follows may come from any operation: a busy or failing device, a lost connection to init.
    responses.insert("default".into(), json!({ "$ref": "#/components/responses/Problem" }));
    let mut object = json!({
        "operationId": format!("{operation:?}"),
        "summary": operation.summary(),
        "responses": responses,
        "security": match access {
            Access::Open => json!([]),
            Access::Viewer | Access::Admin => json!([{ "bearer": [] }, { "basic": [] }]),
        },
    });
    let parameters = parameters(operation, generator);
    if !parameters.is_empty() {
        object["parameters"] = parameters.into();
    }
    match access {
        Access::Open => {}
        Access::Viewer => object["x-krazy-role"] = "viewer".into(),
        Access::Admin => object["x-krazy-role"] = "admin".into(),
    }
    if let Some(body) = body {
        object["requestBody"] = json!({ "required": true, "content": content_object(body, generator) });
    }
    object
}

fn content_object(content: &Content, generator: &mut SchemaGenerator) -> Value {
    let mut object = json!({});
    if let Some(schema) = content.schema {
        object["schema"] = schema(generator).into();
    }
    json!({ content.media_type: object })
}

fn parameters(operation: Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut parameters: Vec<_> = operation
        .path_parameters(generator)
        .into_iter()
        .map(|(name, schema)| json!({ "name": name, "in": "path", "required": true, "schema": schema }))
        .collect();
    let Some(query) = operation.query(generator) else { return parameters };
    let required = query.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = query.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    parameters.extend(properties.into_iter().map(|(name, mut schema)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({
            "name": name,
            "in": "query",
            "required": required.contains(&Value::from(name.as_str())),
            "description": description,
            "schema": schema,
        })
    }));
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_document_is_the_generated_one() {
        assert!(
            text() == crate::api::OPENAPI,
            "openapi.json is out of date\nhelp: run `cargo run -p krazy-boot --features schema --example openapi`"
        );
    }

    #[test]
    fn every_reference_of_the_document_has_a_target() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|member| references(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > Operation::ALL.len());
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_pattern_names_its_parameters() {
        let mut generator = SchemaGenerator::default();
        for &operation in Operation::ALL {
            let pattern = operation.definition().pattern.split('/');
            let named: Vec<_> =
                pattern.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            let declared: Vec<_> =
                operation.path_parameters(&mut generator).into_iter().map(|(name, _)| name).collect();
            assert_eq!(named, declared, "{operation:?}");
        }
    }
}
