//! The kernel of an appliance, in four rooms:
//!
//! | module | is |
//! |---|---|
//! | [`source`] | where a kernel comes from: Debian's archive, a URL, a path; the cache, updates |
//! | [`bundle`] | a kernel on this machine: image, modules, device trees, firmware, and how archives become one |
//! | [`index`] | the modules of a kernel, how they depend on each other, and those an image needs |
//! | [`build`] | kernels of one's own from upstream source; nothing else imports it but its command |
//!
//! `index` ← `bundle` ← `source` ← `build`: each imports only what is to its left.

pub(crate) mod build;
pub(crate) mod bundle;
pub(crate) mod index;
pub(crate) mod source;
