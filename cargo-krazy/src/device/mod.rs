//! Running devices, over their HTTPS API.
//!
//! | module | is |
//! |---|---|
//! | [`hosts`] | which address a name on the command line stands for |
//! | [`machines`] | the machines of `run-qemu` that run now, which have names of their own |
//! | [`selection`] | which device is meant, and whose credentials it takes |
//! | [`credentials`] | the certificate and the token, which may be of one's own |
//! | [`client`] | requests: the certificate pinned, the token sent, problems told |
//! | [`upload`] | bodies read from files while they are sent |
//! | [`paths`], [`status`], [`events`] | the API as this program uses it |
//! | [`discovery`] | devices that announce themselves, and names in `.local` |
//! | [`power`] | restarting and switching off |
//! | [`tokens`] | who else may talk to a device |
//! | [`rotation`] | new certificates and tokens in the place of old ones |
//! | `pinned` | the check of the certificate, in place of any authority |
//! | [`error`] | what can go wrong, and what to do then |
//!
//! Every [`client::Client`] blocks; several devices at once are several threads.

pub mod client;
pub mod credentials;
pub mod discovery;
pub mod error;
pub mod events;
pub mod hosts;
pub mod machines;
pub mod paths;
mod pinned;
pub mod power;
pub mod rotation;
pub mod selection;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;
pub mod tokens;
pub mod upload;

pub use client::Client;
pub use credentials::Credentials;
pub use error::DeviceError;
pub use selection::{CredentialArgs, DeviceArgs, Target};
