//! The contract of a device's HTTPS API, shared by krazy-admind and its clients.
//!
//! | module | is |
//! |---|---|
//! | [`credentials`] | certificate, tokens and update keys on `/data` |
//! | [`certificate`] | the rotation of a running device's certificate |
//! | [`discovery`] | the service that a device announces in its local network |

pub mod certificate;
pub mod credentials;
pub mod discovery;
