//! The handlers of the operations that [`krazy_boot::api`] defines.

mod certificate;
mod data;
mod files;
mod flash;
mod logs;
mod metrics;
mod page;
mod range;
mod slots;
mod status;
mod tokens;
mod update;

pub(crate) use logs::LiveLogs;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use headers::{HeaderMap, HeaderName, HeaderValue};
use krazy_boot::api::control::Command;
use krazy_boot::api::credentials::Role;
use krazy_boot::api::operation::JSON;
use krazy_boot::api::services::ServiceList;
use krazy_boot::api::{Access, Endpoint, OPENAPI, Operation, Route};
use krazy_boot::digest::Sha256Hash;
use serde::Serialize;
use tokio::time::sleep;
use warp::http::{Method, StatusCode, header};
use warp::reply::Response;

use crate::back::{Authenticated, News};
use crate::body::Body;
use crate::control::Control;
use crate::device::{Device, FlashTarget};
use crate::identity::auth::{Auth, Denial, Identity, reject_cross_site};
use crate::identity::certificate::Certificates;
use crate::problem::{Kind, Problem};
use crate::task::run_to_completion;

/// The parts of the back that handlers use.
pub(crate) struct Admin {
    pub(crate) auth: Auth,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) control: Control,
    pub(crate) device: Device,
    pub(crate) live_logs: LiveLogs,
    pub(crate) news: News,
}

impl Admin {
    /// Has the front present the certificates as they are now. When this returns, new connections get them.
    async fn present_certificates(&self) {
        self.news.publish(|| self.certificates.to_present()).await;
    }

    /// Has init copy the credentials, which have changed, to their place outside `/data`. A failure is only logged: the
    /// change itself is done, and init reports what it could not copy as a problem of the device.
    async fn copy_credentials(&self) {
        if let Err(problem) = self.control.order(Command::CopyCredentials).await {
            crate::log::write(problem.detail());
        }
    }
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
    /// Takes the news that its credential is valid.
    pub(crate) authenticated: Authenticated,
    pub(crate) body: Body,
}

/// Headers of every response: nothing is to be cached, framed, or run as a script.
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

/// Returns the response to a request.
pub(crate) async fn answer(admin: Arc<Admin>, call: Call) -> Response {
    let mut response = serve(&admin, call).await.unwrap_or_else(Problem::into_response);
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn serve(admin: &Arc<Admin>, call: Call) -> Result<Response, Problem> {
    let route = Route::find(call.method.as_str(), &call.path);
    if route.as_ref().is_ok_and(|route| route.operation() == Operation::Health) {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let identity = match admin.auth.identify(&call.headers, call.peer.ip().to_canonical()).await {
        Ok(identity) => identity,
        Err(Denial { problem, delay }) => {
            // Frees the received part of the body while the response waits.
            drop(call);
            sleep(delay).await;
            return Err(problem);
        }
    };
    call.authenticated.tell().await;
    let route = route?;
    if route.operation().definition().access == Access::Admin && identity.role != Role::Admin {
        return Err(Problem::new(
            Kind::Forbidden,
            format!("`{}` is a viewer; {} {} takes an admin", identity.name, call.method, call.path),
        ));
    }
    if call.method.is_safe() {
        return operate(admin, &identity, route.endpoint(&call.query)?, call).await;
    }
    reject_cross_site(&call.headers, call.host.as_deref())?;
    crate::log::write(format_args!("{} from {}: {} {}", identity.name, call.peer, call.method, call.path));
    let endpoint = route.endpoint(&call.query)?;
    let admin = Arc::clone(admin);
    run_to_completion(async move { operate(&admin, &identity, endpoint, call).await }).await
}

async fn operate(
    admin: &Arc<Admin>,
    identity: &Identity,
    endpoint: Endpoint,
    call: Call,
) -> Result<Response, Problem> {
    let order = async |command, status| admin.control.order(command).await.map(|()| empty(status));
    let updates = admin.device.updates();
    let locate = |path| files::locate(admin, identity, &path);
    let to_change = |path| files::locate_to_change(admin, identity, &path);
    match endpoint {
        Endpoint::Health => Ok(empty(StatusCode::NO_CONTENT)),
        Endpoint::Page => page::page(admin).await,
        Endpoint::OpenApi => Ok(content(OPENAPI, JSON)),
        Endpoint::Status => json(&status::status(admin).await?),
        Endpoint::Slots => json(&slots::slots(admin).await?),
        Endpoint::ConfirmSlot => order(Command::Confirm, StatusCode::NO_CONTENT).await,
        Endpoint::RollBackSlot => {
            updates.check_rollback().await?;
            order(Command::Rollback, StatusCode::ACCEPTED).await
        }
        Endpoint::SwitchSlot { query } => {
            let slot = update::slot_to_switch_to(admin, query).await?;
            updates.check_slot(slot).await?;
            order(Command::Switch { slot }, StatusCode::ACCEPTED).await
        }
        Endpoint::UpdateStatus { query } => json(&updates.status(query.hash).await?),
        Endpoint::BeginUpdate { query } => update::begin(admin, identity, query, call.body).await,
        Endpoint::SendUpdate { id, query } => update::receive(admin, &id, query, call.body).await,
        Endpoint::ArmUpdate { id } => json(&updates.arm(&id).await?),
        Endpoint::CancelUpdate => updates.cancel().await.map(|()| empty(StatusCode::NO_CONTENT)),
        Endpoint::SetFloor => update::set_floor(admin, call.body).await,
        Endpoint::SetUpdateKeys => update::set_keys(admin, call.body).await,
        Endpoint::Services => json(&ServiceList { services: admin.control.list().await? }),
        Endpoint::Service { name } => json(&admin.control.status(name).await?),
        Endpoint::StartService { name } => {
            order(Command::Start { service: name }, StatusCode::NO_CONTENT).await
        }
        Endpoint::StopService { name } => {
            order(Command::Stop { service: name }, StatusCode::NO_CONTENT).await
        }
        Endpoint::RestartService { name } => {
            order(Command::Restart { service: name }, StatusCode::NO_CONTENT).await
        }
        Endpoint::SignalService { name, query } => {
            order(Command::Signal { service: name, signal: query.signal }, StatusCode::NO_CONTENT).await
        }
        Endpoint::Logs { name, query } => logs::newest(admin, name, query).await,
        Endpoint::LogFile { name, stream } => logs::file(admin, &name, stream, &call.headers).await,
        Endpoint::FollowLogs { name, query } => logs::follow(admin, identity, name, query).await,
        Endpoint::ReadFile { path } => files::read(admin, locate(path)?, &call.headers).await,
        Endpoint::WriteFile { path } => files::write(admin, to_change(path)?, call.body).await,
        Endpoint::RemoveFile { path } => files::remove(admin, to_change(path)?).await,
        Endpoint::ListDirectory { path } => files::list(admin, locate(path)?).await,
        Endpoint::MakeDirectory { path } => files::make_directory(admin, to_change(path)?).await,
        Endpoint::RemoveDirectory { path, query } => {
            files::remove_directory(admin, to_change(path)?, query.recursive).await
        }
        Endpoint::CheckData => json(&data::check(admin).await?),
        Endpoint::FormatData { query } => {
            order(Command::FormatData { name: query.name }, StatusCode::NO_CONTENT).await
        }
        Endpoint::FlashDisk { query } => flash::flash(admin, FlashTarget::Disk, query.force, call.body).await,
        Endpoint::FlashPartition { number, query } => {
            flash::flash(admin, FlashTarget::Partition(number.get()), query.force, call.body).await
        }
        Endpoint::Metrics => metrics::metrics(admin).await,
        Endpoint::Tokens => tokens::list(admin, identity).await,
        Endpoint::PutToken { name } => tokens::put(admin, &name, call.body).await,
        Endpoint::RemoveToken { name } => tokens::remove(admin, identity, &name).await,
        Endpoint::Certificate => json(&admin.certificates.status()),
        Endpoint::PutCertificate => certificate::put(admin, call.body).await,
        Endpoint::ConfirmCertificate => certificate::confirm(admin, call.certificate).await,
        Endpoint::Reboot => order(Command::Reboot, StatusCode::ACCEPTED).await,
        Endpoint::Poweroff => order(Command::Poweroff, StatusCode::ACCEPTED).await,
    }
}

/// A response without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}

/// A response of `bytes`.
fn content(bytes: impl Into<Bytes>, media_type: &'static str) -> Response {
    let mut response = Response::new(bytes.into().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A response of `value` in JSON.
fn json(value: &impl Serialize) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Problem::new(Kind::Internal, format!("the response is not JSON: {error}")))?;
    Ok(content(bytes, JSON))
}
