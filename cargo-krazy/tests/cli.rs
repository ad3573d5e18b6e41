//! The program as people see it: help, plan, messages and exit codes.

#![allow(clippy::unwrap_used, reason = "all of this file is a test; clippy exempts only the test functions")]

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
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/main.rs"), "fn main() {}").unwrap();
    fs::write(folder.path().join("weather.toml"), "").unwrap();
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    folder
}

/// `cargo krazy ARGS` in `folder`, as cargo calls it; `[DIR]` stands for the folder in what is compared.
fn krazy(folder: &TempDir, args: &[&str]) -> Command {
    let mut redactions = Redactions::new();
    redactions.insert("[DIR]", folder.path().to_owned()).unwrap();
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    redactions.insert("[CHECKOUT]", checkout.to_owned()).unwrap();
    Command::new(cargo_bin!("cargo-krazy"))
        .with_assert(snapbox::Assert::new().redact_with(redactions).action_env("SNAPSHOTS"))
        .current_dir(folder.path())
        .arg("krazy")
        .args(args)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_TERM_COLOR")
        .env("COLUMNS", "100")
}

#[test]
fn help() {
    let folder = package(MANIFEST);
    krazy(&folder, &["--help"]).assert().success().stdout_eq(str![[r#"
Turns Rust programs into bootable appliances with safe remote updates.

Add a `[package.metadata.krazy]` table to the Cargo.toml of a crate with a binary, and `cargo krazy
image` makes a disk that boots into it.

Usage: cargo krazy [OPTIONS] <COMMAND>

Commands:
...
  image [..] Makes the disk image of an appliance
...

Options:
  -h, --help
          Print help (see a summary with '-h')

  -V, --version
          Print version

Output:
  -q, --quiet
          Print warnings and errors only

  -v, --verbose
          Print the commands that are run, too

      --color <WHEN>
          When to use colours [default: CARGO_TERM_COLOR, else auto]
          
          [possible values: auto, always, never]

      --message-format <FORMAT>
          What standard output carries

          Possible values:
          - human: Text for people
          - json:  One JSON object a line on standard output
          
          [default: human]

Exit codes:
    1  an error without a code of its own
    2  wrong arguments
    3  [package.metadata.krazy] is missing or wrong
    4  a crate or a kernel did not build, or a binary cannot run on the board
    5  the toolchain, QEMU or another tool is missing
    6  the kernel or another download failed, or did not verify
    7  the image could not be made or written
    8  `run-qemu --expect` did not see its text, or `--timeout` ended the machine
    9  a device refused, or was not reached
  130  interrupted

Metadata, in the Cargo.toml of the package; [workspace.metadata.krazy] gives defaults:
  [package.metadata.krazy]
    name = STRING
        the appliance's name [default: the package's]
    hostname = STRING
        host name of the device [default: the name]
    init = BINARY or TABLE
        what becomes /bin/init; a table is like one of `install` [default: krazy-init]
    admind = BOOL
        install krazy-admind, the API that updates need [default: true]
    install = TABLE
        further crates whose binaries go to /bin: NAME = VERSION or a table
    bins = [STRING]
        only these binaries of the own package [default: all]
    features = [STRING]
        features of the own package
    all-features = BOOL
        all features of the own package [default: false]
    no-default-features = BOOL
        not the own package's `default` feature [default: false]
    profile = STRING
        cargo profile of the own package [default: release]
    service = TABLE
        NAME: how the /bin entry NAME is run
    files = TABLE
        "/path/on/the/device" = "path" of a file or folder, relative to the Cargo.toml
    size = SIZE
        the disk image; /data is what the other partitions leave [default: 1 GiB]
    boot-size = SIZE
        the /boot partition [default: 256 MiB]
    root-size = SIZE
        each of the two root partitions [default: 256 MiB]
    compression-level = 1..22
        zstd level of the root [default: 15]
    kernel = "debian" or TABLE
        where the kernel comes from [default: debian]
    cmdline = STRING or [STRING]
        kernel parameters after the board's
    modules = [STRING]
        kernel modules to carry and to load at boot, besides those of the board
    network = TABLE
        fixed addresses, name and time servers of every device [default: DHCP]
    boot-writable = BOOL
        mount /boot writable from the start [default: false]
    serial-console = BOOL
        the kernel's console is on the serial line, too [default: true]
    config-txt = [STRING]
        further lines for a Raspberry Pi's config.txt, such as `gpu_mem=16`
    dtoverlays = [STRING]
        overlays for a Raspberry Pi: NAME of the kernel's or the firmware's, or the path of a .dtbo;
        `,parameter=value` may follow
    dtbs = [STRING]
        further device trees for a Raspberry Pi: the kernel's, or paths of .dtb files
    board = TABLE
        NAME: any of these keys, for the board NAME only
  [package.metadata.krazy.install.NAME]
    version = REQUIREMENT
        which version of a registry crate, as in [dependencies] [default: the newest]
    registry = STRING
        a registry's name in cargo's configuration [default: crates.io]
    path = PATH
        a package's folder, relative to the Cargo.toml
    git = URL[%CRATE]
        a repository; without %CRATE its name is the crate's
    branch = STRING
        the tip of this branch of `git`
    tag = STRING
        this tag of `git`
    rev = STRING
        this commit of `git`
    package = CRATE
        the crate, if the entry has another name
    bins = [STRING]
        only these binaries [default: all]
    features = [STRING]
        features to activate
    all-features = BOOL
        activate all features [default: false]
    default-features = BOOL
        false: not the `default` feature [default: true]
    no-default-features = BOOL
        the same the other way round [default: false]
    profile = STRING
        cargo profile [default: release]
    locked = BOOL
        use the Cargo.lock that comes with the crate [default: true]
  [package.metadata.krazy.service.NAME]
    args = [STRING]
        arguments
    env = TABLE
        NAME = STRING: environment variables
    workdir = PATH
        working directory [default: the service's HOME]
    after = [STRING]
        services, or `network`, `clock`, `data`, that must be there before it starts
    restart = STRING
        `always`, `on-failure` or `never` [default: always]
    user = STRING
        the account; `root` is possible [default: an own one named like the service]
    stop-signal = SIGNAL
        asks it to end [default: TERM]
    stop-timeout = SECONDS
        from the stop signal to SIGKILL [default: 10]
    required = BOOL
        an update is confirmed only if it is stable [default: true]
    ready = STRING
        counts as started: `started`, `notify` (sd_notify) or `tcp:PORT` [default: started]
    sandbox = BOOL
        may write to its HOME, /tmp and devices only [default: true]
    capabilities = [STRING]
        rights of root it keeps, such as `net-admin`
    groups = [STRING]
        accounts whose logs it may read; `krazy`: may talk to init, as root does
    devices = [STRING]
        device nodes it may read and write, such as "/dev/ttyUSB*"
    persistent-log = BOOL
        keep its output on /data too [default: false]
    memory-limit = SIZE
        the most memory [default: all]
    task-limit = NUMBER
        the most processes and threads [default: half of what the machine has, 4096]
    file-limit = NUMBER
        the most open files [default: 1024, which it may raise]
    cpu-weight = 1..10000
        its share of a busy CPU [default: 100]
  [package.metadata.krazy.network]
    interfaces = TABLE
        NAME = { address = "10.0.0.5/24", gateway = "10.0.0.1" }; others have DHCP
    dns = [ADDRESS]
        name servers, before those of DHCP
    ntp = [HOST]
        time servers, instead of all others
  [package.metadata.krazy.network.interfaces.NAME]
    address = ADDRESS/PREFIX
        IPv4 address with prefix length
    gateway = ADDRESS
        the default route [default: none]
  [package.metadata.krazy.kernel]
    debian = PACKAGE
        a kernel's meta package in the Debian archive [default: the board's]
    suite = STRING
        code name of the Debian release [default: trixie]
    mirror = URL
        the Debian mirror [default: the host's own, else deb.debian.org]
    url = URL
        a kernel bundle: a .deb or a .tar.zst; needs `sha256`
    sha256 = HEX
        SHA-256 of the file behind `url`
    path = PATH
        a kernel bundle on this machine: a folder, a .deb or a .tar.zst

"#]]);
    krazy(&folder, &["image", "-h"]).assert().success().stdout_eq(str![[r#"
Makes the disk image of an appliance

Usage: cargo krazy image [OPTIONS][..]

Options:
...
      --dry-run [..]Print the plan and do nothing
...

Package selection:
  -p, --package <SPEC>        The package with the metadata [default: that of the working directory,
                              or the only one with a table]
  -m, --manifest-path <PATH>  Path to Cargo.toml

Feature selection:
      --all-features         Activate all available features
      --no-default-features  Do not activate the `default` feature
  -F, --features <FEATURES>  Space-separated list of features to activate

Build:
      --target <BOARD>  The board the appliance is for [default: x86_64] [possible values: x86_64,
                        aarch64-rpi]
      --profile <NAME>  Cargo profile of the own package [default: the metadata's, else release]
      --size <SIZE>     Size of the disk, such as `4GiB` [default: the metadata's, else 1 GiB]
      --locked          Fail if the workspace's Cargo.lock is missing or out of date
      --offline         Do not use the network

Output:
  -q, --quiet                    Print warnings and errors only
  -v, --verbose                  Print the commands that are run, too
      --color <WHEN>             When to use colours [default: CARGO_TERM_COLOR, else auto]
                                 [possible values: auto, always, never]
      --message-format <FORMAT>  What standard output carries [default: human] [possible values:
                                 human, json]

"#]]);
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
    let folder = package("[package]\nname = \"weather\"\nversion = \"1.2.3\"\nedition = \"2024\"\n");
    krazy(&folder, &["image", "--dry-run"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: Cargo.toml has no [package.metadata.krazy], so there is no appliance to make
   help: add this to it:

[package.metadata.krazy]
hostname = "weather"

"#]]);
}

#[test]
fn no_crate_and_no_image() {
    let folder = tempfile::tempdir().unwrap();
    krazy(&folder, &["image"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: could not find `Cargo.toml` in `[DIR]` or any parent directory
   help: go to the folder of a crate, or name one with `--manifest-path`

"#]]);
    krazy(&folder, &["inspect", "a.img"]).assert().code(7).stdout_eq("").stderr_eq(str![[r#"
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
    let folder = package(&MANIFEST.replace("restart", "restrat"));
    krazy(&folder, &["image", "--dry-run"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: Cargo.toml:18: unknown key `restrat` in [package.metadata.krazy.service.weather]
   help: did you mean `restart`?

"#]]);
}

#[test]
fn a_wrong_type() {
    let folder = package(&MANIFEST.replace("\"loglevel=3\"", "3"));
    krazy(&folder, &["image", "--dry-run"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
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
    let folder = package("[package]\nname = \"weather\"\nversion = \"1.2.3\"\nedition = \"2024\"\n");
    let escapes = |choice: &str| {
        let output = krazy(&folder, &["--color", choice, "image", "--dry-run"]).output().unwrap();
        output.stderr.contains(&0x1b)
    };
    assert!(escapes("always"));
    assert!(!escapes("never"));
    assert!(!escapes("auto"), "standard error is no terminal here");
    let cargos = krazy(&folder, &["image", "--dry-run"]).env("CARGO_TERM_COLOR", "always").output().unwrap();
    assert!(cargos.stderr.contains(&0x1b));
}

#[test]
fn a_kernel_is_listed_fetched_and_cannot_be_updated_without_a_source() {
    let folder = package(&format!("{MANIFEST}\n[package.metadata.krazy.kernel]\npath = \"k\"\n"));
    fs::create_dir(folder.path().join("k")).unwrap();
    fs::write(folder.path().join("k/vmlinuz"), "").unwrap();
    let cache = folder.path().join("cache");
    let kernel = |args: &[&str]| krazy(&folder, args).env("KRAZY_CACHE_DIR", &cache);
    kernel(&["kernel", "list"]).assert().success().stderr_eq("").stdout_eq(str![[r#"
Locked in [DIR]/Krazy.lock
  nothing

Cached in [DIR]/cache/kernel
  nothing

"#]]);
    kernel(&["kernel", "list", "--message-format", "json"]).assert().success().stderr_eq("").stdout_eq("");
    kernel(&["kernel", "fetch"]).assert().code(6).stdout_eq("").stderr_eq(str![[r#"
   Unpacking path k
error: `path k` is not a Linux kernel image
...
"#]]);
    kernel(&["kernel", "update"]).assert().code(3).stdout_eq("").stderr_eq(str![[r#"
error: the kernel is [DIR]/k, which has no newer versions to look up
   help: replace what is there, and the next build takes it

"#]]);
    assert!(!folder.path().join("Krazy.lock").exists());
}

#[test]
fn a_kernel_of_debian_offline() {
    let folder = package(MANIFEST);
    let cache = folder.path().join("cache");
    let kernel = |args: &[&str]| krazy(&folder, args).env("KRAZY_CACHE_DIR", &cache);
    kernel(&["kernel", "update", "--offline"]).assert().code(2).stdout_eq("").stderr_eq(str![[r#"
error: the newest kernel is known only to its source, and --offline forbids to ask it
   help: run it without --offline

"#]]);
    kernel(&["kernel", "fetch", "--offline"]).assert().code(6).stdout_eq("").stderr_eq(str![[r#"
error: no kernel is locked for board `x86_64` (linux-image-amd64 of Debian's `trixie`), and --offline forbids to look for one
   help: run once without --offline

"#]]);
    let hash = "ab".repeat(32);
    let lock = format!(
        "version = 1\n\n[[kernel]]\nboard = \"x86_64\"\npackage = \"linux-image-amd64\"\nsuite = \"trixie\"\n\
         name = \"linux-image-6.1-amd64\"\nversion = \"6.1-1\"\nrelease = \"6.1-amd64\"\npath = \"pool/k.deb\"\n\
         size = 1024\nsha256 = \"{hash}\"\n"
    );
    fs::write(folder.path().join("Krazy.lock"), lock).unwrap();
    let output = kernel(&["kernel", "list", "--message-format", "json"]).output().unwrap();
    let locked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(locked["reason"], "kernel-locked");
    assert_eq!((&locked["board"], &locked["version"]), (&"x86_64".into(), &"6.1-1".into()));
    assert_eq!((&locked["size"], &locked["cached"]), (&1024.into(), &false.into()));
}
