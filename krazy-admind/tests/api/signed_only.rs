//! A device that takes signed updates only: every other way to change what it starts is refused.

use krazy_admind::config::{Config, Policy};
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::refusal::Refusal;
use krazy_init::control::Command;
use reqwest::{Method, StatusCode};

use crate::bundle::Bundle;
use crate::device::{Device, config, problem, serve_config};
use crate::disk::{self, layout};
use crate::update;

async fn device() -> Device {
    let mut device = Device::start().await;
    let config = Config { policy: Policy { signed_only: true, floor: None }, ..config(device.root.path()) };
    device.address = serve_config(config).await;
    device
}

async fn put(device: &Device, path: &str) -> reqwest::Response {
    device.request("root", Method::PUT, path).body("x").send().await.unwrap()
}

#[tokio::test]
async fn raw_writes_are_refused() {
    let device = device().await;
    let before = disk::partition_start(device.root.path(), layout().root_b, 600);
    for path in ["/api/v1/partitions/3", "/api/v1/partitions/4?force=true", "/api/v1/disk?force=true"] {
        let details = problem(put(&device, path).await).await;
        assert_eq!((details.status, details.kind.as_str()), (403, "urn:krazy:forbidden"), "{path}");
        assert!(details.detail.contains("`admind = { signed-only = true }`"), "{}", details.detail);
    }
    assert_eq!(disk::partition_start(device.root.path(), layout().root_b, 600), before);
}

#[tokio::test]
async fn files_that_decide_about_the_next_start_are_read_only() {
    let device = device().await;
    let keys = std::fs::read(device.path("data/krazy/update.pub")).unwrap();
    for path in ["boot/a-cmdline.txt", "data/krazy/update.pub", "data/krazy/tokens.json", "etc/krazy/new"] {
        let details = problem(put(&device, &format!("/api/v1/files/{path}")).await).await;
        assert_eq!(details.kind, "urn:krazy:outside-tree", "{path}");
    }
    assert_eq!(std::fs::read(device.path("data/krazy/update.pub")).unwrap(), keys);
    assert_eq!(put(&device, "/api/v1/files/data/mark").await.status(), StatusCode::CREATED);
    // Reading is as before.
    assert_eq!(device.get("root", "/api/v1/files/boot/a-cmdline.txt").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn slot_is_started_only_with_a_valid_signature_and_above_the_floor() {
    let device = device().await;
    let switch = || device.request("admin", Method::POST, "/api/v1/slots/switch?slot=b").send();
    let rollback = || device.request("admin", Method::POST, "/api/v1/slots/rollback").send();
    for unsigned in [switch().await.unwrap(), rollback().await.unwrap()] {
        assert_eq!(update::refused(unsigned).await, Refusal::Signature);
    }
    let bundle = Bundle::new(false);
    let session = update::start(&device, &bundle, "").await;
    assert!(update::send(&device, &session.id, 0, &bundle.streams).await.status().is_success());
    assert!(switch().await.unwrap().status().is_success());
    assert_eq!(device.init.commands.lock().unwrap().last(), Some(&Command::Switch { slot: Slot::B }));

    let set_floor =
        |floor: &'static str| device.request("admin", Method::PUT, "/api/v1/update/floor").body(floor).send();
    assert!(set_floor(r#"{"version":"99.0.0"}"#).await.unwrap().status().is_success());
    assert_eq!(update::refused(rollback().await.unwrap()).await, Refusal::BelowFloor);
    assert_eq!(problem(set_floor("{}").await.unwrap()).await.kind, "urn:krazy:forbidden");

    // One bit of the signature.
    let path = device.path("boot/b-slot.sig");
    let mut signature = std::fs::read(&path).unwrap();
    signature[5] ^= 1;
    std::fs::write(&path, signature).unwrap();
    disk::sync_boot(device.root.path());
    assert_eq!(update::refused(switch().await.unwrap()).await, Refusal::Signature);
}

#[tokio::test]
async fn floor_binds_a_switch_of_any_device() {
    let device = Device::start().await;
    let bundle = Bundle::new(false);
    let session = update::start(&device, &bundle, "").await;
    assert!(update::send(&device, &session.id, 0, &bundle.streams).await.status().is_success());
    let switch = || device.request("admin", Method::POST, "/api/v1/slots/switch?slot=b").send();
    assert!(switch().await.unwrap().status().is_success());
    let floor = device.request("admin", Method::PUT, "/api/v1/update/floor");
    assert!(floor.body(r#"{"version":"99.0.0"}"#).send().await.unwrap().status().is_success());
    assert_eq!(update::refused(switch().await.unwrap()).await, Refusal::BelowFloor);
}

#[tokio::test]
async fn floor_of_the_build_that_runs_binds_updates_and_is_kept() {
    let mut device = Device::start().await;
    let policy = Policy { signed_only: false, floor: Some("99.0.0".parse().unwrap()) };
    device.address = serve_config(Config { policy, ..config(device.root.path()) }).await;
    assert_eq!(update::status(&device, "").await.floor.as_deref(), Some("99.0.0"));
    let head = Bundle::new(false).head();
    assert_eq!(update::refused(update::post(&device, &head, "").await).await, Refusal::BelowFloor);
    let lower = device.request("admin", Method::PUT, "/api/v1/update/floor").body("{}").send().await.unwrap();
    assert_eq!(update::refused(lower).await, Refusal::BelowFloor);
    // A later build that asks for nothing.
    device.address = serve_config(config(device.root.path())).await;
    assert_eq!(update::refused(update::post(&device, &head, "").await).await, Refusal::BelowFloor);
}
