//! What services wrote: as lines, as a file, and as it comes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use headers::HeaderMap;
use krazy_init::control::{LogLine, LogStream, MAX_LOG_LINES};
use serde::{Deserialize, Serialize};
use warp::Reply;
use warp::reply::Response;
use warp::sse::{Event, keep_alive};

use crate::api::{Admin, files, json};
use crate::config::Limits;
use crate::control::Follower;
use crate::identity::auth::Identity;
use crate::identity::quota::{Permit, Quota};
use crate::problem::{Kind, Problem};

/// How often a quiet live log says that it is still there. Proxies and browsers give up after a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The query of log lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogQuery {
    stream: LogStream,
    lines: u32,
}

impl Default for LogQuery {
    fn default() -> Self {
        LogQuery { stream: LogStream::Out, lines: 100 }
    }
}

pub(super) async fn newest(admin: &Admin, service: String, query: LogQuery) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Lines {
        lines: Vec<LogLine>,
    }
    let lines = admin.control.logs(service, query.stream, query.lines.min(MAX_LOG_LINES)).await?;
    json(&Lines { lines })
}

/// The file in `/tmp`. Whoever may see lines may see the whole.
pub(super) async fn file(
    admin: &Arc<Admin>,
    service: &str,
    stream: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let extension = match stream {
        "out" => "log",
        "err" => "err",
        other => {
            return Err(Problem::new(
                Kind::NotFound,
                format!("`{other}` is not a log; there are `out` and `err`"),
            ));
        }
    };
    let mut response =
        files::read(admin, admin.device.files().locate_log(service, extension)?, headers).await?;
    files::show_as_text(&mut response);
    Ok(response)
}

/// The logs that are being followed, by the names of the tokens.
pub(crate) struct LiveLogs {
    quota: Arc<Quota<String>>,
    each: usize,
    total: usize,
}

impl LiveLogs {
    pub(crate) fn new(limits: &Limits) -> Self {
        LiveLogs { quota: Arc::default(), each: limits.live_logs_per_token, total: limits.live_logs }
    }

    fn permit(&self, identity: &Identity) -> Result<Permit<String>, Problem> {
        self.quota.acquire(identity.name.clone(), self.each, self.total).ok_or_else(|| {
            let text = format!(
                "`{}` may follow {} logs at a time, everybody together {}; stop following one",
                identity.name, self.each, self.total
            );
            Problem::new(Kind::TooManyLiveLogs, text)
        })
    }
}

/// Server-sent events, one per line. The conversation with init ends when the client hangs up.
pub(super) async fn follow(
    admin: &Admin,
    identity: &Identity,
    service: String,
    query: LogQuery,
) -> Result<Response, Problem> {
    let permit = admin.live_logs.permit(identity)?;
    let follower = admin.control.follow(service, query.stream, query.lines.min(MAX_LOG_LINES)).await?;
    let events = stream::unfold(Some((follower, permit)), |state| async {
        let (mut follower, permit): (Follower, Permit<String>) = state?;
        match follower.next().await {
            Ok(Some(line)) => {
                let name = match line.stream {
                    LogStream::Out => "out",
                    LogStream::Err => "err",
                };
                Some((
                    Ok::<_, std::convert::Infallible>(Event::default().event(name).data(line.text)),
                    Some((follower, permit)),
                ))
            }
            Ok(None) => None,
            Err(problem) => Some((Ok(Event::default().event("problem").data(problem.detail())), None)),
        }
    });
    let events = keep_alive().interval(KEEP_ALIVE).stream(events);
    Ok(warp::sse::reply(events).into_response())
}
