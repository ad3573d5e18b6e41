//! Installs real crates, tiny and without dependencies, with the real cargo and without the network, for the host's
//! own target: what else can be built differs between machines, and is the subject of `crate::toolchain`'s tests.

mod git;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use krazy_boot::disk::layout::PartitionSizes;

use super::*;
use crate::board::Board;
use crate::config::{GitReference, KernelSource, Origins, PiSettings, Source};
use crate::failure::Exit;
use crate::shell::{MessageFormat, Verbosity};
use crate::toolchain::Environment;

const MANIFEST: &str = "[package]\nedition = \"2024\"\nversion = \"0.1.0\"\nname = ";

/// A workspace of one package `app` with a library beside it, in a directory of its own.
struct Workspace {
    directory: tempfile::TempDir,
    appliance: Appliance,
}

impl Workspace {
    fn new() -> Self {
        Self::below("")
    }

    /// The workspace in the directory `below` of its temporary directory.
    fn below(below: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join(below);
        fs::create_dir_all(&root).unwrap();
        let root = root.canonicalize().unwrap();
        let appliance = Appliance {
            name: "app".into(),
            version: "0.1.0".into(),
            hostname: "app".into(),
            board: Board::named("x86_64").unwrap(),
            manifest_path: root.join("Cargo.toml"),
            target_directory: root.join("target"),
            init: OWN_INIT.into(),
            first_stage: install("krazy-init", Source::Path { path: root.join("krazy-init") }),
            installs: Vec::new(),
            services: BTreeMap::new(),
            checks: BTreeMap::new(),
            files: BTreeMap::new(),
            hosts: BTreeMap::new(),
            sysctl: BTreeMap::new(),
            timezone: None,
            ca_certificates: true,
            sizes: PartitionSizes::default(),
            compression_level: 3,
            kernel: KernelSource::Path("kernel".into()),
            cmdline: Vec::new(),
            modules: Vec::new(),
            network: Default::default(),
            boot_writable: false,
            uefi: None,
            serial_console: true,
            pi: PiSettings::default(),
            locked: false,
            offline: true,
            origins: Origins::default(),
            workspace_root: root,
        };
        let workspace = Workspace { directory, appliance };
        workspace.file("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"krazy-init\"]\n");
        workspace.package("krazy-init", "fn main() {}\n");
        workspace
    }

    fn root(&self) -> &Path {
        &self.appliance.workspace_root
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A package whose program has this text.
    fn package(&self, directory: &str, main: &str) {
        let name = directory.rsplit('/').next().unwrap();
        self.file(&format!("{directory}/Cargo.toml"), &format!("{MANIFEST}\"{name}\"\n"));
        self.file(&format!("{directory}/src/main.rs"), main);
    }

    /// A package outside every workspace, to be installed under its own name.
    fn add(&mut self, name: &str, main: &str) {
        self.package(name, main);
        let manifest = self.root().join(name).join("Cargo.toml");
        let text = format!("{}\n[workspace]\n", fs::read_to_string(&manifest).unwrap());
        fs::write(manifest, text).unwrap();
        let path = self.root().join(name);
        self.appliance.installs.push(install(name, Source::Path { path }));
    }

    fn toolchain(&self) -> Result<Toolchain> {
        let home = self.directory.path().join("cargo-home");
        let cache = self.directory.path().join("cache");
        let env = Environment::current()
            .with("KRAZY_CACHE_DIR", cache)
            .with("CARGO_HOME", home)
            .with("CARGO_NET_RETRY", "0");
        Toolchain::of_host(env, self.appliance.board, self.root())
    }

    fn build(&self) -> Result<Installation> {
        let shell = Shell::new(Verbosity::Quiet, MessageFormat::Human);
        let mut held = hold(&self.appliance, shell)?;
        install_all(&self.appliance, &self.toolchain()?, &mut held, shell)
    }

    fn error(&self) -> (String, String, Exit) {
        let error = self.build().unwrap_err();
        let help = error.next_step().unwrap_or_default().to_owned();
        (error.to_string(), help, error.exit())
    }
}

fn install(name: &str, source: Source) -> Install {
    Install {
        name: name.to_owned(),
        key: Vec::new(),
        source,
        bins: Vec::new(),
        features: Vec::new(),
        all_features: false,
        no_default_features: false,
        profile: None,
        locked: true,
        env: BTreeMap::new(),
        ours: false,
    }
}

fn modified(installed: &Installed) -> SystemTime {
    fs::metadata(&installed.path).unwrap().modified().unwrap()
}

fn git(directory: &Path, args: &[&str]) -> String {
    let config = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").current_dir(directory).args(config).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn nothing_is_done_twice_and_an_edit_is_noticed() {
    let mut workspace = Workspace::new();
    workspace.add("one", "fn main() { println!(\"1\") }\n");
    workspace.add("two", "mod part;\nfn main() { part::say() }\n");
    workspace.file("two/src/part.rs", "pub fn say() { println!(\"old\") }\n");
    // The clock of the file system must have passed the files just written.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let first = workspace.build().unwrap();
    let names: Vec<_> = first.bins.iter().map(|one| one.bin.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(first.init().bin, OWN_INIT);
    assert_eq!(first.bins[1].source, "path");

    // A root is made anew whenever cargo runs, so an old file shows that it did not.
    let second = workspace.build().unwrap();
    assert_eq!(first, second);
    assert_eq!(modified(&first.bins[1]), modified(&second.bins[1]));
    let [one, two] = [modified(&first.bins[0]), modified(&first.bins[1])];

    workspace.file("two/src/part.rs", "pub fn say() { println!(\"new!\") }\n");
    let third = workspace.build().unwrap();
    assert_eq!(modified(&third.bins[0]), one);
    assert_ne!(modified(&third.bins[1]), two);
    assert_ne!(third.bins[1].sha256, first.bins[1].sha256);
    let said = Command::new(&third.bins[1].path).output().unwrap();
    assert_eq!(said.stdout, b"new!\n");

    // A damaged binary is made again.
    fs::write(&third.bins[0].path, "damaged").unwrap();
    assert_eq!(workspace.build().unwrap().bins[0].sha256, first.bins[0].sha256);
}

#[test]
fn same_sources_in_another_directory_give_the_same_bytes() {
    let build = |below: &str| {
        let mut workspace = Workspace::below(below);
        workspace.file("library/Cargo.toml", &format!("{MANIFEST}\"library\"\n"));
        workspace.file("library/src/lib.rs", "pub fn f(n: usize) { assert!(n < 9, \"{n}\") }\n");
        workspace.file(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"krazy-init\", \"app\", \"library\"]\n\
                       [profile.release]\ndebug = true\n",
        );
        workspace.package("app", "include!(concat!(env!(\"OUT_DIR\"), \"/main.rs\"));\n");
        workspace.file("app/build.rs", "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
                       let out = std::path::PathBuf::from(std::env::var_os(\"OUT_DIR\").unwrap());\n    \
                       std::fs::write(out.join(\"main.rs\"), \"fn main() { library::f(std::env::args().count()); \
                       print!(\\\"{}\\\", file!()) }\").unwrap();\n}\n");
        let manifest = workspace.root().join("app/Cargo.toml");
        let text = format!(
            "{}[dependencies]\nlibrary.path = \"../library\"\n",
            fs::read_to_string(&manifest).unwrap()
        );
        fs::write(manifest, text).unwrap();
        let path = workspace.root().join("app");
        workspace.appliance.installs.push(install("app", Source::Path { path }));
        let built = workspace.build().unwrap();
        let said = Command::new(&built.bins[0].path).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(said.starts_with("/target/"), "a directory of this machine is in the binary: {said}");
        (built.bins[0].sha256.clone(), built.first_stage.sha256)
    };
    assert_eq!(build("a"), build("another/deeper directory"));
}

#[test]
fn library_is_no_program() {
    let mut workspace = Workspace::new();
    workspace.add("library", "");
    fs::rename(workspace.root().join("library/src/main.rs"), workspace.root().join("library/src/lib.rs"))
        .unwrap();
    let (message, help, exit) = workspace.error();
    let directory = workspace.root().join("library");
    assert_eq!(
        message,
        format!("the crate in {} has no binary to install: it is a library", directory.display())
    );
    assert!(help.starts_with("an appliance holds programs: "), "{help}");
    assert_eq!(exit, Exit::Build);
}

#[test]
fn unknown_profile_is_named() {
    let mut workspace = Workspace::new();
    workspace.add("app", "fn main() {}\n");
    workspace.appliance.installs[0].profile = Some("fast".to_owned());
    let (message, help, exit) = workspace.error();
    let app = workspace.root().join("app");
    assert_eq!(message, format!("the crate in {} has no cargo profile `fast`", app.display()));
    assert!(help.starts_with("look for a typing error in `profile`"), "{help}");
    assert_eq!(exit, Exit::Build);
}

#[test]
fn two_crates_with_one_name_for_their_binaries_are_named() {
    let mut workspace = Workspace::new();
    workspace.add("one", "fn main() {}\n");
    workspace.add("two", "fn main() {}\n");
    let manifest = workspace.root().join("two/Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap() + "[[bin]]\nname = \"one\"\npath = \"src/main.rs\"\n";
    fs::write(manifest, text).unwrap();
    let (message, _, exit) = workspace.error();
    assert_eq!(message, "two binaries are called `one`: one is of `one` v0.1.0, one of `two` v0.1.0");
    assert_eq!(exit, Exit::Build);
}

#[test]
fn dynamically_linked_result_is_refused() {
    let mut workspace = Workspace::new();
    workspace.add("app", "fn main() {}\n");
    let linker =
        workspace.file("linker", "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\ncp /bin/sh \"$2\"\n");
    let chmod = Command::new("chmod").arg("+x").arg(&linker).status().unwrap();
    assert!(chmod.success());
    let triple = workspace.toolchain().unwrap().triple;
    let config = format!("[target.{triple}]\nlinker = '{}'\n", linker.display());
    workspace.file(".cargo/config.toml", &config);
    let (message, help, exit) = workspace.error();
    assert!(
        message.starts_with("the binary `app` of `app` is dynamically linked: it asks for the loader /lib"),
        "{message}"
    );
    assert!(help.contains("a `linker` in RUSTFLAGS and cargo's configuration"), "{help}");
    assert_eq!(exit, Exit::Build);
}

#[test]
fn unknown_crate_and_an_empty_cache_are_told_apart_by_the_next_step() {
    let mut workspace = Workspace::new();
    let source = Source::Registry { package: "no-such".into(), version: None, registry: None };
    workspace.appliance.installs.push(install("no-such", source));
    let (message, help, exit) = workspace.error();
    assert_eq!(message, "the crate `no-such` has not been downloaded yet");
    assert_eq!((help.as_str(), exit), (crate::vendored::HELP, Exit::Fetch));

    workspace.appliance.locked = true;
    let (message, help, exit) = workspace.error();
    let lock = workspace.root().join("Krazy.lock");
    assert_eq!(message, format!("the crate `no-such` is not in {}, and --locked was given", lock.display()));
    assert_eq!((help.as_str(), exit), ("run once without `--locked`", Exit::Config));
}

#[test]
fn offline_install_uses_downloaded_crates() {
    let mut workspace = Workspace::new();
    workspace.appliance.offline = false;
    workspace.package("repository", "fn main() {}\n");
    let repository = workspace.root().join("repository");
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "one"]] {
        git(&repository, args);
    }
    let url = format!("file://{}", repository.display());
    let source =
        Source::Git { url: url.clone(), package: "repository".into(), reference: GitReference::Head };
    workspace.appliance.installs.push(install("repository", source));
    let first = workspace.build().unwrap();
    // Nothing pinned, nothing installed, and the repository is out of reach.
    let hidden = workspace.root().join("hidden");
    fs::rename(&repository, &hidden).unwrap();
    fs::remove_file(workspace.root().join("Krazy.lock")).unwrap();
    fs::remove_dir_all(workspace.appliance.target_directory.join("krazy/install")).unwrap();
    assert_eq!(workspace.build().unwrap(), first);

    fs::remove_dir_all(workspace.directory.path().join("cargo-home/git")).unwrap();
    fs::remove_dir_all(workspace.appliance.target_directory.join("krazy/install")).unwrap();
    let (message, help, exit) = workspace.error();
    assert_eq!(message, format!("failed to download the crate `repository` of {url}"));
    assert!(help.starts_with("check the network and the `git` URL"), "{help}");
    assert_eq!(exit, Exit::Fetch);
}

#[test]
fn lock_file_is_made_and_brought_up_to_date_unless_it_must_not_change() {
    let mut workspace = Workspace::new();
    workspace.appliance.locked = true;
    workspace.add("app", "fn main() {}\n");
    let (message, help, _) = workspace.error();
    let app = workspace.root().join("app");
    assert_eq!(message, format!("the crate in {} has no Cargo.lock, and --locked was given", app.display()));
    assert_eq!(help, "run once without `--locked`");

    workspace.appliance.locked = false;
    workspace.build().unwrap();
    assert!(app.join("Cargo.lock").is_file());

    workspace.file("library/Cargo.toml", &format!("{MANIFEST}\"library\"\n"));
    workspace.file("library/src/lib.rs", "pub fn f() {}\n");
    workspace.file("app/src/main.rs", "fn main() { library::f() }\n");
    let manifest = fs::read_to_string(app.join("Cargo.toml")).unwrap();
    let manifest =
        manifest.replace("[workspace]", "[dependencies]\nlibrary.path = \"../library\"\n[workspace]");
    let library = workspace.root().join("Cargo.toml");
    let members =
        fs::read_to_string(&library).unwrap().replace("\"krazy-init\"", "\"krazy-init\", \"library\"");
    fs::write(library, members).unwrap();
    fs::write(app.join("Cargo.toml"), manifest).unwrap();
    workspace.appliance.locked = true;
    let (message, _, exit) = workspace.error();
    assert_eq!(
        message,
        format!("the Cargo.lock of the crate in {} does not fit its Cargo.toml", app.display())
    );
    assert_eq!(exit, Exit::Build);
    workspace.appliance.locked = false;
    workspace.build().unwrap();
    assert!(fs::read_to_string(app.join("Cargo.lock")).unwrap().contains("name = \"library\""));
}

#[test]
fn instructions_of_flags_are_those_beyond_the_targets() {
    let workspace = Workspace::new();
    let instructions = |flags: &str| {
        workspace.file(".cargo/config.toml", &format!("[build]\nrustflags = [{flags}]\n"));
        let toolchain = workspace.toolchain().unwrap();
        toolchain.instructions(&toolchain.codegen(&[], false).unwrap())
    };
    assert_eq!(instructions("").unwrap(), [""; 0]);
    assert_eq!(instructions("\"-C\", \"target-cpu=x86-64\"").unwrap(), [""; 0]);
    let level = instructions("\"-Ctarget-cpu=x86-64-v3\"").unwrap();
    assert!(["avx2", "bmi2", "fma"].iter().all(|name| level.iter().any(|found| found == name)), "{level:?}");
    assert!(!level.iter().any(|name| ["sse2", "avx512f", "crt-static"].contains(&&name[..])), "{level:?}");
    assert!(instructions("\"-Ctarget-feature=+popcnt\"").unwrap().contains(&"popcnt".to_owned()));
}

#[test]
fn users_flags_reach_the_users_programs_only() {
    let mut workspace = Workspace::new();
    workspace.file(
        ".cargo/config.toml",
        "[build]\nrustflags = [\"--cfg=theirs\"]\nrustc-wrapper = \"/nonexistent\"\n",
    );
    workspace.add("a", "#[cfg(not(theirs))]\ncompile_error!(\"no flag\");\nfn main() {}\n");
    let (error, ..) = workspace.error();
    assert!(error.starts_with("failed to install"), "{error}");
    workspace.file(".cargo/config.toml", "[build]\nrustflags = [\"--cfg=theirs\"]\n");
    workspace.package("krazy-init", "#[cfg(theirs)]\ncompile_error!(\"a flag\");\nfn main() {}\n");
    workspace.appliance.first_stage.ours = true;
    workspace.build().unwrap();
    // A wrapper of compilers that is not there stops what is built with it.
    workspace.appliance.installs.clear();
    workspace.file(".cargo/config.toml", "[build]\nrustc-wrapper = \"/nonexistent\"\n");
    workspace.package("krazy-init", "fn main() { println!(\"changed\"); }\n");
    workspace.build().unwrap();
}
