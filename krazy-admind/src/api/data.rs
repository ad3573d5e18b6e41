//! The condition of `/data`.

use krazy_boot::api::data::DataReport;

use super::Admin;
use crate::problem::{Kind, Problem};

/// Asks init for the source of `/data`, and the kernel for the rest. Another init does not tell the source.
pub(super) async fn check(admin: &Admin) -> Result<DataReport, Problem> {
    let source = match admin.control.boot().await {
        Ok(boot) => boot.data,
        Err(problem) if problem.kind() == Kind::InitUnreachable => None,
        Err(problem) => return Err(problem),
    };
    admin.device.data_report(source).await
}
