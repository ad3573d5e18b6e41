//! The version floor in `/data/krazy/floor.json`: no update below it is accepted, so that an old signed bundle
//! cannot be replayed with a known vulnerability.

use std::path::{Path, PathBuf};

use krazy_boot::api::credentials::VERSION_FLOOR;
use krazy_boot::api::update::Floor;
use semver::Version;

use super::super::{SIGNED_ONLY, credentials, durable_file};
use crate::problem::{Kind, Problem};

/// Length of the file.
const MAX_LEN: u64 = 4096;

/// Reads the floor of the device in `root`; `None` if none is set.
pub(crate) fn read(root: &Path) -> Result<Option<Version>, Problem> {
    let bytes = durable_file::read_optional(&path(root), MAX_LEN)
        .map_err(|error| Problem::from_io(&error, "the version floor"))?;
    let Some(bytes) = bytes else { return Ok(None) };
    // Damaging the file must not remove the floor.
    parse(&bytes).map_err(|problem| Problem::new(Kind::Internal, problem.detail()))
}

/// Sets the floor to the one in `json`, which may be lower than the present one only with `may_lower`.
pub(crate) fn write(root: &Path, json: &[u8], may_lower: bool) -> Result<(), Problem> {
    let wanted = parse(json)?;
    if !may_lower && wanted < read(root)? {
        let text = format!("the version floor can only be raised, because {SIGNED_ONLY}");
        return Err(Problem::new(Kind::Forbidden, text));
    }
    let floor = Floor { version: wanted.map(|version| version.to_string()) };
    let bytes = serde_json::to_vec(&floor).map_err(|error| {
        Problem::new(Kind::Internal, format!("failed to encode the version floor: {error}"))
    })?;
    durable_file::replace(&path(root), &bytes, 0o644)
        .map_err(|error| Problem::from_io(&error, "the version floor"))
}

fn path(root: &Path) -> PathBuf {
    credentials::directory(root).join(VERSION_FLOOR)
}

fn parse(json: &[u8]) -> Result<Option<Version>, Problem> {
    let wrong = |error: &dyn std::fmt::Display| {
        Problem::new(Kind::BadRequest, format!("not a version floor: {error}"))
    };
    let floor: Floor = serde_json::from_slice(json).map_err(|error| wrong(&error))?;
    floor.version.map(|version| version.parse().map_err(|error| wrong(&error))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_stays_until_a_valid_one_replaces_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("data/krazy")).unwrap();
        let set = |json: &str| write(root.path(), json.as_bytes(), true).map_err(|problem| problem.kind());
        let found = || read(root.path()).map(|floor| floor.map(|floor| floor.to_string()));
        assert_eq!(found().unwrap(), None);
        set(r#"{"version":"1.2.0-rc.1"}"#).unwrap();
        assert_eq!(found().unwrap().as_deref(), Some("1.2.0-rc.1"));
        assert_eq!(set(r#"{"version":"new"}"#), Err(Kind::BadRequest));
        assert_eq!(found().unwrap().as_deref(), Some("1.2.0-rc.1"));
        std::fs::write(path(root.path()), "{").unwrap();
        assert_eq!(found().unwrap_err().kind(), Kind::Internal);
        set("{}").unwrap();
        assert_eq!(found().unwrap(), None);
    }

    #[test]
    fn floor_of_a_signed_only_device_is_only_raised() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("data/krazy")).unwrap();
        let set = |json: &str| write(root.path(), json.as_bytes(), false).map_err(|problem| problem.kind());
        set("{}").unwrap();
        set(r#"{"version":"1.2.0"}"#).unwrap();
        set(r#"{"version":"1.2.0"}"#).unwrap();
        for lower in [r#"{"version":"1.2.0-rc.1"}"#, "{}"] {
            assert_eq!(set(lower), Err(Kind::Forbidden), "{lower}");
        }
        set(r#"{"version":"1.3.0"}"#).unwrap();
    }
}
