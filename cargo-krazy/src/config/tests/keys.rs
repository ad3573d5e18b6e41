//! Every key: what it is read as, and what is said about wrong values.

use krazy_boot::disk::size::Bytes;

use super::*;
use crate::config::{GitReference, KernelSource, OWN_ADMIND, OWN_INIT, Source};

#[test]
fn an_empty_table_is_enough() {
    let project = Project::new("[package.metadata.krazy]");
    let appliance = project.load();
    assert_eq!((appliance.name.as_str(), appliance.version.as_str()), ("weather", "1.2.3"));
    assert_eq!((appliance.hostname.as_str(), appliance.init.as_str()), ("weather", OWN_INIT));
    assert_eq!(appliance.compression_level, 15);
    let names: Vec<_> = appliance.installs.iter().map(|install| install.name.as_str()).collect();
    assert_eq!(names, ["weather", OWN_ADMIND]);
    assert!(appliance.installs.iter().all(|install| install.locked));
    assert_eq!(appliance.first_stage.name, OWN_INIT);
    assert_eq!(appliance.first_stage.env["CARGO_PROFILE_RELEASE_PANIC"], "abort");
    let own = project.0.path().to_owned();
    assert_eq!(appliance.installs[0].source, Source::Path { path: own });
    let kernel =
        KernelSource::Debian { package: "linux-image-amd64".into(), suite: "trixie".into(), mirror: None };
    assert_eq!(appliance.kernel, kernel);
    assert_eq!(appliance.services[OWN_ADMIND].user.as_deref(), Some("root"));
}

#[test]
fn every_key_is_read() {
    let appliance = Project::new(
        r#"
[features]
led = []
[package.metadata.krazy]
name = "station"
hostname = "weather.example"
init = "weather"
admind = false
bins = ["weather"]
features = ["led"]
all-features = true
no-default-features = true
profile = "dev"
size = "2 GiB"
boot-size = "64MiB"
root-size = 134217728
compression-level = 3
kernel = { debian = "linux-image-cloud-amd64", suite = "bookworm", mirror = "http://deb.example/debian" }
cmdline = 'loglevel=3 dyndbg="file x.c +p"'
modules = ["i2c_dev"]
boot-writable = true
uefi = false
[package.metadata.krazy.files]
"/etc/weather.toml" = "config/weather.toml"
"/srv" = "www"
[package.metadata.krazy.install]
dufs = "0.43"
ticker = { path = "ticker", features = ["x", "y"], bins = ["tick"], locked = false }
ntp = { git = "https://host/ntp.git%ntp-daemon", tag = "v1", default-features = false }
"#,
    )
    .file("config/weather.toml", "")
    .file("www/index.html", "")
    .file("www/img/logo.svg", "")
    .file("ticker/Cargo.toml", "[package]\nname = \"ticker\"\n[workspace]\n")
    .load();
    assert_eq!((appliance.name.as_str(), appliance.hostname.as_str()), ("station", "weather.example"));
    assert_eq!(appliance.init, "weather");
    let sizes = (appliance.sizes.disk, appliance.sizes.boot, appliance.sizes.root);
    assert_eq!(sizes, (Bytes::gib(2), Bytes::mib(64), Bytes::mib(128)));
    assert_eq!(appliance.cmdline, ["loglevel=3", "dyndbg=\"file x.c +p\""]);
    assert_eq!(appliance.modules, ["i2c_dev"]);
    assert!(appliance.boot_writable);
    assert_eq!(appliance.uefi, Some(false));
    assert_eq!(appliance.compression_level, 3);
    assert_eq!(
        appliance.kernel.to_string(),
        "linux-image-cloud-amd64 from Debian bookworm at http://deb.example/debian"
    );
    let files: Vec<_> = appliance.files.keys().map(String::as_str).collect();
    assert_eq!(files, ["/etc/weather.toml", "/srv/img/logo.svg", "/srv/index.html"]);
    let arguments = |index: usize| {
        let arguments = crate::plan::install_arguments(&appliance.installs[index], "TRIPLE", false);
        let words: Vec<_> = arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        words.join(" ").strip_suffix(" --target TRIPLE").unwrap().to_owned()
    };
    let own = arguments(0);
    assert!(own.starts_with("--path /") && own.ends_with("--locked"), "{own}");
    let build = "--bin weather --features led --profile dev --all-features --no-default-features";
    assert!(own.contains(build), "{own}");
    assert_eq!(arguments(1), "--version ^0.43 --locked dufs");
    let git = "--git https://host/ntp.git --tag v1 --no-default-features --locked ntp-daemon";
    assert_eq!(arguments(2), git);
    assert!(arguments(3).ends_with("ticker --bin tick --features x,y"), "{}", arguments(3));
    assert_eq!(appliance.installs.len(), 4);
}

#[test]
fn an_unknown_key_is_told_with_file_line_table_and_suggestion() {
    assert_eq!(
        error("name = \"a\"\nhostnam = \"a\""),
        "DIR/Cargo.toml:7: unknown key `hostnam` in [package.metadata.krazy]\nhelp: did you mean `hostname`?"
    );
    let service = error("service.weather.arg = []");
    let expected =
        "unknown key `arg` in [package.metadata.krazy.service.weather]\nhelp: did you mean `args`?";
    assert_eq!(service, format!("DIR/Cargo.toml:6: {expected}"));
    let install = error("[package.metadata.krazy.install.dufs]\nversoin = \"1\"");
    assert!(
        install
            .starts_with("DIR/Cargo.toml:7: unknown key `versoin` in [package.metadata.krazy.install.dufs]")
    );
    assert!(error("kernel.debain = \"x\"").ends_with("did you mean `debian`?"));
    assert!(error("colour = 1").contains("help: the keys are `name`, "));
}

#[test]
fn the_settings_of_admind_are_its_arguments() {
    let arguments = |text: &str| load_text(text).services[OWN_ADMIND].args.clone();
    assert!(arguments("").is_empty() && arguments("admind = { tls12 = false, mdns = true }").is_empty());
    assert_eq!(arguments("admind = { tls12 = true, mdns = false }"), ["--tls-1.2", "--no-mdns"]);
    assert_eq!(arguments("admind = { signed-only = true }"), ["--signed-only"]);
    assert_eq!(arguments("admind = { floor = \"0.1.0-rc.1\" }"), ["--floor=0.1.0-rc.1"]);
    assert_eq!(
        error("admind = { floor = \"99.0.0\" }"),
        "DIR/Cargo.toml:6: `floor` in [package.metadata.krazy.admind] is 99.0.0, above the version 1.2.3 of this package\n\
         help: raise `version` in [package], or lower the floor"
    );
    assert!(error("admind = { floor = \"1.2\" }").contains("must be a version such as \"1.2.0\""));
    let own = "admind.mdns = false\nservice.krazy-admind.args = [\"--listen\", \"10.0.0.5:443\"]";
    assert_eq!(arguments(own), ["--no-mdns", "--listen", "10.0.0.5:443"]);
}

#[test]
fn wrong_types_and_values_are_told() {
    let krazy = "[package.metadata.krazy]";
    for (text, expected) in [
        ("hostname = 3", "`hostname` in [package.metadata.krazy] must be a string, not an integer"),
        (
            "modules = [\"a\", 1]",
            "`modules` in [package.metadata.krazy] must be a list of strings, not of numbers",
        ),
        ("modules = \"a\"", "`modules` in [package.metadata.krazy] must be a list of strings, not a string"),
        (
            "modules = [\"a/b.ko\"]",
            "`modules` in [package.metadata.krazy] has \"a/b.ko\" where it needs a kernel module's name",
        ),
        (
            "admind = \"no\"",
            "`admind` in [package.metadata.krazy] must be true or false or a table, not a string",
        ),
        (
            "admind.mdns = 0",
            "`mdns` in [package.metadata.krazy.admind] must be true or false, not an integer",
        ),
        ("admind.tls = true", "unknown key `tls` in [package.metadata.krazy.admind]"),
        ("install = [\"dufs\"]", "`install` in [package.metadata.krazy] must be a table, not a list"),
        (
            "install.dufs = 1",
            "`dufs` in [package.metadata.krazy.install] must be a version or a table, not an integer",
        ),
        (
            "install.dufs = \"new\"",
            "`dufs` in [package.metadata.krazy.install] must be a version requirement such as \"1.2\"",
        ),
        (
            "install.\"a b\" = \"1\"",
            "`a b` in [package.metadata.krazy.install] cannot be installed: \"a b\" is not a crate's name",
        ),
        ("init = 1", "`init` in [package.metadata.krazy] must be a binary's name or a table, not an integer"),
        (
            "init = {}",
            "the table [package.metadata.krazy.init] names no crate; it needs one of `path`, `git`, `package`",
        ),
        ("name = \"a/b\"", "`name` in [package.metadata.krazy] must be a name of at most 63 letters"),
        (
            "hostname = \"a_b\"",
            "`hostname` in [package.metadata.krazy] must be a host name of at most 64 letters, digits and inner hyphens (RFC 1123), not \"a_b\"",
        ),
        (
            "compression-level = 23",
            "`compression-level` in [package.metadata.krazy] must be from 1 to 22, not 23",
        ),
        (
            "compression-level = 1.5",
            "`compression-level` in [package.metadata.krazy] must be an integer, not a float",
        ),
        ("size = \"big\"", "`size` in [package.metadata.krazy] is wrong: `big` is not a size"),
        (
            "size = true",
            "`size` in [package.metadata.krazy] must be a size such as \"256 MiB\", not a boolean",
        ),
        (
            "size = -1",
            "`size` in [package.metadata.krazy] must be a size such as \"256 MiB\", not an integer",
        ),
        (
            "kernel = \"arch\"",
            "`kernel` in [package.metadata.krazy] must be \"debian\" or a table, not \"arch\"",
        ),
        (
            "kernel = {}",
            "the table [package.metadata.krazy.kernel] is empty; it needs `debian`, `url` and `sha256`, or `path`",
        ),
        (
            "kernel = { url = \"https://h/k.deb\" }",
            "`url` in [package.metadata.krazy.kernel] needs `sha256` beside it",
        ),
        (
            "kernel = { url = \"ftp://h/k.deb\" }",
            "`url` in [package.metadata.krazy.kernel] must be an http or https URL, not \"ftp://h/k.deb\"",
        ),
        (
            "kernel = { sha256 = \"ab\" }",
            "`sha256` in [package.metadata.krazy.kernel] must be a SHA-256 of 64 hexadecimal digits, not \"ab\"",
        ),
        (
            "kernel = { path = \"k\", suite = \"sid\" }",
            "`path` in [package.metadata.krazy.kernel] cannot stand beside `suite`: a kernel has one source",
        ),
        (
            "kernel = { path = \"k\" }",
            "`path` in [package.metadata.krazy.kernel] leads to DIR/k, which does not exist",
        ),
        (
            "kernel = { debian = \"a b\" }",
            "`debian` in [package.metadata.krazy.kernel] must be a name in the Debian archive, not \"a b\"",
        ),
        (
            "cmdline = 1",
            "`cmdline` in [package.metadata.krazy] must be a string or a list of strings, not an integer",
        ),
        (
            "cmdline = [\"quiet\", \"root=/dev/sda\"]",
            "`cmdline` in [package.metadata.krazy] is wrong: the kernel command line must not set `root`",
        ),
        (
            "cmdline = \"quiet root=/dev/sda\"",
            "`cmdline` in [package.metadata.krazy] is wrong: the kernel command line must not set `root`",
        ),
        ("cmdline = 'a=\"b'", "`cmdline` in [package.metadata.krazy] has an open quote in"),
        (
            "board.pi = {}",
            "unknown board `pi` in [package.metadata.krazy.board]\nhelp: the boards are `x86_64`",
        ),
        ("board.x86_64.hostname = 1", "`hostname` in [package.metadata.krazy.board.x86_64] must be a string"),
        (
            "board.x86_64.board = {}",
            "`board` in [package.metadata.krazy.board.x86_64] cannot stand within a board's table",
        ),
    ] {
        let error = error(text);
        let expected = format!("DIR/Cargo.toml:6: {expected}");
        assert!(error.starts_with(&expected), "{text}\n found: {error}\n expected: {expected}\n in {krazy}");
    }
    let not_a_table = Project::new("[package.metadata]\nkrazy = true").error();
    assert_eq!(not_a_table, "DIR/Cargo.toml:6: `krazy` in [package.metadata] must be a table, not a boolean");
}

#[test]
fn files_must_exist_and_keep_off_reserved_places() {
    for (file, problem) in [
        (
            "\"/etc/x\" = \"absent\"",
            "`/etc/x` in [package.metadata.krazy.files] is DIR/absent, which does not exist",
        ),
        ("\"etc/x\" = \"Cargo.toml\"", "`etc/x` in [package.metadata.krazy.files] must be an absolute path"),
        (
            "\"/etc/../x\" = \"Cargo.toml\"",
            "`/etc/../x` in [package.metadata.krazy.files] must be an absolute path",
        ),
        (
            "\"/bin/x\" = \"Cargo.toml\"",
            "`/bin/x` in [package.metadata.krazy.files] cannot be in /bin, which holds the services; use `install`",
        ),
        (
            "\"/data\" = \"src\"",
            "`/data` in [package.metadata.krazy.files] cannot be a file: /data is a mount point",
        ),
        (
            "\"/etc/krazy/m\" = \"src\"",
            "`/etc/krazy/m` in [package.metadata.krazy.files] cannot be in /etc/krazy, which belongs to cargo krazy",
        ),
        ("\"/etc/x\" = 1", "`/etc/x` in [package.metadata.krazy.files] must be a string, not an integer"),
    ] {
        let error = error(&format!("files = {{ {file} }}"));
        assert!(error.starts_with(&format!("DIR/Cargo.toml:6: {problem}")), "{error}");
    }
    let nested = error("files = { \"/etc/x\" = \"Cargo.toml\", \"/etc/x/y\" = \"Cargo.toml\" }");
    let problem = "the table [package.metadata.krazy.files] puts `/etc/x/y` below another file";
    assert_eq!(nested, format!("DIR/Cargo.toml:6: {problem}"));
    // The same letters at the beginning are not the same folder.
    assert_eq!(load_text("files = { \"/binary\" = \"Cargo.toml\" }").files.len(), 1);
}

#[test]
fn a_crate_has_one_source_and_the_keys_that_belong_to_it() {
    for (spec, problem) in [
        (
            "path = \"a\", git = \"https://h/r\"",
            "`git` in [package.metadata.krazy.install.x] cannot stand beside `path`: a crate has one source",
        ),
        (
            "git = \"https://h/r\", version = \"1\"",
            "`version` in [package.metadata.krazy.install.x] cannot stand beside `git`",
        ),
        (
            "version = \"1\", tag = \"v1\"",
            "`tag` in [package.metadata.krazy.install.x] needs `git` beside it",
        ),
        (
            "git = \"https://h/r\", tag = \"a\", rev = \"b\"",
            "`rev` in [package.metadata.krazy.install.x] cannot stand beside `tag`",
        ),
        (
            "git = \"https://h/r\", tag = \"-x\"",
            "`tag` in [package.metadata.krazy.install.x] must be a git tag, not \"-x\"",
        ),
        ("git = \"r\"", "`git` in [package.metadata.krazy.install.x] must be a git URL such as"),
        (
            "git = \"https://h/r%\"",
            "`git` in [package.metadata.krazy.install.x] must be a git URL with a crate's name after `%`, not \"https://h/r%\"",
        ),
        (
            "path = \"absent\"",
            "`path` in [package.metadata.krazy.install.x] has no Cargo.toml: DIR/absent is not a package",
        ),
        ("bins = []", "`bins` in [package.metadata.krazy.install.x] is empty; leave it out for all binaries"),
        (
            "default-features = true, no-default-features = true",
            "`no-default-features` in [package.metadata.krazy.install.x] cannot stand beside `default-features`",
        ),
    ] {
        let error = error(&format!("install.x = {{ {spec} }}"));
        assert!(error.starts_with(&format!("DIR/Cargo.toml:6: {problem}")), "{error}");
    }
    let twice = error("install.weather = \"1\"");
    let problem = "`weather` in [package.metadata.krazy.install] is installed already: names must differ";
    assert_eq!(twice, format!("DIR/Cargo.toml:6: {problem}"));
}

#[test]
fn an_init_may_be_a_crate_of_its_own() {
    let appliance =
        load_text("init = { git = \"git@host:team/inits.git%tiny\", rev = \"abc\", bins = [\"tinit\"] }");
    assert_eq!(appliance.init, "tinit");
    let install = appliance.installs.iter().find(|install| install.name == "tiny").unwrap();
    let reference = GitReference::Rev("abc".into());
    let url = "ssh://git@host/team/inits.git".to_owned();
    assert_eq!(install.source, Source::Git { url, package: "tiny".into(), reference });
    let path = Project::new("[package.metadata.krazy]\ninit = { path = \"i\" }")
        .file("i/Cargo.toml", "[package]\nname = \"my-init\"\n[workspace]\n")
        .load();
    assert_eq!(path.init, "my-init");
    assert_eq!(load_text("init = { package = \"minit\", version = \"*\" }").init, "minit");
    let two = error("init = { package = \"minit\", bins = [\"a\", \"b\"] }");
    assert!(two.ends_with("`bins` in [package.metadata.krazy.init] must name one binary: the init"), "{two}");
}

#[test]
fn boards_override_and_the_request_overrides_all() {
    let text = "size = \"2 GiB\"\ncmdline = \"a\"\nservice.web = { args = [\"1\"], user = \"web\" }\n\
                [package.metadata.krazy.board.x86_64]\nsize = \"3 GiB\"\nservice.web.args = [\"2\"]";
    let project = Project::new(&format!("[package.metadata.krazy]\n{text}"));
    let appliance = project.load();
    assert_eq!(appliance.sizes.disk, Bytes::gib(3));
    assert_eq!(appliance.cmdline, ["a"]);
    assert_eq!(appliance.services["web"].args, ["2"]);
    assert_eq!(appliance.services["web"].user.as_deref(), Some("web"));
    let request = Request { disk: Some(Bytes::gib(4)), profile: Some("dev".into()), ..project.request() };
    let appliance = load(&request).unwrap();
    assert_eq!(appliance.sizes.disk, Bytes::gib(4));
    assert_eq!(appliance.installs[0].profile.as_deref(), Some("dev"));
}
