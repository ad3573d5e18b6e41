//! Crates of git repositories.

use super::*;

#[test]
fn git_branch_is_held_at_its_commit() {
    let mut workspace = Workspace::new();
    workspace.appliance.offline = false;
    workspace.package("repository/ticker", "fn main() { print!(\"{}\", file!()) }\n");
    let repository = workspace.root().join("repository");
    git(&repository, &["init", "-q"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-q", "-m", "one"]);
    let commit = git(&repository, &["rev-parse", "HEAD"]);
    let branch = git(&repository, &["rev-parse", "--abbrev-ref", "HEAD"]);
    let url = format!("file://{}", repository.display());
    let source =
        |package: &str, reference| Source::Git { url: url.clone(), package: package.into(), reference };
    let held = source("ticker", GitReference::Branch(branch));
    workspace.appliance.installs.push(install("ticker", held.clone()));

    let first = workspace.build().unwrap();
    assert_eq!(first.bins[0].source, format!("git+{url}#{commit}"));
    let lock = workspace.root().join("Krazy.lock");
    assert_eq!(LockFile::load(workspace.root()).unwrap().pin(&held), Some(commit.as_str()));

    workspace.package("repository/ticker", "fn main() { print!(\"newer\") }\n");
    git(&repository, &["commit", "-q", "-a", "-m", "two"]);
    assert_eq!(workspace.build().unwrap(), first);
    fs::remove_dir_all(workspace.appliance.target_directory.join("krazy/install")).unwrap();
    let held = workspace.build().unwrap();
    assert_eq!(held.bins[0].sha256, first.bins[0].sha256);

    fs::remove_file(lock).unwrap();
    let newer = workspace.build().unwrap();
    assert_eq!(Command::new(&newer.bins[0].path).output().unwrap().stdout, b"newer");

    workspace.appliance.installs[0].source = source("ticker", GitReference::Branch("nope".into()));
    assert_eq!(workspace.error().0, format!("the crate `ticker` of {url} has no branch `nope`"));
    workspace.appliance.installs[0].source = source("clock", GitReference::Head);
    let (message, help, exit) = workspace.error();
    assert_eq!(message, format!("the crate `clock` of {url} does not exist"));
    assert_eq!((help.as_str(), exit), ("name the crate: `git = \"URL%CRATE\"`", Exit::Build));
}

#[test]
fn vendored_repository_replaces_the_network_and_cargos_home() {
    let mut workspace = Workspace::new();
    let repository = workspace.root().join("clock");
    workspace.package("clock/member", "fn main() { println!(\"tick\") }\n");
    workspace.file("clock/Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"member\"]\n");
    git(&repository, &["init", "-q"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-q", "-m", "one"]);
    let commit = git(&repository, &["rev-parse", "HEAD"]);
    let url = format!("file://{}", repository.display());
    let source =
        Source::Git { url: url.clone(), package: "member".into(), reference: GitReference::default() };
    workspace.appliance.installs.push(install("member", source));
    let shell = Shell::new(Verbosity::Quiet, MessageFormat::Human);
    let vendored = workspace.root().join("vendor");
    let config = vendor(&workspace.appliance, &workspace.toolchain().unwrap(), &vendored, shell).unwrap();
    assert!(fs::read_to_string(workspace.root().join("Krazy.lock")).unwrap().contains(&commit));

    let home = workspace.directory.path().join("cargo-home");
    fs::remove_dir_all(&home).unwrap();
    fs::remove_dir_all(&repository).unwrap();
    let (message, help, _) = workspace.error();
    assert_eq!(message, format!("the crate `member` of {url} needs something that is not downloaded yet"));
    assert_eq!(help, crate::vendored::HELP);
    workspace.file(".cargo/config.toml", &config.to_string());
    let installed = workspace.build().unwrap();
    assert_eq!(installed.bins[0].source, format!("git+{url}#{commit}"));
    assert_eq!(Command::new(&installed.bins[0].path).output().unwrap().stdout, b"tick\n");
}
