//! Mirrors of the Debian archive. No mirror is trusted, so any will do.
//!
//! A configured URL; else the host's own apt sources (sources.list(5): the one-line format and deb822), since
//! what the machine's administrator chose is near and allowed; else the official address.

use std::path::Path;

use super::OFFICIAL;
use super::error::RequestError;

/// apt's directory of configuration.
const APT: &str = "/etc/apt";
/// Suites without a hyphen that get no security updates of their own.
const UNSTABLE: [&str; 4] = ["sid", "unstable", "experimental", "rc-buggy"];

/// A suite, and the archive that offers it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The suite's name.
    pub(super) suite: String,
    /// Base URLs to try, in this order. None ends in `/`.
    pub(super) mirrors: Vec<String>,
    /// True if the archive need not have the suite.
    pub(super) optional: bool,
}

/// Returns the sources of packages of `suite`: the suite itself, then that of its security updates, if it has one.
///
/// Security updates are in an archive of their own. Beside a configured mirror that ends in `/debian`, that is
/// `/debian-security`; beside others none is known, so that nothing but the configured mirror is asked.
pub(super) fn sources(configured: Option<&str>, suite: &str) -> Result<Vec<Source>, RequestError> {
    sources_below(configured, suite, Path::new(APT))
}

fn sources_below(configured: Option<&str>, suite: &str, apt: &Path) -> Result<Vec<Source>, RequestError> {
    let mirrors = candidates_below(configured, suite, apt)?;
    let mut sources = vec![Source { suite: suite.to_owned(), mirrors, optional: false }];
    if !suite.contains('-') && !UNSTABLE.contains(&suite) {
        let suite = format!("{suite}-security");
        let mirrors = match configured {
            None => candidates_below(None, &suite, apt)?,
            Some(url) if url.trim_end_matches('/').ends_with("/debian") => {
                vec![format!("{}-security", url.trim_end_matches('/'))]
            }
            Some(_) => Vec::new(),
        };
        sources.push(Source { suite, mirrors, optional: configured.is_some() });
    }
    Ok(sources)
}

fn candidates_below(configured: Option<&str>, suite: &str, apt: &Path) -> Result<Vec<String>, RequestError> {
    if let Some(url) = configured {
        let url = url.trim_end_matches('/');
        if !is_web(url) {
            return Err(RequestError::Mirror { url: url.to_owned() });
        }
        return Ok(vec![url.to_owned()]);
    }
    let archive = archive_of(suite);
    let mut urls: Vec<_> =
        apt_sources(apt).into_iter().find(|url| url.ends_with(archive)).into_iter().collect();
    let official = format!("{OFFICIAL}{archive}");
    if !urls.contains(&official) {
        urls.push(official);
    }
    Ok(urls)
}

/// The end of a base URL: security updates are an archive of their own.
fn archive_of(suite: &str) -> &'static str {
    if suite.ends_with("-security") { "/debian-security" } else { "/debian" }
}

fn is_web(url: &str) -> bool {
    url.strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .is_some_and(|rest| !rest.is_empty() && !url.contains(char::is_whitespace))
}

/// Returns the http and https base URLs in apt's sources, in apt's order. Unreadable files are passed over: the official
/// mirror serves as well.
fn apt_sources(apt: &Path) -> Vec<String> {
    let mut files = vec![apt.join("sources.list")];
    let mut parts: Vec<_> = std::fs::read_dir(apt.join("sources.list.d"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    files.extend(parts);
    let mut urls = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => urls.extend(one_line_sources(&text)),
            Some("sources") => urls.extend(deb822_sources(&text)),
            _ => {}
        }
    }
    urls
}

/// `deb [options] URL suite component…`
fn one_line_sources(text: &str) -> Vec<String> {
    let url = |line: &str| {
        let entry = line.split('#').next()?.trim().strip_prefix("deb")?;
        let entry = entry.strip_prefix(char::is_whitespace)?.trim_start();
        let entry = match entry.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => entry,
        };
        base_url(entry.split_whitespace().next()?)
    };
    text.lines().filter_map(url).collect()
}

/// Stanzas with `Types`, `URIs` and perhaps `Enabled`.
fn deb822_sources(text: &str) -> Vec<String> {
    let mut urls = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            urls.extend(stanza_urls(&std::mem::take(&mut stanza)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push_str(line);
            }
        } else if let Some((key, value)) = line.split_once(':') {
            stanza.push((key.to_ascii_lowercase(), value.to_owned()));
        }
    }
    urls
}

fn stanza_urls(stanza: &[(String, String)]) -> Vec<String> {
    let field =
        |name: &str| stanza.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let off = matches!(field("enabled").trim().to_ascii_lowercase().as_str(), "no" | "false" | "off" | "0");
    if off || !field("types").split_whitespace().any(|kind| kind == "deb") {
        return Vec::new();
    }
    field("uris").split_whitespace().filter_map(base_url).collect()
}

fn base_url(url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    is_web(url).then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_both_formats_of_sources() {
        let list = "# deb http://commented/debian x main\n\
            deb-src http://src/debian trixie main\n\
            deb cdrom:[Debian]/ trixie main\n\
            deb [ arch=amd64 signed-by=/a/b.gpg ] http://mirror.test/debian/ trixie main # why\n\
            deb\thttps://second.test/debian trixie main\n";
        assert_eq!(one_line_sources(list), ["http://mirror.test/debian", "https://second.test/debian"]);
        let sources = "Types: deb\n# comment\nURIs: http://one.test/debian\n https://two.test/x/debian/\nSuites: a\n\n\
            Types: deb\nURIs: http://off.test/debian\nEnabled: no\n\nTypes: deb-src\nURIs: http://src.test/debian\n";
        assert_eq!(deb822_sources(sources), ["http://one.test/debian", "https://two.test/x/debian"]);
    }

    #[test]
    fn prefers_the_configured_then_the_hosts_own() {
        let apt = tempfile::tempdir().unwrap();
        let urls = |configured: Option<&str>, suite: &str| candidates_below(configured, suite, apt.path());
        assert_eq!(urls(None, "trixie").unwrap(), ["https://deb.debian.org/debian"]);

        std::fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        let file =
            |name: &str, text: &str| std::fs::write(apt.path().join("sources.list.d").join(name), text);
        file("a-other.list", "deb https://packages.test/apt x main\n").unwrap();
        file("b.sources", "Types: deb\nURIs: http://near.test/debian http://near.test/debian-security\n")
            .unwrap();
        file("c.list.save", "deb http://saved.test/debian x main\n").unwrap();
        assert_eq!(
            urls(None, "trixie").unwrap(),
            ["http://near.test/debian", "https://deb.debian.org/debian"]
        );
        assert_eq!(
            urls(None, "trixie-security").unwrap(),
            ["http://near.test/debian-security", "https://deb.debian.org/debian-security"]
        );
        assert_eq!(urls(Some("http://mine.test/d/"), "trixie").unwrap(), ["http://mine.test/d"]);
        let error = urls(Some("ftp://mine.test/d"), "trixie").unwrap_err();
        assert_eq!(error.to_string(), "the kernel's mirror `ftp://mine.test/d` is not an http or https URL");
    }

    #[test]
    fn releases_have_a_source_of_security_updates() {
        let apt = tempfile::tempdir().unwrap();
        let sources = |configured: Option<&str>, suite: &str| {
            let sources = sources_below(configured, suite, apt.path()).unwrap();
            sources
                .into_iter()
                .map(|source| (source.suite, source.mirrors, source.optional))
                .collect::<Vec<_>>()
        };
        let source =
            |suite: &str, mirror: &str, optional| (suite.to_owned(), vec![mirror.to_owned()], optional);
        assert_eq!(
            sources(None, "trixie"),
            [
                source("trixie", "https://deb.debian.org/debian", false),
                source("trixie-security", "https://deb.debian.org/debian-security", false)
            ]
        );
        for suite in ["trixie-backports", "trixie-updates", "sid"] {
            assert_eq!(sources(None, suite), [source(suite, "https://deb.debian.org/debian", false)]);
        }
        assert_eq!(
            sources(None, "trixie-security"),
            [source("trixie-security", "https://deb.debian.org/debian-security", false)]
        );
        assert_eq!(
            sources(Some("http://mine.test/debian/"), "stable"),
            [
                source("stable", "http://mine.test/debian", false),
                source("stable-security", "http://mine.test/debian-security", true)
            ]
        );
        assert_eq!(
            sources(Some("http://mine.test/d"), "trixie")[1],
            ("trixie-security".to_owned(), Vec::new(), true)
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "(deb |Types: deb|URIs: |http://|\\[|\\]|#|\n| |\\PC){0,40}") {
            let _ = one_line_sources(&text);
            let _ = deb822_sources(&text);
        }
    }
}
