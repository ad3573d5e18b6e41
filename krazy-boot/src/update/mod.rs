//! Updates: the bundle that the host sends, and the engine that writes it to the inactive slot.
//!
//! Imports [`crate::disk`], [`crate::boot`] and [`crate::digest`].
//!
//! | module | is |
//! |---|---|
//! | [`bundle`] | the signed description of a slot's content, and the file that contains it |
//! | [`delta`] | the stream of one part: new data, and copies from the active slot |
//! | [`engine`] | the writer of the inactive slot, on a device |
//! | [`history`] | outcomes of earlier updates |
//! | [`refusal`] | why a device does not take an update, as both sides name it |

pub mod bundle;
#[cfg(feature = "update")]
pub mod delta;
#[cfg(feature = "update")]
pub mod engine;
#[cfg(feature = "std")]
pub mod history;
pub mod refusal;
