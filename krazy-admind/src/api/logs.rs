//! Logs of services: the newest lines, the file, and live lines.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use headers::HeaderMap;
use krazy_boot::api::logs::{LogLines, LogQuery, LogStream, MAX_LOG_LINES};
use warp::Reply;
use warp::reply::Response;
use warp::sse::{Event, keep_alive};

use crate::api::{Admin, files, json};
use crate::config::Limits;
use crate::control::Follower;
use crate::identity::auth::Identity;
use crate::identity::quota::{Permit, Quota};
use crate::problem::{Kind, Problem};

/// The interval of comments on a live log without new lines: proxies and browsers give up after about a minute.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The newest lines of a service.
pub(super) async fn newest(admin: &Admin, service: String, query: LogQuery) -> Result<Response, Problem> {
    let lines = admin.control.logs(service, query.stream, query.lines.min(MAX_LOG_LINES)).await?;
    json(&LogLines { lines })
}

/// The log file. Every token that may read its lines may read the file.
pub(super) async fn file(
    admin: &Arc<Admin>,
    service: &str,
    stream: LogStream,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let location = admin.device.files().locate_log(service, stream.extension())?;
    let mut response = files::read(admin, location, headers).await?;
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
                "`{}` may follow {} logs at a time, all tokens together {}; stop following one",
                identity.name, self.each, self.total
            );
            Problem::new(Kind::TooManyLiveLogs, text)
        })
    }
}

/// Server-sent events, one per line. The connection to init ends when the client disconnects.
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
                let event = Event::default().event(line.stream.name()).data(line.text);
                Some((Ok::<_, Infallible>(event), Some((follower, permit))))
            }
            Ok(None) => None,
            Err(problem) => Some((Ok(Event::default().event("problem").data(problem.detail())), None)),
        }
    });
    let events = keep_alive().interval(KEEP_ALIVE_INTERVAL).stream(events);
    Ok(warp::sse::reply(events).into_response())
}
