//! `Packages`: what an archive offers, one stanza per package (Debian Policy 5.1, repository format).

use std::io::{self, BufRead, Read};

use super::error::{ArchiveError, RequestError};
use super::version;
use crate::config::suggestion::closest;
use crate::failure::Result;

/// The longest line accepted. The longest of trixie's main section has 6,000 bytes.
const LONGEST_LINE: u64 = 1 << 20;

/// The start of the name of a package with a kernel image.
pub(crate) const IMAGE: &str = "linux-image-";

/// A binary package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    /// The suite that offers it.
    pub(crate) suite: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// `Depends`, as written.
    pub(crate) depends: String,
    /// Path of the .deb below the archive's base URL.
    pub(crate) path: String,
    /// Bytes of the .deb.
    pub(crate) size: u64,
    /// SHA-256 of the .deb in hex.
    pub(crate) sha256: String,
}

/// Returns the packages of `suite` whose name begins with `prefix`, in the order of the file.
///
/// Stanzas of other packages are passed over without being kept; incomplete ones are dropped.
pub(crate) fn packages(mut reader: impl BufRead, prefix: &str, suite: &str) -> io::Result<Vec<Package>> {
    let mut found = Vec::new();
    let mut current = Package::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if read as u64 == LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            let package = std::mem::take(&mut current);
            if package.name.starts_with(prefix) && package.is_complete() {
                found.push(Package { suite: suite.to_owned(), ..package });
            }
            if read == 0 {
                return Ok(found);
            }
            continue;
        }
        let Some((key, value)) = text.split_once(':') else { continue };
        let value = value.trim();
        match key {
            "Package" => current.name = value.to_owned(),
            _ if !current.name.starts_with(prefix) => {}
            "Version" => current.version = value.to_owned(),
            "Depends" => current.depends = value.to_owned(),
            "Filename" => current.path = value.to_owned(),
            // Without a size the stanza is incomplete, and dropped.
            "Size" => current.size = value.parse().unwrap_or(0),
            "SHA256" => current.sha256 = value.to_ascii_lowercase(),
            _ => {}
        }
    }
}

impl Package {
    fn is_complete(&self) -> bool {
        use crate::lock_file::is_pool_path;
        use krazy_boot::digest::is_sha256;
        !self.version.is_empty() && self.size > 0 && is_pool_path(&self.path) && is_sha256(&self.sha256)
    }

    /// Returns the packages it depends on that are of a kernel, each with the exact version it requires: kernel images,
    /// and whatever else of `linux-` is required in one version only. Tools of kernels are required in a version or later.
    fn kernel_dependencies(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.depends.split(',').filter_map(|clause| {
            let first = clause.split('|').next()?.trim();
            let (name, constraint) = first.split_once('(').unwrap_or((first, ""));
            let exact = constraint.trim_end_matches(')').trim().strip_prefix('=').map(str::trim);
            let is_part = name.starts_with(IMAGE) || (name.starts_with("linux-") && exact.is_some());
            is_part.then(|| (name.split(':').next().unwrap_or(name).trim(), exact))
        })
    }

    /// Returns the first kernel image it depends on.
    fn image_dependency(&self) -> Option<&str> {
        self.kernel_dependencies().map(|(name, _)| name).find(|name| name.starts_with(IMAGE))
    }
}

/// The package with the kernel image that `name` stands for, and the others of that kernel: what the meta package depends
/// on, or `name` itself where it depends on no kernel. Of several versions the newest, and of equal ones the last; all
/// packages of a kernel are of one suite. `suite` is the configured one.
///
/// Since Linux 6.19 Debian's kernels are split: the image package is empty, and depends on others. All that are required
/// in one version are followed; those without the release in their name are meta packages.
pub(crate) fn resolve<'p>(
    packages: &'p [Package],
    name: &str,
    suite: &str,
) -> Result<(&'p Package, Vec<&'p Package>)> {
    let newest = |name: &str, exact: Option<&str>, suite: Option<&str>| {
        packages
            .iter()
            .filter(|package| package.name == name && exact.is_none_or(|version| package.version == version))
            .filter(|package| suite.is_none_or(|suite| package.suite == suite))
            .max_by(|a, b| version::compare(&a.version, &b.version))
    };
    let meta = newest(name, None, None).ok_or_else(|| {
        let metas = packages.iter().filter(|package| package.image_dependency().is_some());
        let near = closest(name, metas.map(|package| package.name.as_str()));
        RequestError::NoPackage {
            suite: suite.to_owned(),
            package: name.to_owned(),
            nearest: near.map(|near| near.to_string()),
        }
    })?;
    let mut found = vec![meta];
    let mut followed = 0;
    while let Some(package) = found.get(followed).copied() {
        followed += 1;
        for (name, exact) in package.kernel_dependencies() {
            if found.iter().any(|known| known.name == name) {
                continue;
            }
            found.push(newest(name, exact, Some(&meta.suite)).ok_or_else(|| ArchiveError::Incomplete {
                suite: meta.suite.clone(),
                package: package.name.clone(),
                kernel: name.to_owned(),
                version: exact.map(str::to_owned),
            })?);
        }
    }
    let image = found.iter().find(|package| Some(package.name.as_str()) == meta.image_dependency());
    let image = image.copied().unwrap_or(meta);
    let release = image.name.strip_prefix(IMAGE).unwrap_or(&image.name);
    found.retain(|package| package.name != image.name && package.name.contains(release));
    Ok((image, found))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stanza(name: &str, version: &str, depends: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nDepends: {depends}\nDescription: some\n text: here\n\
             Filename: pool/main/l/{name}_{version}_amd64.deb\nSize: 7\nSHA256: {}\n\n",
            "aB".repeat(32)
        )
    }

    fn parsed(text: &str) -> Vec<Package> {
        packages(text.as_bytes(), "linux-", "trixie").unwrap()
    }

    #[test]
    fn follows_the_meta_package() {
        let text = stanza("zlib1g", "1", "libc6")
            + &stanza("linux-image-6.1-amd64", "6.1-1", "kmod, initramfs-tools | linux-initramfs-tool")
            + &stanza("linux-image-6.1-amd64", "6.1-2", "kmod")
            + &stanza("linux-image-amd64", "6.1-1", "linux-image-6.1-amd64 (= 6.1-1)")
            + &stanza("linux-image-rt-amd64", "6.1-9", "linux-image-6.1-amd64")
            + &stanza("linux-image-old", "1", "linux-image-0.1-amd64 (= 0.1-1)");
        let packages = parsed(text.trim_end());
        assert_eq!(packages.len(), 5);
        let version = |name| {
            resolve(&packages, name, "trixie").map(|(image, others)| {
                assert!(others.is_empty());
                image.version.clone()
            })
        };
        assert_eq!(version("linux-image-amd64").unwrap(), "6.1-1");
        assert_eq!(version("linux-image-rt-amd64").unwrap(), "6.1-2");
        assert_eq!(version("linux-image-6.1-amd64").unwrap(), "6.1-2");
        assert_eq!(packages[0].sha256, "ab".repeat(32));

        let error = version("linux-image-amd46").unwrap_err();
        assert_eq!(error.to_string(), "Debian's suite `trixie` has no package `linux-image-amd46`");
        assert_eq!(error.next_step(), Some("did you mean `linux-image-amd64`?"));
        assert_eq!(
            version("linux-image-old").unwrap_err().to_string(),
            "Debian's suite `trixie` has `linux-image-old`, but not the `linux-image-0.1-amd64` 0.1-1 it depends on"
        );
    }

    #[test]
    fn split_kernel_is_followed_to_all_of_its_packages() {
        // As in trixie-backports, with the versions of one package each.
        let exact = |names: &[&str]| {
            let clauses: Vec<_> = names.iter().map(|name| format!("{name} (= 7.3-1)")).collect();
            clauses.join(", ")
        };
        let parts = ["linux-base-7.3-amd64", "linux-binary-7.3-amd64", "linux-modules-7.3-amd64"];
        let image = format!("dracut | linux-initramfs-tool, linux-base (>= 4.17~), {}", exact(&parts));
        let meta = exact(&["linux-base-amd64", "linux-image-7.3-amd64", "linux-modules-amd64"]);
        let text = stanza("linux-image-amd64", "7.3-1", &meta)
            + &stanza("linux-base", "4.17", "")
            + &stanza("linux-base-amd64", "7.3-1", &exact(&parts[..1]))
            + &stanza("linux-modules-amd64", "7.3-1", &exact(&["linux-base-amd64", parts[2]]))
            + &stanza("linux-image-7.3-amd64", "7.3-1", &image)
            + &stanza(parts[0], "7.3-1", "")
            + &stanza(parts[0], "7.3-2", "")
            + &stanza(parts[1], "7.3-1", &exact(&parts[..1]))
            + &stanza("linux-binary-unsigned-7.3-amd64", "7.3-1", "");
        let modules = stanza(parts[2], "7.3-1", &format!("kmod, {}", exact(&parts[..1])));
        let found = |text: &str, name: &str| {
            let packages = parsed(text);
            let (image, others) = resolve(&packages, name, "trixie").map_err(|error| error.to_string())?;
            let found: Vec<_> = [image].into_iter().chain(others).cloned().collect();
            assert!(found.iter().all(|package| package.version == "7.3-1"));
            Ok::<_, String>(found.into_iter().map(|package| package.name).collect::<Vec<_>>())
        };
        let whole = text.clone() + &modules;
        for name in ["linux-image-amd64", "linux-image-7.3-amd64"] {
            assert_eq!(
                found(&whole, name).unwrap(),
                ["linux-image-7.3-amd64", parts[0], parts[1], parts[2]],
                "{name}"
            );
        }
        assert_eq!(
            found(&text, "linux-image-7.3-amd64").unwrap_err(),
            "Debian's suite `trixie` has `linux-image-7.3-amd64`, but not the `linux-modules-7.3-amd64` 7.3-1 it depends on"
        );
    }

    #[test]
    fn stanzas_that_could_mislead_are_dropped() {
        let good = stanza("linux-image-a", "1", "");
        assert_eq!(parsed(&good).len(), 1);
        assert!(parsed(&good.replace("pool/main", "../../etc")).is_empty());
        assert!(parsed(&good.replace("Size: 7", "Size: many")).is_empty());
        assert!(parsed(&good.replace("SHA256", "SHA1")).is_empty());
    }

    #[test]
    fn endless_line_is_refused() {
        let error = packages(io::BufReader::new(io::repeat(b'x')), "", "").unwrap_err();
        assert_eq!(error.to_string(), "a line is too long");
    }

    proptest! {
        #[test]
        fn never_panics(text in "(Package|Version|Size|Depends|Filename|:| |linux-image-|\\(|=|\\)|,|\\||\n|[a-z0-9]|\\PC){0,60}") {
            for package in parsed(&text) {
                let _ = package.kernel_dependencies().count();
            }
            let _ = resolve(&parsed(&text), "linux-image-a", "s");
        }
    }
}
