//! `tests/PROOF.md`: the outcomes of the proofs, a section each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::setup::workspace;

/// Replaces the section `title`, or adds it.
pub fn write(title: &str, body: &str) -> Result<()> {
    let path = path();
    let text = read(&path)?;
    write_text(&path, &replaced(&text, title, body))
}

/// Adds a row to the table with the heading `columns` in the section `title`, which gets that table if it has none.
pub fn add_row(title: &str, columns: &str, row: &str) -> Result<()> {
    let path = path();
    let text = read(&path)?;
    write_text(&path, &with_row(&text, title, columns, row))
}

fn path() -> PathBuf {
    workspace().join("tests/PROOF.md")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

fn with_row(text: &str, title: &str, columns: &str, row: &str) -> String {
    let start = text
        .find(&format!("## {title}\n"))
        .and_then(|section| Some(section + text[section..].find(columns)?));
    let Some(start) = start else {
        let line = format!("|{}", "---|".repeat(columns.matches('|').count() - 1));
        return replaced(text, title, &format!("{columns}\n{line}\n{row}"));
    };
    let end = text[start..].find("|\n\n").map_or(text.trim_end().len(), |end| start + end + 1);
    format!("{}\n{row}\n{}", &text[..end], text[end..].strip_prefix('\n').unwrap_or_default())
}

fn replaced(text: &str, title: &str, body: &str) -> String {
    let heading = format!("## {title}\n");
    let section = format!("{heading}\n{body}\n");
    let Some(start) = text.find(&heading) else { return format!("{}\n\n{section}", text.trim_end()) };
    let rest = &text[start + heading.len()..];
    match rest.find("\n## ") {
        Some(next) => format!("{}{section}{}", &text[..start], &rest[next..]),
        None => format!("{}{section}", &text[..start]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let text = replaced("# Proofs\n", "One", "1");
        let text = replaced(&text, "Two", "2");
        assert_eq!(text, "# Proofs\n\n## One\n\n1\n\n## Two\n\n2\n");
        assert_eq!(replaced(&text, "One", "3"), "# Proofs\n\n## One\n\n3\n\n## Two\n\n2\n");
        assert_eq!(replaced(&text, "Two", "3"), "# Proofs\n\n## One\n\n1\n\n## Two\n\n3\n");
    }

    #[test]
    fn a_row_is_added_to_its_table_or_begins_one() {
        let text = with_row("# Proofs\n\n## Runs\n\nold\n", "Runs", "| a | b |", "| 1 | 2 |");
        assert_eq!(text, "# Proofs\n\n## Runs\n\n| a | b |\n|---|---|\n| 1 | 2 |\n");
        let both = format!("{text}\n## Two\n\n2\n");
        assert_eq!(with_row(&text, "Runs", "| a | b |", "| 3 | 4 |"), format!("{text}| 3 | 4 |\n"));
        assert_eq!(
            with_row(&both, "Runs", "| a | b |", "| 3 | 4 |"),
            format!("{text}| 3 | 4 |\n\n## Two\n\n2\n")
        );
    }
}
