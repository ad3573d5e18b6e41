//! Updates over HTTP; see [`crate::device::update`].

use krazy_boot::api::status::SwitchQuery;
use krazy_boot::api::update::{BeginQuery, DataQuery};
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::MAX_HEAD;
use krazy_boot::update::refusal::Refusal;
use warp::http::{StatusCode, header};
use warp::reply::Response;

use crate::api::{Admin, Call, empty, json};
use crate::body::{self, Body};
use crate::device::update::Arrival;
use crate::identity::auth::Identity;
use crate::problem::{Kind, Problem};

/// The longest version floor.
const MAX_FLOOR: usize = 4096;

/// Begins an update with the head in `body`.
pub(super) async fn begin(
    admin: &Admin,
    identity: &Identity,
    query: BeginQuery,
    body: Body,
) -> Result<Response, Problem> {
    let head = body::read(body, MAX_HEAD, admin.upload_pause).await.map_err(|problem| {
        if problem.kind() == Kind::BodyTooLarge {
            Problem::new(Kind::Update(Refusal::Bundle), problem.detail())
        } else {
            problem
        }
    })?;
    let session = admin.updates.begin(head, &identity.name, query).await?;
    let mut response = json(&session)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Takes streams of the update `id` from the body.
pub(super) async fn receive(
    admin: &Admin,
    id: &str,
    query: DataQuery,
    call: Call,
) -> Result<Response, Problem> {
    let len = call.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let arrival = Arrival { offset: query.offset, len, pause: admin.upload_pause };
    json(&admin.updates.receive(id, arrival, call.body).await?)
}

/// Sets the floor in `body`.
pub(super) async fn set_floor(admin: &Admin, body: Body) -> Result<Response, Problem> {
    let floor = body::read(body, MAX_FLOOR, admin.upload_pause).await?;
    admin.updates.set_floor(floor).await.map(|()| empty(StatusCode::NO_CONTENT))
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
