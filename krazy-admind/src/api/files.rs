//! Files and directories over HTTP.

use headers::{HeaderMap, HeaderValue};
use krazy_boot::api::parameter::EncodedPath;
use warp::Reply;
use warp::http::{StatusCode, header};
use warp::reply::Response;

use crate::api::range::{Wanted, wanted};
use crate::api::{Admin, empty, json};
use crate::body::Body;
use crate::device::Location;
use crate::identity::auth::Identity;
use crate::problem::{Kind, Problem};

/// Returns the location of `path`, if `identity` may use it.
pub(super) fn locate(admin: &Admin, identity: &Identity, path: &EncodedPath) -> Result<Location, Problem> {
    admin.device.files().locate(path.as_str(), identity.whole_tree)
}

/// The same for a file that is to be changed.
pub(super) fn locate_to_change(
    admin: &Admin,
    identity: &Identity,
    path: &EncodedPath,
) -> Result<Location, Problem> {
    admin.device.files().locate_to_change(path.as_str(), identity.whole_tree)
}

/// The file, or the part of it that `Range` asks for.
pub(super) async fn read(
    admin: &Admin,
    location: Location,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let shown = location.path().to_string();
    let contents = admin.device.files().open(location).await?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let total = contents.len();
    // A range of another version of the file must not be appended to what the client has (RFC 9110, section 13.1.5).
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
pub(super) async fn write(admin: &Admin, location: Location, body: Body) -> Result<Response, Problem> {
    let new = admin.device.files().write(location, body).await?;
    Ok(empty(if new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }))
}

pub(super) async fn remove(admin: &Admin, location: Location) -> Result<Response, Problem> {
    admin.device.files().remove(location).await.map(|()| empty(StatusCode::NO_CONTENT))
}

pub(super) async fn list(admin: &Admin, location: Location) -> Result<Response, Problem> {
    json(&admin.device.files().list(location).await?)
}

pub(super) async fn make_directory(admin: &Admin, location: Location) -> Result<Response, Problem> {
    let new = admin.device.files().make_directory(location).await?;
    Ok(empty(if new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }))
}

pub(super) async fn remove_directory(
    admin: &Admin,
    location: Location,
    recursive: bool,
) -> Result<Response, Problem> {
    admin.device.files().remove_directory(location, recursive).await.map(|()| empty(StatusCode::NO_CONTENT))
}
