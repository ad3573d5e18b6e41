//! The table of operations in the book's page on the API, made from the table of operations in the code.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::operation::{Access, Definition, Operation};

/// The lines around the table in the page.
const BEGIN: &str = "<!-- operations: generated -->\n";
const END: &str = "<!-- end of operations -->\n";

/// Returns the page of the book in this repository.
pub fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/api.md")
}

/// Returns the text of the page `text` with the present table, or nothing if it has no place for it.
pub fn rewritten(text: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", table()))
}

fn table() -> String {
    let mut text = String::from("| operation | token | does |\n|---|---|---|\n");
    for &operation in Operation::ALL {
        let Definition { method, pattern, access, .. } = operation.definition();
        let token = match access {
            Access::Open => "none",
            Access::Viewer => "viewer",
            Access::Admin => "admin",
        };
        let (method, summary) = (method.name(), operation.summary());
        let _infallible = writeln!(text, "| `{method} {pattern}` | {token} | {summary} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_of_the_book_has_the_present_table() {
        let text = std::fs::read_to_string(page()).unwrap();
        assert!(
            rewritten(&text).unwrap() == text,
            "docs/src/api.md is out of date\nhelp: run `cargo run -p krazy-boot --features schema --example openapi`"
        );
    }
}
