//! The pages of the repository: every relative link leads to a file and a heading that exist, and every source file
//! that a page names is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use krazy_tests::setup::workspace;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A page: the targets of its links, the anchors of its headings, and its inline code.
#[derive(Debug, Default)]
struct Page {
    links: Vec<String>,
    anchors: Vec<String>,
    code: Vec<String>,
}

impl Page {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        let mut page = Page::default();
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    page.anchors.extend(heading.take().map(|text| anchor(&text)))
                }
                Event::Text(text) => heading.iter_mut().for_each(|heading| heading.push_str(&text)),
                Event::Code(code) => {
                    heading.iter_mut().for_each(|heading| heading.push_str(&code));
                    page.code.push(code.into_string());
                }
                _ => {}
            }
        }
        Ok(page)
    }
}

/// Returns the anchor that mdBook and code hosts give to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Returns every Markdown file below `directory` at any depth, or directly in it.
fn pages(directory: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && recursive {
            found.extend(pages(&path, true)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(found)
}

fn all_pages() -> Result<BTreeMap<PathBuf, Page>> {
    let mut paths = pages(workspace(), false)?;
    paths.extend(pages(&workspace().join("docs"), true)?);
    ensure!(paths.len() > 10, "only {paths:?} were found");
    paths.into_iter().map(|path| Ok((path.canonicalize()?, Page::read(&path)?))).collect()
}

#[test]
fn relative_links_lead_to_existing_files_and_headings() -> Result<()> {
    let pages = all_pages()?;
    let mut broken = Vec::new();
    for (path, page) in &pages {
        for link in page.links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => Ok(path.clone()),
                file => path.with_file_name(file).canonicalize(),
            };
            let holds = target.is_ok_and(|target| {
                anchor.is_empty()
                    || pages.get(&target).is_some_and(|page| page.anchors.iter().any(|known| known == anchor))
            });
            if !holds {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    Ok(())
}

/// A link that leaves the book with the repository's address names a file of the repository.
#[test]
fn links_to_the_repository_lead_to_existing_files() -> Result<()> {
    const REPOSITORY: &str = "https://github.com/cargo-krazy/cargo-krazy/";
    for (path, page) in all_pages()? {
        for link in page.links.iter().filter_map(|link| link.strip_prefix(REPOSITORY)) {
            let file = link.strip_prefix("blob/main/").or_else(|| link.strip_prefix("tree/main/"));
            let Some(file) = file else { continue };
            ensure!(workspace().join(file).exists(), "{}: there is no {file}", path.display());
        }
    }
    Ok(())
}

#[test]
fn named_source_files_exist() -> Result<()> {
    let crates =
        ["krazy-boot/", "cargo-krazy/", "krazy-init/", "krazy-admind/", "tests/", "examples/", "docs/"];
    for (path, page) in all_pages()? {
        if path.ends_with("CHANGELOG.md") {
            continue;
        }
        for code in page.code.iter().filter(|code| crates.iter().any(|name| code.starts_with(name))) {
            // A pattern such as `cargo-krazy/src/ops/*.rs` names at least its directory.
            let file = code.split(['*', '{', ' ', ':', '<']).next().unwrap_or_default();
            let file =
                if file.len() == code.len() { file } else { file.rsplit_once('/').map_or(file, |it| it.0) };
            ensure!(workspace().join(file).exists(), "{}: there is no `{code}`", path.display());
        }
    }
    Ok(())
}

#[test]
fn every_page_of_the_book_is_in_its_summary() -> Result<()> {
    let source = workspace().join("docs/src");
    let summary = Page::read(&source.join("SUMMARY.md"))?;
    for path in pages(&source, true)?.iter().filter(|path| !path.ends_with("SUMMARY.md")) {
        let name = path.strip_prefix(&source)?.to_str().context("not UTF-8")?;
        ensure!(summary.links.iter().any(|link| link == name), "SUMMARY.md has no {name}");
    }
    Ok(())
}
