//! Running devices, over their HTTPS API ([`krazy_boot::api`]).
//!
//! | module | is |
//! |---|---|
//! | [`hosts`] | names and addresses of devices |
//! | [`machines`] | the running machines of `run-qemu`, which have names of their own |
//! | `target` | the device that a name stands for |
//! | [`credentials`] | the certificate and the token |
//! | [`client`] | requests: the certificate pinned, the token sent, problems reported |
//! | [`selection`] | the device and appliance on a command line, as a client |
//! | [`upload`] | bodies that are read from files while they are sent |
//! | [`status`], [`events`] | conditions in words; server-sent events |
//! | [`discovery`] | devices that announce themselves, and names in `.local` |
//! | [`power`] | restarting and switching off |
//! | [`tokens`] | the tokens of a device |
//! | [`rotation`] | new certificates and tokens in place of old ones |
//! | `pinned` | the check of the certificate |
//! | [`error`] | failures of requests, with the next step |
//!
//! Every [`client::Client`] blocks; several devices at once are several threads.

pub mod client;
pub mod credentials;
pub mod discovery;
pub mod error;
pub mod events;
pub mod hosts;
pub mod machines;
mod paths;
mod pinned;
pub mod power;
pub mod rotation;
pub mod selection;
pub mod status;
mod target;
#[cfg(test)]
pub(crate) mod testing;
pub mod tokens;
pub mod upload;

pub use client::Client;
pub use credentials::Credentials;
pub use error::DeviceError;
pub use paths::file_path;
pub use selection::{CredentialArgs, DeviceArgs};
pub use target::Target;
