//! Updates over HTTP; see [`crate::device`].

use krazy_boot::api::status::SwitchQuery;
use krazy_boot::api::update::{BeginQuery, DataQuery};
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::MAX_HEAD;
use krazy_boot::update::refusal::Refusal;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::api::{Admin, empty, json};
use crate::body::{Body, BodyError};
use crate::identity::auth::Identity;
use crate::problem::{Kind, Problem};

/// The longest version floor.
const MAX_FLOOR: usize = 4096;

/// The longest change of the update keys.
const MAX_KEY_CHANGE: usize = 4096;

/// Starts an update with the head in `body`.
pub(super) async fn begin(
    admin: &Admin,
    identity: &Identity,
    query: BeginQuery,
    body: Body,
) -> Result<Response, Problem> {
    let head = body.read(MAX_HEAD).await.map_err(|error| match error {
        BodyError::TooLong(_) => Problem::new(Kind::Update(Refusal::Bundle), error.to_string()),
        other => other.into(),
    })?;
    let session = admin.device.updates().begin(head, &identity.name, query).await?;
    if admin.device.updates().has_floor() {
        // The update has kept it.
        admin.copy_credentials().await;
    }
    let mut response = json(&session)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Receives streams of the update `id` from `body`.
pub(super) async fn receive(
    admin: &Admin,
    id: &str,
    query: DataQuery,
    body: Body,
) -> Result<Response, Problem> {
    json(&admin.device.updates().receive(id, query.offset, body).await?)
}

/// Sets the floor in `body`.
pub(super) async fn set_floor(admin: &Admin, body: Body) -> Result<Response, Problem> {
    let floor = body.read(MAX_FLOOR).await?;
    admin.device.updates().set_floor(floor).await?;
    admin.copy_credentials().await;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Replaces the update keys by those in `body`.
pub(super) async fn set_keys(admin: &Admin, body: Body) -> Result<Response, Problem> {
    let change = body.read(MAX_KEY_CHANGE).await?;
    admin.device.updates().set_keys(change).await?;
    admin.copy_credentials().await;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The slot of `query`, or else the inactive one.
pub(super) async fn slot_to_switch_to(admin: &Admin, query: SwitchQuery) -> Result<Slot, Problem> {
    if let Some(slot) = query.slot {
        return Ok(slot);
    }
    let running = admin.control.boot().await?.slot;
    running.map(|running| !running).ok_or_else(|| {
        let text = "this device does not run from a slot of a cargo krazy disk";
        Problem::new(Kind::Update(Refusal::NoSlots), text)
    })
}
