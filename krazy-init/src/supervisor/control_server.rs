//! Init's side of the control socket: connections, lines in, lines out. The meaning of requests is in
//! [`requests`](super::requests).

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::poller::{Poller, Source};
use crate::control::{ErrorKind, LogLine, MAX_LINE, Reply, Request, Response};

/// The most connections at a time; further ones are closed.
const MAX_CLIENTS: usize = 64;

/// The most connections held for long: by services that may control init, or by clients that follow a log. The rest is
/// left for requests of root, which are answered at once.
const MAX_HELD: usize = 48;

/// The most bytes that wait for a client that does not read; beyond it, the connection is closed.
const MAX_BACKLOG: usize = 4 << 20;

/// The listening socket and its connections, by number.
#[derive(Debug)]
pub(super) struct ControlServer {
    /// `None` before [`ControlServer::listen`] succeeded.
    listener: Option<UnixListener>,
    clients: BTreeMap<u32, Connection>,
    next: u32,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    follows: Option<usize>,
    /// True if the peer has init's own account.
    own: bool,
}

/// The result of reading from a connection.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    /// These requests, in order.
    Requests(Vec<Result<Request, Response>>),
    /// The client is gone.
    Closed,
}

impl ControlServer {
    /// A server without a socket, so without connections.
    pub(super) fn closed() -> Self {
        ControlServer { listener: None, clients: BTreeMap::new(), next: 0 }
    }

    /// Listens at `path`, in a directory that only root and the members of `group` enter.
    pub(super) fn listen(&mut self, path: &Path, group: u32, poller: &Poller) -> io::Result<()> {
        let listener = bind(path, group)?;
        poller.add(&listener, Source::Listener)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Accepts one connection, if one waits and there is room, and waits for its requests.
    pub(super) fn accept(&mut self, poller: &Poller) {
        if let Some(client) = self.accept_one()
            && let Some(connection) = self.clients.get(&client)
            && poller.add(&connection.stream, Source::Client(client)).is_err()
        {
            self.close(client);
        }
    }

    fn accept_one(&mut self) -> Option<u32> {
        let (stream, _) = self.listener.as_ref()?.accept().ok()?;
        // Root and not a group: a service in the control group may hold connections, but not the last ones.
        let own = socket_peercred(&stream).is_ok_and(|peer| peer.uid == geteuid());
        let room = self.clients.len() < MAX_CLIENTS && (own || self.held() < MAX_HELD);
        if !room || stream.set_nonblocking(true).is_err() {
            return None;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let connection = Connection { stream, input: Vec::new(), output: Vec::new(), follows: None, own };
        self.clients.insert(number, connection);
        Some(number)
    }

    /// Serves a connection that is readable or takes more: writes what waits, and returns the requests that came, with
    /// the response for each that is none. Closes it if the client is gone.
    pub(super) fn receive(&mut self, client: u32) -> Vec<Result<Request, Response>> {
        self.write(client);
        match self.read(client) {
            Input::Requests(requests) => requests,
            Input::Closed => {
                self.close(client);
                Vec::new()
            }
        }
    }

    /// Waits for room to write to the connection while something is to be written.
    pub(super) fn watch(&self, client: u32, poller: &Poller) {
        if let Some(connection) = self.clients.get(&client) {
            let is_behind = !connection.output.is_empty();
            // A client that cannot be watched is served when it next writes.
            let _unwatched = poller.set_writing(&connection.stream, Source::Client(client), is_behind);
        }
    }

    /// Reads from a connection.
    fn read(&mut self, client: u32) -> Input {
        let Some(connection) = self.clients.get_mut(&client) else { return Input::Closed };
        let mut buffer = [0u8; 4096];
        loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => return Input::Closed,
                Ok(length) => connection.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Input::Closed,
            }
            // Parsed before more is read, so that a client cannot grow this buffer beyond one request.
            if connection.input.len() > MAX_LINE {
                break;
            }
        }
        Input::Requests(connection.requests())
    }

    /// Sends an answer.
    pub(super) fn answer(&mut self, client: u32, response: &Response) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.output.extend(response.to_line());
        }
        self.write(client);
    }

    /// From now on the connection gets the lines of `service`; false if too many connections are held already.
    pub(super) fn follow(&mut self, client: u32, service: usize) -> bool {
        let room = self.held() < MAX_HELD;
        let Some(connection) = self.clients.get_mut(&client) else { return false };
        if !room && !connection.is_held() {
            return false;
        }
        connection.follows = Some(service);
        true
    }

    fn held(&self) -> usize {
        self.clients.values().filter(|connection| connection.is_held()).count()
    }

    /// Returns true if a client follows `service`.
    pub(super) fn is_followed(&self, service: usize) -> bool {
        self.clients.values().any(|connection| connection.follows == Some(service))
    }

    /// Sends a line to those who follow `service`.
    pub(super) fn publish(&mut self, service: usize, line: &LogLine) {
        let bytes = Response::ok(Reply::Line(line.clone())).to_line();
        let followers: Vec<u32> = self
            .clients
            .iter()
            .filter(|(_, connection)| connection.follows == Some(service))
            .map(|(client, _)| *client)
            .collect();
        for client in &followers {
            if let Some(connection) = self.clients.get_mut(client) {
                connection.output.extend(&bytes);
            }
            self.write(*client);
        }
    }

    /// Writes what the connection takes now; closes one that does not read.
    fn write(&mut self, client: u32) {
        let Some(connection) = self.clients.get_mut(&client) else { return };
        while !connection.output.is_empty() {
            match connection.stream.write(&connection.output) {
                Ok(length @ 1..) => drop(connection.output.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => return self.close(client),
            }
        }
        if connection.output.len() > MAX_BACKLOG {
            self.close(client);
        } else if connection.output.is_empty() {
            // Gives the memory back: an answer with logs takes megabytes, the connection may stay for weeks.
            connection.output = Vec::new();
        }
    }

    /// Closes a connection.
    fn close(&mut self, client: u32) {
        self.clients.remove(&client);
    }
}

/// Binds a socket with mode 0660 in a directory with mode 0710, both of root and `group`.
fn bind(path: &Path, group: u32) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        match DirBuilder::new().mode(0o710).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => give(directory, group)?,
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    give(path, group)?;
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Gives a file to `group`. Only root can; a test's socket is its own.
fn give(path: &Path, group: u32) -> io::Result<()> {
    if geteuid().is_root() { lchown(path, Some(0), Some(group)) } else { Ok(()) }
}

impl Connection {
    fn is_held(&self) -> bool {
        !self.own || self.follows.is_some()
    }

    /// Cuts complete lines off the input. A line that is too long is answered once and the rest dropped.
    fn requests(&mut self) -> Vec<Result<Request, Response>> {
        let mut requests = Vec::new();
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            requests
                .push(Request::from_line(&line).map_err(|error| Response::error(error.kind, error.message)));
        }
        if self.input.len() > MAX_LINE {
            self.input.clear();
            let text = format!("a request of more than {MAX_LINE} bytes");
            requests.push(Err(Response::error(ErrorKind::Malformed, text)));
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::control::{Command, LogStream};

    fn pair() -> (tempfile::TempDir, ControlServer, u32, UnixStream) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("krazy/control.sock");
        let mut server = ControlServer::closed();
        server.listen(&path, 0, &Poller::new().unwrap()).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let number = server.accept_one().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        (dir, server, number, client)
    }

    #[test]
    fn requests_may_come_in_pieces_and_several_at_once() {
        let (_dir, mut server, number, mut client) = pair();
        let request = Request { version: 1, command: Command::List };
        let line = request.to_line();
        client.write_all(&line[..5]).unwrap();
        assert_eq!(server.read(number), Input::Requests(Vec::new()));
        client.write_all(&line[5..]).unwrap();
        client.write_all(b"nonsense\n").unwrap();
        client.write_all(&line).unwrap();
        let Input::Requests(requests) = server.read(number) else { panic!() };
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[0], Ok(request));
        assert!(requests[1].is_err() && requests[2].is_ok());
        drop(client);
        assert_eq!(server.read(number), Input::Closed);
    }

    #[test]
    fn line_that_is_too_long_is_refused_and_not_kept() {
        let (_dir, mut server, number, mut client) = pair();
        let writer = std::thread::spawn(move || {
            client.write_all(&vec![b'x'; 3 * MAX_LINE]).unwrap();
            client
        });
        let mut refusals = 0;
        while refusals == 0 {
            match server.read(number) {
                Input::Requests(requests) => refusals += requests.len(),
                Input::Closed => panic!(),
            }
            assert!(server.clients[&number].input.len() <= MAX_LINE);
        }
        while !writer.is_finished() {
            server.read(number);
        }
        drop(writer.join().unwrap());
    }

    #[test]
    fn followers_get_lines_and_clients_that_do_not_read_are_closed() {
        let (dir, mut server, number, client) = pair();
        let mut sleeper = UnixStream::connect(dir.path().join("krazy/control.sock")).unwrap();
        let other = server.accept_one().unwrap();
        assert!(server.follow(number, 3) && server.follow(other, 4));
        let line = LogLine { stream: LogStream::Err, text: "x".repeat(1000) };
        server.publish(3, &line);
        let mut text = String::new();
        BufReader::new(client).read_line(&mut text).unwrap();
        assert!(text.contains("\"line\":{\"stream\":\"err\""), "{text}");
        for _ in 0..10_000 {
            server.publish(4, &line);
        }
        assert!(!server.clients.contains_key(&other));
        let mut rest = Vec::new();
        sleeper.read_to_end(&mut rest).unwrap();
    }

    #[test]
    fn followers_leave_room_for_requests() {
        let (dir, mut server, number, client) = pair();
        let path = dir.path().join("krazy/control.sock");
        let mut clients = vec![client];
        let mut connect = |server: &mut ControlServer| {
            clients.push(UnixStream::connect(&path).unwrap());
            server.accept_one()
        };
        assert!(server.follow(number, 0));
        for service in 1..MAX_HELD {
            let follower = connect(&mut server).unwrap();
            assert!(server.follow(follower, service));
        }
        for _ in MAX_HELD..MAX_CLIENTS {
            let asking = connect(&mut server).unwrap();
            assert!(!server.follow(asking, 0), "{MAX_HELD} connections are held");
        }
        assert_eq!(connect(&mut server), None);
        assert!(server.follow(number, 1), "another service, with the same connection");
        server.close(number);
        let late = connect(&mut server).unwrap();
        assert!(server.follow(late, 0));
        // A service that may control init holds its connection, whatever it does with it.
        server.clients.get_mut(&late).unwrap().follows = None;
        assert_eq!(server.held(), MAX_HELD - 1);
        server.clients.get_mut(&late).unwrap().own = false;
        assert_eq!(server.held(), MAX_HELD);
    }
}
