//! The `URL%CRATE` form that names a crate in a git repository.

use std::fmt;

/// A repository and the crate in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitUrl {
    /// What git is given. The scp-like `user@host:path` is rewritten to `ssh://`, as cargo takes URLs only.
    pub(crate) url: String,
    /// The crate.
    pub(crate) package: String,
}

/// Why a text is not `URL` or `URL%CRATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GitUrlError {
    /// Neither a URL nor `user@host:path`.
    NotAUrl,
    /// The `%` has no crate behind it, or something that is not a crate's name.
    Crate,
    /// No `%CRATE`, and the last part of the path is not a crate's name.
    NoRepositoryName,
}

impl fmt::Display for GitUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GitUrlError::NotAUrl => {
                "a git URL such as `https://host/name.git`, `file:///dir` or `git@host:name.git`"
            }
            GitUrlError::Crate => "a git URL with a crate's name after `%`",
            GitUrlError::NoRepositoryName => "a git URL that ends in the crate's name or in `%CRATE`",
        })
    }
}

impl GitUrl {
    /// Reads `URL%CRATE`. Without `%CRATE` the crate has the repository's name: the last part of the path,
    /// without trailing slashes and `.git`. A `%` followed by two hex digits and more path is an escape of the
    /// URL, not the separator.
    pub(crate) fn parse(text: &str) -> Result<Self, GitUrlError> {
        let (url, package) = match text.rsplit_once('%') {
            Some((_, rest)) if rest.contains('/') || is_escape(rest) => (text, None),
            Some((url, package)) => (url, Some(package)),
            None => (text, None),
        };
        let url = if is_url(url) { url.to_owned() } else { ssh_url(url).ok_or(GitUrlError::NotAUrl)? };
        let package = match package {
            Some(package) if is_crate_name(package) => package,
            Some(_) => return Err(GitUrlError::Crate),
            None => repository_name(&url).ok_or(GitUrlError::NoRepositoryName)?,
        };
        let package = package.to_owned();
        Ok(GitUrl { url, package })
    }
}

/// Whether `rest`, found after the last `%`, is the end of a percent-escape in the URL: `%20name.git`.
fn is_escape(rest: &str) -> bool {
    let hex = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    hex >= 2 && rest.ends_with(".git")
}

fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
            && !rest.is_empty()
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

/// `user@host:path` as `ssh://user@host/path`; `None` if it is not of that form.
fn ssh_url(text: &str) -> Option<String> {
    let (host, path) = text.split_once(':')?;
    let wrong = |c: char| c.is_whitespace() || c.is_control();
    if !host.contains('@') || host.contains('/') || path.is_empty() || text.contains(wrong) {
        return None;
    }
    Some(format!("ssh://{host}/{}", path.trim_start_matches('/')))
}

fn repository_name(url: &str) -> Option<&str> {
    let (_, path) = url.split_once("://")?;
    let (_, last) = path.trim_end_matches('/').rsplit_once('/')?;
    let name = last.strip_suffix(".git").unwrap_or(last);
    is_crate_name(name).then_some(name)
}

/// Whether cargo would take `name` as a package's: letters, digits, `_` and `-`, no digit first.
pub(crate) fn is_crate_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || "-_".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> (String, String) {
        let GitUrl { url, package } = GitUrl::parse(text).unwrap();
        (url, package)
    }

    #[test]
    fn the_crate_stands_after_a_percent_sign() {
        let expected = ("git://host/rustkrazy/init.git".into(), "rustkrazy_init".into());
        assert_eq!(parsed("git://host/rustkrazy/init.git%rustkrazy_init"), expected);
        let local = ("file:///srv/git/tools".into(), "clock".into());
        assert_eq!(parsed("file:///srv/git/tools%clock"), local);
        // Hex digits alone do not make an escape: `%ada` names the crate `ada`.
        assert_eq!(parsed("https://host/r.git%ada").1, "ada");
    }

    #[test]
    fn without_it_the_repository_names_the_crate() {
        for url in
            ["https://host/a/dufs", "https://host/a/dufs.git", "https://host/a/dufs.git/", "file:///g/dufs/"]
        {
            assert_eq!(parsed(url), (url.to_owned(), "dufs".to_owned()));
        }
        let escaped = "https://host/my%20team/dufs.git";
        assert_eq!(parsed(escaped), (escaped.to_owned(), "dufs".to_owned()));
    }

    #[test]
    fn scp_like_addresses_become_ssh_urls() {
        let expected = ("ssh://git@host/team/tool.git".into(), "tool".into());
        assert_eq!(parsed("git@host:team/tool.git"), expected);
        assert_eq!(
            parsed("git@host:/team/tools.git%tool"),
            ("ssh://git@host/team/tools.git".into(), "tool".into())
        );
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, error) in [
            ("dufs", GitUrlError::NotAUrl),
            ("../dufs", GitUrlError::NotAUrl),
            ("", GitUrlError::NotAUrl),
            ("https://", GitUrlError::NotAUrl),
            ("https://host/a b", GitUrlError::NotAUrl),
            ("https://host/r.git%", GitUrlError::Crate),
            ("https://host/r.git%a b", GitUrlError::Crate),
            ("https://host", GitUrlError::NoRepositoryName),
            ("https://host/.git", GitUrlError::NoRepositoryName),
        ] {
            assert_eq!(GitUrl::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_names_a_crate(text in "\\PC*") {
            if let Ok(git) = GitUrl::parse(&text) {
                prop_assert!(is_crate_name(&git.package));
                prop_assert!(is_url(&git.url));
            }
        }
    }
}
