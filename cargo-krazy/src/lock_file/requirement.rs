//! The `[[install]]` tables of the lock file: the version or commit that every requirement was resolved to, so that
//! another machine, or the same one next year, installs the same.
//!
//! An entry belongs to a requirement, not to a board or an appliance: the same requirement gets the same answer
//! throughout the workspace.

use serde::{Deserialize, Serialize};

use crate::config::{GitReference, Source};

/// One resolved requirement. The order of fields is that of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedRequirement {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    git: Option<String>,
    package: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registry: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requirement: Option<String>,
    /// A version, or for git a commit id.
    pub(super) resolved: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

impl LockedRequirement {
    /// Returns the entry of `source` if it is one that needs to be resolved.
    pub(super) fn new(source: &Source, resolved: &str) -> Option<Self> {
        let resolved = resolved.to_owned();
        match source.clone() {
            Source::Registry { package, version, registry } => Some(LockedRequirement {
                package,
                registry,
                requirement: version,
                resolved,
                ..LockedRequirement::default()
            }),
            Source::Git { url, package, reference } => {
                let (branch, tag) = match reference {
                    GitReference::Head => (None, None),
                    GitReference::Branch(branch) => (Some(branch), None),
                    GitReference::Tag(tag) => (None, Some(tag)),
                    GitReference::Rev(_) => return None,
                };
                Some(LockedRequirement {
                    package,
                    git: Some(url),
                    branch,
                    tag,
                    resolved,
                    ..LockedRequirement::default()
                })
            }
            Source::Path { .. } => None,
        }
    }

    /// Returns the requirement, which only one entry may answer. Entries are sorted by it.
    pub(super) fn key(&self) -> (&str, [Option<&str>; 5]) {
        let optional = [&self.registry, &self.requirement, &self.git, &self.branch, &self.tag];
        (&self.package, optional.map(Option::as_deref))
    }
}
