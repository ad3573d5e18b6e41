//! Output of services: their files in `/tmp`, complete lines, and the part that the console shows.

mod file;
mod lines;
mod throttle;

pub(crate) use file::LogFile;
pub(crate) use lines::Lines;
pub(crate) use throttle::{Throttle, Verdict};
