//! Services, logs, status and power, through a fake init that speaks the real protocol.

use std::time::Duration;

use krazy_admind::config::Limits;
use krazy_boot::disk::selector::Selector;
use krazy_boot::disk::slot::Slot;
use krazy_init::control::{Command, LogLine, LogStream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::device::{Device, problem};
use crate::disk::write_selector;

async fn body(response: reqwest::Response) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn status_combines_init_and_kernel() {
    let device = Device::start().await;
    let status = body(device.get("viewer", "/api/v1/status").await).await;
    assert_eq!(status["name"], "weather");
    assert_eq!(status["slot"], "a");
    assert_eq!(status["kernel"], "6.12.1");
    assert_eq!(status["uptime"], 61);
    assert_eq!(status["stable"], true);
    assert_eq!(status["degraded"], json!(["the <clock> was not set"]));
    assert_eq!(status["memory"], json!({"total": 2048 * 1024, "available": 1024 * 1024}));
    assert!(status["data"]["available"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn condition_of_data_comes_from_init_superblock_and_kernel() {
    let device = Device::start().await;
    let partition = json!({"partition": "/dev/vda4", "temporary": null, "formatted": false});
    device.init.boot.lock().unwrap().data = serde_json::from_value(partition).unwrap();
    let mut superblock = vec![0; 2048];
    superblock[1024 + 0x38..1024 + 0x3b].copy_from_slice(&[0x53, 0xef, 3]);
    superblock[1024 + 0x194] = 2;
    superblock[1024 + 0x1e0..1024 + 0x1eb].copy_from_slice(b"ext4_lookup");
    std::fs::write(device.path("dev/vda4"), superblock).unwrap();
    std::fs::create_dir_all(device.path("sys/class/block/vda4")).unwrap();
    std::fs::write(device.path("sys/class/block/vda4/size"), "2048\n").unwrap();
    std::fs::write(device.path("dev/kmsg"), "3,1,2,-;EXT4-fs error (device vda4): ext4_lookup:1855\n")
        .unwrap();
    let data = body(device.get("viewer", "/api/v1/data").await).await;
    assert_eq!(
        (&data["state"], &data["errors"], &data["partition_size"]),
        (&json!("errors"), &json!(2), &json!(1 << 20))
    );
    assert_eq!(data["last_error"]["function"], "ext4_lookup");
    assert_eq!(data["kernel_log"], json!(["EXT4-fs error (device vda4): ext4_lookup:1855"]));
    assert_eq!(data["format_requested"], false);

    // While it is mounted, the kernel's own count is the newer one.
    std::fs::create_dir_all(device.path("sys/fs/ext4/vda4")).unwrap();
    std::fs::write(device.path("sys/fs/ext4/vda4/errors_count"), "5\n").unwrap();
    assert_eq!(body(device.get("viewer", "/api/v1/data").await).await["errors"], 5);

    let temporary = json!({"partition": "/dev/vda4", "temporary": "it is damaged", "formatted": false});
    device.init.boot.lock().unwrap().data = serde_json::from_value(temporary).unwrap();
    let data = body(device.get("viewer", "/api/v1/data").await).await;
    assert_eq!((&data["state"], &data["errors"]), (&json!("not-mounted"), &json!(2)));
    assert_eq!(data["source"]["temporary"], "it is damaged");

    let response =
        device.request("admin", Method::POST, "/api/v1/data/format?name=weather").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let expected = Command::FormatData { name: "weather".into() };
    assert_eq!(device.init.commands.lock().unwrap().last(), Some(&expected));
}

#[tokio::test]
async fn metrics_are_in_the_format_of_prometheus() {
    let device = Device::start().await;
    let response = device.get("viewer", "/api/v1/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap();
    for line in [
        "krazy_info{name=\"weather\",version=\"1.2.3\",board=\"x86_64\",slot=\"a\",kernel=\"6.12.1\"} 1",
        "# TYPE krazy_uptime_seconds gauge",
        "krazy_uptime_seconds 61",
        "krazy_degraded 1",
        "krazy_memory_total_bytes 2097152",
        "krazy_service_up{service=\"web\"} 1",
        "krazy_service_restarts_total{service=\"web\"} 1",
        "krazy_service_resident_bytes{service=\"web\"} 1048576",
    ] {
        assert!(text.lines().any(|found| found == line), "`{line}` is missing in\n{text}");
    }
}

#[tokio::test]
async fn slots_are_read_from_the_boot_selector() {
    let device = Device::start().await;
    let slots = body(device.get("viewer", "/api/v1/slots").await).await;
    let expected = json!({
        "running": "a", "confirmed": "a", "armed": null, "candidate": null, "standing": "confirmed",
        "trial": null, "needs_repair": false,
    });
    assert_eq!(slots, expected);
    write_selector(device.root.path(), Selector::confirmed(Slot::A).arm(Slot::B));
    let slots = body(device.get("viewer", "/api/v1/slots").await).await;
    assert_eq!((&slots["armed"], &slots["standing"]), (&json!("b"), &json!("armed")));

    std::fs::write(device.path("dev/vda"), [0; 2048]).unwrap();
    let details = problem(device.get("viewer", "/api/v1/slots").await).await;
    assert_eq!((details.status, details.detail.as_str()), (409, "sector 1 holds no boot selector"));
}

#[tokio::test]
async fn status_without_krazy_init_comes_from_the_manifest() {
    let device = Device::without_init(Limits::default()).await;
    let status = body(device.get("viewer", "/api/v1/status").await).await;
    assert_eq!(
        (&status["name"], &status["slot"], &status["stable"]),
        (&json!("weather"), &json!("b"), &Value::Null)
    );
    let why = status["degraded"][0].as_str().unwrap();
    assert!(why.ends_with("only krazy-init has this socket"), "{why}");
    let details = problem(device.get("viewer", "/api/v1/services").await).await;
    assert_eq!((details.status, details.kind.as_str()), (503, "urn:krazy:init-unreachable"));
    assert_eq!(device.get("viewer", "/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn services_are_listed_and_controlled() {
    let device = Device::start().await;
    let list = body(device.get("viewer", "/api/v1/services").await).await;
    assert_eq!(list["services"][0]["name"], "web");
    let one = body(device.get("viewer", "/api/v1/services/web").await).await;
    assert_eq!(one["last_exit"], json!({"code": 3}));
    device.init.commands.lock().unwrap().clear();
    for (action, status) in [
        ("services/web/start", 204),
        ("services/web/stop", 204),
        ("services/web/restart", 204),
        ("services/web/signal?signal=HUP", 204),
        ("reboot", 202),
        ("poweroff", 202),
    ] {
        let response =
            device.request("admin", Method::POST, &format!("/api/v1/{action}")).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{action}");
    }
    let service = || "web".to_owned();
    assert_eq!(
        *device.init.commands.lock().unwrap(),
        [
            Command::Start { service: service() },
            Command::Stop { service: service() },
            Command::Restart { service: service() },
            Command::Signal { service: service(), signal: "HUP".into() },
            Command::Reboot,
            Command::Poweroff,
        ]
    );
}

#[tokio::test]
async fn refusals_of_init_reach_the_client() {
    let device = Device::start().await;
    let post =
        async |path: &str| problem(device.request("admin", Method::POST, path).send().await.unwrap()).await;
    let details = post("/api/v1/services/a%2fb/start").await;
    assert_eq!((details.status, details.detail.as_str()), (404, "there is no service `a/b`"));
    let details = post("/api/v1/services/web/signal?signal=USR1").await;
    assert_eq!((details.status, details.kind.as_str()), (409, "urn:krazy:not-now"));
    for query in ["", "?sig=1", "?signal=HUP&x=1"] {
        let details = post(&format!("/api/v1/services/web/signal{query}")).await;
        assert_eq!(details.kind, "urn:krazy:bad-request", "{query}: {}", details.detail);
    }
}

#[tokio::test]
async fn logs_are_served_as_lines_and_as_a_file() {
    let device = Device::start().await;
    let lines = body(device.get("viewer", "/api/v1/services/web/logs?lines=2").await).await;
    assert_eq!(
        lines["lines"],
        json!([{"stream": "out", "text": "second"}, {"stream": "out", "text": "third"}])
    );
    let command = device.init.commands.lock().unwrap().pop();
    assert!(matches!(command, Some(Command::Logs { lines: 2, follow: false, .. })));

    let path = "/api/v1/services/web/logs/out";
    let file = device.get("viewer", path).await;
    assert_eq!(file.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(file.text().await.unwrap(), "first\nsecond\nthird\n");
    let end = device.request("viewer", Method::GET, path).header("range", "bytes=-6").send().await.unwrap();
    assert_eq!(end.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(end.text().await.unwrap(), "third\n");

    assert_eq!(problem(device.get("viewer", "/api/v1/services/web/logs/err").await).await.status, 404);
    for name in ["..%2fdata%2fkrazy%2ftokens", "%2e%2e%2fprivate", "web%00"] {
        let details = problem(device.get("viewer", &format!("/api/v1/services/{name}/logs/out")).await).await;
        assert_eq!(details.kind, "urn:krazy:bad-request", "{name}");
    }
}

#[tokio::test]
async fn log_that_is_a_symbolic_link_is_rejected() {
    let device = Device::start().await;
    std::os::unix::fs::symlink("../../tmp/private", device.path("run/log/evil.log")).unwrap();
    let details = problem(device.get("viewer", "/api/v1/services/evil/logs/out").await).await;
    assert_eq!((details.status, details.kind.as_str()), (403, "urn:krazy:outside-tree"));
}

#[tokio::test]
async fn names_that_services_make_in_tmp_are_not_logs() {
    let device = Device::start().await;
    for name in ["web.log", "mine.log"] {
        let pipe = device.path(&format!("tmp/{name}"));
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    let log = device.get("admin", "/api/v1/files/tmp/web.log").await;
    assert_eq!(log.text().await.unwrap(), "first\nsecond\nthird\n");
    let details = problem(device.get("admin", "/api/v1/files/tmp/mine.log").await).await;
    assert_eq!((details.status, details.detail.as_str()), (404, "/tmp/mine.log does not exist"));
    let logs = device.get("admin", "/api/v1/directories/tmp").await.text().await.unwrap();
    assert!(logs.contains("web.log") && !logs.contains("mine.log"), "{logs}");
}

#[tokio::test]
async fn logs_of_an_init_without_their_directory_are_in_tmp() {
    let device = Device::start().await;
    std::fs::rename(device.path("run/log/web.log"), device.path("tmp/web.log")).unwrap();
    std::fs::remove_dir(device.path("run/log")).unwrap();
    let log = device.get("admin", "/api/v1/files/tmp/web.log").await;
    assert_eq!(log.text().await.unwrap(), "first\nsecond\nthird\n");
}

#[tokio::test]
async fn live_log_ends_when_the_client_disconnects() {
    let device = Device::start().await;
    let mut response = device.get("viewer", "/api/v1/services/web/tail?lines=1").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut wait_for = async |text: &mut String, end: &str| {
        while !text.ends_with(end) {
            let chunk = timeout(Duration::from_secs(5), response.chunk()).await.expect("an event in time");
            text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
        }
    };
    wait_for(&mut text, "event:out\ndata:third\n\n").await;
    let line = LogLine { stream: LogStream::Err, text: "it burns".into() };
    device.init.lines.send(line).unwrap();
    wait_for(&mut text, "event:err\ndata:it burns\n\n").await;
    device.init.commands.lock().unwrap().clear();
    drop(response);
    // The fake init records the disconnect.
    for _ in 0..100 {
        if !device.init.commands.lock().unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the connection to init stays open without a client");
}

#[tokio::test]
async fn page_shows_services_and_escapes_their_names() {
    let device = Device::start().await;
    let response = device.get("viewer", "/").await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = response.text().await.unwrap();
    for part in [
        "<h1>weather 1.2.3</h1>",
        "the &lt;clock&gt; was not set",
        "/api/v1/services/web/logs/out",
        "&lt;b&gt;",
        "/api/v1/services/%3Cb%3E/logs/err",
        "1 min 1 s",
    ] {
        assert!(page.contains(part), "no `{part}` in {page}");
    }
    assert!(!page.contains("<b>") && !page.contains("src="));
}
