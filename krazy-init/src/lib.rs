//! The init of a cargo krazy appliance: first stage in the initramfs, then supervisor of every program in `/bin`.

pub mod control;
