//! Writers of the file systems an appliance is made of. Only the host needs all of them (feature `image`);
//! the feature `ext4` alone gives [`ext4`], for an init that formats `/data` on the device.
//!
//! | module | writes | with |
//! |---|---|---|
//! | [`tree`] | nothing: it describes directories, files and links for the writers below | |
//! | [`window`] | one partition's byte range of an image file or device, leaving zeros sparse | |
//! | [`paged`] | the same through a small write-back cache, for writers that make tiny accesses | |
//! | `fat32` | `/boot` | fatfs |
//! | `squashfs` | a root | backhand, zstd |
//! | `block_cache` | compressed blocks of a root, for the next image | |
//! | [`ext4`] | `/data` | rsext4 |
//! | `initramfs` | the first stage's archive | cpio, zstd |
//!
//! Every writer is a pure function of its arguments: equal trees, identifiers and times give equal bytes.
//! Nothing here asks for the time, for random numbers or for the name of the machine.

#[cfg(feature = "image")]
pub mod block_cache;
#[cfg(feature = "image")]
mod block_pipeline;
pub mod ext4;
#[cfg(feature = "image")]
pub mod fat32;
#[cfg(feature = "image")]
pub mod initramfs;
mod paged;
#[cfg(feature = "image")]
pub mod squashfs;
pub mod tree;
pub mod window;
