//! Output of services: their files in `/run/log` and on `/data`, complete lines, and the part that the console shows.

mod file;
mod kept;
mod lines;
mod throttle;
mod views;

pub(crate) use file::LogFile;
pub(crate) use kept::{Chunk, KeptOutput};
pub(crate) use lines::Lines;
pub(crate) use throttle::{Throttle, Verdict};
pub(crate) use views::link_views;
