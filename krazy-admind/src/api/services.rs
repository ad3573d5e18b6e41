//! Services, as init knows them.

use krazy_init::control::ServiceStatus;
use serde::{Deserialize, Serialize};
use warp::reply::Response;

use crate::api::{Admin, json};
use crate::problem::Problem;

/// The query of a signal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignalQuery {
    pub(super) signal: String,
}

pub(super) async fn list(admin: &Admin) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Services {
        services: Vec<ServiceStatus>,
    }
    json(&Services { services: admin.control.list().await? })
}
