//! The program as people see it: help, plan, messages and exit codes.

#![allow(clippy::unwrap_used, reason = "all of this file is a test; clippy exempts only the test functions")]

mod help;
mod kernel;
#[path = "../server/mod.rs"]
mod server;

use std::fs;

use snapbox::cmd::{Command, cargo_bin};
use snapbox::{Redactions, str};
use tempfile::TempDir;

const MANIFEST: &str = r#"[package]
name = "weather"
version = "1.2.3"
edition = "2024"

[package.metadata.krazy]
size = "2 GiB"
cmdline = "loglevel=3"

[package.metadata.krazy.install]
dufs = "0.43"
ntp = { git = "https://host/ntp.git%ntp-daemon", tag = "v1" }

[package.metadata.krazy.service.weather]
args = ["--listen", "0.0.0.0:80"]
env = { RUST_LOG = "info" }
after = ["network", "ntp-daemon"]
restart = "on-failure"
required = false

[package.metadata.krazy.files]
"/etc/weather.toml" = "weather.toml"
"#;

/// A package with this Cargo.toml.
fn package(manifest: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("src")).unwrap();
    fs::write(directory.path().join("src/main.rs"), "fn main() {}").unwrap();
    fs::write(directory.path().join("weather.toml"), "").unwrap();
    fs::write(directory.path().join("Cargo.toml"), manifest).unwrap();
    directory
}

/// `cargo krazy ARGS` in `directory`, as cargo calls it; `[DIR]` stands for the directory in what is compared.
fn krazy(directory: &TempDir, args: &[&str]) -> Command {
    let mut redactions = Redactions::new();
    redactions.insert("[DIR]", directory.path().to_owned()).unwrap();
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    redactions.insert("[CHECKOUT]", checkout.to_owned()).unwrap();
    Command::new(cargo_bin!("cargo-krazy"))
        .with_assert(snapbox::Assert::new().redact_with(redactions).action_env("SNAPSHOTS"))
        .current_dir(directory.path())
        .arg("krazy")
        .args(args)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_TERM_COLOR")
        .env("COLUMNS", "100")
}

#[test]
fn a_plan_for_people() {
    krazy(&package(MANIFEST), &["image", "--dry-run"])
        .assert()
        .success()
        .stdout_eq(str![[r#"
Appliance weather v1.2.3 for x86_64
  hostname     weather
  output       [DIR]/target/krazy/weather-x86_64.img
  kernel       linux-image-amd64 from Debian trixie
  parameters   console=tty0 console=ttyS0,115200 panic=10 quiet loglevel=3
  compression  zstd 15
  /bin/init    krazy-init
  /boot        read-only

Disk of 2 GiB
  1 boot    fat32       256 MiB at 1 MiB
  2 root A  squashfs    256 MiB at 257 MiB
  3 root B  squashfs    256 MiB at 513 MiB
  4 data    ext4        1.2 GiB at 769 MiB

Installs
  weather
    cargo install --path [DIR] --locked --target x86_64-unknown-linux-musl
  dufs
    cargo install --version ^0.43 --locked dufs --target x86_64-unknown-linux-musl
  ntp
    cargo install --git https://host/ntp.git --tag v1 --locked ntp-daemon --target x86_64-unknown-linux-musl
  krazy-admind
    cargo install [..]--bin krazy-admind --locked[..] --target x86_64-unknown-linux-musl
  krazy-init (first stage and init)
    cargo install --path [CHECKOUT]/krazy-init --bin krazy-init --locked --target x86_64-unknown-linux-musl

Services with settings (all others run with the defaults)
  krazy-admind; user root
  weather --listen 0.0.0.0:80; env RUST_LOG; after network ntp-daemon; restarted on failure; not required

Files
  /etc/weather.toml from [DIR]/weather.toml

"#]])
        .stderr_eq("");
}

#[test]
fn a_plan_for_programs() {
    let args = ["image", "--dry-run", "--message-format", "json", "--size", "4GiB", "-o", "w.img"];
    let output = krazy(&package(MANIFEST), &args).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "one object, one line");
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plan["reason"], "plan");
    assert_eq!(plan["bytes"], 4_u64 << 30);
    assert_eq!(plan["output"], "w.img");
    assert_eq!(plan["partitions"][3]["file_system"], "ext4");
    assert_eq!(plan["partitions"][3]["start"].as_u64().unwrap() % (1 << 20), 0);
    assert_eq!(plan["installs"][1]["name"], "dufs");
    assert_eq!(plan["services"]["weather"]["restart"], "on-failure");
    assert_eq!(plan["kernel"]["debian"]["package"], "linux-image-amd64");
}

#[test]
fn no_metadata() {
    let directory = package("[package]\nname = \"weather\"\nversion = \"1.2.3\"\nedition = \"2024\"\n");
    krazy(&directory, &["image", "--dry-run"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: Cargo.toml has no [package.metadata.krazy], so there is no appliance to make
   help: add this to it:

[package.metadata.krazy]
hostname = "weather"

"#]]);
}

#[test]
fn no_crate_and_no_image() {
    let directory = tempfile::tempdir().unwrap();
    krazy(&directory, &["image"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: could not find `Cargo.toml` in `[DIR]` or any parent directory
   help: go to the directory of a crate, or name one with `--manifest-path`

"#]]);
    krazy(&directory, &["inspect", "a.img"]).assert().code(7).stdout_eq("").stderr_eq(str![[r#"
error: failed to open `a.img`: No such file or directory (os error 2)
   help: `cargo krazy image` makes an image

"#]]);
}

#[test]
fn an_unknown_board() {
    let args = ["image", "--dry-run", "--target", "pdp-11"];
    krazy(&package(MANIFEST), &args).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
error: invalid value 'pdp-11' for '--target <BOARD>'
  [possible values: x86_64[..]]

For more information, try '--help'.

"#]]);
}

#[test]
fn an_unknown_key() {
    let directory = package(&MANIFEST.replace("restart", "restrat"));
    krazy(&directory, &["image", "--dry-run"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: Cargo.toml:18: unknown key `restrat` in [package.metadata.krazy.service.weather]
   help: did you mean `restart`?

"#]]);
}

#[test]
fn a_wrong_type() {
    let directory = package(&MANIFEST.replace("\"loglevel=3\"", "3"));
    krazy(&directory, &["image", "--dry-run"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: Cargo.toml:8: `cmdline` in [package.metadata.krazy] must be a string or a list of strings, not an integer

"#]]);
}

#[test]
fn a_disk_too_small() {
    let args = ["image", "--dry-run", "--size", "700MiB"];
    krazy(&package(MANIFEST), &args).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: a disk of 700 MiB is too small: /boot, two roots and a /data of 32 MiB need 801 MiB
   help: `size`, `boot-size` and `root-size` in [package.metadata.krazy], or `--size`, set the sizes

"#]]);
}

#[test]
fn quiet_and_verbose_exclude_each_other() {
    let args = ["image", "--dry-run", "-q", "-v"];
    krazy(&package(MANIFEST), &args).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
error: the argument '--quiet' cannot be used with '--verbose'

Usage: cargo krazy image[..] --quiet

For more information, try '--help'.

"#]]);
}

#[test]
fn colour_is_a_choice() {
    let directory = package("[package]\nname = \"weather\"\nversion = \"1.2.3\"\nedition = \"2024\"\n");
    let escapes = |choice: &str| {
        let output = krazy(&directory, &["--color", choice, "image", "--dry-run"]).output().unwrap();
        output.stderr.contains(&0x1b)
    };
    assert!(escapes("always"));
    assert!(!escapes("never"));
    assert!(!escapes("auto"), "standard error is no terminal here");
    let cargos =
        krazy(&directory, &["image", "--dry-run"]).env("CARGO_TERM_COLOR", "always").output().unwrap();
    assert!(cargos.stderr.contains(&0x1b));
}

#[test]
fn a_bundle_goes_where_a_file_can_be() {
    let directory = package(MANIFEST);
    let bundle = |output: &str| krazy(&directory, &["bundle", "-o", output]);
    bundle("nowhere/w.krazy").assert().code(7).stdout_eq("").stderr_eq(str![[r#"
error: the directory of `nowhere/w.krazy` does not exist
   help: make it first: `mkdir -p 'nowhere'`

"#]]);
    bundle("src").assert().code(7).stdout_eq("").stderr_eq(str![[r#"
error: `src` is a directory
   help: give the name of a file

"#]]);
    bundle("/dev/null").assert().code(7).stdout_eq("").stderr_eq(str![[r#"
error: `/dev/null` is neither a file nor a block device

"#]]);
    assert!(!directory.path().join("nowhere").exists());
    assert!(!directory.path().join("Cargo.lock").exists(), "cargo has built");
}
