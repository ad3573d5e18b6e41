//! From the metadata tables of the user's Cargo.toml to an [`Appliance`].

mod appliance;

pub use appliance::{Appliance, GitReference, Install, KernelSource, Source};
