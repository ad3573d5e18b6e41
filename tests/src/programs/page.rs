//! The page of results, `docs/src/crates.md`. Its table is kept from run to run, a row for each program.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::setup::workspace;

/// The head of the table, after which rows follow up to the end of the page.
const HEAD: &str = "| program | version | is | C, C++ and assembly in its lock file | image | starts | serves |\n|---|---|---|---|---|---|---|\n";

/// The result of one program.
pub(super) struct Row {
    /// Its package.
    pub(super) package: String,
    /// Version, description, and foreign code.
    pub(super) about: [String; 3],
    /// The outcome of image, start and service.
    pub(super) outcome: [String; 3],
}

fn page() -> PathBuf {
    workspace().join("docs/src/crates.md")
}

/// Puts `row` into the page in place of an older one.
pub(super) fn record(row: &Row) -> Result<()> {
    let path = page();
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let text =
        with_row(&text, row).with_context(|| format!("{} has no table of programs", path.display()))?;
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
}

fn with_row(text: &str, row: &Row) -> Option<String> {
    let (before, rows) = text.split_once(HEAD)?;
    let name = |line: &str| line.split('|').nth(1).unwrap_or_default().trim().to_owned();
    let mut rows: BTreeMap<String, String> = rows.lines().map(|line| (name(line), line.to_owned())).collect();
    let cells: Vec<&str> = row.about.iter().chain(&row.outcome).map(String::as_str).collect();
    let name = format!("`{}`", row.package);
    rows.insert(name.clone(), format!("| {name} | {} |", cells.join(" | ")));
    let rows: String = rows.into_values().map(|line| line + "\n").collect();
    Some(format!("{before}{HEAD}{rows}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_takes_the_place_of_the_one_before() {
        let row = |package: &str, outcome: &str| Row {
            package: package.to_owned(),
            about: ["1".to_owned(), "a server".to_owned(), String::new()],
            outcome: [outcome.to_owned(), "yes".to_owned(), "yes".to_owned()],
        };
        let page = format!("# Programs\n\n{HEAD}");
        let page = with_row(&page, &row("b", "no")).unwrap();
        let page = with_row(&page, &row("a", "yes")).unwrap();
        let page = with_row(&page, &row("b", "yes")).unwrap();
        let lines =
            "| `a` | 1 | a server |  | yes | yes | yes |\n| `b` | 1 | a server |  | yes | yes | yes |\n";
        assert_eq!(page, format!("# Programs\n\n{HEAD}{lines}"));
        assert!(with_row("# Programs\n", &row("a", "yes")).is_none());
    }
}
