//! The examples of metadata in the README and the book: each is read like a user's.

use std::path::Path;

use super::*;
use crate::board::BOARDS;

/// Files that examples name, relative to the package.
const FILES: [(&str, &str); 4] = [
    ("config/weather.toml", ""),
    ("overlays/mine.dtbo", ""),
    ("linux-6.12.117-x86_64.tar.zst", ""),
    ("../ticker/Cargo.toml", "[package]\nname = \"ticker\"\n[workspace]\n"),
];

/// Every example with a table `[package.metadata.krazy]`: the page below the workspace, and its TOML.
pub(crate) fn examples() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    pages.extend(fs::read_dir(root.join("docs/src")).unwrap().map(|entry| entry.unwrap().path()));
    let mut examples = Vec::new();
    for page in pages {
        let name = page.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&page).unwrap();
        let blocks = text.split("\n```toml\n").skip(1).filter_map(|rest| rest.split_once("\n```"));
        let metadata = blocks.filter(|(block, _)| block.contains("metadata.krazy"));
        examples.extend(metadata.map(|(block, _)| (name.clone(), format!("{block}\n"))));
    }
    examples
}

#[test]
fn every_example_is_an_appliance_on_every_board() {
    let examples = examples();
    for page in ["README.md", "docs/src/configuration.md", "docs/src/raspberry-pi.md"] {
        assert!(examples.iter().any(|(name, _)| name == page), "{page} has no example");
    }
    for (page, text) in examples {
        let mut project = Project(tempfile::tempdir().unwrap()).file("app/src/main.rs", "fn main() {}").file(
            "app/Cargo.toml",
            &format!("[package]\nname = \"weather\"\nversion = \"1.2.0\"\nedition = \"2024\"\n{text}"),
        );
        for (path, content) in FILES {
            project = project.file(&format!("app/{path}"), content);
        }
        for board in BOARDS {
            let manifest_path = Some(project.path("app/Cargo.toml"));
            let request = Request { board, manifest_path, ..project.request() };
            if let Err(error) = load(&request) {
                panic!("{page}, for {}: {error}", board.name);
            }
        }
    }
}
