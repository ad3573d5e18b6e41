//! The server as its clients use it: over TLS, with real credentials, on a device in a temporary directory.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]

mod access;
mod attack;
mod bundle;
mod certificate;
mod device;
mod disconnect;
mod disk;
mod files;
mod flash;
mod judges;
mod limits;
mod process;
mod services;
mod signed_only;
mod tokens;
mod update;
