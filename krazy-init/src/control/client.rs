//! A blocking client of the control socket, for command-line use.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{
    BootInfo, Command, LogLine, LogStream, Outcome, Reply, Request, RequestError, Response, SOCKET,
    ServiceStatus, VERSION,
};

/// The time in which init has to accept a request; for the reply, see [`Command::timeout`].
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest response accepted, in bytes: a thousand log lines fit several times.
const MAX_RESPONSE: u64 = 64 << 20;

/// A connection to init.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Lines of a service as they are written; see [`Client::follow`].
#[derive(Debug)]
pub struct LogFollower {
    client: Client,
}

/// The failure of a request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket does not exist, may not be used, or failed.
    #[error("cannot talk to init over {SOCKET}: {0}")]
    Io(#[from] io::Error),
    /// The response is not JSON of the expected shape.
    #[error("init's response is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The reply belongs to another command.
    #[error("init sent an unexpected reply: {0:?}")]
    Unexpected(Box<Reply>),
    /// Init rejected the request.
    #[error(transparent)]
    Refused(#[from] RequestError),
}

impl Client {
    /// Connects to the running init at [`SOCKET`].
    pub fn connect() -> Result<Self, ClientError> {
        Self::connect_to(Path::new(SOCKET))
    }

    /// Connects to another socket, such as a test's.
    pub fn connect_to(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Sends one command and waits for its reply.
    pub fn request(&mut self, command: Command) -> Result<Reply, ClientError> {
        self.stream.get_ref().set_read_timeout(Some(command.timeout()))?;
        self.stream.get_mut().write_all(&Request { version: VERSION, command }.to_line())?;
        self.read_reply()
    }

    /// [`Command::Boot`].
    pub fn boot(&mut self) -> Result<BootInfo, ClientError> {
        match self.request(Command::Boot)? {
            Reply::Boot(info) => Ok(*info),
            other => Err(unexpected(other)),
        }
    }

    /// [`Command::List`].
    pub fn list(&mut self) -> Result<Vec<ServiceStatus>, ClientError> {
        match self.request(Command::List)? {
            Reply::Services(services) => Ok(services),
            other => Err(unexpected(other)),
        }
    }

    /// [`Command::Status`].
    pub fn status(&mut self, service: &str) -> Result<ServiceStatus, ClientError> {
        match self.request(Command::Status { service: service.to_owned() })? {
            Reply::Service(status) => Ok(*status),
            other => Err(unexpected(other)),
        }
    }

    /// [`Command::Logs`] without `follow`.
    pub fn logs(
        &mut self,
        service: &str,
        stream: LogStream,
        lines: u32,
    ) -> Result<Vec<LogLine>, ClientError> {
        let command = Command::Logs { service: service.to_owned(), stream, lines, follow: false };
        match self.request(command)? {
            Reply::Log(lines) => Ok(lines),
            other => Err(unexpected(other)),
        }
    }

    /// [`Command::Logs`] with `follow`: the newest `lines` of `stream`, then new lines of both streams as they come.
    pub fn follow(
        mut self,
        service: &str,
        stream: LogStream,
        lines: u32,
    ) -> Result<(Vec<LogLine>, LogFollower), ClientError> {
        let command = Command::Logs { service: service.to_owned(), stream, lines, follow: true };
        match self.request(command)? {
            Reply::Log(lines) => {
                self.stream.get_ref().set_read_timeout(None)?;
                Ok((lines, LogFollower { client: self }))
            }
            other => Err(unexpected(other)),
        }
    }

    /// Sends a command whose reply is [`Reply::Done`]: start, stop, restart, signal, remount, confirm, reboot, poweroff.
    pub fn order(&mut self, command: Command) -> Result<(), ClientError> {
        match self.request(command)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn read_reply(&mut self) -> Result<Reply, ClientError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_RESPONSE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let response: Response = serde_json::from_slice(&line)?;
        match response.outcome {
            Outcome::Ok(reply) => Ok(reply),
            Outcome::Error(error) => Err(error.into()),
        }
    }
}

/// Ends with `None` when init hangs up.
impl Iterator for LogFollower {
    type Item = Result<LogLine, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.client.read_reply() {
            Ok(Reply::Line(line)) => Some(Ok(line)),
            Ok(other) => Some(Err(unexpected(other))),
            Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => Some(Err(error)),
        }
    }
}

fn unexpected(reply: Reply) -> ClientError {
    ClientError::Unexpected(Box::new(reply))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::control::ErrorKind;

    /// Serves one connection: sends the next of `responses` after each request line, then hangs up.
    fn server(responses: Vec<Response>) -> (tempfile::TempDir, thread::JoinHandle<Vec<Request>>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let handle = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut requests = Vec::new();
            for response in responses {
                let mut line = Vec::new();
                reader.read_until(b'\n', &mut line).unwrap();
                requests.push(Request::from_line(&line).unwrap());
                reader.get_mut().write_all(&response.to_line()).unwrap();
            }
            requests
        });
        (dir, handle)
    }

    #[test]
    fn rejected_request_is_an_error() {
        let (dir, handle) = server(vec![
            Response::ok(Reply::Services(Vec::new())),
            Response::error(ErrorKind::NoSuchService, "there is no service `x`"),
            Response::ok(Reply::Done),
        ]);
        let mut client = Client::connect_to(&dir.path().join("s")).unwrap();
        assert!(client.list().unwrap().is_empty());
        assert_eq!(client.status("x").unwrap_err().to_string(), "there is no service `x`");
        assert!(matches!(client.boot(), Err(ClientError::Unexpected(_))));
        let requests = handle.join().unwrap();
        assert_eq!(requests[2].command, Command::Boot);
    }

    #[test]
    fn disk_command_has_a_longer_timeout() {
        let (dir, _handle) = server(vec![Response::ok(Reply::Done), Response::ok(Reply::Done)]);
        let mut client = Client::connect_to(&dir.path().join("s")).unwrap();
        client.order(Command::Confirm).unwrap();
        let slow = client.stream.get_ref().read_timeout().unwrap().unwrap();
        client.order(Command::Start { service: "x".into() }).unwrap();
        assert!(slow > client.stream.get_ref().read_timeout().unwrap().unwrap());
    }

    #[test]
    fn follower_ends_when_init_hangs_up() {
        let line = LogLine { stream: LogStream::Out, text: "hello".into() };
        let (dir, _handle) = server(vec![Response::ok(Reply::Log(vec![line.clone()]))]);
        let client = Client::connect_to(&dir.path().join("s")).unwrap();
        let (lines, mut follower) = client.follow("x", LogStream::Out, 5).unwrap();
        assert_eq!(lines, [line]);
        assert!(follower.next().is_none());
    }
}
