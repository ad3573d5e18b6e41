//! From the metadata tables of the user's Cargo.toml to an [`Appliance`].
//!
//! `[workspace.metadata.krazy]` gives a workspace's defaults, `[package.metadata.krazy]` changes them; within each,
//! `board.NAME` changes what the table says for that board. Tables merge by key; of everything else, the later
//! value counts, and so it is with tables that select one thing (`kernel`, `init`, an entry of `install`, an interface).
//! `tables` is the only list of keys.

mod appliance;
mod crate_spec;
mod de;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod git_url;
mod kernel;
mod names;
mod network;
mod origins;
mod own_crate;
mod own_programs;
mod package;
mod pi;
mod ports;
mod resolve;
pub(crate) mod schema;
mod service;
pub(crate) mod suggestion;
mod sysctl;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod user;
mod values;

pub(crate) use appliance::kernel_parameters;
pub(crate) use appliance::{Appliance, GitReference, Install, KernelSource, Source};
pub(crate) use error::Location;
pub(crate) use kernel::DEFAULT_SUITE;
pub(crate) use origins::Origins;
pub(crate) use own_crate::OwnFeatures;
pub(crate) use own_programs::{OWN_ADMIND, OWN_INIT};
pub(crate) use pi::{DtSource, Overlay, PiSettings};
pub(crate) use resolve::Request;
pub(crate) use resolve::load;
pub(crate) use service::{check_services, untabled};
pub(crate) use suggestion::did_you_mean;
