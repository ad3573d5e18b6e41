//! `tests/PROOF.md`: the outcomes of the proofs, a section each.

use std::fs;

use anyhow::{Context, Result};

use crate::setup::workspace;

/// Replaces the section `title`, or adds it.
pub fn write(title: &str, body: &str) -> Result<()> {
    let path = workspace().join("tests/PROOF.md");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    fs::write(&path, replaced(&text, title, body))
        .with_context(|| format!("failed to write {}", path.display()))
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
}
