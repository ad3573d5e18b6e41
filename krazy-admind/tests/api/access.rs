//! Who gets in, and where.

use std::time::{Duration, Instant};

use krazy_admind::routes::{Access, Operation, ROUTES, Route};
use krazy_boot::api::credentials::Role;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::device::{Device, problem, stored_token, token};
use crate::update::begin;

fn read(device: &Device, name: &str) -> Vec<u8> {
    std::fs::read(device.path("data/krazy/tls").join(name)).unwrap()
}

/// A path of the route that exists.
fn path(route: &Route) -> String {
    let path = route.pattern.replace("{name}", "web").replace("{stream}", "out").replace("{id}", "0");
    let path = path.replace("{number}", "3");
    let query = match route.operation {
        Operation::SignalService => "?signal=HUP",
        Operation::SendUpdate => "?offset=0",
        Operation::FlashDisk => "?force=true",
        _ => "",
    };
    path.replace("{path}", "data/x") + query
}

#[tokio::test]
async fn no_route_but_the_probe_answers_without_a_credential() {
    let device = Device::start().await;
    for route in ROUTES {
        let response = device.request("", route.method.clone(), &path(route)).send().await.unwrap();
        if route.access == Access::Open {
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            assert!(!response.headers().contains_key("server"));
            continue;
        }
        let ways: Vec<_> = response.headers().get_all("www-authenticate").iter().cloned().collect();
        assert_eq!(ways, ["Basic realm=\"krazy\", charset=\"UTF-8\"", "Bearer realm=\"krazy\""]);
        let details = problem(response).await;
        assert_eq!(
            (details.status, details.kind.as_str()),
            (401, "urn:krazy:unauthorized"),
            "{}",
            route.pattern
        );
    }
    // What does not exist looks the same to strangers.
    assert_eq!(device.get("", "/api/v1/nothing").await.status(), StatusCode::UNAUTHORIZED);
    assert!(device.init.asked.lock().unwrap().is_empty(), "init was asked on behalf of a stranger");
}

#[tokio::test]
async fn no_route_takes_a_wrong_credential() {
    let device = Device::start().await;
    let wrong = token("nobody");
    for (n, route) in ROUTES.iter().enumerate().filter(|(_, route)| route.access != Access::Open) {
        // From an address of its own, so that none waits for another's mistakes.
        let client = device.client_from([127, 0, 1, n as u8 + 1]);
        let request = client.request(route.method.clone(), device.url(&path(route)));
        let response = match n % 3 {
            0 => request.bearer_auth(&wrong),
            1 => request.basic_auth("admin", Some(&wrong)),
            _ => request.header("authorization", "Bearer krz_"),
        };
        let details = problem(response.send().await.unwrap()).await;
        assert_eq!(details.detail, "this device does not know the credential", "{}", route.pattern);
    }
    assert!(device.init.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_viewer_sees_and_changes_nothing() {
    let device = Device::start().await;
    for route in ROUTES {
        let response = device.request("viewer", route.method.clone(), &path(route)).send().await.unwrap();
        match route.access {
            Access::Admin => {
                let details = problem(response).await;
                assert_eq!((details.status, details.kind.as_str()), (403, "urn:krazy:forbidden"));
                assert!(details.detail.starts_with("`viewer` is a viewer; "), "{}", details.detail);
            }
            Access::Open | Access::Viewer => {
                assert_eq!(response.status().as_u16(), route.success, "{} {}", route.method, route.pattern);
            }
        }
    }
    assert!(!device.path("data/x").exists());
}

#[tokio::test]
async fn an_admin_uses_every_route() {
    let device = Device::start().await;
    // In the table's order, files are read before they are written.
    std::fs::write(device.path("data/x"), "x").unwrap();
    let (bundle, mut update) = (Bundle::new(false), String::new());
    for route in ROUTES {
        let path = match (&route.method, route.pattern) {
            (&Method::PUT, "/api/v1/files/{path}") => "/api/v1/files/data/new".to_owned(),
            (&Method::PUT | &Method::DELETE, "/api/v1/directories/{path}") => {
                "/api/v1/directories/data/dir".into()
            }
            (_, "/api/v1/directories/{path}") => "/api/v1/directories/data".into(),
            (_, "/api/v1/update/{id}") => {
                device.init.boot.lock().unwrap().armed = None;
                update = begin(&device, &bundle, "").await.id;
                format!("/api/v1/update/{update}?offset=0")
            }
            (_, "/api/v1/tokens/{name}") => "/api/v1/tokens/new".into(),
            (_, "/api/v1/update/{id}/arm") => format!("/api/v1/update/{update}/arm"),
            _ => path(route),
        };
        let body = match route.operation {
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
            // Its own once more, which the clients of this test know.
            Operation::PutCertificate => ["key.pem", "cert.pem"].map(|name| read(&device, name)).concat(),
            Operation::SetFloor => b"{\"version\":null}".to_vec(),
            _ => Vec::new(),
        };
        let request = device.client_from([127, 0, 0, 1]).request(route.method.clone(), device.url(&path));
        let response = request.body(body).basic_auth("whoever", Some(token("admin"))).send().await.unwrap();
        assert_eq!(response.status().as_u16(), route.success, "{} {path}", route.method);
        let media_type = response.headers().get("content-type").map(|value| value.to_str().unwrap());
        assert_eq!(media_type.map(|text| text.split(';').next().unwrap()), route.media_type, "{path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn every_documented_operation_exists_and_no_other() {
    let device = Device::start().await;
    let body = device.get("viewer", "/api/v1/openapi.json").await.bytes().await.unwrap();
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (pattern, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let route = ROUTES.iter().find(|route| route.pattern == pattern && route.method == method);
            let route = route.unwrap_or_else(|| panic!("{method} {pattern} is documented, but not there"));
            assert_eq!(operation["security"].as_array().unwrap().is_empty(), route.access == Access::Open);
            let named: Vec<_> =
                operation["parameters"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
            for parameter in pattern.split('{').skip(1) {
                let name = parameter.split('}').next().unwrap();
                assert!(named.iter().any(|known| **known == name), "{name} of {pattern} is not documented");
            }
            assert!(operation["responses"][route.success.to_string()].is_object());
        }
        // Methods that are not documented are refused.
        let path = pattern.replace("{name}", "web").replace("{stream}", "out").replace("{path}", "data/x");
        let response = device.request("root", Method::OPTIONS, &path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_eq!(operations, ROUTES.len());
    let refs = body.windows(6).filter(|window| window == b"\"$ref\"").count();
    assert_eq!(refs, ROUTES.len(), "every operation documents its problems");
}

#[tokio::test]
async fn guessing_gets_slower_for_the_guesser_only() {
    let device = Device::start().await;
    let guesser = device.client_from([127, 0, 2, 1]);
    let url = device.url("/api/v1/status");
    let start = Instant::now();
    for _ in 0..7 {
        let response = guesser.get(&url).bearer_auth(token("nobody")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    // The fourth one cost 100 ms, the fifth 200, the sixth 400.
    assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());

    // A right credential does not wait while the answers to wrong ones do, wherever it comes from.
    for _ in 0..2 {
        guesser.get(&url).bearer_auth(token("nobody")).send().await.unwrap();
    }
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..2 {
        // With a body that nobody needs.
        let guess = guesser.put(device.url("/api/v1/files/data/x")).bearer_auth(token("nobody"));
        guesses.spawn(guess.body(vec![0; 1 << 20]).send());
    }
    for from in [1, 2] {
        let client = device.client_from([127, 0, 2, from]);
        let right = client.get(&url).bearer_auth(token("viewer")).send().await.unwrap();
        assert_eq!(right.status(), StatusCode::OK);
    }
    assert!(guesses.try_join_next().is_none(), "a wrong credential was answered first");
    while let Some(guess) = guesses.join_next().await {
        assert_eq!(problem(guess.unwrap().unwrap()).await.kind, "urn:krazy:unauthorized");
    }
}

#[tokio::test]
async fn pages_of_other_sites_cannot_use_a_browsers_password() {
    let device = Device::start().await;
    let post = |header, value: String| {
        device.request("admin", Method::POST, "/api/v1/reboot").header(header, value).send()
    };
    for (header, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let details = problem(post(header, value.into()).await.unwrap()).await;
        assert_eq!((details.status, details.kind.as_str()), (403, "urn:krazy:cross-site"));
    }
    assert!(device.init.asked.lock().unwrap().is_empty());
    let own = post("origin", device.url("")).await.unwrap();
    assert_eq!(own.status(), StatusCode::ACCEPTED);
}
