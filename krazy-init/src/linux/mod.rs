//! The thin layer above the kernel: everything that touches it, nothing that decides.

pub(crate) mod block;
pub(crate) mod boot_mount;
pub(crate) mod button;
pub(crate) mod capabilities;
pub(crate) mod cgroup;
pub(crate) mod crash;
pub(crate) mod data;
pub(crate) mod entropy;
pub(crate) mod grow;
pub mod kernel_clock;
pub(crate) mod kexec;
pub(crate) mod launch;
pub(crate) mod make;
pub(crate) mod modules;
pub(crate) mod mounts;
pub(crate) mod power;
pub(crate) mod process;
pub(crate) mod ready;
pub(crate) mod sandbox;
pub(crate) mod settings;
pub(crate) mod signals;
pub(crate) mod uevent;
pub(crate) mod watchdog;
