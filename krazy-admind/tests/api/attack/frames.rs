//! Floods of header fields and of HTTP/2 frames (RFC 9113).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Target;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const FLOOD: Duration = Duration::from_millis(500);

/// `:method: GET`, `:scheme: https`, `:path: /`, `:authority: x` in HPACK.
const REQUEST: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'x'];
/// A field `a: b` that is not indexed.
const FIELD: &[u8] = &[0, 1, b'a', 1, b'b'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the numbers of `count` streams of a client.
fn streams(round: u32, count: u32) -> impl Iterator<Item = u32> {
    (round * count..(round + 1) * count).map(|n| 2 * n + 1)
}

/// Floods with the frames that `round` returns for 0, 1, 2, …, on two connections, renewed when
/// they end. Responses are left unread unless `read` is set.
async fn flood(name: &str, read: bool, round: impl Fn(u32) -> Vec<u8>) {
    let target = Target::start();
    target
        .attack(2, FLOOD, async |from| {
            let stream = target.tls(from, b"h2").await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            let start = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
            writer.write_all(&start).await?;
            let write = async {
                for n in 0.. {
                    writer.write_all(&round(n)).await?;
                    writer.flush().await?;
                }
                Ok(())
            };
            let drain = async {
                let mut buffer = vec![0; 16 << 10];
                match read {
                    true => while reader.read(&mut buffer).await? > 0 {},
                    false => std::future::pending().await,
                }
                Ok(())
            };
            tokio::select! { end = write => end, end = drain => end }
        })
        .await;
    target.survived(name);
}

#[tokio::test]
async fn floods_of_frames_are_bounded() {
    flood("HTTP/2 SETTINGS flood", false, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(500)).await;
    flood("HTTP/2 PING flood", false, |_| frame(PING, 0, 0, &[0; 8]).repeat(500)).await;
    flood("HTTP/2 WINDOW_UPDATE and PRIORITY flood", false, |_| {
        [frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])]
            .concat()
            .repeat(250)
    })
    .await;
    flood("HTTP/2 empty DATA flood", true, |n| {
        let open = if n == 0 { frame(HEADERS, END_HEADERS, 1, REQUEST) } else { Vec::new() };
        [open, frame(DATA, 0, 1, &[]).repeat(500)].concat()
    })
    .await;
}

#[tokio::test]
async fn floods_of_streams_are_bounded() {
    flood("HTTP/2 rapid reset", true, |n| {
        let one = |stream| {
            [
                frame(HEADERS, END_HEADERS | END_STREAM, stream, REQUEST),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ]
            .concat()
        };
        streams(n, 100).flat_map(one).collect()
    })
    .await;
    flood("HTTP/2 streams without end", true, |n| {
        streams(n, 100).flat_map(|stream| frame(HEADERS, END_HEADERS, stream, REQUEST)).collect()
    })
    .await;
    // Nobody reads the responses.
    flood("HTTP/2 requests with a window of 0", false, |n| {
        let window = if n == 0 { frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]) } else { Vec::new() };
        let one = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, REQUEST);
        [window, streams(n, 16).flat_map(one).collect()].concat()
    })
    .await;
}

#[tokio::test]
async fn floods_of_header_fields_are_bounded() {
    flood("HTTP/2 CONTINUATION flood", true, |n| {
        let open = if n == 0 { frame(HEADERS, END_STREAM, 1, REQUEST) } else { Vec::new() };
        [open, frame(CONTINUATION, 0, 1, &FIELD.repeat(3000))].concat()
    })
    .await;
    // 4,000 fields of one byte each refer to one of 4,000 bytes in the table of HPACK.
    flood("HPACK bomb", true, |n| {
        let large = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'x'; 4000]].concat();
        let block = [REQUEST, &large, &[0xbe].repeat(4000)].concat();
        streams(n, 4).flat_map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).collect()
    })
    .await;
    let target = Target::start();
    target
        .attack(2, FLOOD, async |from| {
            let mut stream = target.tls(from, b"http/1.1").await?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await?;
            loop {
                stream.write_all(&b"x: y\r\n".repeat(500)).await?;
                stream.flush().await?;
            }
        })
        .await;
    target.survived("HTTP/1.1 header flood");
}
