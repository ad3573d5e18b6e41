//! Paths that lead out of `/data`, and the credentials in it.

use std::os::unix::fs::symlink;
use std::time::Duration;

use super::Target;
use crate::device::token;

const WAIT: Duration = Duration::from_secs(2);
const SECRET: &str = "the secret outside";

/// Ways to write `/` and `..`.
const SLASHES: &[&str] =
    &["/", "//", "%2f", "%2F", "%252f", "\\", "%5c", "%c0%af", "%ef%bc%8f", "/%00/", "/./", ";/"];
const PARENTS: &[&str] =
    &["..", "%2e%2e", ".%2e", "%252e%252e", "..%00", "...", "%c0%ae%c0%ae", "..%09", "..;", "%uff0e%uff0e"];

/// The corpus of paths after `/api/v1/files/` and `/api/v1/directories/`.
fn corpus() -> Vec<String> {
    let mut paths: Vec<String> = [
        "secret",
        "/secret",
        "//secret",
        "%2fsecret",
        "\\secret",
        "C:\\secret",
        "file:///secret",
        "proc/self/root/secret",
        "data/link",
        "data/absolute",
        "data/up/secret",
        "data/up/data/link",
        "data/krazy/tls/key.pem",
        "data/krazy/tokens.json",
        "data/krazy/tls/../tls/key.pem",
        "data/KRAZY/tls/key.pem",
        "data/loop",
        "data/proc/root/secret",
        "tmp/link.log",
        "tmp/../secret",
        "tmp/private",
        "data/%00",
        "data/x%00/../../secret",
        "data/..",
        "..",
        ".",
        "",
    ]
    .map(String::from)
    .into();
    for slash in SLASHES {
        for parent in PARENTS {
            paths.push(format!("data{slash}{parent}{slash}secret"));
            paths.push(format!("{parent}{slash}secret"));
            paths.push(format!("data/a{slash}{parent}{slash}{parent}{slash}secret"));
        }
    }
    paths
}

#[tokio::test]
async fn no_path_leads_out_of_the_data_directory() {
    let target = Target::start();
    let (secret, data) = (target.path("secret"), target.path("data"));
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::create_dir(data.join("a")).unwrap();
    for (to, name) in [
        ("../secret".as_ref(), "data/link"),
        (secret.as_path(), "data/absolute"),
        ("..".as_ref(), "data/up"),
        ("loop".as_ref(), "data/loop"),
        ("/proc/self".as_ref(), "data/proc"),
        ("../../secret".as_ref(), "run/log/link.log"),
    ] {
        symlink(to, target.path(name)).unwrap();
    }
    let key = std::fs::read_to_string(data.join("krazy/tls/key.pem")).unwrap();
    let tokens = std::fs::read(data.join("krazy/tokens.json")).unwrap();
    let corpus = corpus();
    // Links are replaced and removed as links, so reading comes first.
    for (kind, method) in [
        ("files", "GET"),
        ("directories", "GET"),
        ("files", "PUT"),
        ("directories", "PUT"),
        ("files", "DELETE"),
        ("directories", "DELETE"),
    ] {
        for paths in corpus.chunks(20) {
            let mut requests = String::new();
            for (n, path) in paths.iter().enumerate() {
                let close = if n + 1 == paths.len() { "connection: close\r\n" } else { "" };
                let (token, body) = (token("admin"), if method == "PUT" { "evil" } else { "" });
                requests += &format!(
                    "{method} /api/v1/{kind}/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
                     {close}content-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
            let responses = target.exchange([127, 0, 6, 8], requests.as_bytes(), WAIT).await;
            assert!(!responses.contains(SECRET) && !responses.contains(&key), "{paths:?}: {responses}");
            assert!(!responses.contains("HTTP/1.1 50"), "{paths:?}: {responses}");
            assert_eq!(responses.matches("HTTP/1.1 ").count(), paths.len(), "{paths:?}: {responses}");
        }
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), SECRET, "{method} of {kind}");
        assert_eq!(
            std::fs::read_to_string(data.join("krazy/tls/key.pem")).unwrap(),
            key,
            "{method} of {kind}"
        );
        assert_eq!(std::fs::read(data.join("krazy/tokens.json")).unwrap(), tokens, "{method} of {kind}");
    }
    target.survived(&format!("{} paths", corpus.len()));
}
