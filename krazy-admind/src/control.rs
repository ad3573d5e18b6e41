//! An asynchronous client of krazy-init's control socket ([`krazy_boot::api::control`]).
//!
//! krazy-init's own blocking client is not used, because a live log would then hold a thread until the service writes
//! its next line, long after the browser has disconnected.

use std::path::PathBuf;
use std::sync::Arc;

use krazy_boot::api::control::{Command, ErrorKind, Outcome, Reply, Request, Response, VERSION};
use krazy_boot::api::logs::{LogLine, LogStream};
use krazy_boot::api::services::ServiceStatus;
use krazy_boot::api::status::BootInfo;
use krazy_boot::update::refusal::Refusal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::problem::{Kind, Problem};

/// The most requests at a time; further ones wait, because init rejects connections beyond its limit.
const MAX_REQUESTS: usize = 16;

/// The longest response, in bytes: the most log lines init returns at once, 4 KiB each.
const MAX_RESPONSE: u64 = 4 << 20;

/// The address of init, and the limit of requests to it.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    socket: PathBuf,
    permits: Arc<Semaphore>,
}

/// A connection to init.
struct Connection {
    stream: BufReader<UnixStream>,
}

/// New lines of a service; see [`Control::follow`].
pub(crate) struct Follower {
    connection: Connection,
    backlog: std::vec::IntoIter<LogLine>,
}

impl Control {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Control { socket, permits: Arc::new(Semaphore::new(MAX_REQUESTS)) }
    }

    pub(crate) async fn boot(&self) -> Result<BootInfo, Problem> {
        match self.request(Command::Boot).await? {
            Reply::Boot(info) => Ok(*info),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<ServiceStatus>, Problem> {
        match self.request(Command::List).await? {
            Reply::Services(services) => Ok(services),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn status(&self, service: String) -> Result<ServiceStatus, Problem> {
        match self.request(Command::Status { service }).await? {
            Reply::Service(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn logs(
        &self,
        service: String,
        stream: LogStream,
        lines: u32,
    ) -> Result<Vec<LogLine>, Problem> {
        match self.request(Command::Logs { service, stream, lines, follow: false }).await? {
            Reply::Log(lines) => Ok(lines),
            other => Err(unexpected(&other)),
        }
    }

    /// The newest `lines` of `stream`, then new lines of both streams as they come.
    pub(crate) async fn follow(
        &self,
        service: String,
        stream: LogStream,
        lines: u32,
    ) -> Result<Follower, Problem> {
        let mut connection = self.connect().await?;
        match connection.request(Command::Logs { service, stream, lines, follow: true }).await? {
            Reply::Log(lines) => Ok(Follower { connection, backlog: lines.into_iter() }),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a command whose reply is [`Reply::Done`].
    pub(crate) async fn order(&self, command: Command) -> Result<(), Problem> {
        match self.request(command).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn request(&self, command: Command) -> Result<Reply, Problem> {
        let _permit = self.permits.acquire().await.map_err(|error| broken(&error))?;
        self.connect().await?.request(command).await
    }

    async fn connect(&self) -> Result<Connection, Problem> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            Problem::new(
                Kind::InitUnreachable,
                format!(
                    "failed to connect to init at {}: {error}; only krazy-init has this socket",
                    self.socket.display()
                ),
            )
        })?;
        Ok(Connection { stream: BufReader::new(stream) })
    }
}

impl Connection {
    async fn request(&mut self, command: Command) -> Result<Reply, Problem> {
        let limit = command.timeout();
        let exchange = async {
            let line = Request { version: VERSION, command }.to_line();
            self.stream.get_mut().write_all(&line).await.map_err(|error| broken(&error))?;
            self.read_reply().await?.ok_or_else(|| broken("it closed the connection"))
        };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(broken("no reply within the timeout")))
    }

    /// The next reply; `None` when init has closed the connection.
    async fn read_reply(&mut self) -> Result<Option<Reply>, Problem> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_RESPONSE).read_until(b'\n', &mut line).await;
        if read.map_err(|error| broken(&error))? == 0 {
            return Ok(None);
        }
        let response: Response = serde_json::from_slice(&line).map_err(|error| broken(&error))?;
        match response.outcome {
            Outcome::Ok(reply) => Ok(Some(reply)),
            Outcome::Error(error) => Err(Problem::new(kind(error.kind), error.message)),
        }
    }
}

impl Follower {
    /// The next line; `None` when init has closed the connection.
    pub(crate) async fn next(&mut self) -> Result<Option<LogLine>, Problem> {
        if let Some(line) = self.backlog.next() {
            return Ok(Some(line));
        }
        match self.connection.read_reply().await? {
            Some(Reply::Line(line)) => Ok(Some(line)),
            Some(other) => Err(unexpected(&other)),
            None => Ok(None),
        }
    }
}

fn kind(kind: ErrorKind) -> Kind {
    match kind {
        ErrorKind::NoSuchService => Kind::NoSuchService,
        ErrorKind::NotNow => Kind::NotNow,
        ErrorKind::NotStable => Kind::NotStable,
        ErrorKind::SlotIncomplete => Kind::Update(Refusal::SlotIncomplete),
        ErrorKind::Malformed => Kind::BadRequest,
        ErrorKind::Version | ErrorKind::Failed => Kind::InitFailed,
    }
}

fn broken(why: impl std::fmt::Display) -> Problem {
    Problem::new(Kind::InitUnreachable, format!("init does not reply correctly: {why}"))
}

fn unexpected(reply: &Reply) -> Problem {
    Problem::new(Kind::InitUnreachable, format!("init sent an unexpected reply: {reply:?}"))
}
