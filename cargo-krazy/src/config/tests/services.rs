//! `service.NAME`, and what is checked once the installed binaries are known.

use std::collections::BTreeSet;

use krazy_boot::disk::size::Bytes;
use krazy_boot::manifest::checks::{Checks, HealthCommand};
use krazy_boot::manifest::sandbox::Sandbox;
use krazy_boot::manifest::{Ready, Restart, ServiceSettings, Start};

use super::*;
use crate::config::{check_services, untabled};

#[test]
fn every_key_is_read() {
    let appliance = load_text(
        "[package.metadata.krazy.service.weather]\nargs = [\"--listen\", \"0.0.0.0:80\"]\n\
         env = { RUST_LOG = \"info\" }\nworkdir = \"/data/weather\"\nafter = [\"network\", \"clock\"]\n\
         start = \"manual\"\nrestart = \"on-failure\"\nuser = \"web\"\nstop-signal = \"SIGINT\"\nstop-timeout = 30\nrequired = false\n\
         ready = \"tcp:80\"\nsandbox = false\ncapabilities = [\"net-admin\"]\nmemory-limit = \"64 MiB\"\n\
         groups = [\"db\", \"krazy\"]\ndevices = [\"/dev/ttyUSB*\"]\nsysfs = [\"/sys/class/leds/*/brightness\"]\nports = [80, 8080]\npersistent-log = true\n\
         task-limit = 50\nfile-limit = 4096\ncpu-weight = 10",
    );
    let expected = ServiceSettings {
        args: vec!["--listen".into(), "0.0.0.0:80".into()],
        env: [("RUST_LOG".to_owned(), "info".to_owned())].into(),
        workdir: Some("/data/weather".into()),
        after: vec!["network".into(), "clock".into()],
        start: Start::Manual,
        restart: Restart::OnFailure,
        user: Some("web".into()),
        stop_signal: "INT".into(),
        stop_timeout: 30,
        required: false,
        ready: Ready::Tcp(80),
        sandbox: Sandbox::NONE,
        capabilities: vec!["net-admin".into()],
        groups: vec!["db".into(), "krazy".into()],
        devices: vec!["/dev/ttyUSB*".into()],
        sysfs: vec!["class/leds/*/brightness".into()],
        ports: Some(vec![80, 8080]),
        persistent_log: true,
        memory_limit: Some(Bytes::mib(64)),
        task_limit: Some(50),
        file_limit: Some(4096),
        cpu_weight: Some(10),
    };
    assert_eq!(appliance.services["weather"], expected);
}

#[test]
fn every_check_is_read() {
    let appliance = load_text(
        "[package.metadata.krazy.service.weather]\nready = \"http:80/health\"\nwatchdog = \"2min\"\nstable-after = 20\n\
         health = { command = [\"/bin/weather\", \"--health\"], every = \"5s\" }\nmemory-limit = \"none\"\n\
         [package.metadata.krazy.service.other]\nready = \"notify\"",
    );
    let health = HealthCommand {
        command: vec!["/bin/weather".into(), "--health".into()],
        every: 5,
        timeout: 10,
        failures: 3,
    };
    let expected = Checks {
        http: "http:80/health".parse().ok(),
        watchdog: Some(120),
        health: Some(health),
        stable_after: Some(20),
        unlimited_memory: true,
    };
    assert_eq!(appliance.checks, [("weather".to_owned(), expected)].into());
    let settings = &appliance.services["weather"];
    assert_eq!((settings.ready, settings.memory_limit), (Ready::Started, None));
    assert_eq!(appliance.services["other"].ready, Ready::Notify);
}

#[test]
fn sandbox_is_lifted_as_a_whole_or_in_parts() {
    let sandbox = |value: &str| {
        let table = "[package.metadata.krazy.service.web]";
        load_text(&format!("{table}\nsandbox = {value}")).services["web"].sandbox
    };
    assert_eq!(sandbox("true"), Sandbox::FULL);
    assert_eq!(sandbox("{}"), Sandbox::FULL);
    for key in krazy_boot::manifest::sandbox::KEYS {
        let lifted = sandbox(&format!("{{ {key} = false }}")).values();
        assert!(lifted.into_iter().all(|(name, applies)| applies == (name != key)), "{key}: {lifted:?}");
    }
}

#[test]
fn wrong_settings_are_told() {
    let table = "[package.metadata.krazy.service.web]";
    for (text, problem) in [
        (
            "restart = \"sometimes\"",
            "`restart` in TABLE must be \"always\", \"on-failure\" or \"never\", not \"sometimes\"",
        ),
        ("start = \"later\"", "`start` in TABLE must be \"automatic\" or \"manual\", not \"later\""),
        (
            "required = true\nstart = \"manual\"",
            "`required` in TABLE cannot be true with `start = \"manual\"`",
        ),
        (
            "env = { TZ = \"Europe/Berln\" }",
            "`TZ` in [package.metadata.krazy.service.web.env] must be a time zone of the IANA database, such as",
        ),
        ("stop-signal = \"SIGNAL\"", "`stop-signal` in TABLE must be one of the signals TERM, INT,"),
        ("stop-timeout = -1", "`stop-timeout` in TABLE must be from 0 to 86400, not -1"),
        ("user = \"Web Server\"", "`user` in TABLE must be an account's name"),
        ("workdir = \"data\"", "`workdir` in TABLE must be an absolute path"),
        (
            "after = [\"a b\"]",
            "`after` in TABLE has \"a b\" where it needs a service or one of `network`, `clock`, `data`",
        ),
        (
            "ready = \"soon\"",
            "`ready` in TABLE must be \"started\", \"notify\", \"tcp:PORT\" or \"http:PORT/PATH\", not \"soon\"",
        ),
        (
            "ready = \"http:80\"",
            "`ready` in TABLE must be \"started\", \"notify\", \"tcp:PORT\" or \"http:PORT/PATH\", not \"http:80\"",
        ),
        (
            "watchdog = \"30\"",
            "`watchdog` in TABLE must be a time such as \"30s\", from 1 to 86400 s, not \"30\"",
        ),
        ("watchdog = 0", "`watchdog` in TABLE must be a time such as \"30s\", from 1 to 86400 s, not 0"),
        (
            "stable-after = \"2h\"",
            "`stable-after` in TABLE must be a time such as \"30s\", from 1 to 3600 s, not \"2h\"",
        ),
        (
            "health = { command = [\"web\"] }",
            "`command` in [package.metadata.krazy.service.web.health] must begin with the path of a program, such as",
        ),
        (
            "capabilities = [\"net-admn\"]",
            "`capabilities` in TABLE has \"net-admn\", which does not exist\nhelp: did you mean `net-admin`?",
        ),
        (
            "memory-limit = \"64 kB\"",
            "`memory-limit` in TABLE must be a size such as \"64 MiB\", not \"64 kB\"",
        ),
        (
            "memory-limit = \"1 KiB\"",
            "`memory-limit` in TABLE must be a size of at least 1 MiB, not \"1 KiB\"",
        ),
        (
            "devices = [\"/etc/passwd\"]",
            "`devices` in TABLE has \"/etc/passwd\" where it needs a path below /dev",
        ),
        (
            "sysfs = [\"class/leds/../block/sda/ro\"]",
            "`sysfs` in TABLE has \"class/leds/../block/sda/ro\" where it needs a file below /sys/class/ of",
        ),
        ("groups = [\"Staff\"]", "`groups` in TABLE has \"Staff\" where it needs an account's name"),
        ("task-limit = 0", "`task-limit` in TABLE must be from 1 to 4194304, not 0"),
        ("required = 1", "`required` in TABLE must be true or false, not an integer"),
        ("args = \"-v\"", "`args` in TABLE must be a list of strings, not a string"),
        (
            "env = { A = 1 }",
            "`A` in [package.metadata.krazy.service.web.env] must be a string, not an integer",
        ),
        (
            "env = { \"A=B\" = \"\" }",
            "`A=B` in [package.metadata.krazy.service.web.env] must be a variable's name without `=`",
        ),
    ] {
        let error = error(&format!("{table}\n{text}"));
        let expected = format!("DIR/Cargo.toml:7: {}", problem.replace("TABLE", table));
        assert!(error.starts_with(&expected), "{error}\nexpected: {expected}");
    }
    let name = error("service.\"a/b\" = {}");
    assert!(name.contains("`a/b` in [package.metadata.krazy.service] cannot be a service"), "{name}");
}

#[test]
fn fixed_addresses_are_read() {
    let appliance = load_text(
        "[package.metadata.krazy.network]\ndns = [\"10.0.0.1\", \"fd00::1\"]\nntp = [\"time.example\"]\n\
         interfaces.eth0 = { address = \"10.0.0.5/24\", gateway = \"10.0.0.1\" }",
    );
    let network = appliance.network;
    assert_eq!(network.interfaces["eth0"].address.to_string(), "10.0.0.5/24");
    assert_eq!(network.interfaces["eth0"].gateway, Some([10, 0, 0, 1].into()));
    assert_eq!((network.dns.len(), network.ntp), (2, vec!["time.example".to_owned()]));
    let single = load_text(
        "[package.metadata.krazy.network]\n\
         interfaces.eth0 = { address = \"10.0.0.5/32\", gateway = \"172.31.1.1\" }",
    );
    assert_eq!(single.network.interfaces["eth0"].gateway, Some([172, 31, 1, 1].into()));
    for (text, problem) in [
        ("dns = [\"ns.example\"]", "`dns` in TABLE has \"ns.example\" where it needs an IP address"),
        ("ntp = [\"\"]", "`ntp` in TABLE has \"\" where it needs a host"),
        (
            "interfaces.eth0.address = \"10.0.0.5\"",
            "must be an address with prefix length, such as 10.0.0.5/24, not \"10.0.0.5\"",
        ),
        ("interfaces.eth0.gateway = \"10.0.0.1\"", "needs `address`"),
        ("interfaces.eth0 = { address = \"10.0.0.5/24\", gateway = \"::1\" }", "must be an IPv4 address"),
        (
            "interfaces.eth0 = { address = \"10.0.0.5/24\", gateway = \"10.0.1.1\" }",
            "is 10.0.1.1, outside of 10.0.0.5/24",
        ),
        (
            "interfaces.\"a b\".address = \"10.0.0.5/24\"",
            "`a b` in [package.metadata.krazy.network.interfaces] cannot be the name",
        ),
    ] {
        let table = "[package.metadata.krazy.network]";
        let error = error(&format!("{table}\n{text}"));
        assert!(error.contains(&problem.replace("TABLE", table)), "{error}\nexpected: {problem}");
    }
}

#[test]
fn ports_belong_to_one_service_and_cover_its_readiness() {
    let of = |text: &str| format!("admind = true\n{text}");
    for (text, problem) in [
        (
            "service.a.ports = [\"80\"]",
            ":7: `ports` in [package.metadata.krazy.service.a] must be a list of numbers, not of strings",
        ),
        (
            "service.a.ports = [0]",
            ":7: `ports` in [package.metadata.krazy.service.a] has 0 where it needs from 1 to 65535",
        ),
        (
            "service.a.ports = [80]\nservice.b.ports = [443, 80]",
            ":8: `ports` in [package.metadata.krazy.service.b] has 80, which the service `a` has, too",
        ),
        ("service.a.ports = [80, 80]", ":7: `ports` in [package.metadata.krazy.service.a] has 80 twice"),
        (
            "service.a.ports = [8443]",
            ":7: `ports` in [package.metadata.krazy.service.a] has 8443, the port of `krazy-admind`",
        ),
        (
            "service.a = { ports = [443], ready = \"tcp:80\" }",
            ":7: `ready` in [package.metadata.krazy.service.a] is port 80, which the service may not bind",
        ),
        (
            "service.a.ready = \"tcp:123\"",
            ":7: `ready` in [package.metadata.krazy.service.a] is port 123, which the service may not bind",
        ),
        (
            "service.a.ports = [8080]\nservice.b.ready = \"tcp:8080\"",
            ":8: `ready` in [package.metadata.krazy.service.b] is port 8080, which the service may not bind",
        ),
    ] {
        let error = error(&of(text));
        assert!(error.contains(problem), "{error}\nexpected: {problem}");
    }
    for text in [
        "service.a = { ports = [80, 123], ready = \"tcp:123\" }\nservice.b.ports = []",
        "service.a = { ports = [80], ready = \"tcp:8080\" }",
        "service.a.ready = \"tcp:80\"",
    ] {
        load_text(&of(text));
    }
    assert_eq!(load_text("admind = false\nservice.a.ports = [8443]").services["a"].ports, Some(vec![8443]));
}

#[test]
fn a_cycle_is_named() {
    assert_eq!(
        error("service.a.after = [\"network\", \"b\"]\nservice.b.after = [\"c\"]\nservice.c.after = [\"a\"]"),
        "DIR/Cargo.toml:6: `after` in [package.metadata.krazy.service.a] makes services wait for each other: \
         a → b → c → a"
    );
    assert!(error("service.x.after = [\"x\"]").ends_with("x → x"));
    let entered = error("service.a.after = [\"b\"]\nservice.b.after = [\"b\"]");
    assert!(entered.starts_with("DIR/Cargo.toml:7:") && entered.ends_with("other: b → b"), "{entered}");
    let diamond = "service.a.after = [\"b\", \"c\"]\nservice.b.after = [\"d\"]\nservice.c.after = [\"d\"]";
    assert_eq!(load_text(diamond).services.len(), 4);
}

/// Message and help of `check_services` for the metadata `text` and these installed binaries.
fn check(text: &str, installed: &[&str]) -> Result<(), String> {
    let installed: BTreeSet<_> = installed.iter().map(|&name| name.to_owned()).collect();
    let project = Project::new(&format!("[package.metadata.krazy]\n{text}\n"));
    check_services(&project.load(), &installed).map_err(|failure| {
        let text = format!("{failure}\nhelp: {}", failure.next_step().unwrap_or_default());
        text.split_once("Cargo.toml:").unwrap().1.to_owned()
    })
}

#[test]
fn what_tables_name_must_have_been_installed() {
    let installed = ["krazy-admind", "weather"];
    assert_eq!(check("service.weather.after = [\"krazy-admind\", \"data\"]", &installed), Ok(()));
    assert_eq!(check("init = \"weather\"", &installed), Ok(()));
    for (text, expected) in [
        (
            "service.wether = {}",
            "6: `wether` in [package.metadata.krazy.service] is not an installed binary\nhelp: did you mean `weather`?",
        ),
        (
            "service.weather.after = [\"netwrok\"]",
            "6: the service `weather` starts after `netwrok`, which does not exist\nhelp: did you mean `network`?",
        ),
        (
            "service.weather.after = [\"krazy-admind\"]\nservice.krazy-admind.start = \"manual\"",
            "6: the service `weather` starts after `krazy-admind`, which has `start = \"manual\"`\nhelp: ",
        ),
        (
            "init = \"kraxy-init\"",
            "6: `init` is `kraxy-init`, which is not an installed binary\nhelp: did you mean `krazy-init`?",
        ),
        (
            "init = \"weather\"\nservice.weather = {}",
            "7: `weather` in [package.metadata.krazy.service] is the init, not a service\n\
             help: the services are `krazy-admind`",
        ),
    ] {
        assert_eq!(check(text, &installed).unwrap_err(), expected);
    }
}

#[test]
fn the_names_of_inits_are_not_for_services() {
    let conflict = check("", &["krazy-admind", "weather", "init"]).unwrap_err();
    assert!(conflict.starts_with(" a binary is called `init`, but /bin/init is `krazy-init`"), "{conflict}");
    assert_eq!(check("init = \"init\"", &["krazy-admind", "weather", "init"]), Ok(()));
    let two = check("", &["krazy-admind", "weather", "krazy-init"]).unwrap_err();
    assert!(two.starts_with(" two binaries are called `krazy-init`"), "{two}");
}

#[test]
fn programs_without_a_table_are_told_if_there_are_several() {
    let warning = |text: &str, installed: &[&str]| {
        let project = Project::new(&format!("[package.metadata.krazy]\n{text}\n"));
        untabled(&project.load(), &installed.iter().map(|&name| name.to_owned()).collect())
    };
    let own = ["krazy-init", "krazy-admind"];
    assert_eq!(warning("", &[&own[..], &["weather"]].concat()), None);
    let table = "service.weather.args = [\"-d\"]";
    let installed = [&own[..], &["ctl", "weather"]].concat();
    let (text, note) = warning(table, &installed).unwrap();
    assert_eq!(
        text,
        "`ctl` has no service table: it is started with the machine, and no update is confirmed unless it keeps running"
    );
    assert!(note.contains("`service.ctl.start = \"manual\"`"), "{note}");
    assert_eq!(warning(&format!("{table}\nservice.ctl.start = \"manual\""), &installed), None);
}
