//! The init of a cargo krazy appliance, in one static binary that plays the roles listed at [`role::run`].
//!
//! | module | is |
//! |---|---|
//! | `first_stage` | `/init` of the initramfs: finds the root and hands over |
//! | `supervisor` | `/bin/init` of the root: runs every other program in `/bin` |
//! | `control` | the protocol by which others talk to it, with a client for them |
//! | `net` | interfaces, DHCP, routes, name servers, the time |
//! | `output` | log files and console output of services |
//! | `slots` | the state of the two slots on the disk, and the changes of it |
//! | `linux` | the thin layer above the kernel |
//! | `command`, `module_helper` | the roles of the binary besides PID 1 |
//! | [`seal`] | restrictions for a process that parses what comes from a network, such as a part of krazy-admind |
//!
//! Decisions are made by code without side effects (`supervisor::state`, `supervisor::trial`, `supervisor::clock`,
//! `net::dhcp::Client`), which is tested without a machine. One thread waits for events and routes them between parts
//! that own their fields. Two more threads exist because their work blocks: loading modules, and asking for the time.

mod command;
mod console;
pub mod control;
mod first_stage;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod linux;
mod module_helper;
mod net;
mod output;
pub mod role;
pub mod seal;
mod slots;
mod supervisor;
