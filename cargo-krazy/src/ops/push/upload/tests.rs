use std::io::Write;
use std::sync::atomic::AtomicU32;

use indicatif::ProgressDrawTarget;
use krazy_boot::update::bundle::{BundleManifest, FORMAT, PROTOCOL, Signed, Transport};
use serde_json::{Value, json};

use super::*;
use crate::device::testing::{Answer, Device, answer};
use crate::device::upload::Piece;

fn session(id: u32, state: &str) -> Value {
    json!({
        "id": id.to_string(), "state": state, "slot": "b", "build_id": "ab", "version": "1.2.3", "by": "admin",
        "received": if state == "verified" { 5 } else { 0 }, "total": 5, "idle": 0,
    })
}

fn status(session: &Value) -> Vec<u8> {
    answer("200 OK", &json!({ "protocol": PROTOCOL, "session": session, "history": [] }).to_string())
}

/// Uploads five bytes to a device with these replies.
fn upload_to(device: Answer) -> Result<Sent> {
    let device = Device::start(device);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"bytes").unwrap();
    let streams = vec![Piece { file: Arc::new(file), start: 0, len: 5 }];
    let transfer = Transfer { transport: Transport { parts: Vec::new() }, streams, copied: Bytes(0) };
    let manifest = BundleManifest {
        format: FORMAT,
        appliance: "weather".into(),
        board: "x86_64".into(),
        build_id: "ab".into(),
        version: "1.2.3".into(),
        protocol: PROTOCOL,
        cmdline: Vec::new(),
        instructions: Vec::new(),
        parts: Vec::new(),
    };
    let signed = Signed { json: Vec::new(), signature: [0; 64] };
    let bundle = Bundle { manifest, signed, parts: Vec::new() };
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
    let heads = [b"HEAD".to_vec(), b"head".to_vec()];
    upload(&device.client(), &bundle, &heads, &transfer, false, Shell::default(), &bars)
}

#[test]
fn upload_restarts_when_the_device_has_lost_its_session() {
    let begun = AtomicU32::new(0);
    let sent = upload_to(Box::new(move |head, _| match head.split('?').next().unwrap_or_default() {
        head if head.starts_with("POST /api/v1/update ") => {
            let id = begun.fetch_add(1, Ordering::SeqCst) + 1;
            answer("201 Created", &session(id, "receiving").to_string())
        }
        // The receiving process dies, and its successor does not know the session.
        "PATCH /api/v1/update/1" => Vec::new(),
        "PATCH /api/v1/update/2" => answer("200 OK", &session(2, "verified").to_string()),
        _ => status(&Value::Null),
    }));
    let sent = sent.unwrap();
    assert_eq!((sent.bytes, sent.breaks), (Bytes(9), 1));

    let endless = upload_to(Box::new(|head, _| match head {
        head if head.starts_with("POST ") => answer("201 Created", &session(1, "receiving").to_string()),
        head if head.starts_with("PATCH ") => Vec::new(),
        _ => status(&Value::Null),
    }));
    let error = endless.unwrap_err().to_string();
    assert!(error.starts_with("`test` refused: the update ended meanwhile ("), "{error}");
}

#[test]
fn first_signature_that_the_device_accepts_is_sent() {
    let refused = || {
        let problem =
            json!({ "type": "urn:krazy:update-signature", "title": "", "status": 422, "detail": "no" });
        answer("422 Unprocessable Content", &problem.to_string())
    };
    let sent = upload_to(Box::new(move |head, body| match head {
        head if head.starts_with("POST ") && body == b"head" => {
            answer("201 Created", &session(1, "receiving").to_string())
        }
        head if head.starts_with("POST ") => refused(),
        head if head.starts_with("PATCH ") => answer("200 OK", &session(1, "verified").to_string()),
        _ => status(&Value::Null),
    }));
    assert_eq!(sent.unwrap().bytes, Bytes(9));

    let failure = upload_to(Box::new(move |head, _| match head {
        head if head.starts_with("POST ") => refused(),
        _ => status(&Value::Null),
    }));
    assert_eq!(failure.unwrap_err().to_string(), "`test` refused: no");
}

#[test]
fn failed_update_is_reported_although_its_reply_was_lost() {
    let failure = upload_to(Box::new(|head, _| match head {
        head if head.starts_with("POST ") => answer("201 Created", &session(1, "receiving").to_string()),
        head if head.starts_with("PATCH ") => Vec::new(),
        // A session that failed is not resumed.
        _ => {
            let mut session = session(1, "failed");
            session["problem"] =
                json!({ "type": "urn:krazy:update-content", "detail": "the root is damaged" });
            status(&session)
        }
    }));
    let error = failure.unwrap_err();
    assert_eq!(error.to_string(), "`test` refused: the root is damaged");
    let help = "nothing was armed, and the device runs the same build as before; push again";
    assert_eq!(error.next_step(), Some(help));
}
