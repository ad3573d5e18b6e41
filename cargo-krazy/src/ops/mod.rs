//! Operations: the work of the commands, one a file. Each takes a value and returns a value; progress goes to the
//! [`Shell`](crate::shell::Shell) it is given.

pub(crate) mod audit;
pub(crate) mod build_kernel;
pub(crate) mod bundle;
pub(crate) mod certificate;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod discover;
pub(crate) mod doctor;
pub(crate) mod floor;
pub(crate) mod get;
mod identity;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod kernel;
pub(crate) mod key;
pub(crate) mod logs;
pub(crate) mod order;
pub(crate) mod prepare;
pub(crate) mod ps;
pub(crate) mod push;
pub(crate) mod put;
pub(crate) mod refusal;
mod rotation;
pub(crate) mod run_qemu;
pub(crate) mod service;
pub(crate) mod status;
mod stored_tokens;
pub(crate) mod token;
pub(crate) mod update;
pub(crate) mod vendor;
