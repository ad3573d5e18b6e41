//! The init of a cargo krazy appliance, in one static binary that plays the roles listed at [`role::run`].
//!
//! | module | is |
//! |---|---|
//! | [`first_stage`] | `/init` of the initramfs: finds the root and hands over |
//! | [`supervisor`] | `/bin/init` of the root: runs every other program in `/bin` |
//! | [`control`] | the protocol by which others talk to it, with a client for them |
//! | [`net`] | DHCP, routes, name servers, the time |
//! | [`output`] | log files and console output of services |
//! | [`slots`] | which slot is confirmed, what is on trial, and why a trial failed |
//! | [`linux`] | the thin layer above the kernel |
//! | [`command`], [`module_helper`] | what the binary does when it is not PID 1 |
//!
//! Decisions are made by code without side effects ([`supervisor::state`], [`supervisor::clock`],
//! [`net::dhcp::Client`]), which is tested with random histories; one thread waits and carries them out. Two more
//! threads exist because their work blocks: loading modules, and asking for the time.

pub mod command;
pub mod console;
pub mod control;
pub mod first_stage;
pub mod linux;
pub mod module_helper;
pub mod net;
pub mod output;
pub mod role;
pub mod slots;
pub mod supervisor;
