//! From the metadata tables of the user's Cargo.toml to an [`Appliance`].
//!
//! `[workspace.metadata.krazy]` gives a workspace's defaults, `[package.metadata.krazy]` changes them; within each,
//! `board.NAME` changes what the table says for that board. Tables merge by key; of everything else, the later
//! value counts. The keys stand in `schema`, the only list of them.

mod admind;
mod appliance;
mod crate_spec;
mod files;
mod git_url;
mod kernel;
mod layers;
mod metadata;
mod names;
mod network;
mod own_crate;
mod own_programs;
mod package;
mod pi;
mod resolve;
pub mod schema;
mod service;
pub(crate) mod suggestion;
mod table;
#[cfg(test)]
mod tests;

pub use appliance::{Appliance, GitReference, Install, KernelSource, Source, kernel_parameters};
pub use kernel::DEFAULT_SUITE;
pub use own_crate::OwnFeatures;
pub use own_programs::{OWN_ADMIND, OWN_INIT};
pub use pi::{DtSource, MAX_LINE, Overlay, PiSettings};
pub use resolve::{Request, load};
pub use service::check_services;
pub use suggestion::did_you_mean;
