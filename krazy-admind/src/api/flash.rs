//! Direct writes to the disk; see [`crate::device::FlashTarget`].

use serde::Deserialize;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::api::{Admin, Call, empty, query};
use crate::device::FlashTarget;
use crate::problem::{Kind, Problem};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlashQuery {
    #[serde(default)]
    force: bool,
}

/// Writes the body to the partition with this number, or to the whole disk.
pub(super) async fn flash(admin: &Admin, number: Option<&str>, call: Call) -> Result<Response, Problem> {
    let FlashQuery { force } = query(&call.query)?;
    let target = number.map(partition).transpose()?.unwrap_or(FlashTarget::Disk);
    admin.device.flash(target, call.body, force).await.map(|()| empty(StatusCode::NO_CONTENT))
}

fn partition(text: &str) -> Result<FlashTarget, Problem> {
    let number = text.parse().ok().filter(|number| (1..=4).contains(number));
    number.map(FlashTarget::Partition).ok_or_else(|| {
        Problem::new(Kind::NotFound, format!("there is no partition `{text}`; there are 1 to 4"))
    })
}
