//! The user of a project, who must not be mixed up with root.
//!
//! Source: sudo(8), "COMMAND ENVIRONMENT", for SUDO_UID.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::failure::{Exit, Explain, Result};

/// Root that was reached by sudo, in the project of the user before it.
#[derive(Debug, thiserror::Error)]
#[error("this runs as root through sudo, but `{}` is not root's", .0.display())]
struct ThroughSudo(PathBuf);

impl Explain for ThroughSudo {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(
            "run it without sudo: it asks for the right to write a disk. As root, files in `target` would be root's, and \
             `cargo krazy push` would not find the device's token"
                .to_owned(),
        )
    }
}

/// Fails for root that was reached by sudo, unless the `project` is root's.
pub(super) fn check(project: &Path) -> Result<()> {
    let owner = project.metadata().with_context(|| format!("failed to inspect {}", project.display()))?.uid();
    let invoker = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    match is_strange(rustix::process::geteuid().as_raw(), invoker, owner) {
        true => Err(ThroughSudo(project.to_owned()).into()),
        false => Ok(()),
    }
}

fn is_strange(user: u32, invoker: Option<u32>, owner: u32) -> bool {
    user == 0 && owner != 0 && invoker.is_some_and(|invoker| invoker != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_by_sudo_is_refused_in_the_project_of_another() {
        assert!(is_strange(0, Some(1000), 1000));
        for (user, invoker, owner) in
            [(0, Some(1000), 0), (0, None, 1000), (0, Some(0), 1000), (1000, None, 1000)]
        {
            assert!(!is_strange(user, invoker, owner), "{user} {invoker:?} {owner}");
        }
    }
}
