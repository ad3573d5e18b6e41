//! `cargo krazy kernel build` on a source tree that only looks like a kernel's: its Makefile knows the goals that are
//! asked of it and makes an image of a few bytes. What a real kernel does with our fragments is a system test.

#![allow(clippy::unwrap_used, reason = "all of this file is a test; clippy exempts only the test functions")]

mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use self::server::serve;

/// `allnoconfig` grants every wish, `olddefconfig` takes LOST back, and `bzImage` compiles three objects and links
/// an image with the header that tells a bzImage. The second object waits for a file called `go` in the tree, if
/// there is one called `wait`.
const MAKEFILE: &str = r#"VERSION = 6
PATCHLEVEL = 9
SUBLEVEL = 3
EXTRAVERSION =

allnoconfig:
	@cp $(KCONFIG_ALLCONFIG) $(O)/.config
olddefconfig:
	@sed -i '/^CONFIG_LOST=/d' $(O)/.config
bzImage: $(O)/one.o $(O)/two.o $(O)/three.o
	@mkdir -p $(O)/arch/x86/boot
	@{ head -c 514 /dev/zero; printf HdrS; head -c 8 /dev/zero; printf '\000\001'; head -c 240 /dev/zero; \
	   echo '6.9.3-krazy (krazy@krazy) #1'; cat $^; } > $(O)/arch/x86/boot/bzImage
	@echo kernel/fs/ext4/ext4.ko > $(O)/modules.builtin
$(O)/%.o: $(O)/.config
	@if [ $* = two ] && [ -e wait ]; then echo waiting; while [ ! -e go ]; do sleep 0.1; done; fi
	@if grep -q CONFIG_BROKEN=y $<; then echo '$*.c:1:1: error: it is broken' >&2; exit 1; fi
	@if grep -q CONFIG_FULL=y $<; then cp Makefile /dev/full; fi
	@grep CONFIG_SEEN $< > $@ || true
	@echo "  CC      $*.o"
"#;

const KCONFIG: &str = "mainmenu \"Linux\"\nconfig SEEN\n\tbool \"seen\"\nconfig BROKEN\n\tbool \"broken\"\n\
                       config FULL\n\tbool \"full\"\nconfig LOST\n\tbool \"lost\"\n\tdepends on FOUND\n";

struct Setup {
    directory: TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup = Setup { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(setup.at("tree")).unwrap();
        fs::write(setup.at("tree/Makefile"), MAKEFILE).unwrap();
        fs::write(setup.at("tree/Kconfig"), KCONFIG).unwrap();
        // Nothing is compiled, so that what compiles need not be there.
        for tool in ["gcc", "ld", "flex", "bison", "bc", "perl", "zstd"] {
            setup.stub(tool);
        }
        setup
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn stub(&self, tool: &str) {
        fs::create_dir_all(self.at("bin")).unwrap();
        let path = self.at("bin").join(tool);
        fs::write(&path, "#!/bin/sh\necho \"$0 1.0\" | sed 's|.*/||'\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `cargo krazy kernel build` of the tree with `options` in a fragment.
    fn command(&self, options: &str) -> Command {
        fs::write(self.at("own.config"), options).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-krazy"));
        let path = std::env::var("PATH").unwrap();
        command
            .args(["krazy", "kernel", "build", "--board", "x86_64", "--message-format", "json", "--source"])
            .arg(self.at("tree"))
            .arg("--config")
            .arg(self.at("own.config"))
            .current_dir(self.directory.path())
            .env("KRAZY_CACHE_DIR", self.at("cache"))
            .env("PATH", format!("{}:{path}", self.at("bin").display()));
        command
    }

    fn build(&self, options: &str) -> Output {
        self.command(options).output().unwrap()
    }

    /// Builds, and returns the program's message.
    fn built(&self, options: &str) -> Value {
        let output = self.build(options);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Fails to build: the exit code and what was said. No bundle is left, and nothing unfinished.
    fn refused(&self, options: &str) -> (i32, String) {
        let output = self.build(options);
        self.assert_nothing_packed();
        (output.status.code().unwrap(), self.plain(&output.stderr))
    }

    fn plain(&self, text: &[u8]) -> String {
        String::from_utf8_lossy(text).replace(&self.directory.path().display().to_string(), "DIR")
    }

    fn assert_nothing_packed(&self) {
        let mut names: Vec<_> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| !["bin", "cache", "own.config", "tree"].contains(&name.as_str()));
        assert_eq!(names, [""; 0]);
    }
}

#[track_caller]
fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "no `{part}` in:\n{text}");
}

#[test]
fn a_kernel_is_built_packed_and_resumed() {
    let setup = Setup::new();
    let first = setup.built("CONFIG_SEEN=y\n");
    assert_eq!(first["reason"], "kernel-built");
    assert_eq!(first["release"], "6.9.3-krazy");
    assert_eq!(first["objects"], 3);
    let bundle = setup.at("linux-6.9.3-x86_64.tar.zst");
    assert_eq!(first["bundle"], "linux-6.9.3-x86_64.tar.zst");
    let bytes = fs::read(&bundle).unwrap();
    let log = fs::read_to_string(first["log"].as_str().unwrap()).unwrap();
    assert_contains(&log, "  CC      three.o");

    // Another directory, another cache: the same bytes.
    let other = Setup::new();
    other.built("CONFIG_SEEN=y\n");
    assert!(fs::read(other.at("linux-6.9.3-x86_64.tar.zst")).unwrap() == bytes);
}

#[test]
fn what_cannot_be_granted_is_named() {
    let setup = Setup::new();
    let (code, text) = setup.refused("CONFIG_SEEN=y\nCONFIG_SEEM=y\n");
    assert_eq!(code, 2);
    assert_contains(&text, "error: DIR/own.config:2: this kernel has no option CONFIG_SEEM");
    assert_contains(&text, "help: did you mean CONFIG_SEEN?");

    let (code, text) = setup.refused("CONFIG_LOST=y\n");
    assert_eq!(code, 2);
    assert_contains(&text, "requested options did not survive `olddefconfig`:");
    assert_contains(&text, "CONFIG_LOST=y (DIR/own.config:1) is not set; it depends on FOUND");

    let (code, text) = setup.refused("SEEN=y\n");
    assert_eq!(code, 2);
    assert_contains(&text, "error: DIR/own.config:1: `SEEN` is not the name of an option");
}

#[test]
fn a_build_that_fails_shows_why() {
    let setup = Setup::new();
    let (code, text) = setup.refused("CONFIG_BROKEN=y\n");
    assert_eq!(code, 4);
    assert_contains(&text, "error: failed to build Linux 6.9.3:\n");
    assert_contains(&text, ".c:1:1: error: it is broken");
    assert_contains(&text, "help: the whole log is DIR/cache/kernel/builds/");

    let (code, text) = setup.refused("CONFIG_FULL=y\n");
    assert_eq!(code, 4);
    assert_contains(&text, "error: there is no room to build Linux 6.9.3 in DIR/cache/kernel/builds/");
    assert_contains(&text, "help: make room, or set KRAZY_CACHE_DIR to a directory on a larger disk");
}

#[test]
fn missing_tools_are_named_before_anything_starts() {
    let setup = Setup::new();
    for tool in ["gcc", "flex"] {
        fs::remove_file(setup.at("bin").join(tool)).unwrap();
    }
    let mut command = setup.command("");
    let output = command.env("PATH", setup.at("bin")).output().unwrap();
    let text = setup.plain(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert_contains(&text, "error: a kernel cannot be built without `gcc`, `make`, `flex`");
    assert_contains(
        &text,
        "`sudo apt install gcc make flex`; in the place of gcc, `clang lld llvm` do as well",
    );
    assert!(!setup.at("cache").exists());
}

#[test]
fn an_unclean_tree_and_a_wrong_hash_are_refused() {
    let setup = Setup::new();
    fs::write(setup.at("tree/.config"), "").unwrap();
    let (code, text) = setup.refused("");
    assert_eq!(code, 2);
    assert_contains(&text, "error: the source DIR/tree has been built in: it has `.config`");
    assert_contains(&text, "`make -C DIR/tree mrproper`");

    let tarball = setup.at("cache/linux.tar");
    fs::create_dir_all(setup.at("cache")).unwrap();
    fs::write(&tarball, "other").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-krazy"));
    command.args(["krazy", "kernel", "build", "--sha256", &"ab".repeat(32), "--source"]).arg(&tarball);
    let path = std::env::var("PATH").unwrap();
    command.env("KRAZY_CACHE_DIR", setup.at("cache")).current_dir(setup.directory.path());
    command.env("PATH", format!("{}:{path}", setup.at("bin").display()));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert_contains(
        &setup.plain(&output.stderr),
        "error: DIR/cache/linux.tar has the wrong content: its SHA-256 is",
    );
    setup.assert_nothing_packed();
}

#[test]
fn releases_that_do_not_exist_are_told_apart_from_wrong_words() {
    let setup = Setup::new();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-krazy"));
        let path = std::env::var("PATH").unwrap();
        command.args(["krazy", "kernel", "build"]).args(arguments).current_dir(setup.directory.path());
        command.env("KRAZY_CACHE_DIR", setup.at("cache"));
        command.env("PATH", format!("{}:{path}", setup.at("bin").display()));
        let output = command.output().unwrap();
        (output.status.code(), setup.plain(&output.stderr))
    };
    let (code, text) = run(&["--version", "six"]);
    assert_eq!(code, Some(2));
    assert_contains(&text, "write a release such as 6.12.48, or 6.12.x for the newest of a series");
    let (code, text) = run(&["--version", "6.12.48", "--offline"]);
    assert_eq!(code, Some(2));
    assert_contains(
        &text,
        "error: Linux 6.12.48 is asked of kernel.org, and --offline forbids to use the network",
    );
}

#[test]
fn what_a_mirror_has_is_believed_only_if_kernel_org_signed_it() {
    let setup = Setup::new();
    let strangers = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n12  linux-6.9.3.tar.xz\n\
                     -----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n";
    let mirror = serve(vec![("/v6.x/sha256sums.asc", strangers.into())]);
    let refused = |version: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-krazy"));
        let path = std::env::var("PATH").unwrap();
        command.args(["krazy", "kernel", "build", "--version", version, "--mirror", &mirror]);
        command.env("KRAZY_CACHE_DIR", setup.at("cache")).current_dir(setup.directory.path());
        command.env("PATH", format!("{}:{path}", setup.at("bin").display()));
        let output = command.output().unwrap();
        setup.assert_nothing_packed();
        (output.status.code(), setup.plain(&output.stderr).replace(&mirror, "MIRROR"))
    };
    let (code, text) = refused("6.9.3");
    assert_eq!(code, Some(6), "{text}");
    assert_contains(&text, "error: MIRROR/v6.x/sha256sums.asc was not signed by kernel.org: ");
    let (code, text) = refused("7.1.x");
    assert_eq!(code, Some(2), "{text}");
    assert_contains(&text, "error: there is no Linux 7.1.x in MIRROR/v7.x");
    assert_contains(&text, "help: https://www.kernel.org/ lists the releases");
}

#[test]
fn places_that_are_none_are_refused_before_any_work() {
    let setup = Setup::new();
    fs::create_dir(setup.at("tree/notes")).unwrap();
    fs::write(setup.at("tree/notes/a"), "mine").unwrap();
    for (output, code, said) in [
        ("own.config", 2, "error: own.config is a file, and its name does not end in .tar.zst"),
        ("tree/notes", 2, "error: tree/notes is a directory with other things in it"),
        ("nowhere/a.tar.zst", 7, "error: the directory of `nowhere/a.tar.zst` does not exist"),
        ("/dev/nowhere.tar.zst", 7, "error: there is no device `/dev/nowhere.tar.zst`"),
    ] {
        let result = setup.command("CONFIG_SEEN=y\n").args(["-o", output]).output().unwrap();
        let text = setup.plain(&result.stderr);
        assert_eq!(result.status.code(), Some(code), "{text}");
        assert_contains(&text, said);
        setup.assert_nothing_packed();
    }
    assert!(!setup.at("cache/kernel/builds").exists(), "something was built");
    assert_eq!(fs::read_to_string(setup.at("own.config")).unwrap(), "CONFIG_SEEN=y\n");
    assert_eq!(fs::read_to_string(setup.at("tree/notes/a")).unwrap(), "mine");
}

#[test]
fn an_interrupted_build_leaves_nothing_and_goes_on() {
    let setup = Setup::new();
    fs::write(setup.at("tree/wait"), "").unwrap();
    let mut command = setup.command("CONFIG_SEEN=y\n");
    let mut child =
        command.args(["--jobs", "1"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_text(&setup.at("cache/kernel/builds"), "waiting");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    setup.assert_nothing_packed();
    let processes =
        Command::new("pgrep").args(["-f", &setup.at("tree").display().to_string()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&processes.stdout), "", "make is still at work");

    fs::write(setup.at("tree/go"), "").unwrap();
    let built = setup.built("CONFIG_SEEN=y\n");
    assert_eq!(built["release"], "6.9.3-krazy");
    assert!(setup.at("linux-6.9.3-x86_64.tar.zst").is_file());
}

/// Waits until the log of the only build below `builds` has `text`.
fn wait_for_text(builds: &Path, text: &str) {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let directory = fs::read_dir(builds).ok().and_then(|mut entries| entries.next());
        let log = directory.and_then(|entry| fs::read_to_string(entry.ok()?.path().join("build.log")).ok());
        if log.is_some_and(|log| log.contains(text)) {
            return;
        }
        assert!(Instant::now() < end, "no `{text}` in the log");
        std::thread::sleep(Duration::from_millis(50));
    }
}
