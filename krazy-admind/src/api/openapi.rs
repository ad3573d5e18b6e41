//! The OpenAPI document, made from the route table (OpenAPI Specification 3.1.0).

use krazy_boot::update::refusal::TYPE_PREFIX;
use serde_json::{Map, Value, json};

use crate::problem;
use crate::routes::{Access, Operation, ROUTES, Route};

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.pattern).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(methods) = path {
            methods.insert(route.method.as_str().to_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cargo krazy device management",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Tokens are sent as Bearer or as the password of Basic. Names in paths are \
                percent-encoded; `{path}` stands for any number of them, separated by `/`.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "basic": { "type": "http", "scheme": "basic" },
            },
            "schemas": { "Problem": {
                "description": "RFC 9457",
                "type": "object",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": { "type": "string", "enum": problem::Kind::all()
                        .map(|kind| format!("{TYPE_PREFIX}{}", kind.row().1)).collect::<Vec<_>>() },
                    "title": { "type": "string" },
                    "status": { "type": "integer" },
                    "detail": { "type": "string" },
                    "received": {
                        "type": "integer",
                        "description": "where the data of an update should have begun",
                    },
                },
            }},
        },
    })
}

fn operation(route: &Route) -> Value {
    let in_path = route.pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<_> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .chain(route.query.iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "in": "query",
                "required": parameter.required,
                "description": parameter.description,
                "schema": { "type": parameter.schema },
            })
        }))
        .collect();
    let mut success = json!({ "description": "done" });
    if let Some(media_type) = route.media_type {
        success["content"] = json!({ media_type: {} });
    }
    let problem = json!({
        "description": "a problem",
        "content": { problem::MEDIA_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    let mut operation = json!({
        "operationId": format!("{:?}", route.operation),
        "summary": route.summary,
        "parameters": parameters,
        "responses": { route.success.to_string(): success, "default": problem },
        "security": match route.access {
            Access::Open => json!([]),
            Access::Viewer | Access::Admin => json!([{ "bearer": [] }, { "basic": [] }]),
        },
        "x-krazy-role": match route.access {
            Access::Open => Value::Null,
            Access::Viewer => json!("viewer"),
            Access::Admin => json!("admin"),
        },
    });
    let body = match route.operation {
        Operation::WriteFile
        | Operation::FlashDisk
        | Operation::FlashPartition
        | Operation::BeginUpdate
        | Operation::SendUpdate => Some("application/octet-stream"),
        Operation::SetFloor | Operation::PutToken => Some("application/json"),
        Operation::PutCertificate => Some("application/x-pem-file"),
        _ => None,
    };
    if let Some(media_type) = body {
        operation["requestBody"] = json!({ "required": true, "content": { media_type: {} } });
    }
    operation
}
