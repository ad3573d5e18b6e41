//! Writers of the file systems of an appliance. Only the host needs all of them (feature `image`); the feature `ext4` alone
//! gives [`ext4`], for init, which formats `/data` on the device. Imports [`crate::disk`] only.
//!
//! | module | writes | with |
//! |---|---|---|
//! | [`tree`] | the description of directories, files and links that the writers take | |
//! | [`window`] | one partition's byte range of an image file or device, leaving zeros sparse | |
//! | `paged` | the same through a small write-back cache, for writers that make tiny accesses | |
//! | `fat32` | `/boot` | fatfs |
//! | `squashfs` | a root | backhand, zstd |
//! | `block_cache` | compressed blocks of a root, for the next image | |
//! | [`ext4`] | `/data` | rsext4 |
//! | `initramfs` | the first stage's archive | cpio, zstd |
//!
//! Every writer is a pure function of its arguments: equal trees, identifiers and times give equal bytes.
//! Nothing here reads the clock, random numbers or the name of the machine, so builds are reproducible.

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
