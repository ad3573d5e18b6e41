//! Rewrites what is generated from the table of operations: the committed OpenAPI document, and the table in the book.

use std::io::{Error, Result};
use std::path::Path;

use krazy_boot::api::{openapi, reference};

fn main() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/openapi.json");
    std::fs::write(path, openapi::text())?;
    let page = reference::page();
    let text = reference::rewritten(&std::fs::read_to_string(&page)?)
        .ok_or_else(|| Error::other(format!("{} has no place for the table", page.display())))?;
    std::fs::write(page, text)
}
