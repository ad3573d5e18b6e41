//! The device itself: files, slots and disk. Everything here runs with the rights of root.

pub(crate) mod durable_file;
pub(crate) mod files;
pub(crate) mod system;
pub(crate) mod update;
