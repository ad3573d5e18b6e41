//! Zig, whose C and C++ compiler brings musl for every board: the one that is installed, else a pinned release.
//!
//! ```text
//! CACHE/zig/lock              held while something is added
//! CACHE/zig/SHA256.whl        a download; removed when unpacked
//! CACHE/zig/VERSION/          the content of the wheel, complete since it got its name
//! CACHE/zig/c++-VERSION-ARCH/ libstdc++.a and libc++.a: the C++ library for a processor; see [`super::cxx_library`]
//! CACHE/zig/objects/          zig's own cache
//! ```
//!
//! The pinned release is a wheel of PyPI's `ziglang`, whose SHA-256 stands here. Source of the format: PyPA, Binary
//! distribution format (a ZIP archive).

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::c_compiler::first;
use super::environment::Environment;
use super::error::ToolchainError;
use crate::cache;
use crate::download::{self, Expected, Fetcher};
use crate::failure::Result;
use crate::files::io_failure;
use crate::shell::Shell;
use crate::user_directories::CACHE;
use crate::vendored::Vendored;

/// The pinned release.
const VERSION: &str = "0.17.1";

/// The server of PyPI's files.
const SERVER: &str = "https://files.pythonhosted.org/packages";

/// Bytes of an unpacked wheel at most. That of 0.17.1 has 370 MB.
const MAX_UNPACKED: u64 = 1 << 30;

/// The pinned release for one kind of machine.
#[derive(Debug, PartialEq, Eq)]
struct Wheel {
    /// The start and the end of the machine's triple.
    host: (&'static str, &'static str),
    /// The path on the server.
    path: &'static str,
    /// SHA-256 in lower-case hex.
    sha256: &'static str,
    /// Bytes.
    size: u64,
}

/// Source: <https://pypi.org/project/ziglang/0.17.1/#files>.
const WHEELS: [Wheel; 4] = [
    Wheel {
        host: ("x86_64-", "-linux-"),
        path: "59/e3/2a34676370a11c36b7cd04ffb2439c1089c0530cf4b01408c77cf7f8d9c3/ziglang-0.17.1-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64.whl",
        sha256: "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
        size: 101_083_562,
    },
    Wheel {
        host: ("aarch64-", "-linux-"),
        path: "91/72/bb7c4f098ba3e535fa2ebefd9f26327ba63fb0672562959255cb5dd37aff/ziglang-0.17.1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
        sha256: "b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e",
        size: 98_063_064,
    },
    Wheel {
        host: ("x86_64-", "-darwin"),
        path: "17/f6/f4dfc8cf0e510980fda251a8edf99823b9446f5d7a2a6a24801e55e09c28/ziglang-0.17.1-py3-none-macosx_13_0_x86_64.whl",
        sha256: "4e0b4b9c02b8d0d220e9948010f860b62ff11d96abb39762eca5fa2ef3f7bc97",
        size: 104_485_232,
    },
    Wheel {
        host: ("aarch64-", "-darwin"),
        path: "ea/e1/4a9a97324fcf2d292c14a2e0121ea0df86c01d0c307ea24fa35aebaccd15/ziglang-0.17.1-py3-none-macosx_13_0_arm64.whl",
        sha256: "09953b6af7f64168b915180a42774f520f92d86ef6331b28e33915c7e1f0bb23",
        size: 100_390_379,
    },
];

/// A zig that is there, or the pinned one that can be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zig {
    /// The executable. That of the pinned release may not be there yet.
    pub(crate) program: PathBuf,
    /// The release, such as `0.17.1`.
    pub(crate) version: String,
    /// `CACHE/zig`.
    pub(super) cache: PathBuf,
    /// Set for the pinned release.
    wheel: Option<&'static Wheel>,
}

impl Zig {
    /// The zig on `PATH`, else the one in Python's `ziglang` package.
    pub(crate) fn installed(env: &Environment) -> Option<Self> {
        const LOCATE: &str =
            "import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))";
        let of_python = || {
            let python = first(env, &["python3", "python"])?;
            // A Python without the package answers with an error: then there is no zig.
            let zig = env.ask(&python, &["-c", LOCATE], None).ok()?;
            env.find(Path::new(&zig))
        };
        let program = env.find("zig").or_else(of_python)?;
        let version = env.ask(&program, &["version"], None).ok()?;
        Some(Zig { program, version, cache: Self::cache(env)?, wheel: None })
    }

    /// The pinned release for a machine whose triple is `host`.
    pub(crate) fn pinned(env: &Environment, host: &str) -> Option<Self> {
        let wheel = WHEELS.iter().find(|wheel| {
            let (start, end) = wheel.host;
            host.starts_with(start) && host.contains(end)
        })?;
        let cache = Self::cache(env)?;
        let program = cache.join(VERSION).join("ziglang").join("zig");
        Some(Zig { program, version: VERSION.to_owned(), cache, wheel: Some(wheel) })
    }

    /// Downloads the wheel of the pinned release to DIRECTORY/SHA256. Another zig needs none.
    pub(crate) fn vendor(&self, directory: &Path, shell: Shell) -> Result<()> {
        let Some(wheel) = self.wheel else { return Ok(()) };
        let file = directory.join(wheel.sha256);
        if file.is_file() {
            return Ok(download::verify_file(&file, &wheel.expected())?);
        }
        wheel.download(&file, shell)
    }

    fn cache(env: &Environment) -> Option<PathBuf> {
        let cache = CACHE.find_by(|name| env.var(name).map(ToOwned::to_owned)).ok()?;
        Some(cache.join("zig"))
    }

    /// Returns true if it can be run.
    pub(crate) fn is_there(&self) -> bool {
        self.wheel.is_none() || self.program.is_file()
    }

    /// Returns the value of `ZIG_GLOBAL_CACHE_DIR`, unless the user has chosen another.
    pub(super) fn objects(&self) -> PathBuf {
        self.cache.join("objects")
    }

    /// Waits until no other process adds to its cache, and keeps it so.
    pub(super) fn guard(&self, shell: Shell) -> Result<cache::CacheGuard> {
        fs::create_dir_all(&self.cache).map_err(io_failure("create", &self.cache))?;
        cache::exclusive(&self.cache.join("lock"), "fetches a C compiler", shell)
    }

    /// Downloads and unpacks the pinned release, if it is not there. What was `vendored` needs no download.
    ///
    /// # Errors
    /// `Exit::Fetch` if it cannot be downloaded, `Exit::MissingTool` if `offline` forbids it.
    pub(crate) fn fetch(&self, vendored: Option<&Vendored>, offline: bool, shell: Shell) -> Result<()> {
        let Some(wheel) = self.wheel else { return Ok(()) };
        if self.is_there() {
            return Ok(());
        }
        let brought = vendored.map(|vendored| vendored.download(&wheel.expected())).transpose()?.flatten();
        if brought.is_none() && offline {
            return Err(ToolchainError::NoCCompiler { version: self.version.clone() }.into());
        }
        let _guard = self.guard(shell)?;
        // Another process may have fetched it while we waited.
        if self.is_there() {
            return Ok(());
        }
        if let Some(file) = brought {
            return cache::complete(&self.cache.join(VERSION), |new| unpack(&file, new));
        }
        let file = self.cache.join(format!("{}.whl", wheel.sha256));
        wheel.download(&file, shell)?;
        cache::complete(&self.cache.join(VERSION), |new| unpack(&file, new))?;
        fs::remove_file(&file).map_err(io_failure("remove", &file))
    }
}

impl Wheel {
    fn expected(&self) -> Expected {
        Expected { size: Some(self.size), sha256: self.sha256.to_owned(), limit: self.size }
    }

    fn download(&self, file: &Path, shell: Shell) -> Result<()> {
        let size = self.size / 1_000_000;
        shell.status("Fetching", format!("zig {VERSION} ({size} MB), which compiles C code"));
        let url = format!("{SERVER}/{}", self.path);
        Ok(Fetcher::new(shell)?.to_file(&url, file, &self.expected())?)
    }
}

/// Unpacks a wheel into the directory `into`.
fn unpack(wheel: &Path, into: &Path) -> Result<()> {
    let damaged = |error: zip::result::ZipError| ToolchainError::Wheel { wheel: wheel.to_owned(), error };
    let file = File::open(wheel).map_err(io_failure("read", wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    if archive.decompressed_size().is_some_and(|size| size > u128::from(MAX_UNPACKED)) {
        return Err(ToolchainError::LargeWheel { wheel: wheel.to_owned(), limit: MAX_UNPACKED }.into());
    }
    archive.extract(into).map_err(damaged)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::Machine;
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn installed_zig_is_found_on_the_path_and_in_pythons_package() {
        let machine = Machine::new();
        let installed = || Zig::installed(&machine.environment(&[])).map(|zig| (zig.program, zig.version));
        assert_eq!(installed(), None);
        machine.program("ziglang-zig", "echo 0.16.0");
        machine.program("python3", &format!("echo {}", machine.path("ziglang-zig").display()));
        assert_eq!(installed(), Some((machine.path("ziglang-zig"), "0.16.0".to_owned())));
        machine.program("python3", "echo ModuleNotFoundError >&2; exit 1");
        assert_eq!(installed(), None);
        machine.program("zig", "echo 0.15.2");
        assert_eq!(installed(), Some((machine.path("zig"), "0.15.2".to_owned())));
    }

    #[test]
    fn pinned_release_is_there_for_the_usual_machines_and_not_fetched_offline() {
        let machine = Machine::new();
        let pinned = |host: &str| Zig::pinned(&machine.environment(&[]), host);
        for host in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-musl", "aarch64-apple-darwin"] {
            let zig = pinned(host).unwrap();
            assert!(!zig.is_there());
            assert_eq!(zig.program, machine.path(".cache/krazy/zig/0.17.1/ziglang/zig"));
            let wheel = zig.wheel.unwrap();
            assert!(wheel.path.contains(&format!("ziglang-{VERSION}-")) && wheel.sha256.len() == 64);
        }
        assert_eq!(pinned("riscv64gc-unknown-linux-gnu"), None);
        let error =
            pinned("x86_64-unknown-linux-gnu").unwrap().fetch(None, true, Shell::default()).unwrap_err();
        assert_eq!(error.exit(), Exit::MissingTool);
        assert_eq!(
            error.to_string(),
            "a crate has C code, and zig 0.17.1, which compiles it, is not downloaded yet"
        );
        assert_eq!(
            error.next_step(),
            Some(
                "run once without `--offline`, install zig (`pip install ziglang`), or bring it with `cargo krazy vendor DIR` from a \
                 machine with the network"
            )
        );
    }

    #[test]
    fn wheel_that_is_no_archive_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let wheel = directory.path().join("x.whl");
        fs::write(&wheel, "nothing").unwrap();
        let error = unpack(&wheel, &directory.path().join("into")).unwrap_err();
        assert!(error.to_string().starts_with("failed to unpack "), "{error}");
        assert_eq!(error.exit(), Exit::Fetch);
    }
}
