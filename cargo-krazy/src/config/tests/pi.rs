//! The keys of a Raspberry Pi.

use super::*;
use crate::config::{DtSource, PiSettings};

#[test]
fn a_raspberry_pi_has_keys_of_its_own() {
    let project = Project::new(
        r#"[package.metadata.krazy.board.aarch64-rpi]
serial-console = false
config-txt = ["gpu_mem=16", "[pi4]"]
dtoverlays = ["w1-gpio,gpiopin=4", "dt/mine.dtbo"]
dtbs = ["bcm2837-rpi-cm3-io3"]
"#,
    )
    .file("dt/mine.dtbo", "");
    let appliance = project.load();
    assert!(appliance.serial_console && appliance.pi == PiSettings::default(), "another board's");
    let rpi = Request { board: Board::named("aarch64-rpi").unwrap(), ..project.request() };
    let appliance = load(&rpi).unwrap();
    let parameters: Vec<_> = appliance.kernel_parameters().collect();
    assert_eq!(parameters, ["console=tty0", "panic=10", "quiet"]);
    assert_eq!(appliance.pi.config_lines, ["gpu_mem=16", "[pi4]"]);
    let overlays: Vec<_> = appliance
        .pi
        .overlays
        .iter()
        .map(|overlay| (overlay.source.name(), overlay.parameters.as_str()))
        .collect();
    assert_eq!(overlays, [("w1-gpio".to_owned(), ",gpiopin=4"), ("mine".to_owned(), "")]);
    assert_eq!(appliance.pi.dtbs, [DtSource::Named("bcm2837-rpi-cm3-io3".to_owned())]);
}

#[test]
fn what_a_raspberry_pi_cannot_do_is_told_with_its_place() {
    for (line, problem) in [
        (r#"config-txt = ["os_prefix=b-"]"#, "sets `os_prefix`, which the slots need as it is"),
        (r#"config-txt = ["dtoverlay=x"]"#, "sets `dtoverlay`; use the key `dtoverlays` for that"),
        (r#"dtoverlays = ["dt/none.dtbo"]"#, "has \"dt/none.dtbo\", which leads to no file"),
        (&format!("dtbs = [\"{}\"]", "x".repeat(52)), "which is no name of a .dtb file"),
        (
            &format!("dtoverlays = [\"x,a={}\"]", "y".repeat(90)),
            "longer than the 98 characters the firmware reads",
        ),
        (r#"dtbs = ["a b"]"#, "has \"a b\", which is no name of a .dtb file"),
    ] {
        let project = Project::new(&format!("[package.metadata.krazy.board.aarch64-rpi]\n{line}\n"));
        let error = project.error();
        assert!(error.contains(problem) && error.contains("board.aarch64-rpi"), "{error}");
        assert!(error.starts_with("DIR/Cargo.toml:6: `"), "{error}");
    }
}
