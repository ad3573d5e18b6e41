//! Files and directories over HTTP.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use headers::{HeaderMap, HeaderValue};
use krazy_boot::api::parameter::EncodedPath;
use tokio::time::timeout;
use warp::Reply;
use warp::http::{StatusCode, header};
use warp::reply::Response;

use crate::api::range::{Wanted, wanted};
use crate::api::{Admin, Call, empty, json};
use crate::body::Body;
use crate::device::files::{self as tree, Place, TreePath, Upload};
use crate::identity::auth::Identity;
use crate::problem::{Kind, Problem};
use crate::task::blocking;

/// Pieces of an upload are gathered to this many bytes before they are written.
const BUFFER_LEN: usize = 256 * 1024;

/// The location of `path`, if `identity` may access it.
pub(super) fn place(admin: &Admin, identity: &Identity, path: &EncodedPath) -> Result<Place, Problem> {
    Place::find(&admin.root, TreePath::from_url(path.as_str())?, identity.whole_tree)
}

/// The file, or the part of it that `Range` asks for.
pub(super) async fn read(place: Place, headers: &HeaderMap) -> Result<Response, Problem> {
    let shown = place.path().to_string();
    let contents = blocking(move || tree::open(&place)).await?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let total = contents.len();
    // A range of another version of the file must not be glued to what the client has (RFC 9110, section 13.1.5).
    let same = text(header::IF_RANGE).is_none_or(|tag| tag == contents.etag());
    let range = text(header::RANGE).filter(|_| same && total > 0);
    let (mut response, len) = match wanted(range, total) {
        // Files of /proc have no length until they are read.
        Wanted::Whole if total == 0 => (warp::reply::stream(contents.stream_to_end()).into_response(), None),
        Wanted::Whole => (warp::reply::stream(contents.stream(0, total)).into_response(), Some(total)),
        Wanted::Part { start, len } => {
            let mut response = warp::reply::stream(contents.stream(start, len)).into_response();
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {start}-{}/{total}", start + len - 1);
            response.headers_mut().insert(header::CONTENT_RANGE, ascii(&range)?);
            (response, Some(len))
        }
        Wanted::Unsatisfiable => {
            return Err(Problem::new(Kind::RangeNotSatisfiable, format!("{shown} has {total} bytes"))
                .header(header::CONTENT_RANGE, ascii(&format!("bytes */{total}"))?));
        }
    };
    let headers = response.headers_mut();
    if let Some(len) = len {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, ascii(contents.etag())?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // A web page kept on /data must not run as one of this site.
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

/// Lets a browser show a log instead of saving it.
pub(super) fn show_as_text(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.remove(header::CONTENT_DISPOSITION);
}

fn ascii(text: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(text).map_err(|error| {
        Problem::new(Kind::Internal, format!("`{text}` cannot be sent as a header: {error}"))
    })
}

/// Writes the body to the file.
pub(super) async fn write(admin: &Arc<Admin>, place: Place, call: Call) -> Result<Response, Problem> {
    let upload = blocking(move || Upload::begin(place)).await?;
    let len = call.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let upload = receive(upload, call.body, len, admin.upload_pause).await?;
    let new = blocking(move || upload.finish()).await?;
    Ok(empty(if new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }))
}

async fn receive(
    mut upload: Upload,
    mut body: Body,
    announced: Option<u64>,
    pause: Duration,
) -> Result<Upload, Problem> {
    let mut gathered = Vec::with_capacity(BUFFER_LEN);
    let mut received = 0_u64;
    loop {
        let piece = timeout(pause, body.next()).await.map_err(|_| {
            let text = format!(
                "nothing came for {} s after {received} bytes; the file is as it was",
                pause.as_secs()
            );
            Problem::new(Kind::Timeout, text).header(header::CONNECTION, HeaderValue::from_static("close"))
        })?;
        let last = piece.is_none();
        if let Some(piece) = piece {
            let piece = piece.map_err(|error| {
                let text =
                    format!("the upload broke off after {received} bytes: {error}; the file is as it was");
                Problem::new(Kind::BadRequest, text)
            })?;
            received += piece.len() as u64;
            gathered.extend_from_slice(&piece);
        } else if announced.is_some_and(|len| len > received) {
            // A stream of HTTP/2 that its client resets without an error looks like one that ends.
            let text = format!(
                "the upload ended after {received} bytes, more were announced; the file is as it was"
            );
            return Err(Problem::new(Kind::BadRequest, text));
        }
        if last || gathered.len() >= BUFFER_LEN {
            (upload, gathered) = blocking(move || {
                upload.write(&gathered)?;
                gathered.clear();
                Ok((upload, gathered))
            })
            .await?;
        }
        if last {
            return Ok(upload);
        }
    }
}

pub(super) async fn remove(place: Place) -> Result<Response, Problem> {
    blocking(move || tree::remove_file(place)).await.map(|()| empty(StatusCode::NO_CONTENT))
}

pub(super) async fn list(place: Place) -> Result<Response, Problem> {
    json(&blocking(move || tree::list(&place)).await?)
}

pub(super) async fn make_directory(place: Place) -> Result<Response, Problem> {
    let new = blocking(move || tree::make(place)).await?;
    Ok(empty(if new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }))
}

pub(super) async fn remove_directory(place: Place, recursive: bool) -> Result<Response, Problem> {
    blocking(move || tree::remove_directory(place, recursive)).await.map(|()| empty(StatusCode::NO_CONTENT))
}
