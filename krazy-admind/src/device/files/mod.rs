//! Files of the device, reached without leaving the place they may be in.
//!
//! Two walls stand one behind the other. A path from a client is taken apart into names, and names that could
//! mean something else (`..`, an encoded slash) are refused ([`TreePath`]). What remains is opened by the kernel,
//! which does not follow a symbolic link out (`openat2`, Linux 5.6; [`Place`]).
//!
//! | place | without the scope `whole-tree` |
//! |---|---|
//! | `/data` | everything but `/data/krazy`, where the credentials are; links may lead elsewhere in `/data` |
//! | `/tmp` | logs, to read; no links at all, because every service writes there |
//! | elsewhere | nothing |

mod directory;
mod path;
mod place;
mod read;
mod write;

pub(crate) use directory::{list, make, remove_directory};
pub(crate) use path::TreePath;
pub(crate) use place::Place;
pub(crate) use read::open;
pub(crate) use write::{Upload, remove_file};
