//! Figures for people: memory, throughput, and the time of a small request. `cargo nextest run -p krazy-admind
//! --run-ignored only figures --no-capture`; with `KRAZY_ADMIND` set to another executable, of both, in turn.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, StatusCode};

use crate::device::{client, create, tls, token};
use crate::process::{BINARY, Process};

const CHUNK_LEN: usize = 64 << 10;
const CHUNKS: usize = 1024;
const REQUESTS: u32 = 200;
const ROUNDS: usize = 5;

/// The times of one executable.
#[derive(Default)]
struct Figures {
    upload: Vec<Duration>,
    download: Vec<Duration>,
    request: Vec<Duration>,
}

#[tokio::test]
#[ignore = "it judges nothing"]
#[allow(clippy::print_stdout, reason = "figures for people")]
async fn memory_and_speed() {
    let other = std::env::var("KRAZY_ADMIND").ok();
    let programs: Vec<&str> = [BINARY].into_iter().chain(other.as_deref()).collect();
    let mut figures: Vec<Figures> = programs.iter().map(|_| Figures::default()).collect();
    for round in 0..ROUNDS {
        for (program, figures) in programs.iter().zip(&mut figures) {
            measure(program, round, figures).await;
        }
    }
    let mib = |times: &[Duration]| {
        let median = median(times);
        format!("{:.0} MiB/s", (CHUNKS * CHUNK_LEN >> 20) as f64 / median.as_secs_f64())
    };
    for (program, figures) in programs.iter().zip(&figures) {
        println!(
            "{program}: upload {}, download {}, {:?} a request",
            mib(&figures.upload),
            mib(&figures.download),
            median(&figures.request)
        );
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

#[allow(clippy::print_stdout, reason = "figures for people")]
async fn measure(program: &str, round: usize, figures: &mut Figures) {
    // In memory: an upload is synced to the disk.
    let directory = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let root = tempfile::tempdir_in(directory).unwrap();
    let certificate = create(root.path());
    let (process, address) = Process::start(program, &[], root.path());
    if round == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("{program}: {} bytes", std::fs::metadata(program).unwrap().len());
        for field in ["VmRSS", "VmHWM", "RssAnon", "RssFile"] {
            println!("{program}: idle {field} {:?} KiB", process.kib_each(field));
        }
    }
    let client = client(address, tls(&certificate), IpAddr::from([127, 0, 0, 1]));
    let url = |path: &str| format!("https://localhost:{}{path}", address.port());
    let chunk = Bytes::from(vec![0xa5; CHUNK_LEN]);
    let chunks = stream::iter((0..CHUNKS).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let start = Instant::now();
    let file = url("/api/v1/files/data/big");
    let request = client.put(&file).bearer_auth(token("admin")).body(Body::wrap_stream(chunks));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::CREATED);
    figures.upload.push(start.elapsed());
    let start = Instant::now();
    let mut response = client.get(&file).bearer_auth(token("admin")).send().await.unwrap();
    let mut received = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        received += chunk.len();
    }
    assert_eq!(received, CHUNKS * CHUNK_LEN);
    figures.download.push(start.elapsed());
    let start = Instant::now();
    for _ in 0..REQUESTS {
        let response = client.get(url("/api/v1/certificate")).bearer_auth(token("viewer")).send().await;
        response.unwrap().bytes().await.unwrap();
    }
    figures.request.push(start.elapsed() / REQUESTS);
}
