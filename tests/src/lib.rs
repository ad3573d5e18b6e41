//! The test suite of cargo krazy.
//!
//! `cargo suite` installs the foreign judges and the parts of a cross toolchain that are missing and runs every test of the workspace. The system
//! tests in `tests/` use the real program: they make images with it, hand them to the judges, and boot them in
//! QEMU from the disk. Nothing is skipped: without a judge there is no verdict, so a missing one is a failure.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "the suite speaks to a terminal or a log")]

pub mod cross;
pub mod curl;
pub mod debian;
pub mod device;
pub mod disk;
pub mod ended;
pub mod figures;
pub mod fixture;
pub mod guest;
pub mod judges;
pub mod krazy;
pub mod lan;
pub mod network;
pub mod own_kernel;
pub mod proxy;
pub mod qmp;
pub mod root;
pub mod signal;
pub mod suite;
pub mod surgery;
pub mod terminal;
