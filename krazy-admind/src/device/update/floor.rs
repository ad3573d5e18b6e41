//! The version floor in `/data/krazy/floor.json`: no update below it is accepted, so that an old signed bundle
//! cannot be replayed with a known vulnerability.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use krazy_boot::api::credentials::VERSION_FLOOR;
use krazy_boot::api::update::Floor;
use krazy_boot::update::refusal::Refusal;
use semver::Version;

use super::super::{SIGNED_ONLY, credentials, durable_file};
use super::admission::refuse;
use crate::problem::{Kind, Problem};

/// Length of the file.
const MAX_LEN: u64 = 4096;

/// The floor of a device: the higher one of what was set and what the build that runs asks for.
#[derive(Clone, Debug)]
pub(super) struct Floors {
    /// The root of the device.
    pub(super) root: PathBuf,
    /// The floor that the running build asks for.
    pub(super) of_build: Option<Version>,
    /// Held from reading the stored floor to replacing it.
    pub(super) lock: Arc<Mutex<()>>,
}

impl Floors {
    /// Reads the floor; `None` if there is none.
    pub(super) fn read(&self) -> Result<Option<Version>, Problem> {
        Ok(self.stored()?.max(self.of_build.clone()))
    }

    /// The same, and keeps what the running build asks for, so that it holds for the builds after it. Only for a build that
    /// is confirmed: the end of a trial takes its floor back.
    pub(super) fn keep(&self) -> Result<Option<Version>, Problem> {
        let _locked = self.lock();
        let stored = self.stored()?;
        if stored >= self.of_build {
            return Ok(stored);
        }
        // A disk that cannot be written must not prevent the update that repairs the device.
        if let Err(problem) = self.store(self.of_build.as_ref()) {
            crate::log::write(problem.detail());
        }
        Ok(self.of_build.clone())
    }

    /// Sets the floor to the one in `json`, which may be lower than the present one only with `may_lower`, and not lower
    /// than the one that the running build asks for.
    pub(super) fn write(&self, json: &[u8], may_lower: bool) -> Result<(), Problem> {
        let wanted = parse(json)?;
        let _locked = self.lock();
        if let Some(of_build) = &self.of_build
            && wanted.as_ref() < Some(of_build)
        {
            let text = format!(
                "the build that runs asks for the version floor {of_build} (`admind = {{ floor = … }}`); push one that does \
                 not, and lower it then"
            );
            return refuse(Refusal::BelowFloor, text);
        }
        if !may_lower && wanted < self.stored()? {
            let text = format!("the version floor can only be raised, because {SIGNED_ONLY}");
            return Err(Problem::new(Kind::Forbidden, text));
        }
        self.store(wanted.as_ref())
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self) -> Result<Option<Version>, Problem> {
        let bytes = durable_file::read_optional(&self.path(), MAX_LEN)
            .map_err(|error| Problem::from_io(&error, "the version floor"))?;
        let Some(bytes) = bytes else { return Ok(None) };
        // Damaging the file must not remove the floor.
        parse(&bytes).map_err(|problem| Problem::new(Kind::Internal, problem.detail()))
    }

    fn store(&self, version: Option<&Version>) -> Result<(), Problem> {
        let floor = Floor { version: version.map(Version::to_string) };
        let bytes = serde_json::to_vec(&floor).map_err(|error| {
            Problem::new(Kind::Internal, format!("failed to encode the version floor: {error}"))
        })?;
        durable_file::replace(&self.path(), &bytes, 0o644)
            .map_err(|error| Problem::from_io(&error, "the version floor"))
    }

    fn path(&self) -> PathBuf {
        credentials::directory(&self.root).join(VERSION_FLOOR)
    }
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

    /// A device whose build asks for `of_build`.
    fn device(of_build: Option<&str>) -> (tempfile::TempDir, Floors) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("data/krazy")).unwrap();
        let of_build = of_build.map(|version| version.parse().unwrap());
        let floors = Floors { root: root.path().to_owned(), of_build, lock: Arc::default() };
        (root, floors)
    }

    fn text(floor: Result<Option<Version>, Problem>) -> Option<String> {
        floor.unwrap().map(|floor| floor.to_string())
    }

    #[test]
    fn floor_stays_until_a_valid_one_replaces_it() {
        let (_root, floors) = device(None);
        let set = |json: &str| floors.write(json.as_bytes(), true).map_err(|problem| problem.kind());
        assert_eq!(text(floors.read()), None);
        set(r#"{"version":"1.2.0-rc.1"}"#).unwrap();
        assert_eq!(text(floors.read()).as_deref(), Some("1.2.0-rc.1"));
        assert_eq!(set(r#"{"version":"new"}"#), Err(Kind::BadRequest));
        assert_eq!(text(floors.keep()).as_deref(), Some("1.2.0-rc.1"));
        std::fs::write(floors.path(), "{").unwrap();
        assert_eq!(floors.read().unwrap_err().kind(), Kind::Internal);
        assert_eq!(floors.keep().unwrap_err().kind(), Kind::Internal);
        set("{}").unwrap();
        assert_eq!(text(floors.read()), None);
    }

    #[test]
    fn floor_of_a_signed_only_device_is_only_raised() {
        let (_root, floors) = device(None);
        let set = |json: &str| floors.write(json.as_bytes(), false).map_err(|problem| problem.kind());
        set("{}").unwrap();
        set(r#"{"version":"1.2.0"}"#).unwrap();
        set(r#"{"version":"1.2.0"}"#).unwrap();
        for lower in [r#"{"version":"1.2.0-rc.1"}"#, "{}"] {
            assert_eq!(set(lower), Err(Kind::Forbidden), "{lower}");
        }
        set(r#"{"version":"1.3.0"}"#).unwrap();
    }

    #[test]
    fn floor_of_the_build_is_kept_for_builds_without_one() {
        let (_root, floors) = device(Some("2.0.0"));
        let set = |json: &str| floors.write(json.as_bytes(), true).map_err(|problem| problem.kind());
        let later = Floors { of_build: None, ..floors.clone() };
        assert_eq!(text(floors.read()).as_deref(), Some("2.0.0"));
        // A trial keeps nothing.
        assert_eq!(text(later.read()), None);
        assert_eq!(text(floors.keep()).as_deref(), Some("2.0.0"));
        assert_eq!(text(later.read()).as_deref(), Some("2.0.0"));
        for lower in [r#"{"version":"1.9.0"}"#, "{}"] {
            assert_eq!(set(lower), Err(Kind::Update(Refusal::BelowFloor)), "{lower}");
        }
        set(r#"{"version":"2.1.0"}"#).unwrap();
        assert_eq!(text(floors.keep()).as_deref(), Some("2.1.0"));
        later.write(b"{}", true).unwrap();
        assert_eq!(text(later.read()), None);
    }

    #[test]
    fn floor_of_the_build_counts_where_it_cannot_be_kept() {
        let (root, floors) = device(Some("2.0.0"));
        std::fs::remove_dir_all(root.path().join("data")).unwrap();
        assert_eq!(text(floors.keep()).as_deref(), Some("2.0.0"));
    }
}
