//! What the operations do.

mod certificate;
mod files;
mod flash;
mod logs;
mod metrics;
mod openapi;
mod page;
mod range;
mod services;
mod slots;
mod status;
mod tokens;
mod update;

pub(crate) use logs::LiveLogs;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use headers::{HeaderMap, HeaderName, HeaderValue};
use krazy_boot::api::credentials::Role;
use krazy_boot::digest::Sha256Hash;
use krazy_init::control::Command;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use warp::http::{Method, StatusCode, header};
use warp::reply::Response;

use crate::body::Body;
use crate::control::Control;
use crate::device::Device;
use crate::identity::auth::{Auth, Denial, Identity, reject_cross_site};
use crate::identity::certificate::Certificates;
use crate::problem::{Kind, Problem};
use crate::routes::{self, Access, Found, HEALTH, Operation};
use crate::task::run_to_completion;

/// What every operation works with.
pub(crate) struct Admin {
    pub(crate) auth: Auth,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) control: Control,
    pub(crate) device: Device,
    pub(crate) live_logs: LiveLogs,
}

/// A request.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) host: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: SocketAddr,
    /// The certificate that its connection presented.
    pub(crate) certificate: Sha256Hash,
    pub(crate) body: Body,
}

/// Sent with everything. Nothing from here is to be cached, framed, or run as a script.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Answers a request.
pub(crate) async fn answer(admin: Arc<Admin>, call: Call) -> Response {
    let mut response = serve(&admin, call).await.unwrap_or_else(Problem::into_response);
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn serve(admin: &Arc<Admin>, call: Call) -> Result<Response, Problem> {
    if call.path == HEALTH && (call.method == Method::GET || call.method == Method::HEAD) {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let identity = match admin.auth.identify(&call.headers, call.peer.ip().to_canonical()).await {
        Ok(identity) => identity,
        Err(Denial { problem, delay }) => {
            // What has come of its body is of no use while its answer waits.
            drop(call);
            sleep(delay).await;
            return Err(problem);
        }
    };
    let found = routes::find(&call.method, &call.path)?;
    if found.route.access == Access::Admin && identity.role != Role::Admin {
        return Err(Problem::new(
            Kind::Forbidden,
            format!("`{}` is a viewer; {} {} takes an admin", identity.name, call.method, call.path),
        ));
    }
    if call.method.is_safe() {
        return operate(admin, &identity, &found, call).await;
    }
    reject_cross_site(&call.headers, call.host.as_deref())?;
    crate::log::write(format_args!("{} from {}: {} {}", identity.name, call.peer, call.method, call.path));
    let admin = Arc::clone(admin);
    run_to_completion(async move { operate(&admin, &identity, &found, call).await }).await
}

async fn operate(
    admin: &Arc<Admin>,
    identity: &Identity,
    found: &Found,
    call: Call,
) -> Result<Response, Problem> {
    let order = |command| async { admin.control.order(command).await };
    let service = || found.get("name").map(str::to_owned);
    match found.route.operation {
        Operation::Health => Ok(empty(StatusCode::NO_CONTENT)),
        Operation::Page => page::page(admin).await,
        Operation::OpenApi => json(&openapi::document()),
        Operation::Status => json(&status::status(admin).await?),
        Operation::Slots => json(&slots::slots(admin).await?),
        Operation::ConfirmSlot => order(Command::Confirm).await.map(|()| empty(StatusCode::NO_CONTENT)),
        Operation::RollBackSlot => order(Command::Rollback).await.map(|()| empty(StatusCode::ACCEPTED)),
        Operation::SwitchSlot => update::switch(admin, &call.query).await,
        Operation::UpdateStatus => update::status(admin, &call.query).await,
        Operation::BeginUpdate => update::begin(admin, identity, call).await,
        Operation::SendUpdate => update::receive(admin, found.get("id")?, call).await,
        Operation::ArmUpdate => update::arm(admin, found.get("id")?).await,
        Operation::CancelUpdate => update::cancel(admin).await,
        Operation::SetFloor => update::set_floor(admin, call).await,
        Operation::Services => services::list(admin).await,
        Operation::Service => json(&admin.control.status(service()?).await?),
        Operation::StartService => {
            order(Command::Start { service: service()? }).await.map(|()| empty(StatusCode::NO_CONTENT))
        }
        Operation::StopService => {
            order(Command::Stop { service: service()? }).await.map(|()| empty(StatusCode::NO_CONTENT))
        }
        Operation::RestartService => {
            order(Command::Restart { service: service()? }).await.map(|()| empty(StatusCode::NO_CONTENT))
        }
        Operation::SignalService => {
            let services::SignalQuery { signal } = query(&call.query)?;
            order(Command::Signal { service: service()?, signal })
                .await
                .map(|()| empty(StatusCode::NO_CONTENT))
        }
        Operation::Logs => logs::newest(admin, service()?, query(&call.query)?).await,
        Operation::LogFile => logs::file(admin, &service()?, found.get("stream")?, &call.headers).await,
        Operation::FollowLogs => logs::follow(admin, identity, service()?, query(&call.query)?).await,
        Operation::ReadFile => {
            files::read(admin, files::locate(admin, identity, found)?, &call.headers).await
        }
        Operation::WriteFile => files::write(admin, files::locate(admin, identity, found)?, call).await,
        Operation::RemoveFile => files::remove(admin, files::locate(admin, identity, found)?).await,
        Operation::ListDirectory => files::list(admin, files::locate(admin, identity, found)?).await,
        Operation::MakeDirectory => {
            files::make_directory(admin, files::locate(admin, identity, found)?).await
        }
        Operation::RemoveDirectory => {
            let files::RemoveQuery { recursive } = query(&call.query)?;
            files::remove_directory(admin, files::locate(admin, identity, found)?, recursive).await
        }
        Operation::FlashDisk => flash::flash(admin, None, call).await,
        Operation::FlashPartition => flash::flash(admin, Some(found.get("number")?), call).await,
        Operation::Metrics => metrics::metrics(admin).await,
        Operation::Tokens => tokens::list(admin, identity).await,
        Operation::PutToken => tokens::put(admin, found.get("name")?, call).await,
        Operation::RemoveToken => tokens::remove(admin, identity, found.get("name")?).await,
        Operation::Certificate => json(&admin.certificates.status()),
        Operation::PutCertificate => certificate::put(admin, call).await,
        Operation::ConfirmCertificate => certificate::confirm(admin, call.certificate).await,
        Operation::Reboot => order(Command::Reboot).await.map(|()| empty(StatusCode::ACCEPTED)),
        Operation::Poweroff => order(Command::Poweroff).await.map(|()| empty(StatusCode::ACCEPTED)),
    }
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}

/// An answer of `bytes`.
fn content(bytes: impl Into<Bytes>, media_type: &'static str) -> Response {
    let mut response = Response::new(bytes.into().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn json(value: &impl Serialize) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Problem::new(Kind::Internal, format!("the answer is not JSON: {error}")))?;
    Ok(content(bytes, "application/json"))
}

/// What stands behind `?`.
fn query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_urlencoded::from_str(text).map_err(|error| {
        Problem::new(Kind::BadRequest, format!("the query `{text}` is not understood: {error}"))
    })
}
