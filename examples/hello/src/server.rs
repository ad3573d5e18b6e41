//! A minimal HTTP/1.1 server (RFC 9112): GET and HEAD, one request per connection, with limits on time and memory.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The limit on the length of a request's head.
const MAX_HEAD_LEN: usize = 8 << 10;

/// The limit on sending a request, and on each write of the response.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The path without the query; it starts with `/`.
    pub path: String,
    /// Set if only the head of the response is requested.
    pub head: bool,
}

/// A response.
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
    /// An HTML page.
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

    /// An error with a line of text.
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

/// Accepts connections until that fails, and serves each.
fn accept(listener: &TcpListener, handler: &dyn Fn(&Request) -> Response) -> io::Result<()> {
    loop {
        match listener.accept() {
            // A lost connection needs no action.
            Ok((stream, _)) => _ = respond(stream, handler),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads one request and answers it.
fn respond(mut stream: TcpStream, handler: &dyn Fn(&Request) -> Response) -> io::Result<()> {
    stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let (response, head) = match read_head(&mut stream, Instant::now() + CLIENT_TIMEOUT)? {
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
    // Closing with unread bytes resets the connection, and the client may lose the response (RFC 9112, section 9.6).
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    io::copy(&mut stream.take(64 << 10), &mut io::sink())?;
    Ok(())
}

/// Reads up to the empty line. Returns `None` if there are more than [`MAX_HEAD_LEN`].
fn read_head(stream: &mut TcpStream, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if bytes.len() > MAX_HEAD_LEN {
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

/// Parses the request line. The headers are ignored.
fn parse(head: &[u8]) -> Result<Request, Response> {
    let invalid = || Response::error(400, "not an HTTP/1 request");
    let line = head.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let mut fields = line.ok_or_else(invalid)?.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(invalid());
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(invalid());
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

    /// Sends `request` to a server that echoes the path. Returns its response.
    fn exchange(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            respond(stream, &|request| Response::text(request.path.clone()))
        });
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    #[test]
    fn get_and_head_are_answered() {
        let response = exchange(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\n/a"), "{response}");
        let response = exchange(b"HEAD /a HTTP/1.1\r\n\r\n");
        assert!(response.contains("Content-Length: 2\r\n") && response.ends_with("\r\n\r\n"), "{response}");
    }

    #[test]
    fn unsupported_requests_are_rejected() {
        assert!(exchange(b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(exchange(b"\xff\xfe\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(exchange(b"GET x y z HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(exchange(b"GET / SPDY/3\r\n\r\n").starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn overlong_head_is_rejected() {
        assert!(exchange(&[b'x'; MAX_HEAD_LEN + 4096]).starts_with("HTTP/1.1 431 "));
    }
}
