//! `sysctl`: kernel settings.

use super::*;

#[test]
fn settings_are_texts_or_integers() {
    let text =
        "sysctl = { \"net.core.rmem_max\" = 2500000, \"net/ipv4/tcp_rmem\" = \"4096\\t131072 6291456\" }";
    let sysctl = load_text(text).sysctl;
    assert_eq!(sysctl["net.core.rmem_max"], "2500000");
    assert_eq!(sysctl["net/ipv4/tcp_rmem"], "4096\t131072 6291456");
}

#[test]
fn wrong_settings_are_told() {
    let table = "[package.metadata.krazy.sysctl]";
    for (setting, problem) in [
        ("\"vm.swappiness\" = 0.5", "`vm.swappiness` in TABLE must be a string or an integer, not a float"),
        ("vm.swappiness = 1", "`vm` in TABLE must be a string or an integer, not a table; a name has quotes"),
        ("\"swappiness\" = 1", "`swappiness` in TABLE cannot be a kernel setting; one is called like"),
        ("\"a.b\" = \"1\\n\"", "`a.b` in TABLE must be a text without control characters"),
        (
            "\"kernel/panic\" = 0",
            "`kernel/panic` in TABLE cannot be set: `panic=SECONDS` in `cmdline` sets it",
        ),
        (
            "\"kernel.hostname\" = \"a\"",
            "`kernel.hostname` in TABLE cannot be set: the key `hostname` sets it",
        ),
    ] {
        let error = error(&format!("{table}\n{setting}"));
        let expected = format!("DIR/Cargo.toml:7: {}", problem.replace("TABLE", table));
        assert!(error.starts_with(&expected), "{error}\nexpected: {expected}");
    }
    let other = error("board.aarch64-rpi.sysctl.\"kernel.modprobe\" = \"/x\"");
    assert!(other.contains("krazy-init loads modules for the kernel"), "{other}");
}
