//! Output of services: their files in `/tmp`, complete lines, and the part that the console shows.

mod file;
mod lines;
mod throttle;

pub use file::LogFile;
pub use lines::Lines;
pub use throttle::{Throttle, Verdict};
