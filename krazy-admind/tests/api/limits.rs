//! Limits: unknown and slow clients cannot exhaust the device.

use std::time::Duration;

use krazy_admind::config::Limits;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use warp::http::Request;

use crate::device::{Device, problem, token};

const SHORT: Duration = Duration::from_millis(400);

/// Reads until the server closes the connection, which it must do within 5 s.
async fn read_to_close(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let end = timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await;
    assert!(end.is_ok(), "the connection stays open");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn silent_client_is_disconnected() {
    let device = Device::with_limits(Limits { handshake: SHORT, header: SHORT, ..Limits::default() }).await;
    let mut plain = TcpStream::connect(device.address).await.unwrap();
    assert_eq!(read_to_close(&mut plain).await, "", "before TLS");
    let mut silent = device.connect().await;
    assert_eq!(read_to_close(&mut silent).await, "", "after TLS");
    let mut slow = device.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let response = read_to_close(&mut slow).await;
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 408"), "{response}");
}

#[tokio::test]
async fn header_sent_byte_by_byte_does_not_extend_the_timeout() {
    let device = Device::with_limits(Limits { header: SHORT, ..Limits::default() }).await;
    let (mut reader, mut writer) = tokio::io::split(device.connect().await);
    let sending = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nx: ".iter().chain([b'y'].iter().cycle()) {
            if writer.write_all(&[*byte]).await.is_err() || writer.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    read_to_close(&mut reader).await;
    sending.abort();
}

#[tokio::test]
async fn idle_connection_is_closed_but_a_live_log_stays_open() {
    let device = Device::with_limits(Limits { idle: SHORT, ..Limits::default() }).await;
    let mut live = device.get("viewer", "/api/v1/services/web/tail").await;
    assert!(live.chunk().await.unwrap().is_some());
    let mut idle = device.connect().await;
    let request = format!(
        "GET /api/v1/status HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        token("viewer")
    );
    idle.write_all(request.as_bytes()).await.unwrap();
    assert!(read_to_close(&mut idle).await.starts_with("HTTP/1.1 200 OK"));
    device
        .init
        .lines
        .send(krazy_init::control::LogLine {
            stream: krazy_init::control::LogStream::Out,
            text: "still here".into(),
        })
        .unwrap();
    let mut text = String::new();
    while !text.contains("still here") {
        let chunk = timeout(Duration::from_secs(5), live.chunk()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk.expect("the live log continues")).unwrap());
    }
}

#[tokio::test]
async fn oversized_headers_are_rejected() {
    let device = Device::start().await;
    for (head, statuses) in [
        (format!("x: {}\r\n", "y".repeat(20_000)), [431, 431]),
        (format!("{}\r\n", "x: y\r\n".repeat(100)), [431, 400]),
    ] {
        let mut stream = device.connect().await;
        // The server may close before it has read everything.
        let _sent = stream.write_all(format!("GET / HTTP/1.1\r\nhost: x\r\n{head}\r\n").as_bytes()).await;
        let response = read_to_close(&mut stream).await;
        let status: u16 = response.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        assert!(statuses.contains(&status), "{response}");
    }
    let request = device.request("viewer", Method::GET, "/api/v1/health").header("x", "y".repeat(20_000));
    match request.send().await {
        Ok(response) => assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) => assert!(error.is_request(), "{error:?}"),
    }
    assert_eq!(device.get("", "/api/v1/health").await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn connections_are_limited_per_client_and_in_all() {
    let device = Device::with_limits(Limits {
        connections: 4,
        connections_kept: 0,
        connections_per_client: 3,
        ..Limits::default()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(device.connect().await);
    }
    let from = |last| device.client_from([127, 0, 3, last]);
    let status = |client: &reqwest::Client| {
        client.get(device.url("/api/v1/status")).bearer_auth(token("viewer")).send()
    };
    // The fourth of one client ends its oldest.
    held.push(device.connect().await);
    assert_eq!(read_to_close(&mut held.remove(0)).await, "");
    // The fifth of all ends the oldest of the client with the most, as long as one is left without a credential.
    let others = [1, 2, 3, 4].map(from);
    for other in &others {
        assert_eq!(status(other).await.unwrap().status(), StatusCode::OK);
    }
    for mut ended in held {
        assert_eq!(read_to_close(&mut ended).await, "");
    }
    let fifth = from(5);
    assert!(status(&fifth).await.is_err(), "all four connections have sent a credential");
    drop(others);
    for _ in 0..100 {
        if status(&fifth).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("permits of closed connections are not returned");
}

#[tokio::test]
async fn only_tls_1_3_is_accepted() {
    let device = Device::start().await;
    let address = device.address.to_string();
    let run = move || {
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["s_client", "-tls1_2", "-connect", &address]).stdin(std::process::Stdio::null());
        openssl.output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("alert protocol version"), "{text}");
}

#[tokio::test]
async fn live_logs_are_limited_per_token_and_in_all() {
    let device =
        Device::with_limits(Limits { live_logs: 3, live_logs_per_token: 2, ..Limits::default() }).await;
    let follow = |who: &'static str| device.get(who, "/api/v1/services/web/tail");
    let mut held = vec![follow("viewer").await, follow("viewer").await];
    let details = problem(follow("viewer").await).await;
    assert_eq!((details.status, details.kind.as_str()), (429, "urn:krazy:too-many-live-logs"));
    assert_eq!(
        details.detail,
        "`viewer` may follow 2 logs at a time, all tokens together 3; stop following one"
    );
    held.push(follow("admin").await);
    assert!(held.iter().all(|log| log.status() == StatusCode::OK));
    assert_eq!(problem(follow("admin").await).await.kind, "urn:krazy:too-many-live-logs");
    // Other requests are not affected.
    assert_eq!(device.get("viewer", "/api/v1/services").await.status(), StatusCode::OK);
    held.clear();
    for _ in 0..100 {
        if follow("admin").await.status() == StatusCode::OK {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("permits of closed live logs are not returned");
}

/// Returns the bytes that an HTTP/2 client can send of a body before the server reads it.
async fn send_capacity(device: &Device) -> usize {
    let mut builder = h2::client::Builder::new();
    let builder = builder.max_send_buffer_size(16 << 20);
    let handshake = builder.handshake::<_, bytes::Bytes>(device.connect_with(b"h2").await);
    let (client, connection) = handshake.await.unwrap();
    let mut client = client.ready().await.unwrap();
    let driver = tokio::spawn(connection);
    // The server announces its windows with the first response at the latest.
    let probe = Request::get(device.url("/api/v1/health")).body(()).unwrap();
    client.send_request(probe, true).unwrap().0.await.unwrap();
    let put = Request::put(device.url("/api/v1/files/data/x")).body(()).unwrap();
    let (_response, mut body) = client.ready().await.unwrap().send_request(put, false).unwrap();
    body.reserve_capacity(16 << 20);
    let capacity = std::future::poll_fn(|context| body.poll_capacity(context)).await.unwrap().unwrap();
    driver.abort();
    capacity
}

#[tokio::test]
async fn unknown_clients_get_a_smaller_window() {
    let device = Device::start().await;
    assert_eq!(send_capacity(&device).await, 256 << 10);
    assert_eq!(device.get("viewer", "/api/v1/status").await.status(), StatusCode::OK);
    assert_eq!(send_capacity(&device).await, 1 << 20);
}
