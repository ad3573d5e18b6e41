//! A small HTTP server for tests, good and bad on request.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its path.
    pub(crate) path: String,
    /// The first byte of its `Range`, if it has one.
    pub(crate) from: Option<usize>,
    /// The number of this request for this path, from 0.
    pub(crate) number: usize,
}

/// A response.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Answer {
    /// A status without content.
    pub(crate) fn status(status: u16) -> Self {
        Answer { status, headers: vec!["Content-Length: 0".to_owned()], body: Vec::new() }
    }

    /// All of `body`, whatever was asked for.
    pub(crate) fn whole(body: &[u8]) -> Self {
        Answer { status: 200, headers: vec![format!("Content-Length: {}", body.len())], body: body.to_vec() }
    }

    /// `body` from a byte on.
    pub(crate) fn part(body: &[u8], from: usize) -> Self {
        let range = format!("Content-Range: bytes {from}-{}/{}", body.len() - 1, body.len());
        let mut answer = Answer::whole(&body[from..]);
        answer.status = 206;
        answer.headers.push(range);
        answer
    }

    /// The same without its length, so that only the end of the connection tells.
    pub(crate) fn without_length(mut self) -> Self {
        self.headers.retain(|header| !header.starts_with("Content-Length"));
        self
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    /// The same, but the connection breaks after `bytes` of the content.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }
}

type Handler = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

#[derive(Default)]
struct State {
    handlers: HashMap<String, Handler>,
    contents: HashMap<String, Vec<u8>>,
    asked: Vec<Asked>,
}

/// A server on this machine, until the test ends.
pub(crate) struct Server {
    base: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Starts one that has nothing yet.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || talk(stream.unwrap(), &shared));
            }
        });
        Server { base, state }
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Serves `content`, in parts where asked.
    pub(crate) fn serve(&self, path: &str, content: Vec<u8>) {
        self.state.lock().unwrap().contents.insert(path.to_owned(), content.clone());
        self.answer(
            path,
            Arc::new(move |asked| match asked.from {
                Some(from) if from < content.len() => Answer::part(&content, from),
                Some(_) => Answer::status(416),
                None => Answer::whole(&content),
            }),
        );
    }

    /// Answers requests for a path with the result of `handler`.
    pub(crate) fn answer(&self, path: &str, handler: Handler) {
        self.state.lock().unwrap().handlers.insert(path.to_owned(), handler);
    }

    /// Returns the content that `serve` was given for a path.
    pub(crate) fn content(&self, path: &str) -> Vec<u8> {
        self.state.lock().unwrap().contents[path].clone()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.asked().len()
    }

    /// The requests so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

/// One request, one answer, end of the connection. A client that goes away early is part of some tests.
fn talk(stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let path = request.split_whitespace().nth(1).unwrap().to_owned();
    let mut from = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
    }
    let mut locked = state.lock().unwrap();
    let number = locked.asked.iter().filter(|asked| asked.path == path).count();
    let asked = Asked { path, from, number };
    locked.asked.push(asked.clone());
    let handler = locked.handlers.get(&asked.path).cloned();
    drop(locked);
    let answer = handler.map_or_else(|| Answer::status(404), |handler| handler(&asked));
    let mut head = format!("HTTP/1.1 {} Text\r\nConnection: close\r\n", answer.status);
    for header in &answer.headers {
        head += &format!("{header}\r\n");
    }
    let mut stream = &stream;
    let _gone =
        stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&answer.body));
}
