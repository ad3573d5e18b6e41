//! A server of a few files on this machine, for the real program to ask.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Serves `files`, each a path and its content, for as long as the tests run. Returns the server's URL.
pub fn serve(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &files);
        }
    });
    url
}

fn answer(mut stream: TcpStream, files: &[(&str, Vec<u8>)]) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    // All of the request is read, so that the connection is not reset before the answer was.
    lines.find(String::is_empty);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match files.iter().find(|(name, _)| *name == path) {
        Some((_, content)) => ("200 OK", content.as_slice()),
        None => ("404 Not Found", &[][..]),
    };
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    // A client that refuses an answer early may be gone.
    let _gone = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
