//! The thin layer above the kernel: everything that touches it, nothing that decides.

pub mod block;
pub mod boot_mount;
pub mod button;
pub mod capabilities;
pub mod cgroup;
pub mod crash;
pub mod data;
pub mod entropy;
pub mod grow;
pub mod kernel_clock;
pub mod kexec;
pub mod launch;
pub mod make;
pub mod modules;
pub mod mounts;
pub mod power;
pub mod process;
pub mod ready;
pub mod sandbox;
pub mod settings;
pub mod signals;
pub mod uevent;
pub mod watchdog;
