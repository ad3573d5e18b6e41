//! The ports of services: those of the judge itself, which is root, and what init says about refusals.

use krazy_init::control::LogStream;

use super::{ask, case, ensure};
use crate::ports::{REFUSED_LAST, every_socket, is_refused};
use crate::rights::eventually;

pub fn judge() {
    case("a service that is root has no reserved port either", || {
        [67, 68, 123, REFUSED_LAST].into_iter().try_for_each(|port| every_socket(port, is_refused))
    });
    case("a refused port is told in the service's log, with the key that grants it", || {
        eventually(|| {
            let lines = ask(|client| client.logs("intruder", LogStream::Err, 100))?;
            let port = format!("port {REFUSED_LAST} was refused (EPERM)");
            let told = |text: &str| text.contains(&port) && text.contains("`service.intruder.ports`");
            ensure(lines.iter().any(|line| told(&line.text)), &format!("{lines:?}"))
        })
    });
}
