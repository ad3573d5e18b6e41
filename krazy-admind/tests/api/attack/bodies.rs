//! Bodies announced with 10 GiB, on every operation.

use std::time::Duration;

use krazy_boot::api::{Access, Operation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Target, long};
use crate::access::{operations, path};
use crate::device::token;

/// Bytes that are sent of each.
const SENT: usize = 256 << 10;
/// Time to reject a request in.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to wait for other responses, with most of the body still to come.
const REPLY_TIMEOUT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn bodies_of_10_gib_are_bounded_on_every_operation() {
    let target = Target::start();
    for (operation, definition) in operations() {
        for (n, who) in ["", "viewer", "admin"].into_iter().enumerate() {
            if (operation, who) == (Operation::FlashDisk, "admin") {
                // It destroys the disk that others read.
                continue;
            }
            for chunked in [false, true] {
                let (length, part) = match chunked {
                    true => ("transfer-encoding: chunked", b"280000000\r\n".to_vec()),
                    false => ("content-length: 10737418240", Vec::new()),
                };
                let credential = match who {
                    "" => String::new(),
                    who => format!("authorization: Bearer {}\r\n", token(who)),
                };
                let head = format!(
                    "{} {} HTTP/1.1\r\nhost: x\r\n{credential}{length}\r\n\r\n",
                    definition.method.name(),
                    path(operation)
                );
                let sent = if long() { SENT * 32 } else { SENT };
                let body = [head.into_bytes(), part, vec![b'x'; sent]].concat();
                let rejected = match who {
                    "" => definition.access != Access::Open,
                    who => who == "viewer" && definition.access == Access::Admin,
                };
                let mut stream = target.tls([127, 0, 6, n as u8 + 1], b"http/1.1").await.unwrap();
                let mut response = Vec::new();
                let talk = async {
                    // The server may close before it has read everything.
                    let _sent = stream.write_all(&body).await;
                    let _flushed = stream.flush().await;
                    let wait = if rejected { REJECTION_TIMEOUT } else { REPLY_TIMEOUT };
                    let _end = timeout(wait, stream.read_buf(&mut response)).await;
                };
                timeout(2 * REJECTION_TIMEOUT, talk).await.expect("the server neither reads nor closes");
                let response = String::from_utf8_lossy(&response);
                let status: u16 = response.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
                let case = format!("{operation:?} as `{who}`: {response}");
                // 0: it waits for more.
                match (rejected, who) {
                    (true, "") => assert_eq!(status, 401, "{case}"),
                    (true, _) => assert_eq!(status, 403, "{case}"),
                    (false, _) => assert!(status < 500 || status == 503, "{case}"),
                }
            }
        }
    }
    assert!(!target.path("data/x").exists(), "half a file was published");
    target.survived("bodies of 10 GiB");
}
