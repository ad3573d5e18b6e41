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

fn document(directory: &Path, content: &str) -> PathBuf {
    let path = directory.join("openapi.json");
    std::fs::write(&path, content).unwrap();
    path
}

fn assert_success(output: &Output) {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{stdout}\n{stderr}");
}

#[test]
fn openapi_spec_validator_accepts_the_document() {
    let directory = tempfile::tempdir().unwrap();
    let output = judge("openapi-spec-validator").arg(document(directory.path(), OPENAPI)).output().unwrap();
    assert_success(&output);
}

/// The document without its ways to authenticate: schemathesis would make up credentials, which the server answers late.
fn without_security() -> String {
    let mut content: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
    let operations = content["paths"].as_object_mut().unwrap().values_mut();
    for operation in operations.flat_map(|path| path.as_object_mut().unwrap().values_mut()) {
        if let Some(operation) = operation.as_object_mut() {
            operation.remove("security");
        }
    }
    content.to_string()
}

/// Runs schemathesis with the token named `who`; an empty name sends no credential.
async fn run_schemathesis(device: &Device, who: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = judge("schemathesis");
    let content = if who.is_empty() { without_security() } else { OPENAPI.to_owned() };
    command.current_dir(directory.path()).arg("run").arg(document(directory.path(), &content));
    command.args(["--url", &device.url("")]).args(["--tls-verify", "false"]);
    if !who.is_empty() {
        command.args(["--header", &format!("Authorization: Bearer {}", token(who))]);
    }
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

#[tokio::test]
async fn schemathesis_finds_no_contradiction_between_document_and_server() {
    run_schemathesis(&Device::start().await, "admin").await;
}

#[tokio::test]
async fn schemathesis_reaches_nothing_without_a_credential() {
    let device = Device::start().await;
    let read = || {
        let credentials = ["data/krazy/tokens.json", "data/krazy/tls/cert.pem", "data/krazy/update.pub"];
        let entries = std::fs::read_dir(device.path("data")).unwrap().count();
        (credentials.map(|file| std::fs::read(device.path(file)).unwrap()), entries)
    };
    let before = read();
    run_schemathesis(&device, "").await;
    assert!(device.init.commands.lock().unwrap().is_empty(), "init received a command without a credential");
    assert_eq!(read(), before);
}
