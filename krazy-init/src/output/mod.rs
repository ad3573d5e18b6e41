//! What services write: to their files in `/tmp`, to the console, to whoever follows.

mod file;
mod lines;
mod throttle;

pub use file::LogFile;
pub use lines::Lines;
pub use throttle::{Throttle, Verdict};
