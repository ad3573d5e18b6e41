//! Every command, option and key stands in the help.

use snapbox::str;

use crate::{MANIFEST, krazy, package};

#[test]
fn help() {
    let directory = package(MANIFEST);
    krazy(&directory, &["--help"]).assert().success().stdout_eq(str![[r#"
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
    7  an image, a bundle or a file could not be made or written
    8  `run-qemu --expect` did not see its text, or `--timeout` ended the machine
    9  a device refused, or was not reached
  130  interrupted

Metadata, in the Cargo.toml of the package; [workspace.metadata.krazy] gives defaults:
  [package.metadata.krazy]
    name = STRING
        name of the appliance (default: that of the package)
    hostname = STRING
        host name of the device (default: the name)
    init = BINARY or TABLE
        program that becomes /bin/init; a table is like one of `install` (default: krazy-init)
    admind = BOOL or TABLE
        install krazy-admind, the API that updates need (default: true)
    install = TABLE
        further crates whose binaries go to /bin: NAME = VERSION or a table
    bins = [STRING]
        only these binaries of the own package; [] for none of it (default: all)
    features = [STRING]
        features of the own package
    all-features = BOOL
        all features of the own package (default: false)
    no-default-features = BOOL
        the own package without its `default` feature (default: false)
    profile = STRING
        cargo profile of the own package (default: release)
    service = TABLE
        settings of the services: NAME is an entry of /bin
    files = TABLE
        "/path/on/the/device" = "path" of a file or directory, relative to the Cargo.toml
    hosts = TABLE
        addresses of names: NAME = "10.0.0.5"
    timezone = ZONE
        the local time, such as "Europe/Berlin" (default: UTC)
    ca-certificates = BOOL
        Mozilla's certificate authorities in /etc/ssl, for TLS clients (default: true)
    size = SIZE
        the disk image; /data is what the other partitions leave (default: 1 GiB)
    boot-size = SIZE
        the /boot partition (default: 256 MiB)
    root-size = SIZE
        each of the two root partitions (default: 256 MiB)
    compression-level = 1..22
        zstd level of the root (default: 15)
    kernel = "debian" or TABLE
        source of the kernel (default: debian)
    cmdline = STRING or [STRING]
        kernel parameters after those of the board
    modules = [STRING]
        kernel modules to carry and to load at boot, besides those of the board
    network = TABLE
        fixed addresses, name and time servers of every device (default: DHCP)
    sysctl = TABLE
        kernel settings: "net.core.rmem_max" = 2500000
    boot-writable = BOOL
        mount /boot writable from the start (default: false)
    uefi = BOOL
        the disk of a PC starts from UEFI firmware, too, and not from a BIOS only (default: true, if
        the kernel has an EFI stub)
    serial-console = BOOL
        the console of the kernel is on the serial line, too (default: true)
    config-txt = [STRING]
        further lines for a Raspberry Pi's config.txt, such as `gpu_mem=16`
    dtoverlays = [STRING]
        overlays for a Raspberry Pi: NAME of one of the kernel or the firmware, or the path of a
        .dtbo; `,parameter=value` may follow
    dtbs = [STRING]
        further device trees for a Raspberry Pi: NAME of one of the kernel, or the path of a .dtb
    board = TABLE
        any of these keys, for the board NAME only
  [package.metadata.krazy.install.NAME]
    version = REQUIREMENT
        version of a registry crate, as in `[dependencies]` (default: the newest)
    registry = STRING
        name of a registry in cargo's configuration (default: crates.io)
    path = PATH
        directory of a package, relative to the Cargo.toml
    git = URL[%CRATE]
        a repository; without %CRATE its name is that of the crate
    branch = STRING
        the tip of this branch of `git`
    tag = STRING
        this tag of `git`
    rev = STRING
        this commit of `git`
    package = CRATE
        the crate, if the entry has another name
    bins = [STRING]
        only these binaries (default: all)
    features = [STRING]
        features to activate
    all-features = BOOL
        activate all features (default: false)
    default-features = BOOL
        false: without the `default` feature (default: true)
    no-default-features = BOOL
        the opposite of `default-features` (default: false)
    profile = STRING
        cargo profile (default: release)
    locked = BOOL
        use the Cargo.lock that comes with the crate (default: true)
  [package.metadata.krazy.service.NAME]
    args = [STRING]
        arguments
    env = TABLE
        environment variables: NAME = STRING
    workdir = PATH
        working directory (default: the HOME of the service)
    after = [STRING]
        services, or `network`, `clock`, `data`, that it starts after
    start = STRING
        `automatic`, or `manual`: only in /bin, for other programs and `service start` (default:
        automatic)
    restart = STRING
        `always`, `on-failure` or `never` (default: always; with `start = "manual"`: never)
    user = STRING
        the account; `root` is possible (default: its own, named like the service)
    stop-signal = SIGNAL
        the signal that asks it to end (default: TERM)
    stop-timeout = SECONDS
        time from the stop signal to SIGKILL; at most a day (default: 10)
    required = BOOL
        an update is confirmed only if it is stable (default: true; with `start = "manual"`: false)
    ready = STRING
        condition to count as started: `started`, `notify` (sd_notify), `tcp:PORT` or
        `http:PORT/PATH`: a 2xx or 3xx answer (default: started)
    watchdog = TIME
        restarted if it sends no `WATCHDOG=1` (sd_notify) for this time, such as "30s" (default: no
        watchdog)
    health = TABLE
        { command = ["/bin/NAME", "--health"] }: restarted if this fails repeatedly
    stable-after = TIME
        time it must be ready and healthy to be stable; at least `watchdog` (default: 10s)
    sandbox = BOOL or TABLE
        false: without restrictions of what it can see and do; a table lifts single ones (default:
        true)
    capabilities = [STRING]
        rights of root it keeps, such as `net-admin`
    groups = [STRING]
        accounts whose logs it may read; `krazy`: may talk to init, as root does
    devices = [STRING]
        device nodes it may read and write, such as "/dev/ttyUSB*"
    sysfs = [STRING]
        files below /sys it may write, such as "class/leds/*/brightness"
    ports = [PORT]
        ports that it alone may bind, and no others below 1024 (default: all but 67, 68, 123, and
        8443 of krazy-admind)
    persistent-log = BOOL
        keep its output on /data too (default: false)
    memory-limit = SIZE
        the most memory, or `none` for no limit (default: three quarters of the machine's)
    task-limit = NUMBER
        the most processes and threads (default: half of what the machine has, 4096)
    file-limit = NUMBER
        the most open files (default: 1024, which it may raise)
    cpu-weight = 1..10000
        its share of a busy CPU (default: 100)
  [package.metadata.krazy.service.NAME.health]
    command = [STRING]
        program and arguments; runs with the rights of the service
    every = TIME
        pause between two runs (default: 30s)
    timeout = TIME
        time that one run may take (default: 10s)
    failures = 1..100
        failures in a row after which the service is restarted (default: 3)
  [package.metadata.krazy.service.NAME.sandbox]
    writes = BOOL
        false: may write where permissions allow it, not only to its HOME, /run/NAME, /tmp and
        devices
    system-calls = BOOL
        false: may try system calls that administer the machine (mount, bpf, io_uring, ptrace, …)
    namespaces = BOOL
        false: may create namespaces, as browsers and containers do
    socket-families = BOOL
        false: may create sockets of every family (Bluetooth, CAN, vsock, …)
    private-tmp = BOOL
        false: shares /tmp and /dev/shm with other services
    private-devices = BOOL
        false: sees all devices in /dev; permissions still decide
    hidden-processes = BOOL
        false: sees the processes of other accounts in /proc, and the kernel's command line
    private-ipc = BOOL
        false: shares abstract sockets, System V shared memory and signals with others of its
        account
  [package.metadata.krazy.admind]
    tls12 = BOOL
        accept clients without TLS 1.3 (default: false)
    mdns = BOOL
        announce the device in the local network (default: true)
    signed-only = BOOL
        nothing but signed updates changes what the device starts (default: false)
    floor = VERSION
        the lowest version that devices take as an update from this build on (default: any)
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
        the default route (default: none)
  [package.metadata.krazy.kernel]
    debian = PACKAGE
        meta package of a kernel in the Debian archive (default: that of the board)
    suite = STRING
        code name of the Debian release (default: trixie)
    mirror = URL
        the Debian mirror (default: that of the host, else deb.debian.org)
    url = URL
        a kernel bundle: a .deb or a .tar.zst; needs `sha256`
    sha256 = HEX
        SHA-256 of the file behind `url`
    path = PATH
        a kernel bundle on this machine: a directory, a .deb or a .tar.zst

"#]]);
    krazy(&directory, &["image", "-h"]).assert().success().stdout_eq(str![[r#"
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
