//! curl as a foreign client of the API, for requests that `cargo krazy` would not send.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::device::Device;
use crate::process::succeed;
use crate::setup::judges;

/// A response of the API.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, if there was one.
    pub json: Value,
}

impl Answer {
    /// Checks that it is a problem of this type.
    pub fn is_problem(&self, slug: &str) -> Result<()> {
        ensure!(
            self.status >= 400 && self.json["type"] == format!("urn:krazy:{slug}"),
            "no {slug}: {self:?}"
        );
        Ok(())
    }
}

impl Device {
    /// Sends a request with the admin's token; `path` is below `/api/v1`.
    pub fn curl(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Answer> {
        let directory = self.krazy.directory.path();
        let (answer, sent) = (directory.join("answer"), directory.join("sent"));
        fs::write(&answer, "")?;
        let shown = succeed(&mut self.krazy.command(["token", "show", "qemu"])?)?;
        let token = String::from_utf8(shown.stdout)?;
        let mut curl = judges::command("curl")?;
        // The certificate names no host; pinning has tests of its own.
        curl.args([
            "--silent",
            "--show-error",
            "--insecure",
            "--http1.1",
            "--max-time",
            "600",
            "--request",
            method,
        ]);
        curl.args(["--oauth2-bearer", token.trim(), "--write-out", "%{http_code}", "--output"]).arg(&answer);
        if let Some(body) = body {
            fs::write(&sent, body)?;
            curl.arg("--data-binary").arg(at(&sent)?);
        }
        curl.arg(format!("https://{}/api/v1/{path}", self.address()?));
        let status = String::from_utf8(succeed(&mut curl)?.stdout)?.parse()?;
        let body = fs::read(&answer)?;
        let json = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        Ok(Answer { status, json })
    }
}

/// Returns curl's notation for the content of a file.
fn at(path: &Path) -> Result<String> {
    Ok(format!("@{}", path.to_str().context("not UTF-8")?))
}
