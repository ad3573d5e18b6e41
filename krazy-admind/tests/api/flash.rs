//! Direct writes to partitions and the disk.

use krazy_boot::disk::slot::Slot;
use reqwest::{Method, StatusCode};

use crate::bundle::Bundle;
use crate::device::{Device, problem};
use crate::disk::{self, layout};
use crate::update;

async fn put(device: &Device, path: &str, body: Vec<u8>) -> reqwest::Response {
    device.request("admin", Method::PUT, path).body(body).send().await.unwrap()
}

#[tokio::test]
async fn unused_partition_is_written() {
    let device = Device::start().await;
    let content = disk::file_system(700_001);
    let response = put(&device, "/api/v1/partitions/3", content.clone()).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(disk::partition_start(device.root.path(), layout().root_b, content.len()), content);
    // Rejected by its announced length: the device closes the connection without reading it, and nothing is written.
    let long = device.request("admin", Method::PUT, "/api/v1/partitions/3");
    let response = long.body(vec![0; disk::ROOT_SIZE.0 as usize + 1]).send().await;
    assert!(
        response.is_err()
            || response.is_ok_and(|response| response.status() == StatusCode::PAYLOAD_TOO_LARGE)
    );
    assert_eq!(disk::partition_start(device.root.path(), layout().root_b, content.len()), content);
    for number in ["0", "5", "x"] {
        let path = format!("/api/v1/partitions/{number}");
        assert_eq!(problem(put(&device, &path, Vec::new()).await).await.status, 404);
    }
}

#[tokio::test]
async fn target_in_use_is_written_only_with_force() {
    let device = Device::start().await;
    for path in ["/api/v1/disk", "/api/v1/partitions/1", "/api/v1/partitions/2", "/api/v1/partitions/4"] {
        let details = problem(put(&device, path, vec![1; 10]).await).await;
        assert_eq!((details.status, details.kind.as_str()), (409, "urn:krazy:in-use"), "{path}");
    }
    device.init.boot.lock().unwrap().armed = Some(Slot::B);
    let armed = problem(put(&device, "/api/v1/partitions/3", vec![1; 10]).await).await;
    assert_eq!(armed.detail, "partition 3 is armed: the next start mounts it");
    device.init.boot.lock().unwrap().armed = None;
    update::start(&device, &Bundle::new(false), "").await;
    let busy = problem(put(&device, "/api/v1/partitions/3", vec![1; 10]).await).await;
    assert_eq!(busy.kind, "urn:krazy:update-session-active");
    let cancelled = device.request("admin", Method::DELETE, "/api/v1/update").send().await.unwrap();
    assert_eq!(cancelled.status(), StatusCode::NO_CONTENT);

    let response = put(&device, "/api/v1/partitions/4?force=true", vec![5; 600]).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(disk::partition_start(device.root.path(), layout().data, 600), [5; 600]);
    let response = put(&device, "/api/v1/disk?force=true", vec![6; 600]).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let mut start = layout().boot;
    start.start = krazy_boot::disk::size::Sectors(0);
    assert_eq!(disk::partition_start(device.root.path(), start, 600), [6; 600]);
}
