//! Foreign judges of the OpenAPI document, and of the server that it describes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use krazy_boot::api::OPENAPI;

use crate::device::{Device, token};

/// A program in the Python environment that the suite installs.
fn judge(program: &str) -> Command {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("suite/openapi/bin");
    let path = directory.join(program);
    assert!(path.is_file(), "{} is missing\nhelp: `cargo suite` installs it", path.display());
    Command::new(path)
}

fn document(directory: &Path) -> PathBuf {
    let path = directory.join("openapi.json");
    std::fs::write(&path, OPENAPI).unwrap();
    path
}

fn assert_success(output: &Output) {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{stdout}\n{stderr}");
}

#[test]
fn openapi_spec_validator_accepts_the_document() {
    let directory = tempfile::tempdir().unwrap();
    let output = judge("openapi-spec-validator").arg(document(directory.path())).output().unwrap();
    assert_success(&output);
}

#[tokio::test]
async fn schemathesis_finds_no_contradiction_between_document_and_server() {
    let device = Device::start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut command = judge("schemathesis");
    command.current_dir(directory.path()).arg("run").arg(document(directory.path()));
    command.args(["--url", &device.url("")]).args(["--tls-verify", "false"]);
    command.args(["--header", &format!("Authorization: Bearer {}", token("admin"))]);
    // A stream without end, the operations that destroy the disk that others read, and a body in PEM, which
    // schemathesis cannot make.
    for operation in ["FollowLogs", "FlashDisk", "FlashPartition", "PutCertificate"] {
        command.args(["--exclude-operation-id", operation]);
    }
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1"]);
    command.args(["--request-timeout", "10", "--no-color"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_success(&output);
}
