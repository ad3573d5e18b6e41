//! The contract of a device's HTTPS API, shared by krazy-admind and its clients, and of init's control socket.
//!
//! | module | is |
//! |---|---|
//! | [`operation`] | the table of operations: method, path, access, parameters, body, responses (feature `http`) |
//! | [`parameter`], [`route`] | paths and queries of requests, written and read (feature `http`) |
//! | [`problem`] | the kinds of errors, and their JSON |
//! | [`status`], [`services`], [`logs`], [`files`], [`data`], [`update`], [`tokens`], [`certificate`] | payloads of the operations |
//! | [`openapi`], [`mod@reference`] | the OpenAPI document and the book's table of the operations (feature `schema`) |
//! | [`control`] | requests to init, and its replies |
//! | [`credentials`] | certificate, tokens and update keys on `/data` |
//! | [`discovery`] | the service that a device announces in its local network |
//!
//! # Adding an operation
//!
//! Add a row to the table in [`operation`], with payload types beside the existing ones; the compiler then asks for the
//! handler in krazy-admind's dispatcher. `cargo run -p krazy-boot --features schema --example openapi` rewrites
//! `openapi.json` and the table in `docs/src/api.md`, which tests compare with the table here. CONTRIBUTING.md has all
//! steps.
//!
//! # Compatibility
//!
//! Hosts and devices of different versions talk to each other. Readers ignore unknown fields, fields that were added
//! later are optional, and no path, name, slug or status changes.

pub mod certificate;
pub mod control;
pub mod credentials;
pub mod data;
pub mod discovery;
pub mod files;
pub mod logs;
#[cfg(feature = "schema")]
pub mod openapi;
#[cfg(feature = "http")]
pub mod operation;
#[cfg(feature = "http")]
pub mod parameter;
pub mod problem;
#[cfg(feature = "schema")]
pub mod reference;
#[cfg(feature = "http")]
pub mod route;
pub mod services;
pub mod status;
pub mod tokens;
pub mod update;

#[cfg(feature = "http")]
pub use operation::{Access, Endpoint, Operation};
#[cfg(feature = "http")]
pub use parameter::EndpointError;
#[cfg(feature = "http")]
pub use route::Route;

/// The OpenAPI 3.1 document of the API.
#[cfg(feature = "http")]
pub const OPENAPI: &str = include_str!("openapi.json");
