//! Running devices, over their HTTPS API ([`krazy_boot::api`]).
//!
//! | module | is |
//! |---|---|
//! | [`hosts`] | names and addresses of devices |
//! | [`machines`] | the running machines of `run-qemu`, which have names of their own |
//! | `target` | the device that a name stands for |
//! | [`credentials`] | the certificate and the token |
//! | [`client`] | requests: the certificate pinned, the token sent, problems reported |
//! | `selection` | the device and appliance of a command, as a client |
//! | [`upload`] | bodies that are read from files while they are sent |
//! | [`status`], [`events`] | conditions in words; server-sent events |
//! | [`discovery`] | devices that announce themselves, and names in `.local` |
//! | [`power`] | restarting and switching off |
//! | `pinned` | the check of the certificate |
//! | `lookup` | its addresses, for every connection |
//! | `known` | ids of devices by name, so that none passes for another one |
//! | [`error`] | failures of requests, with the next step |
//!
//! Every [`client::Client`] blocks; several devices at once are several threads.

pub(crate) mod client;
pub(crate) mod credentials;
pub(crate) mod discovery;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod hosts;
mod known;
mod lookup;
pub(crate) mod machines;
mod paths;
mod pinned;
pub(crate) mod power;
mod selection;
pub(crate) mod status;
mod target;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod upload;

pub(crate) use client::Client;
pub(crate) use credentials::Credentials;
pub(crate) use error::DeviceError;
pub(crate) use paths::file_path;
pub(crate) use selection::Selection;
pub(crate) use target::Target;
