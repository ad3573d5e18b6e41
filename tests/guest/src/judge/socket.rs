//! Nonsense on the sockets of init.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use krazy_init::control::{Command, MAX_LINE, SOCKET};

use super::{ask, case, ensure, order, status};
use crate::rights::{eventually, told};

pub fn judge() {
    case("malformed requests are answered or hung up on", || {
        let mut random = 0x2545_f491_4f6c_dd1du64;
        for round in 0..200 {
            let mut socket = told(UnixStream::connect(SOCKET))?;
            told(socket.set_read_timeout(Some(Duration::from_secs(60))))?;
            let length = (round * 37) % 600;
            let mut bytes: Vec<u8> = (0..length)
                .map(|_| {
                    // xorshift64: any bytes do, but the same every time.
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random as u8
                })
                .collect();
            bytes.extend_from_slice(NONSENSE[round % NONSENSE.len()].as_bytes());
            bytes.push(b'\n');
            // Init may hang up before it has read everything.
            if socket.write_all(&bytes).is_ok() {
                let mut answer = [0; 4096];
                let _hung_up = socket.read(&mut answer);
            }
        }
        status("steady").map(drop)
    });
    case("an endless line and deep nesting are refused", || {
        for text in [vec![b'x'; 2 * MAX_LINE], vec![b'['; MAX_LINE - 1]] {
            let mut socket = told(UnixStream::connect(SOCKET))?;
            told(socket.set_read_timeout(Some(Duration::from_secs(60))))?;
            let written = socket.write_all(&text).and_then(|()| socket.write_all(b"\n"));
            let mut answer = vec![0; 4096];
            let length = socket.read(&mut answer).unwrap_or(0);
            let said = String::from_utf8_lossy(&answer[..length]).into_owned();
            ensure(written.is_err() || length == 0 || said.contains("malformed"), &said)?;
        }
        status("steady").map(drop)
    });
    case("a hundred idle connections leave room", || {
        let idle: Vec<_> = (0..100).map(|_| UnixStream::connect(SOCKET)).collect();
        eventually(|| ensure(ask(|client| client.list()).is_err(), "more connections than allowed"))?;
        drop(idle);
        eventually(|| ask(|client| client.list()).map(drop))
    });
    case("requests for what is not there are refused", || {
        for command in [
            Command::Start { service: "../../init".to_owned() },
            Command::Stop { service: String::new() },
            Command::Signal { service: "steady".to_owned(), signal: "-1".to_owned() },
            Command::Signal { service: "quits".to_owned(), signal: "99".to_owned() },
        ] {
            ensure(order(command.clone()).is_err(), &format!("{command:?} was done"))?;
        }
        Ok(())
    });
    case("nonsense about readiness is ignored", || {
        let socket = told(UnixDatagram::unbound())?;
        for text in ["", "READY", "READY=1", &"x".repeat(100_000), "READY=1\nMAINPID=1\nSTOPPING=1"] {
            // Too long for the kernel is fine, too.
            let _refused = socket.send_to(text.as_bytes(), "/run/notify.sock");
        }
        status("steady").map(drop)
    });
}

/// Almost requests.
const NONSENSE: [&str; 10] = [
    "{}",
    "{\"version\":1}",
    "{\"version\":1,\"command\":null}",
    "{\"version\":1,\"command\":\"dance\"}",
    "{\"version\":18446744073709551615,\"command\":\"list\"}",
    "{\"version\":-1,\"command\":\"list\"}",
    "{\"version\":1,\"command\":{\"logs\":{\"service\":\"steady\",\"stream\":\"out\",\"lines\":-1}}}",
    "{\"version\":1,\"command\":{\"status\":{\"service\":\"\\u0000\"}}}",
    "{\"version\":1,\"command\":{\"arm\":{\"slot\":\"c\",\"build_id\":\"\"}}}",
    "\"",
];
