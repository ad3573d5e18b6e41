//! Requests whose end two parsers could see at different places (RFC 9112, section 11.2).

use std::time::Duration;

use krazy_init::control::Command;

use super::Target;
use crate::device::token;

const WAIT: Duration = Duration::from_millis(300);

/// The header fields and the body of a `GET`, in which `{smuggled}` is a request to reboot.
const CASES: &[(&str, &str)] = &[
    ("CL.TE", "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
    ("TE.CL", "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{smuggled}"),
    ("two lengths", "content-length: 0\r\ncontent-length: 500\r\n\r\n{smuggled}"),
    ("a list of lengths", "content-length: 0, 500\r\n\r\n{smuggled}"),
    ("a length with a sign", "content-length: +0\r\n\r\n{smuggled}"),
    ("a negative length", "content-length: -1\r\n\r\n{smuggled}"),
    ("a length in hexadecimal", "content-length: 0x0\r\n\r\n{smuggled}"),
    ("a length that overflows", "content-length: 18446744073709551616\r\n\r\n{smuggled}"),
    ("chunked, not last", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
    ("an unknown encoding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
    ("an encoding with a control character", "transfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n{smuggled}"),
    ("a space before the colon", "transfer-encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"),
    ("a folded field", "x: y\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
    ("a folded encoding", "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{smuggled}"),
    ("a bare CR", "x: y\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
    ("NUL", "x: \0\r\n\r\n{smuggled}"),
    ("a chunk size that overflows", "transfer-encoding: chunked\r\n\r\n10000000000000000\r\n\r\n{smuggled}"),
    ("a chunk size with a sign", "transfer-encoding: chunked\r\n\r\n-1\r\n\r\n{smuggled}"),
    ("a chunk without its end", "transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n{smuggled}"),
    ("a chunk extension with a bare LF", "transfer-encoding: chunked\r\n\r\n0;a\n\r\n\r\n{smuggled}"),
];

#[tokio::test]
async fn nothing_is_executed_behind_an_ambiguous_request() {
    let target = Target::start();
    let credential = format!("host: x\r\nauthorization: Bearer {}\r\n", token("admin"));
    let smuggled = format!("POST /api/v1/reboot HTTP/1.1\r\n{credential}\r\n");
    let rebooted = || target.init.commands.lock().unwrap().contains(&Command::Reboot);
    for (name, rest) in CASES {
        for method in ["GET /api/v1/status", "PUT /api/v1/files/data/x"] {
            let rest = rest.replace("{smuggled}", &smuggled);
            let request = format!("{method} HTTP/1.1\r\n{credential}{rest}");
            let response = target.exchange([127, 0, 6, 9], request.as_bytes(), WAIT).await;
            assert!(!rebooted(), "{name} after {method}: {response}");
            assert!(response.matches("HTTP/1.1 ").count() <= 1, "{name} after {method}: {response}");
        }
    }
    // The judge sees a request that follows properly.
    let request = format!("GET /api/v1/status HTTP/1.1\r\n{credential}\r\n{smuggled}");
    target.exchange([127, 0, 6, 9], request.as_bytes(), WAIT).await;
    assert!(rebooted());
    target.survived("request smuggling");
}
