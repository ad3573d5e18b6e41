//! Operations: the work of the commands, one a file. Each takes a value and returns a value; progress goes to the
//! [`Shell`](crate::shell::Shell) it is given.

pub mod bundle;
pub mod doctor;
pub mod image;
pub mod inspect;
pub mod push;
