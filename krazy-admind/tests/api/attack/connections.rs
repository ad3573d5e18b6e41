//! Connections that are held open, silent or slow.

use std::time::{Duration, Instant};

use krazy_init::control::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::{Target, long};
use crate::device::{client, tls, token};

/// Pause between two bytes of a slow sender.
const SLOW: Duration = Duration::from_millis(50);
const HOLD: Duration = Duration::from_secs(1);

/// The addresses of `count` connections, `each` from one.
fn addresses(count: u16, each: u16) -> impl Iterator<Item = [u8; 4]> {
    (0..count).map(move |n| {
        let [high, low] = (n / each + 1).to_be_bytes();
        [127, 1, high, low]
    })
}

#[tokio::test]
async fn thousand_idle_tcp_connections_leave_the_owner_a_seat() {
    for (name, each) in [("1,000 TCP connections, one address", 1000), ("1,000, of 200 addresses", 5)] {
        let target = Target::start();
        let mut held = Vec::new();
        for from in addresses(1000, each) {
            held.push(target.tcp(from).await.unwrap());
        }
        sleep(HOLD).await;
        target.survived(name);
    }
}

#[tokio::test]
async fn thousand_idle_tls_connections_leave_the_owner_a_seat() {
    let count = if long() { 1000 } else { 250 };
    for (name, each) in [("idle TLS connections, one address", count), ("idle TLS, of many", 3)] {
        let target = Target::start();
        let mut held = Vec::new();
        for from in addresses(count, each) {
            // It may lose its seat before it is complete.
            held.extend(target.tls(from, b"http/1.1").await.ok());
        }
        sleep(HOLD).await;
        target.survived(&format!("{count} {name}"));
    }
}

/// Once the device was restarted for its trial, it knows no client. Two others then took all connections that unknown
/// clients may have, so that nobody could confirm, and a good build was reverted.
#[tokio::test]
async fn owner_confirms_while_two_addresses_hold_every_connection() {
    let target = Target::start();
    let hold = async |from, count| {
        let held = (0..count).map(|_| async {
            loop {
                if let Ok(mut stream) = target.tls(from, b"http/1.1").await {
                    let _ended = stream.read_u8().await;
                }
            }
        });
        futures_util::future::join_all(held).await
    };
    let confirm = async |from: [u8; 4]| {
        let owner = client(target.address, tls(&target.certificate), from.into());
        let url = format!("https://localhost:{}/api/v1/slots/confirm", target.address.port());
        owner.post(url).bearer_auth(token("admin")).send().await
    };
    let attacks = futures_util::future::join(hold([127, 0, 5, 1], 24), hold([127, 0, 5, 2], 24));
    let owner = async {
        sleep(Duration::from_secs(1)).await;
        // From an address of its own, and from one of theirs.
        for from in [[127, 0, 5, 3], [127, 0, 5, 1]] {
            // Each new connection of the attackers may take the place of the owner's, and `push` tries for a minute.
            let end = Instant::now() + Duration::from_secs(20);
            while !confirm(from).await.is_ok_and(|response| response.status() == 204) {
                assert!(Instant::now() < end, "nobody can confirm from {from:?}");
            }
        }
    };
    tokio::select! { _ = attacks => {}, () = owner => {} }
    assert!(target.init.commands.lock().unwrap().contains(&Command::Confirm));
    target.survived("36 seats held by two addresses");
}

#[tokio::test]
async fn slow_handshakes_leave_the_owner_a_seat() {
    let target = Target::start();
    // The head of a record of 512 bytes with a ClientHello of 508.
    let start = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    target
        .attack(60, HOLD, async |from| {
            let mut stream = target.tcp(from).await?;
            for byte in start.into_iter().chain(std::iter::repeat(0)) {
                stream.write_all(&[byte]).await?;
                sleep(SLOW).await;
            }
            Ok(())
        })
        .await;
    target.survived("slow handshakes, 30 addresses");
}

#[tokio::test]
async fn slow_headers_and_bodies_leave_the_owner_a_seat() {
    let put = "PUT /api/v1/files/data/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    let invalid = put.replace("\r\n\r\n", "\r\nauthorization: Bearer krz_\r\n\r\n");
    for (name, start) in [
        ("slow headers", "GET /api/v1/status HTTP/1.1\r\nhost: x\r\nx: "),
        ("slow bodies without a credential", put),
        ("slow bodies with an invalid credential", &invalid),
    ] {
        let target = Target::start();
        target
            .attack(60, HOLD, async |from| {
                let mut stream = target.tls(from, b"http/1.1").await?;
                stream.write_all(start.as_bytes()).await?;
                loop {
                    stream.write_all(b"x").await?;
                    stream.flush().await?;
                    // The response, or the end.
                    if let Ok(received) = timeout(SLOW, stream.read_u8()).await {
                        received?;
                    }
                }
            })
            .await;
        target.survived(&format!("{name}, 30 addresses"));
    }
}
