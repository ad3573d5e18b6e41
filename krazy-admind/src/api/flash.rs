//! Direct writes to the disk; see [`FlashTarget`].

use warp::http::StatusCode;
use warp::reply::Response;

use crate::api::{Admin, empty};
use crate::body::Body;
use crate::device::FlashTarget;
use crate::problem::Problem;

/// Writes the body to `target`.
pub(super) async fn flash(
    admin: &Admin,
    target: FlashTarget,
    force: bool,
    body: Body,
) -> Result<Response, Problem> {
    admin.device.flash(target, body, force).await.map(|()| empty(StatusCode::NO_CONTENT))
}
