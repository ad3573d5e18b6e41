//! Updates: accepted, refused, interrupted and resumed.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use krazy_admind::config::Limits;
use krazy_boot::api::problem::ProblemKind;
use krazy_boot::api::update::{KeyChange, Session, SessionState, UpdateStatus};
use krazy_boot::digest::Hex;
use krazy_boot::disk::size;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::refusal::Refusal;
use krazy_init::control::{Command, Trial};
use reqwest::{Body, Method, Response, StatusCode};
use tokio::time::{sleep, timeout};

use crate::bundle::{Bundle, SEED, hash, new_root, sign, update_key};
use crate::device::{Device, problem};
use crate::disk::{self, OLD_ROOT_LEN, file_system, layout};

async fn json<T: serde::de::DeserializeOwned>(response: Response) -> T {
    let status = response.status();
    let bytes = response.bytes().await.unwrap();
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).unwrap()
}

pub async fn start(device: &Device, bundle: &Bundle, query: &str) -> Session {
    json(post(device, &bundle.head(), query).await).await
}

pub async fn post(device: &Device, head: &[u8], query: &str) -> Response {
    let path = format!("/api/v1/update{query}");
    device.request("admin", Method::POST, &path).body(head.to_vec()).send().await.unwrap()
}

pub async fn send(device: &Device, id: &str, offset: usize, data: &[u8]) -> Response {
    let path = format!("/api/v1/update/{id}?offset={offset}");
    device.request("admin", Method::PATCH, &path).body(data.to_vec()).send().await.unwrap()
}

pub async fn status(device: &Device, query: &str) -> UpdateStatus {
    json(device.get("viewer", &format!("/api/v1/update{query}")).await).await
}

pub async fn refused(response: Response) -> Refusal {
    let details = problem(response).await;
    match details.kind() {
        Some(ProblemKind::Update(refusal)) => refusal,
        _ => panic!("{}: {}", details.kind, details.detail),
    }
}

/// Checks that slot B holds the new root and command line.
fn assert_slot_b_is_updated(device: &Device) {
    let root = new_root();
    assert_eq!(disk::partition_start(device.root.path(), layout().root_b, root.len()), root);
    let line = std::fs::read_to_string(device.path("boot/b-cmdline.txt")).unwrap();
    assert_eq!(line, "root=PARTUUID=1a2b3c4d-03 krazy.slot=b quiet\n");
}

#[tokio::test]
async fn update_is_written_to_the_inactive_slot_and_armed() {
    let device = Device::start().await;
    let before = status(&device, "").await;
    assert!(before.running.unwrap().parts.is_empty() && before.other.is_none() && before.session.is_none());
    let hashed = status(&device, "?hash=true").await.running.unwrap();
    let root = hashed.parts.iter().find(|part| part.size == size::Bytes(OLD_ROOT_LEN as u64)).unwrap();
    assert_eq!(root.sha256, hash(&file_system(OLD_ROOT_LEN)));

    let bundle = Bundle::new(true);
    assert!(bundle.streams.len() < 8000, "{} bytes", bundle.streams.len());
    let session = start(&device, &bundle, "").await;
    assert_eq!(
        (session.state, session.slot, session.by.as_str()),
        (SessionState::Receiving, Slot::B, "admin")
    );
    let early = device.request("admin", Method::POST, &format!("/api/v1/update/{}/arm", session.id));
    assert_eq!(refused(early.send().await.unwrap()).await, Refusal::NotVerified);
    let session: Session = json(send(&device, &session.id, 0, &bundle.streams).await).await;
    assert_eq!((session.state, session.received), (SessionState::Verified, session.total));
    assert_slot_b_is_updated(&device);
    assert_eq!(status(&device, "").await.other.unwrap().parts, bundle.manifest.parts);

    // Repeated, as by a client that lost the response.
    let again = send(&device, &session.id, bundle.streams.len(), b"").await;
    assert_eq!(json::<Session>(again).await.state, SessionState::Verified);
    let arm = device.request("admin", Method::POST, &format!("/api/v1/update/{}/arm", session.id));
    assert_eq!(json::<Session>(arm.send().await.unwrap()).await.state, SessionState::Armed);
    let commands = device.init.commands.lock().unwrap().clone();
    assert!(commands.contains(&Command::Arm { slot: Slot::B, build_id: bundle.manifest.build_id.clone() }));
    let mounts: Vec<_> =
        commands.iter().filter(|command| matches!(command, Command::RemountBoot { .. })).collect();
    assert_eq!(mounts.last(), Some(&&Command::RemountBoot { writable: false }));

    // An armed slot is not overwritten unless the client requests it.
    assert_eq!(refused(post(&device, &bundle.head(), "").await).await, Refusal::Armed);
    let cancelled = device.request("admin", Method::DELETE, "/api/v1/update").send().await.unwrap();
    assert_eq!(cancelled.status(), StatusCode::NO_CONTENT);
    assert_eq!(device.init.commands.lock().unwrap().last(), Some(&Command::Disarm));
    assert!(status(&device, "").await.session.is_none());
}

#[tokio::test]
async fn interrupted_upload_resumes_at_its_offset() {
    let device = Device::start().await;
    let bundle = Bundle::new(false);
    let total = bundle.streams.len();
    let id = start(&device, &bundle, "").await.id;
    for (from, to) in [(0, total / 10), (total / 10, total / 2), (total / 2, total * 99 / 100)] {
        let session: Session = json(send(&device, &id, from, &bundle.streams[from..to]).await).await;
        assert_eq!((session.state, session.received.0), (SessionState::Receiving, to as u64));
        let details = problem(send(&device, &id, from, &bundle.streams[from..to]).await).await;
        assert_eq!((details.status, details.received), (409, Some(to as u64)), "{}", details.detail);
    }
    // A dead connection that the device has not noticed.
    let from = total * 99 / 100;
    let chunk = Bytes::copy_from_slice(&bundle.streams[from..from + 10]);
    let path = format!("/api/v1/update/{id}?offset={from}");
    let body = Body::wrap_stream(stream::unfold(Some(chunk), |chunk| async {
        match chunk {
            Some(chunk) => Some((Ok::<_, std::io::Error>(chunk), None)),
            None => std::future::pending().await,
        }
    }));
    let stalled = tokio::spawn(device.request("admin", Method::PATCH, &path).body(body).send());
    // Until its data has come: what another request overtakes does not count.
    sleep(Duration::from_millis(500)).await;
    let received_now = || async {
        let details = problem(send(&device, &id, 0, b"x").await).await;
        details.received
    };
    // A new request takes over, and the data of the old one counts.
    let received = timeout(Duration::from_secs(20), async {
        loop {
            match received_now().await {
                Some(received) if received > from as u64 => return received,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(received, from as u64 + 10);
    assert_eq!(problem(stalled.await.unwrap().unwrap()).await.kind, "urn:krazy:busy");
    let rest = send(&device, &id, from + 10, &bundle.streams[from + 10..]).await;
    assert_eq!(json::<Session>(rest).await.state, SessionState::Verified);
    assert_slot_b_is_updated(&device);
}

#[tokio::test]
async fn unsigned_update_and_update_for_another_device_are_refused() {
    let device = Device::start().await;
    let refusal = |change: fn(&mut Bundle), query: &'static str| {
        let mut bundle = Bundle::new(false);
        change(&mut bundle);
        let device = &device;
        async move { refused(post(device, &bundle.head(), query).await).await }
    };
    let mut head = Bundle::new(false).head();
    head[100] ^= 1;
    assert_eq!(refused(post(&device, &head, "?force=true").await).await, Refusal::Signature);
    let head = Bundle::new(false).head();
    assert_eq!(refused(post(&device, &head[..head.len() - 1], "").await).await, Refusal::Bundle);
    assert_eq!(refused(post(&device, &[head, vec![0]].concat(), "").await).await, Refusal::Bundle);
    assert_eq!(refused(post(&device, &vec![0; 200_000], "").await).await, Refusal::Bundle);
    assert_eq!(refusal(|bundle| bundle.manifest.board = "pi".into(), "?force=true").await, Refusal::Board);
    assert_eq!(refusal(|bundle| bundle.manifest.appliance = "clock".into(), "").await, Refusal::Appliance);
    assert_eq!(refusal(|bundle| bundle.manifest.protocol = 9, "").await, Refusal::Protocol);
    assert_eq!(refusal(|bundle| bundle.manifest.build_id = "11".repeat(32), "").await, Refusal::Unchanged);
    assert_eq!(
        refusal(|bundle| bundle.manifest.parts[0].size = disk::ROOT_SIZE + size::Bytes(1), "").await,
        Refusal::TooLarge
    );
    let unknown = |bundle: &mut Bundle| bundle.transport.parts[0].base = Some(hash(b"another root"));
    status(&device, "?hash=true").await;
    assert_eq!(refusal(unknown, "").await, Refusal::Base);

    let floor =
        |json: &'static str| device.request("admin", Method::PUT, "/api/v1/update/floor").body(json).send();
    assert_eq!(floor(r#"{"version":"1.4.0"}"#).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(status(&device, "").await.floor.as_deref(), Some("1.4.0"));
    assert_eq!(refusal(|_| (), "?force=true").await, Refusal::BelowFloor);
    assert_eq!(floor(r#"{"version":null}"#).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(problem(floor("1").await.unwrap()).await.kind, "urn:krazy:bad-request");

    let failed = r#"{"format":1,"attempts":[{"build_id":"BUILD","slot":"b","generation":3,"armed_at":0,
        "outcome":"failed","reason":"service web keeps crashing"}]}"#;
    let history = failed.replace("BUILD", &"ab".repeat(32));
    std::fs::write(device.path("data/krazy/updates.json"), history).unwrap();
    let details = problem(post(&device, &Bundle::new(false).head(), "").await).await;
    assert_eq!(details.detail, "this build failed its trial: service web keeps crashing");
    assert_eq!(status(&device, "").await.history.len(), 1);

    device.init.boot.lock().unwrap().trial = Some(Trial { deadline: 100 });
    assert_eq!(refusal(|_| (), "?force=true").await, Refusal::Unconfirmed);
    device.init.boot.lock().unwrap().trial = None;
    device.init.boot.lock().unwrap().slot = None;
    assert_eq!(refusal(|_| (), "?force=true").await, Refusal::NoSlots);
    device.init.boot.lock().unwrap().slot = Some(Slot::A);
    // None of these attempts wrote to the slot.
    assert!(!device.init.commands.lock().unwrap().contains(&Command::RemountBoot { writable: true }));
    start(&device, &Bundle::new(false), "?force=true").await;
}

#[tokio::test]
async fn update_keys_are_replaced_only_by_what_a_present_key_has_signed() {
    let device = Device::start().await;
    let put = |json: String| device.request("admin", Method::PUT, "/api/v1/update/keys").body(json).send();
    let change = |keys: &str, signature: [u8; 64]| {
        serde_json::to_string(&KeyChange { keys: keys.to_owned(), signature: Hex(signature) }).unwrap()
    };
    let keys = format!("{}\n", update_key(4));
    let signed = |seed| sign(seed, &KeyChange::message(&keys));
    // Not by the new key itself, not for other keys, not for an update, and not what is no key.
    let other = sign(SEED, &KeyChange::message(&format!("{}\n", update_key(5))));
    for signature in [signed(4), other, sign(SEED, keys.as_bytes())] {
        assert_eq!(refused(put(change(&keys, signature)).await.unwrap()).await, Refusal::Signature);
    }
    for text in ["", "ed25519 12"] {
        let json = change(text, sign(SEED, &KeyChange::message(text)));
        assert_eq!(problem(put(json).await.unwrap()).await.kind, "urn:krazy:bad-request");
    }
    assert_eq!(problem(put("{}".to_owned()).await.unwrap()).await.kind, "urn:krazy:bad-request");
    assert_eq!(status(&device, "").await.keys, [update_key(SEED).to_string()]);

    assert_eq!(put(change(&keys, signed(SEED))).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(status(&device, "").await.keys, [update_key(4).to_string()]);
    assert!(device.init.commands.lock().unwrap().contains(&Command::CopyCredentials));
    // What an earlier key has signed does not bring it back.
    assert_eq!(refused(put(change(&keys, signed(SEED))).await.unwrap()).await, Refusal::Signature);
    let bundle = Bundle::new(false);
    assert_eq!(refused(post(&device, &bundle.head(), "").await).await, Refusal::Signature);
    assert_eq!(post(&device, &bundle.head_signed(4), "").await.status(), StatusCode::CREATED);
    // While something that a present key has signed may start.
    assert_eq!(refused(put(change(&keys, signed(4))).await.unwrap()).await, Refusal::SessionActive);
}

#[tokio::test]
async fn damaged_or_surplus_data_fails_the_update() {
    let device = Device::start().await;
    let bundle = Bundle::new(false);
    for change in ["flip", "more", "hash"] {
        let (mut bundle, mut streams) = (Bundle::new(false), bundle.streams.clone());
        match change {
            "flip" => streams[50_000] ^= 1,
            "more" => streams.push(0),
            _ => bundle.manifest.parts[1].sha256 = hash(b"something else"),
        }
        let id = start(&device, &bundle, "?replace=true").await.id;
        assert_eq!(refused(send(&device, &id, 0, &streams).await).await, Refusal::Content, "{change}");
        let status = status(&device, "").await;
        assert!(status.other.is_none(), "{change}");
        if change != "more" {
            let session = status.session.unwrap();
            assert_eq!((session.state, session.id.as_str()), (SessionState::Failed, id.as_str()));
            let kind = session.problem.unwrap().kind();
            assert_eq!(kind, Some(ProblemKind::Update(Refusal::Content)));
            assert_eq!(refused(send(&device, &id, 0, &streams).await).await, Refusal::NoSession);
        }
    }
    // A body of unknown length that continues after the end of the streams.
    let id = start(&device, &bundle, "?replace=true").await.id;
    let path = format!("/api/v1/update/{id}?offset=0");
    let chunks =
        [Bytes::from(bundle.streams.clone()), Bytes::from_static(b"more")].map(Ok::<_, std::io::Error>);
    let body = Body::wrap_stream(stream::iter(chunks));
    let response = device.request("admin", Method::PATCH, &path).body(body).send().await.unwrap();
    assert_eq!(refused(response).await, Refusal::Content);
}

#[tokio::test]
async fn second_update_needs_replace() {
    let device = Device::start().await;
    let bundle = Bundle::new(false);
    let first = start(&device, &bundle, "").await.id;
    let details = problem(post(&device, &bundle.head(), "").await).await;
    assert_eq!(details.kind(), Some(ProblemKind::Update(Refusal::SessionActive)));
    assert!(
        details.detail.starts_with("admin is updating to 1.3.0; the last data came "),
        "{}",
        details.detail
    );
    // The first update has written boot files by now, so /boot is writable.
    let all_but_one = &bundle.streams[..bundle.streams.len() - 1];
    json::<Session>(send(&device, &first, 0, all_but_one).await).await;
    assert_eq!(device.init.boot.lock().unwrap().boot_writable, Some(true));
    let second = start(&device, &bundle, "?replace=true").await.id;
    assert_eq!(device.init.boot.lock().unwrap().boot_writable, Some(false));
    assert_eq!(refused(send(&device, &first, 0, &bundle.streams).await).await, Refusal::NoSession);
    let done = send(&device, &second, 0, &bundle.streams).await;
    assert_eq!(json::<Session>(done).await.state, SessionState::Verified);
    assert_eq!(refused(send(&device, "x", 0, b"").await).await, Refusal::NoSession);
}

#[tokio::test]
async fn update_that_cannot_be_armed_does_not_block_the_next() {
    let device = Device::start().await;
    let bundle = Bundle::new(false);
    let id = start(&device, &bundle, "").await.id;
    assert!(send(&device, &id, 0, &bundle.streams).await.status().is_success());
    // Complete, and its client may be about to arm it.
    assert_eq!(refused(post(&device, &bundle.head(), "").await).await, Refusal::SessionActive);
    *device.init.slot_incomplete.lock().unwrap() = Some("it holds no root".into());
    let arm = device.request("admin", Method::POST, &format!("/api/v1/update/{id}/arm")).send().await;
    assert_eq!(refused(arm.unwrap()).await, Refusal::SlotIncomplete);
    let session = status(&device, "").await.session.unwrap();
    assert_eq!(session.state, SessionState::Failed);
    assert_eq!(session.problem.unwrap().detail, "it holds no root");
    start(&device, &bundle, "").await;
}

#[tokio::test]
async fn idle_update_is_dropped() {
    let limits = Limits { update_idle: Duration::from_millis(200), ..Limits::default() };
    let device = Device::with_limits(limits).await;
    let id = start(&device, &Bundle::new(false), "").await.id;
    let gone = async {
        while status(&device, "").await.session.is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.unwrap();
    assert_eq!(refused(send(&device, &id, 0, b"x").await).await, Refusal::NoSession);
}

#[tokio::test]
async fn slot_operations_are_forwarded_to_init() {
    let device = Device::start().await;
    let post = |path: &'static str| device.request("admin", Method::POST, path).send();
    for (path, command) in [
        ("/api/v1/slots/confirm", Command::Confirm),
        ("/api/v1/slots/rollback", Command::Rollback),
        ("/api/v1/slots/switch", Command::Switch { slot: Slot::B }),
        ("/api/v1/slots/switch?slot=a", Command::Switch { slot: Slot::A }),
    ] {
        assert!(post(path).await.unwrap().status().is_success(), "{path}");
        assert_eq!(device.init.commands.lock().unwrap().last(), Some(&command));
    }
    let wrong = post("/api/v1/slots/switch?slot=c").await.unwrap();
    assert_eq!(problem(wrong).await.kind, "urn:krazy:bad-request");
}
