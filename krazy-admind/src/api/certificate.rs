//! The exchange of the certificate; see [`crate::identity::certificate`].

use std::sync::Arc;

use krazy_boot::api::credentials::MAX_FILE;
use krazy_boot::digest::Sha256Hash;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::api::{Admin, empty, json};
use crate::body::Body;
use crate::problem::Problem;
use crate::task::blocking;

/// Puts the key and certificate in the body on trial.
pub(super) async fn put(admin: &Admin, body: Body) -> Result<Response, Problem> {
    let pem = body.read(MAX_FILE).await?;
    admin.certificates.start_trial(pem)?;
    admin.present_certificates().await;
    json(&admin.certificates.status())
}

/// Confirms the certificate on trial.
pub(super) async fn confirm(admin: &Admin, seen: Sha256Hash) -> Result<Response, Problem> {
    let certificates = Arc::clone(&admin.certificates);
    blocking(move || certificates.confirm(seen)).await?;
    admin.present_certificates().await;
    admin.copy_credentials().await;
    Ok(empty(StatusCode::NO_CONTENT))
}
