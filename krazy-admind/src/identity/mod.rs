//! The device's identity and that of its clients: certificate, credentials, known addresses, and what one client may use.

pub(crate) mod auth;
pub(crate) mod certificate;
pub(crate) mod clients;
pub(crate) mod credentials;
pub(crate) mod quota;
mod throttle;
pub(crate) mod tokens;
