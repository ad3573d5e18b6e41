//! Downloads from servers that behave and servers that do not.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::download::test_server::{Answer, Server};
use crate::failure::Exit;

const PATH: &str = "/file";

struct Setup {
    server: Server,
    directory: tempfile::TempDir,
    content: Vec<u8>,
}

impl Setup {
    fn new() -> Self {
        let content = (0..100_000u32).flat_map(|n| n.to_le_bytes()).collect();
        Setup { server: Server::start(), directory: tempfile::tempdir().unwrap(), content }
    }

    fn expected(&self) -> Expected {
        let sha256 = hex(&Sha256::digest(&self.content));
        Expected { size: Some(self.content.len() as u64), sha256, limit: 1 << 20 }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("file")
    }

    fn part(&self) -> PathBuf {
        self.directory.path().join("file.part")
    }

    fn fetch_as(&self, expected: &Expected) -> Result<(), String> {
        let fetched = Fetcher::for_tests().to_file(&self.server.url(PATH), &self.file(), expected);
        assert_eq!(fetched.is_ok(), self.file().exists());
        fetched.map_err(|error| error.to_string().replace(&self.server.url(""), "URL"))
    }

    fn fetch(&self) -> Result<(), String> {
        self.fetch_as(&self.expected())
    }

    fn assert_complete(&self) {
        assert!(std::fs::read(self.file()).unwrap() == self.content);
        assert!(!self.part().exists());
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.server.asked().iter().map(|asked| asked.from).collect()
    }
}

#[test]
fn cut_connection_is_resumed() {
    let setup = Setup::new();
    let content = setup.content.clone();
    setup.server.answer(
        PATH,
        Arc::new(move |asked| match asked.from {
            None => Answer::whole(&content).cut(1000),
            Some(from) if asked.number < 6 => Answer::part(&content, from).cut(1000),
            Some(from) => Answer::part(&content, from),
        }),
    );
    setup.fetch().unwrap();
    setup.assert_complete();
    let ranges = setup.ranges();
    assert_eq!((ranges.len(), ranges[0]), (7, None));
    assert!(ranges[1..].iter().all(|range| range.is_some_and(|from| from > 0)), "{ranges:?}");
}

#[test]
fn earlier_run_is_continued() {
    let setup = Setup::new();
    setup.server.serve(PATH, setup.content.clone());
    std::fs::write(setup.part(), &setup.content[..123]).unwrap();
    setup.fetch().unwrap();
    setup.assert_complete();
    assert_eq!(setup.ranges(), [Some(123)]);
}

#[test]
fn complete_part_needs_only_its_name() {
    let setup = Setup::new();
    std::fs::write(setup.part(), &setup.content).unwrap();
    setup.fetch().unwrap();
    setup.assert_complete();
    assert_eq!(setup.server.requests(), 0);
}

#[test]
fn leftovers_of_another_file_are_dropped() {
    let setup = Setup::new();
    setup.server.serve(PATH, setup.content.clone());
    for leftover in [vec![9; 123], vec![9; setup.content.len()], vec![9; setup.content.len() + 5]] {
        std::fs::write(setup.part(), leftover).unwrap();
        setup.fetch().unwrap();
        setup.assert_complete();
        std::fs::remove_file(setup.file()).unwrap();
    }
}

#[test]
fn server_without_ranges_sends_all_again() {
    let setup = Setup::new();
    let content = setup.content.clone();
    setup.server.answer(PATH, Arc::new(move |_| Answer::whole(&content)));
    std::fs::write(setup.part(), [9; 123]).unwrap();
    setup.fetch().unwrap();
    setup.assert_complete();
}

#[test]
fn wrong_range_is_not_used() {
    let setup = Setup::new();
    let content = setup.content.clone();
    setup.server.answer(
        PATH,
        Arc::new(move |asked| match asked.from {
            Some(_) => Answer::part(&content, 7),
            None => Answer::whole(&content),
        }),
    );
    std::fs::write(setup.part(), &setup.content[..123]).unwrap();
    setup.fetch().unwrap();
    setup.assert_complete();
}

#[test]
fn dead_connection_keeps_its_bytes() {
    let setup = Setup::new();
    let content = setup.content.clone();
    setup.server.answer(
        PATH,
        Arc::new(move |asked| match asked.from {
            None => Answer::whole(&content).without_length().cut(5000),
            Some(_) => Answer::status(503),
        }),
    );
    assert_eq!(setup.fetch().unwrap_err(), "failed to download URL/file: status 503 Service Unavailable");
    assert_eq!(std::fs::read(setup.part()).unwrap(), setup.content[..5000]);
    assert_eq!(setup.server.requests(), 5, "one that got on, four that did not");

    let content = setup.content.clone();
    setup.server.answer(
        PATH,
        Arc::new(move |asked| Answer::part(&content, asked.from.unwrap()).cut(0).without_length()),
    );
    assert_eq!(
        setup.fetch().unwrap_err(),
        "failed to download URL/file: the connection ended after 5000 of 400000 bytes"
    );
}

#[test]
fn announced_version_is_asked_for_again() {
    let setup = Setup::new();
    let content = setup.content.clone();
    setup.server.answer(
        PATH,
        Arc::new(move |asked| match asked.from {
            None => Answer::whole(&content).header("ETag: \"one\"").cut(10),
            Some(from) => Answer::part(&content, from).header("ETag: \"one\""),
        }),
    );
    setup.fetch().unwrap();
    setup.assert_complete();
}

#[test]
fn wrong_content_is_refused_and_removed() {
    let setup = Setup::new();
    let mut other = setup.content.clone();
    other[5] ^= 1;
    setup.server.serve(PATH, other.clone());
    let (found, wanted) = (hex(&Sha256::digest(&other)), setup.expected().sha256);
    assert_eq!(
        setup.fetch().unwrap_err(),
        format!("URL/file has the wrong content: its SHA-256 is {found}, not {wanted}")
    );
    assert!(!setup.part().exists());

    setup.server.serve(PATH, setup.content[1..].to_vec());
    assert_eq!(setup.fetch().unwrap_err(), "URL/file has 399999 bytes, not the expected 400000");
    let content = setup.content.clone();
    setup
        .server
        .answer(PATH, Arc::new(move |_| Answer::whole(&[&content[..], b"more"].concat()).without_length()));
    assert!(setup.fetch().unwrap_err().ends_with("not the expected 400000"));
    let unsized_ = Expected { size: None, limit: 1000, ..setup.expected() };
    assert_eq!(setup.fetch_as(&unsized_).unwrap_err(), "URL/file is larger than 1000 bytes");
    assert!(!setup.part().exists());
}

#[test]
fn refusals_are_final_and_named() {
    let setup = Setup::new();
    assert_eq!(setup.fetch().unwrap_err(), "URL/file does not exist (status 404)");
    assert_eq!(setup.server.requests(), 1);
    setup.server.answer(PATH, Arc::new(|_| Answer::status(403)));
    assert_eq!(setup.fetch().unwrap_err(), "failed to download URL/file: the server answered 403 Forbidden");
    assert_eq!(setup.server.requests(), 2);
    let failure = Failure::from(DownloadError::Failed { url: "u".into(), why: "w".into() });
    let error = anyhow::Error::from(failure);
    assert!(Failure::help_of(&error).unwrap().contains("the next run resumes"));
    assert_eq!(Failure::exit_of(&error), Exit::Fetch);
}

#[test]
fn unreachable_server_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    drop(listener);
    let directory = tempfile::tempdir().unwrap();
    let expected = Expected { size: None, sha256: String::new(), limit: 9 };
    let error = Fetcher::for_tests().to_file(&url, &directory.path().join("f"), &expected).unwrap_err();
    assert!(error.to_string().to_lowercase().contains("connection refused"), "{error}");
}

#[test]
fn memory_is_bounded_too() {
    let setup = Setup::new();
    setup.server.serve(PATH, setup.content.clone());
    let fetcher = Fetcher::for_tests();
    let url = setup.server.url(PATH);
    assert!(fetcher.to_memory(&url, 400_000, Some(&setup.expected())).unwrap() == setup.content);
    let error = fetcher.to_memory(&url, 399_999, None).unwrap_err();
    assert!(error.to_string().ends_with("is larger than 399999 bytes"), "{error}");
    let content = setup.content.clone();
    setup.server.answer(PATH, Arc::new(move |_| Answer::whole(&content).cut(100)));
    let error = fetcher.to_memory(&url, 400_000, None).unwrap_err();
    assert!(matches!(error, DownloadError::Failed { .. }), "{error}");
}
