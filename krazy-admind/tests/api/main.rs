//! The server as its clients meet it: over TLS, with real credentials, in a folder instead of a device.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod bundle;
mod certificate;
mod device;
mod disk;
mod files;
mod flash;
mod gone;
mod limits;
mod process;
mod services;
mod tokens;
mod update;
