//! The layer above the kernel: system calls, sysfs and devices, without decisions about services or slots.
//!
//! | modules | are |
//! |---|---|
//! | `block`, `mounts`, `boot_mount`, `boot_repair`, `data`, `format_data`, `format_request`, `grow_data`, `identity`, `slot_record`, `uefi_loader` | disks and file systems |
//! | `launch`, `launched`, `process`, `cgroup`, `capabilities` | processes, and what they may do |
//! | `confinement`, `landlock`, `private_mounts`, `seccomp` | the sandbox of a service |
//! | `port_filter`, `bpf` | the ports that they may bind |
//! | `modules`, `autoload`, `uevent`, `serial_links`, `sysfs_files`, `button`, `watchdog` | devices and their drivers |
//! | `datagrams`, `readiness`, `http_probe`, `system_log`, `signals` | messages of processes to PID 1 |
//! | `kernel_clock`, `entropy`, `settings` | clocks, random numbers, sysctls |
//! | `crash`, `power`, `kexec` | the end of this kernel |

pub(crate) mod autoload;
pub(crate) mod block;
pub(crate) mod boot_mount;
pub(crate) mod boot_repair;
mod bpf;
pub(crate) mod button;
pub(crate) mod capabilities;
pub(crate) mod cgroup;
pub(crate) mod confinement;
pub(crate) mod crash;
pub(crate) mod data;
pub(crate) mod datagrams;
pub(crate) mod entropy;
mod format_data;
pub(crate) mod format_request;
pub(crate) mod grow_data;
pub(crate) mod http_probe;
pub(crate) mod identity;
pub(crate) mod kernel_clock;
pub(crate) mod kexec;
pub(crate) mod landlock;
pub(crate) mod launch;
pub(crate) mod launched;
pub(crate) mod modules;
pub(crate) mod mounts;
pub(crate) mod port_filter;
pub(crate) mod power;
mod private_mounts;
pub(crate) mod process;
pub(crate) mod readiness;
pub(crate) mod run_files;
pub(crate) mod seccomp;
pub(crate) mod serial_links;
pub(crate) mod settings;
pub(crate) mod signals;
pub(crate) mod slot_record;
pub(crate) mod sysfs_files;
pub(crate) mod system_log;
pub(crate) mod uefi_loader;
pub(crate) mod uevent;
pub(crate) mod watchdog;
