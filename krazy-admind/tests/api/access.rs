//! Access: credentials, roles and the documented operations.

use std::time::{Duration, Instant};

use krazy_boot::api::credentials::Role;
use krazy_boot::api::operation::Definition;
use krazy_boot::api::update::KeyChange;
use krazy_boot::api::{Access, OPENAPI, Operation};
use krazy_boot::digest::Hex;
use reqwest::{Method, StatusCode};

use crate::bundle::{Bundle, SEED, sign, update_key};
use crate::device::{Device, problem, stored_token, token};
use crate::update;

fn read(device: &Device, name: &str) -> Vec<u8> {
    std::fs::read(device.path("data/krazy/tls").join(name)).unwrap()
}

/// Returns a path of the operation that exists on the device, with its query.
pub fn path(operation: Operation) -> String {
    let path = operation.definition().pattern.replace("{name}", "web").replace("{stream}", "out");
    let path = path.replace("{id}", "0").replace("{number}", "3");
    let query = match operation {
        Operation::SignalService => "?signal=HUP",
        Operation::SendUpdate => "?offset=0",
        Operation::FormatData => "?name=weather",
        Operation::FlashDisk => "?force=true",
        _ => "",
    };
    path.replace("{path}", "data/x") + query
}

fn method(definition: &Definition) -> Method {
    Method::from_bytes(definition.method.name().as_bytes()).unwrap()
}

/// Every operation and its definition.
pub fn operations() -> impl Iterator<Item = (Operation, &'static Definition)> {
    Operation::ALL.iter().map(|operation| (*operation, operation.definition()))
}

#[tokio::test]
async fn every_operation_but_the_health_probe_needs_a_credential() {
    let device = Device::start().await;
    for (operation, definition) in operations() {
        let request = device.request("", method(definition), &path(operation));
        let response = request.send().await.unwrap();
        if definition.access == Access::Open {
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            assert!(!response.headers().contains_key("server"));
            continue;
        }
        let schemes: Vec<_> = response.headers().get_all("www-authenticate").iter().cloned().collect();
        assert_eq!(schemes, ["Basic realm=\"krazy\", charset=\"UTF-8\"", "Bearer realm=\"krazy\""]);
        let details = problem(response).await;
        assert_eq!((details.status, details.kind.as_str()), (401, "urn:krazy:unauthorized"), "{operation:?}");
    }
    // Without a credential, unknown paths look the same.
    assert_eq!(device.get("", "/api/v1/nothing").await.status(), StatusCode::UNAUTHORIZED);
    assert!(device.init.commands.lock().unwrap().is_empty(), "init received a command without a credential");
}

#[tokio::test]
async fn every_operation_rejects_an_invalid_credential() {
    let device = Device::start().await;
    let invalid = token("nobody");
    let closed = operations().filter(|(_, definition)| definition.access != Access::Open);
    for (n, (operation, definition)) in closed.enumerate() {
        // Each from an address of its own, so that the throttle does not delay it.
        let client = device.client_from([127, 0, 1, n as u8 + 1]);
        let request = client.request(method(definition), device.url(&path(operation)));
        let response = match n % 3 {
            0 => request.bearer_auth(&invalid),
            1 => request.basic_auth("admin", Some(&invalid)),
            _ => request.header("authorization", "Bearer krz_"),
        };
        let details = problem(response.send().await.unwrap()).await;
        assert_eq!(details.detail, "the credential is not valid on this device", "{operation:?}");
    }
    assert!(device.init.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn viewer_reads_everything_but_changes_nothing() {
    let device = Device::start().await;
    for (operation, definition) in operations() {
        let request = device.request("viewer", method(definition), &path(operation));
        let response = request.send().await.unwrap();
        match definition.access {
            Access::Admin => {
                let details = problem(response).await;
                assert_eq!((details.status, details.kind.as_str()), (403, "urn:krazy:forbidden"));
                assert!(details.detail.starts_with("`viewer` is a viewer; "), "{}", details.detail);
            }
            Access::Open | Access::Viewer => {
                assert_eq!(response.status().as_u16(), definition.success().status, "{operation:?}");
            }
        }
    }
    assert!(!device.path("data/x").exists());
}

#[tokio::test]
async fn admin_may_use_every_operation() {
    let device = Device::start().await;
    // In the table's order, files are read before they are written.
    std::fs::write(device.path("data/x"), "x").unwrap();
    let (bundle, mut update) = (Bundle::new(false), String::new());
    for (operation, definition) in operations() {
        let path = match operation {
            Operation::WriteFile => "/api/v1/files/data/new".to_owned(),
            Operation::MakeDirectory | Operation::RemoveDirectory => "/api/v1/directories/data/dir".into(),
            Operation::ListDirectory => "/api/v1/directories/data".into(),
            Operation::SendUpdate => {
                device.init.boot.lock().unwrap().armed = None;
                update = update::start(&device, &bundle, "").await.id;
                format!("/api/v1/update/{update}?offset=0")
            }
            Operation::PutToken | Operation::RemoveToken => "/api/v1/tokens/new".into(),
            Operation::ArmUpdate => format!("/api/v1/update/{update}/arm"),
            _ => path(operation),
        };
        let body = match operation {
            Operation::BeginUpdate => {
                device.init.boot.lock().unwrap().armed = None;
                bundle.head()
            }
            Operation::SendUpdate => bundle.streams.clone(),
            Operation::FlashPartition => {
                device.init.boot.lock().unwrap().armed = None;
                vec![1; 1000]
            }
            Operation::PutToken => stored_token("new", Role::Viewer, Vec::new()),
            // The current pair, which the clients of this test trust.
            Operation::PutCertificate => ["key.pem", "cert.pem"].map(|name| read(&device, name)).concat(),
            Operation::SetFloor => b"{\"version\":null}".to_vec(),
            // The keys that the device has already.
            Operation::SetUpdateKeys => {
                let keys = format!("{}\n", update_key(SEED));
                let signature = Hex(sign(SEED, &KeyChange::message(&keys)));
                serde_json::to_vec(&KeyChange { keys, signature }).unwrap()
            }
            _ => Vec::new(),
        };
        let request = device.client_from([127, 0, 0, 1]).request(method(definition), device.url(&path));
        let response = request.body(body).basic_auth("whoever", Some(token("admin"))).send().await.unwrap();
        let success = definition.success();
        assert_eq!(response.status().as_u16(), success.status, "{operation:?}");
        let media_type = response.headers().get("content-type").map(|value| value.to_str().unwrap());
        let media_type = media_type.map(|text| text.split(';').next().unwrap());
        assert_eq!(media_type, success.content.map(|content| content.media_type), "{operation:?}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn undocumented_method_is_rejected() {
    let device = Device::start().await;
    let body = device.get("viewer", "/api/v1/openapi.json").await.text().await.unwrap();
    assert_eq!(body, OPENAPI);
    for (operation, definition) in operations() {
        let response = device.request("root", Method::OPTIONS, &path(operation)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{}", definition.pattern);
    }
}

#[tokio::test]
async fn throttle_slows_down_the_guesser_only() {
    let device = Device::start().await;
    let guesser = device.client_from([127, 0, 2, 1]);
    let url = device.url("/api/v1/status");
    let start = Instant::now();
    for _ in 0..7 {
        let response = guesser.get(&url).bearer_auth(token("nobody")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    // The fourth attempt delays the next by 100 ms, the fifth by 200, the sixth by 400.
    assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());

    // A valid credential is accepted while responses to invalid ones are queued, from the same address too.
    for _ in 0..2 {
        guesser.get(&url).bearer_auth(token("nobody")).send().await.unwrap();
    }
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..2 {
        // With a body that the server does not read.
        let guess = guesser.put(device.url("/api/v1/files/data/x")).bearer_auth(token("nobody"));
        guesses.spawn(guess.body(vec![0; 1 << 20]).send());
    }
    for from in [1, 2] {
        let client = device.client_from([127, 0, 2, from]);
        let valid = client.get(&url).bearer_auth(token("viewer")).send().await.unwrap();
        assert_eq!(valid.status(), StatusCode::OK);
    }
    assert!(guesses.try_join_next().is_none(), "an invalid credential got its response first");
    while let Some(guess) = guesses.join_next().await {
        assert_eq!(problem(guess.unwrap().unwrap()).await.kind, "urn:krazy:unauthorized");
    }
}

#[tokio::test]
async fn requests_of_other_sites_are_rejected() {
    let device = Device::start().await;
    let post = |header, value: String| {
        device.request("admin", Method::POST, "/api/v1/reboot").header(header, value).send()
    };
    for (header, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let details = problem(post(header, value.into()).await.unwrap()).await;
        assert_eq!((details.status, details.kind.as_str()), (403, "urn:krazy:cross-site"));
    }
    assert!(device.init.commands.lock().unwrap().is_empty());
    let own = post("origin", device.url("")).await.unwrap();
    assert_eq!(own.status(), StatusCode::ACCEPTED);
}
