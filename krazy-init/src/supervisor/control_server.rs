//! Init's side of the control socket: connections, lines in, lines out. What requests mean is not its business.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use crate::control::{ErrorKind, LogLine, MAX_LINE, Reply, Request, Response};

/// Connections at a time; the next one is turned away.
const MAX_CLIENTS: usize = 64;

/// How many of them may be held for long: by services that may control init, or by whoever follows a log. The rest is
/// for the orders of root, which come, are answered, and go.
const MAX_HELD: usize = 48;

/// What may wait for a client that does not read; beyond it, init hangs up.
const MAX_BACKLOG: usize = 4 << 20;

/// The listening socket and its connections, by number.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    clients: BTreeMap<u32, Connection>,
    next: u32,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    follows: Option<usize>,
    /// Whether the other side has init's own account.
    own: bool,
}

/// What came of a readable connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// These requests, in order.
    Requests(Vec<Result<Request, Response>>),
    /// The client is gone.
    Closed,
}

impl ControlServer {
    /// Listens at `path`, in a folder that only root and the members of `group` enter.
    pub fn listen(path: &Path, group: u32) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            match DirBuilder::new().mode(0o710).create(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => give(folder, group)?,
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
        Ok(ControlServer { listener, clients: BTreeMap::new(), next: 0 })
    }

    /// The listening socket, to wait on.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Accepts one connection, if one waits and there is room. Returns its number.
    pub fn accept(&mut self) -> Option<u32> {
        let (stream, _) = self.listener.accept().ok()?;
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

    /// The connection's socket, to wait on.
    pub fn descriptor(&self, client: u32) -> Option<&UnixStream> {
        self.clients.get(&client).map(|connection| &connection.stream)
    }

    /// Whether something waits to be written to the connection.
    pub fn is_behind(&self, client: u32) -> bool {
        self.clients.get(&client).is_some_and(|connection| !connection.output.is_empty())
    }

    /// Reads from a connection.
    pub fn read(&mut self, client: u32) -> Input {
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
            if connection.input.len() > MAX_LINE {
                break;
            }
        }
        Input::Requests(connection.requests())
    }

    /// Sends an answer.
    pub fn answer(&mut self, client: u32, response: &Response) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.output.extend(response.to_line());
        }
        self.write(client);
    }

    /// From now on the connection gets the lines of `service`; false if too many connections are held already.
    pub fn follow(&mut self, client: u32, service: usize) -> bool {
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

    /// Whether anyone follows `service`.
    pub fn is_followed(&self, service: usize) -> bool {
        self.clients.values().any(|connection| connection.follows == Some(service))
    }

    /// Sends a line to those who follow `service`; returns the connections that have something to write now.
    pub fn publish(&mut self, service: usize, line: &LogLine) -> Vec<u32> {
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
        followers
    }

    /// Writes what the connection takes now; hangs up on one that does not read.
    pub fn write(&mut self, client: u32) {
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
            connection.output = Vec::new();
        }
    }

    /// Hangs up.
    pub fn close(&mut self, client: u32) {
        self.clients.remove(&client);
    }
}

/// Only root can; a test's socket is its own.
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
        let mut server = ControlServer::listen(&path, 0).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let number = server.accept().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        (dir, server, number, client)
    }

    #[test]
    fn requests_come_in_pieces_and_in_heaps() {
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
    fn an_endless_line_is_refused_without_being_kept() {
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
    fn followers_get_lines_and_sleepers_are_hung_up_on() {
        let (dir, mut server, number, client) = pair();
        let mut sleeper = UnixStream::connect(dir.path().join("krazy/control.sock")).unwrap();
        let other = server.accept().unwrap();
        assert!(server.follow(number, 3) && server.follow(other, 4));
        let line = LogLine { stream: LogStream::Err, text: "x".repeat(1000) };
        assert_eq!(server.publish(3, &line), [number]);
        let mut text = String::new();
        BufReader::new(client).read_line(&mut text).unwrap();
        assert!(text.contains("\"line\":{\"stream\":\"err\""), "{text}");
        for _ in 0..10_000 {
            server.publish(4, &line);
        }
        assert!(server.descriptor(other).is_none());
        let mut rest = Vec::new();
        sleeper.read_to_end(&mut rest).unwrap();
    }

    #[test]
    fn followers_leave_room_for_orders() {
        let (dir, mut server, number, client) = pair();
        let path = dir.path().join("krazy/control.sock");
        let mut clients = vec![client];
        let mut connect = |server: &mut ControlServer| {
            clients.push(UnixStream::connect(&path).unwrap());
            server.accept()
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
