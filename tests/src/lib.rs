//! The test suite of cargo krazy.
//!
//! `cargo suite` installs the missing judges and toolchains and runs every check of the workspace ([`suite`],
//! [`setup`]). The system tests in `tests/` use the real program: they make images with it, hand them to foreign
//! judges, and boot them in QEMU from the disk. Nothing is skipped: a missing judge is a failure.
//!
//! | module | is |
//! |---|---|
//! | [`krazy`], [`fixture`] | `cargo krazy` as a user runs it, and packages for it |
//! | [`disk`], [`root`], [`bundle_editor`] | images and bundles, taken apart and damaged with tools of others |
//! | [`guest`], [`qmp`], [`terminal`], [`signal`] | running machines and programs, and what a person does to them |
//! | [`device`], [`outcome`], [`curl`] | a device that is pushed to, its outcome, and a foreign client of its API |
//! | [`lan`], [`network`], [`proxy`] | networks that behave as a test requests |
//! | [`own_kernel`] | a kernel of our own and hardware to start it on |
//! | [`figures`] | `cargo figures` |
//! | [`proof`] | `cargo proof` |
//! | [`programs`] | `cargo programs` |

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "the suite writes to a terminal or a log")]

pub mod bundle_editor;
pub mod curl;
pub mod device;
pub mod disk;
pub mod figures;
pub mod fixture;
pub mod guest;
pub mod krazy;
pub mod lan;
pub mod network;
pub mod outcome;
pub mod own_kernel;
pub mod process;
pub mod programs;
pub mod proof;
pub mod proxy;
pub mod qmp;
pub mod root;
pub mod setup;
pub mod signal;
pub mod suite;
pub mod terminal;
