//! Tokens on a running device.

use krazy_boot::api::credentials::{Role, Scope};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::device::{Device, problem, stored_token, token};

async fn put(device: &Device, who: &str, name: &str, body: Vec<u8>) -> reqwest::Response {
    let path = format!("/api/v1/tokens/{name}");
    device.request(who, Method::PUT, &path).body(body).send().await.unwrap()
}

async fn remove(device: &Device, who: &str, name: &str) -> reqwest::Response {
    device.request(who, Method::DELETE, &format!("/api/v1/tokens/{name}")).send().await.unwrap()
}

#[tokio::test]
async fn tokens_are_added_and_revoked_without_a_restart() {
    let device = Device::start().await;
    assert_eq!(device.get("ops", "/api/v1/tokens").await.status(), StatusCode::UNAUTHORIZED);
    let added = put(&device, "admin", "ops", stored_token("ops", Role::Viewer, Vec::new())).await;
    assert_eq!(added.status(), StatusCode::CREATED);
    assert_eq!(device.get("ops", "/api/v1/status").await.status(), StatusCode::OK);
    assert_eq!(device.get("ops", "/api/v1/tokens").await.status(), StatusCode::FORBIDDEN);
    let promoted = put(&device, "admin", "ops", stored_token("ops", Role::Admin, Vec::new())).await;
    assert_eq!(promoted.status(), StatusCode::NO_CONTENT);
    let list: Value =
        serde_json::from_slice(&device.get("ops", "/api/v1/tokens").await.bytes().await.unwrap()).unwrap();
    assert_eq!(list["tokens"][3], json!({ "name": "ops", "role": "admin", "scopes": [], "own": true }));
    assert_eq!(list["tokens"][0]["own"], false);
    let stored = std::fs::read_to_string(device.path("data/krazy/tokens.json")).unwrap();
    assert!(stored.contains("\"ops\"") && !stored.contains(&token("ops")));

    // Rotation: the new token is added first, and revokes the old one.
    assert_eq!(remove(&device, "ops", "admin").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(device.get("admin", "/api/v1/status").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(remove(&device, "ops", "root").await.status(), StatusCode::NO_CONTENT);
    let details = problem(remove(&device, "ops", "ops").await).await;
    assert_eq!(details.kind, "urn:krazy:not-now");
    assert_eq!(details.detail, "`ops` is the token in use, and cannot revoke itself");
    let demoted = put(&device, "ops", "ops", stored_token("ops", Role::Viewer, Vec::new())).await;
    assert_eq!(problem(demoted).await.detail, "this would leave no token with the role admin");
    assert_eq!(problem(remove(&device, "ops", "nobody").await).await.status, 404);
    assert_eq!(device.get("ops", "/api/v1/tokens").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn whole_tree_scope_must_be_requested_explicitly() {
    let device = Device::start().await;
    std::fs::write(device.path("etc/motd"), "hello").unwrap();
    let file = "/api/v1/files/etc/motd";
    assert_eq!(problem(device.get("admin", file).await).await.kind, "urn:krazy:outside-tree");
    let whole = stored_token("ops", Role::Admin, vec![Scope::WholeTree]);
    let rejected = put(&device, "viewer", "ops", whole.clone()).await;
    assert_eq!(problem(rejected).await.kind, "urn:krazy:forbidden");
    assert_eq!(put(&device, "admin", "ops", whole.clone()).await.status(), StatusCode::CREATED);
    assert_eq!(device.get("ops", file).await.status(), StatusCode::OK);
    // The token that granted the scope still lacks it.
    assert_eq!(problem(device.get("admin", file).await).await.kind, "urn:krazy:outside-tree");
    for (name, body) in [("other", whole), ("x", b"{}".to_vec()), ("x", token("x").into_bytes())] {
        assert_eq!(problem(put(&device, "root", name, body).await).await.kind, "urn:krazy:bad-request");
    }
    let long = problem(put(&device, "root", "x", vec![b' '; 5000]).await).await;
    assert_eq!(long.kind, "urn:krazy:body-too-large");
}
