//! Output of a service without a process.

use std::io::Write;

use krazy_boot::manifest::{Service, ServiceSettings};

use super::*;
use crate::supervisor::plan;

#[test]
fn message_to_the_system_log_does_not_divide_a_line_of_the_pipe() {
    let name = format!("krazy-test-{}", std::process::id());
    let manifest = plan::empty_manifest();
    let service = Service {
        name,
        program: manifest.init.clone(),
        settings: ServiceSettings::default(),
        checks: Default::default(),
    };
    let manifest = krazy_boot::manifest::Manifest { services: vec![service], ..manifest };
    let spec = plan::plan(&manifest).specs.remove(0);
    let logs = tempfile::tempdir().unwrap();
    let mut unit = Unit::prepare(spec, logs.path(), 1 << 20, Duration::ZERO).unwrap();
    let mut shown = Vec::new();
    let mut each = |line: OutputLine<'_>| shown.push(line.text[line.stamp_length..].to_owned());
    for (piped, logged) in [("half a", "web[7]: one\ntwo"), (" line\n", "")] {
        unit.streams[0].writer.write_all(piped.as_bytes()).unwrap();
        unit.read(LogStream::Out, Duration::ZERO, &mut [0; 64], &mut each);
        unit.log(LogStream::Out, Duration::ZERO, logged.as_bytes(), &mut each);
    }
    assert_eq!(shown, ["web[7]: one", "two", "half a line"]);
    assert_eq!(unit.tail(LogStream::Out, 9).unwrap().len(), 3);
}
