//! As much of an HTTP/1.1 server as the example needs: GET and HEAD, one request a connection, everything bounded.
//! Source: RFC 9112.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest request head that is read.
const MAX_HEAD: usize = 8 << 10;

/// The longest time a client may take for its request, and again to take the response.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a client asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The path without the query, beginning with `/`.
    pub path: String,
    /// Whether only the head of the response is wanted.
    pub head: bool,
}

/// What it gets.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The media type of the body.
    pub media_type: &'static str,
    /// The body.
    pub body: String,
}

impl Response {
    /// A page.
    pub fn html(body: String) -> Self {
        Response { status: 200, media_type: "text/html; charset=utf-8", body }
    }

    /// A JSON document.
    pub fn json(body: String) -> Self {
        Response { status: 200, media_type: "application/json", body }
    }

    /// Plain text.
    pub fn text(body: String) -> Self {
        Response { status: 200, media_type: "text/plain; charset=utf-8", body }
    }

    /// A line of text that says what went wrong.
    pub fn error(status: u16, message: &str) -> Self {
        Response { status, ..Response::text(format!("{message}\n")) }
    }
}

/// Answers requests with `handler` on `workers` threads until accepting fails.
///
/// Each worker accepts its own connections, so their number bounds threads and memory.
pub fn serve<H>(listener: TcpListener, workers: usize, handler: Arc<H>) -> io::Result<()>
where
    H: Fn(&Request) -> Response + Send + Sync + 'static,
{
    let listener = Arc::new(listener);
    let spawn = |_| {
        let (listener, handler) = (listener.clone(), handler.clone());
        std::thread::Builder::new().spawn(move || accept(&listener, &*handler))
    };
    let threads = (0..workers).map(spawn).collect::<io::Result<Vec<_>>>()?;
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a worker panicked"))??;
    }
    Ok(())
}

fn accept(listener: &TcpListener, handler: &dyn Fn(&Request) -> Response) -> io::Result<()> {
    loop {
        match listener.accept() {
            // A client that went away is its own problem.
            Ok((stream, _)) => _ = converse(stream, handler),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads one request and answers it.
fn converse(mut stream: TcpStream, handler: &dyn Fn(&Request) -> Response) -> io::Result<()> {
    stream.set_write_timeout(Some(DEADLINE))?;
    let (response, head) = match read_head(&mut stream, Instant::now() + DEADLINE)? {
        None => (Response::error(431, "the request is too long"), false),
        Some(bytes) => match parse(&bytes) {
            Ok(request) => (handler(&request), request.head),
            Err(response) => (response, false),
        },
    };
    write!(
        stream,
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        response.status,
        reason(response.status),
        response.media_type,
        response.body.len(),
    )?;
    if !head {
        stream.write_all(response.body.as_bytes())?;
    }
    // Closing with unread bytes would reset the connection and could take the response with it (RFC 9112, 9.6).
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    io::copy(&mut stream.take(64 << 10), &mut io::sink())?;
    Ok(())
}

/// The bytes up to the empty line, or `None` if there are more than [`MAX_HEAD`].
fn read_head(stream: &mut TcpStream, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if bytes.len() > MAX_HEAD {
            return Ok(None);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
    Ok(Some(bytes))
}

/// Reads the request line; the headers change nothing here.
fn parse(head: &[u8]) -> Result<Request, Response> {
    let wrong = || Response::error(400, "not an HTTP/1 request");
    let line = head.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.ok_or_else(wrong)?.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong());
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(wrong());
    }
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Response::error(405, "only GET and HEAD")),
    };
    let path = target.split('?').next().unwrap_or(target).to_owned();
    Ok(Request { path, head })
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `request` to a server that echoes the path and returns everything it says.
    fn exchange(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            converse(stream, &|request| Response::text(request.path.clone()))
        });
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    #[test]
    fn answers_get_and_head() {
        let response = exchange(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\n/a"), "{response}");
        let response = exchange(b"HEAD /a HTTP/1.1\r\n\r\n");
        assert!(response.contains("Content-Length: 2\r\n") && response.ends_with("\r\n\r\n"), "{response}");
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        assert!(exchange(b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(exchange(b"\xff\xfe\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(exchange(b"GET x y z HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(exchange(b"GET / SPDY/3\r\n\r\n").starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn an_endless_head_is_cut_off() {
        assert!(exchange(&[b'x'; MAX_HEAD + 4096]).starts_with("HTTP/1.1 431 "));
    }
}
