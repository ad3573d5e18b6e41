//! The names in `/tmp` under which people look for logs: links to the files, which are where services cannot write.
//!
//! A link lasts: `/tmp` is root's and sticky, so that a service without `CAP_FOWNER` can neither remove nor replace an
//! entry of root, and all links are there before the first service runs. The kernel follows them because links and
//! directory have the same owner (`fs.protected_symlinks`). Source: proc_sys_fs(5).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The ends of the names of a service's log files, those of full ones too.
const EXTENSIONS: [&str; 4] = [".log", ".err", ".log.1", ".err.1"];

/// Links the log files of `service` in `files` into `views`. Replaces anything that has such a name and can be removed.
///
/// The files may come later: until then a link leads nowhere, and nobody else can create its target.
pub(crate) fn link_views(service: &str, files: &Path, views: &Path) -> io::Result<()> {
    for extension in EXTENSIONS {
        let name = OsString::from(format!("{service}{extension}"));
        let (target, link) = (files.join(&name), views.join(&name));
        match symlink(&target, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link)?;
                symlink(&target, &link)?;
            }
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_log_file_has_its_name_in_the_other_directory() {
        let (files, views) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(views.path().join("web.err"), "a trap").unwrap();
        link_views("web", files.path(), views.path()).unwrap();
        for name in ["web.log", "web.err", "web.log.1", "web.err.1"] {
            fs::write(files.path().join(name), name).unwrap();
            assert_eq!(fs::read_to_string(views.path().join(name)).unwrap(), name);
        }
        link_views("web", files.path(), views.path()).unwrap();
        assert_eq!(
            fs::read_to_string(files.path().join("web.log")).unwrap(),
            "web.log",
            "a link is replaced"
        );
        fs::remove_file(views.path().join("web.log")).unwrap();
        fs::create_dir(views.path().join("web.log")).unwrap();
        assert!(link_views("web", files.path(), views.path()).is_err());
    }
}
