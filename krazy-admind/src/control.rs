//! Questions to init, without blocking the one thread that serves everybody.
//!
//! The messages are krazy-init's own. Its blocking client is not used, because a live log would then hold a
//! thread until the service writes its next line, long after the browser has gone.

use std::path::PathBuf;
use std::sync::Arc;

use krazy_boot::update::refusal::Refusal;
use krazy_init::control::{
    BootInfo, Command, ErrorKind, LogLine, LogStream, Outcome, Reply, Request, Response, ServiceStatus,
    VERSION,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::problem::{Kind, Problem};

/// Questions at the same time; further ones wait. Init turns away whoever comes when it has too many connections.
const MAX_QUESTIONS: usize = 16;

/// The longest answer, in bytes: the most log lines init returns at once, 4 KiB each.
const MAX_ANSWER: u64 = 4 << 20;

/// Init, as the API asks it.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    socket: PathBuf,
    /// One for each question that may be asked at the same time.
    questions: Arc<Semaphore>,
}

/// One conversation with init.
struct Conversation {
    stream: BufReader<UnixStream>,
}

/// New lines of a service; see [`Control::follow`].
pub(crate) struct Follower {
    conversation: Conversation,
    backlog: std::vec::IntoIter<LogLine>,
}

impl Control {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Control { socket, questions: Arc::new(Semaphore::new(MAX_QUESTIONS)) }
    }

    pub(crate) async fn boot(&self) -> Result<BootInfo, Problem> {
        match self.ask(Command::Boot).await? {
            Reply::Boot(info) => Ok(*info),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<ServiceStatus>, Problem> {
        match self.ask(Command::List).await? {
            Reply::Services(services) => Ok(services),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn status(&self, service: String) -> Result<ServiceStatus, Problem> {
        match self.ask(Command::Status { service }).await? {
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
        match self.ask(Command::Logs { service, stream, lines, follow: false }).await? {
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
        let mut conversation = self.connect().await?;
        match conversation.ask(Command::Logs { service, stream, lines, follow: true }).await? {
            Reply::Log(lines) => Ok(Follower { conversation, backlog: lines.into_iter() }),
            other => Err(unexpected(&other)),
        }
    }

    /// A command whose answer is [`Reply::Done`].
    pub(crate) async fn order(&self, command: Command) -> Result<(), Problem> {
        match self.ask(command).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, command: Command) -> Result<Reply, Problem> {
        let _permit = self.questions.acquire().await.map_err(|error| broken(&error))?;
        self.connect().await?.ask(command).await
    }

    async fn connect(&self) -> Result<Conversation, Problem> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            Problem::new(
                Kind::InitUnreachable,
                format!("nothing answers at {}: {error}; is krazy-init the init?", self.socket.display()),
            )
        })?;
        Ok(Conversation { stream: BufReader::new(stream) })
    }
}

impl Conversation {
    async fn ask(&mut self, command: Command) -> Result<Reply, Problem> {
        let limit = command.time_limit();
        let exchange = async {
            let line = Request { version: VERSION, command }.to_line();
            self.stream.get_mut().write_all(&line).await.map_err(|error| broken(&error))?;
            self.answer().await?.ok_or_else(|| broken("it hung up"))
        };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(broken("it takes too long")))
    }

    /// The next answer; `None` when init hung up.
    async fn answer(&mut self) -> Result<Option<Reply>, Problem> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_ANSWER).read_until(b'\n', &mut line).await;
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
    /// The next line; `None` when init hung up.
    pub(crate) async fn next(&mut self) -> Result<Option<LogLine>, Problem> {
        if let Some(line) = self.backlog.next() {
            return Ok(Some(line));
        }
        match self.conversation.answer().await? {
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
    Problem::new(Kind::InitUnreachable, format!("init does not answer as it should: {why}"))
}

fn unexpected(reply: &Reply) -> Problem {
    Problem::new(Kind::InitUnreachable, format!("init's answer makes no sense: unexpected {reply:?}"))
}
