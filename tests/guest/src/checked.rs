//! Services whose health init checks: by a page, by keep-alive messages, by a command.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::exit;
use std::time::Duration;

use crate::{rest, word};

/// The argument of the health command.
const HEALTH: &str = "--health";

/// Answers that it is busy until the judge's signal, and then the page.
pub fn page() {
    let listener = match TcpListener::bind("127.0.0.1:7001") {
        Ok(listener) => listener,
        Err(error) => return println!("no port: {error}"),
    };
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap_or_default();
        let is_health = request[..length].starts_with(b"GET /health HTTP/1.1\r\n");
        let status = match (is_health, word("page").exists()) {
            (false, _) => "404 Not Found",
            (true, false) => "503 Service Unavailable",
            (true, true) => "204 No Content",
        };
        println!("answered {status}");
        if let Err(error) = write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n") {
            println!("not sent: {error}");
        }
    }
}

/// Sends keep-alive messages until the judge's signal.
pub fn silent() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_mine = variable("WATCHDOG_PID") == std::process::id().to_string();
    println!("watchdog of {} us, for me: {is_mine}", variable("WATCHDOG_USEC"));
    let socket = match UnixDatagram::unbound() {
        Ok(socket) => socket,
        Err(error) => return println!("no socket: {error}"),
    };
    let send = |text: &str| {
        if let Err(error) = socket.send_to(text.as_bytes(), variable("NOTIFY_SOCKET")) {
            println!("not sent: {error}");
        }
    };
    send("READY=1");
    while !word("silent").exists() {
        std::thread::sleep(Duration::from_millis(500));
        send("WATCHDOG=1");
    }
    println!("silent");
    rest();
}

/// Its health command fails while there is a file in its home, and hangs while there is another one.
pub fn sickly() {
    let home = std::env::var("HOME").unwrap_or_default();
    if std::env::args().nth(1).as_deref() != Some(HEALTH) {
        rest();
    }
    if Path::new(&home).join("hangs").exists() {
        rest();
    }
    if Path::new(&home).join("ill").exists() {
        eprintln!("it is ill");
        exit(4);
    }
}
