//! Update bundles on the host: made from a [`Composition`](crate::build), read from a file, and put into the form in
//! which they travel.
//!
//! A bundle in use is a signed manifest and its parts as files of the [`store`], named by their hashes. The store is
//! also where [`travel`] finds what a device runs already, so that only differences are sent.

mod file;
mod make;
pub mod store;
pub mod travel;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use krazy_boot::update::bundle::{BundleManifest, Part, Signed};

pub use file::{open, save};
pub use make::{keep_root, make};

/// A signed description of a slot's content, and that content.
#[derive(Debug)]
pub struct Bundle {
    /// What the slot holds.
    pub manifest: BundleManifest,
    /// The same as it was signed.
    pub signed: Signed,
    /// The parts in the manifest's order.
    pub parts: Vec<Content>,
}

/// A part and its bytes.
#[derive(Clone, Debug)]
pub struct Content {
    /// What the manifest says about it.
    pub part: Part,
    /// Its bytes; nobody changes them.
    pub file: Arc<File>,
    /// Where they are, for messages.
    pub path: PathBuf,
}

#[cfg(test)]
mod tests;
