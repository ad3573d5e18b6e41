//! Rewrites the committed OpenAPI document from the table of operations.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/openapi.json");
    std::fs::write(path, krazy_boot::api::openapi::text())
}
