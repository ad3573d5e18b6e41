//! Updates: what the host sends, and how a device brings it into the slot that does not run.
//!
//! | module | is |
//! |---|---|
//! | [`bundle`] | the signed description of a slot's content, and the file it stands in |
//! | [`delta`] | how one part travels: data, and copies from what the device has already |
//! | [`engine`] | what a device does with it |
//! | [`history`] | what became of earlier updates |
//! | [`refusal`] | why a device does not take an update, as both sides name it |

pub mod bundle;
#[cfg(feature = "update")]
pub mod delta;
#[cfg(feature = "update")]
pub mod engine;
pub mod history;
pub mod refusal;
