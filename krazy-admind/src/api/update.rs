//! Updates over HTTP; see [`crate::device`].

use std::sync::Arc;

use krazy_boot::disk::slot::Slot;
use krazy_boot::update::bundle::MAX_HEAD;
use krazy_boot::update::refusal::Refusal;
use krazy_init::control::Command;
use serde::Deserialize;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::api::{Admin, Call, empty, json, query};
use crate::body::BodyError;
use crate::device::BeginOptions;
use crate::identity::auth::Identity;
use crate::problem::{Kind, Problem};

/// The longest version floor.
const MAX_FLOOR: usize = 4096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    #[serde(default)]
    hash: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginQuery {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    replace: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataQuery {
    offset: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchQuery {
    slot: Option<Slot>,
}

pub(super) async fn status(admin: &Admin, text: &str) -> Result<Response, Problem> {
    let StatusQuery { hash } = query(text)?;
    json(&admin.device.updates().status(hash).await?)
}

pub(super) async fn begin(admin: &Admin, identity: &Identity, call: Call) -> Result<Response, Problem> {
    let BeginQuery { force, replace } = query(&call.query)?;
    let head = call.body.read(MAX_HEAD).await.map_err(|error| match error {
        BodyError::TooLong(_) => Problem::new(Kind::Update(Refusal::Bundle), error.to_string()),
        other => other.into(),
    })?;
    let session = admin.device.updates().begin(head, &identity.name, BeginOptions { force, replace }).await?;
    let mut response = json(&session)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

pub(super) async fn receive(admin: &Admin, id: &str, call: Call) -> Result<Response, Problem> {
    let DataQuery { offset } = query(&call.query)?;
    json(&admin.device.updates().receive(id, offset, call.body).await?)
}

pub(super) async fn arm(admin: &Admin, id: &str) -> Result<Response, Problem> {
    json(&admin.device.updates().arm(id).await?)
}

pub(super) async fn cancel(admin: &Admin) -> Result<Response, Problem> {
    admin.device.updates().cancel().await.map(|()| empty(StatusCode::NO_CONTENT))
}

pub(super) async fn set_floor(admin: &Admin, call: Call) -> Result<Response, Problem> {
    let floor = call.body.read(MAX_FLOOR).await?;
    admin.device.updates().set_floor(floor).await.map(|()| empty(StatusCode::NO_CONTENT))
}

/// Arms the slot that does not run.
pub(super) async fn switch(admin: &Arc<Admin>, text: &str) -> Result<Response, Problem> {
    let SwitchQuery { slot } = query(text)?;
    let slot = match slot {
        Some(slot) => slot,
        None => {
            let running = admin.control.boot().await?.slot;
            !running.ok_or_else(|| {
                let text = "this device does not run from a slot of a cargo krazy disk";
                Problem::new(Kind::Update(Refusal::NoSlots), text)
            })?
        }
    };
    admin.control.order(Command::Switch { slot }).await.map(|()| empty(StatusCode::ACCEPTED))
}
