//! Init's side of the control socket: connections, lines in, lines out. The meaning of requests is in
//! [`requests`](super::requests).

mod connection;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::poller::{Poller, Source};
use crate::control::{LogLine, Reply, Request, Response};
use connection::Connection;

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
        self.clients.insert(number, Connection::new(stream, own));
        Some(number)
    }

    /// Serves a connection that is readable or takes more: writes what waits, and reads what came. Closes it if the client is
    /// gone.
    pub(super) fn receive(&mut self, client: u32) {
        self.write(client);
        if let Some(connection) = self.clients.get_mut(&client)
            && !connection.read()
        {
            self.close(client);
        }
    }

    /// The connection's next request, or the response to one that is none; `None` while it is incomplete, or while an
    /// earlier one waits for its answer.
    pub(super) fn next_request(&mut self, client: u32) -> Option<Result<Request, Response>> {
        self.clients.get_mut(&client)?.next_request()
    }

    /// Waits for room to write to the connection while something is to be written.
    pub(super) fn watch(&self, client: u32, poller: &Poller) {
        if let Some(connection) = self.clients.get(&client) {
            let is_behind = !connection.output.is_empty();
            // A client that cannot be watched is served when it next writes.
            let _unwatched = poller.set_writing(&connection.stream, Source::Client(client), is_behind);
        }
    }

    /// Sends an answer. A client that has not waited for it is forgotten.
    pub(super) fn answer(&mut self, client: u32, response: &Response) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.output.extend(response.to_line());
            connection.output.extend(connection.after_answer.take().unwrap_or_default());
        }
        self.write(client);
    }

    /// Records that the answer of the request just taken comes later.
    pub(super) fn answers_later(&mut self, client: u32) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.after_answer = Some(Vec::new());
        }
    }

    /// Returns true unless too many connections are held already for this one to follow a service.
    pub(super) fn may_follow(&self, client: u32) -> bool {
        let room = self.held() < MAX_HELD;
        self.clients.get(&client).is_some_and(|connection| room || connection.is_held())
    }

    /// From now on the connection gets the lines of `service`.
    pub(super) fn follow(&mut self, client: u32, service: usize) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.follows = Some(service);
        }
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
                connection.after_answer.as_mut().unwrap_or(&mut connection.output).extend(&bytes);
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
        let after_answer = connection.after_answer.as_ref().map_or(0, Vec::len);
        if connection.output.len() + after_answer > MAX_BACKLOG {
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

#[cfg(test)]
mod tests;
