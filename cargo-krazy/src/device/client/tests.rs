use std::time::Duration;

use krazy_boot::api::Endpoint;
use krazy_boot::api::problem::ProblemKind;
use reqwest::{Body, Method};
use serde_json::Value;

use super::StallTimeouts;
use crate::device::DeviceError;
use crate::device::testing::{Device, answer, token};
use crate::failure::{Exit, Failure};

fn help(error: DeviceError) -> String {
    let failure = Failure::from(error);
    assert_eq!(failure.exit(), Exit::Device);
    failure.next_step().unwrap_or_default().to_owned()
}

#[test]
fn token_is_sent_to_the_pinned_certificate_only() {
    let device = Device::start(Box::new(|_, _| answer("200 OK", "{\"a\":1}")));
    let value: Value = device.client().get("/x").unwrap();
    assert_eq!(value["a"], 1);
    let heads = device.heads.lock().unwrap().clone();
    assert!(heads[0].starts_with("GET /x HTTP/1.1\r\n") && heads[0].contains("Bearer krz_abab"), "{heads:?}");

    let other = Device::start(Box::new(|_, _| answer("200 OK", "{}")));
    let error = other.client_with(&device.certificate).get::<Value>("/x").unwrap_err();
    let DeviceError::Certificate { found, pinned, .. } = &error else { panic!("{error:?}") };
    assert!(pinned.as_ref().is_some_and(|pinned| found != pinned), "{error:?}");
    assert!(error.to_string().starts_with("`test` does not have the certificate of the appliance `weather`"));
    assert!(help(error).contains("nothing was sent"));
    assert!(other.heads.lock().unwrap().is_empty());
}

#[test]
fn problem_has_a_next_step() {
    let problem =
        r#"{"type":"urn:krazy:unauthorized","title":"A credential is required","status":401,"detail":"no"}"#;
    let device = Device::start(Box::new(move |_, _| answer("401 Unauthorized", problem)));
    let error = device.client().call(&Endpoint::ConfirmSlot).unwrap_err();
    assert_eq!(error.to_string(), "`test` refused: no");
    assert_eq!(error.kind(), Some(ProblemKind::Unauthorized));
    assert!(!error.is_transient());
    assert!(help(error).starts_with("the token of `weather` on this machine, or the one in KRAZY_TOKEN if"));

    let device = Device::start(Box::new(|_, _| answer("200 OK", "<html>")));
    let error = device.client().get::<Value>("/x").unwrap_err();
    assert!(matches!(error, DeviceError::Foreign { .. }), "{error:?}");
}

#[test]
fn unreachable_device_and_broken_connection_differ() {
    let device = Device::start(Box::new(|_, _| b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()));
    let error = device.client().get::<Value>("/x").unwrap_err();
    assert!(matches!(error, DeviceError::Broken { .. }) && error.is_transient(), "{error:?}");

    let mut target = device.target.clone();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    target.address = free.to_string().parse().unwrap();
    let client =
        super::Client::with(&target, "weather", std::slice::from_ref(&device.certificate), &token()).unwrap();
    let error = client.get::<Value>("/x").unwrap_err();
    assert!(matches!(error, DeviceError::Unreachable { .. }) && error.is_transient(), "{error:?}");
    assert!(help(error).contains("switched on"));
}

#[test]
fn stalled_upload_fails() {
    let device = Device::start(Box::new(|_, body| {
        std::thread::sleep(Duration::from_millis(body.len() as u64));
        answer("204 No Content", "")
    }));
    // Once everything is sent, the longer timeout applies.
    let timeouts = StallTimeouts { sending: Duration::from_millis(500), reply: Duration::from_secs(120) };
    let send = |len: u64, moved: u64| {
        let body = Body::from(vec![0; len as usize]);
        device.client().send(Method::PUT, "/x", body, len, timeouts, || moved)
    };
    assert_eq!(send(1_500, 1_500).unwrap(), b"");
    let error = send(60_000, 59_999).unwrap_err();
    assert!(error.to_string().contains("nothing moved"), "{error}");
}

#[test]
fn listener_ends_the_stream() {
    let device = Device::start(Box::new(|_, _| answer("200 OK", "abc")));
    let mut seen = Vec::new();
    let mut length = None;
    let mut piece = |bytes: &[u8]| {
        seen.extend_from_slice(bytes);
        Ok(())
    };
    device.client().read("/x", |len| length = len, &mut piece).unwrap();
    assert_eq!((seen.as_slice(), length), (b"abc".as_slice(), Some(3)));
    device.client().listen("/x", Duration::from_secs(5), |_| Ok(false)).unwrap();
}
