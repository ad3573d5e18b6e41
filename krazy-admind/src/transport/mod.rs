//! The protocol between the two processes: the front, which parses what comes from the network, and the back, which has
//! the rights of root.
//!
//! They share one connection, the channel. The back sends frames over it: its settings, then the certificates to present,
//! at the start and when they change. The front sends single bytes. One of them carries a descriptor, the back's end of a
//! socket pair, over which one request and its response pass:
//!
//! | frame | from | payload | when |
//! |---|---|---|---|
//! | `Request` | front | [`RequestHead`] | first |
//! | `Authenticated` | back | | the credential is valid |
//! | `Wanted` | back | | the operation reads the body; the front sends none before |
//! | `Data`, `End`, `Broken` | front | bytes, none, a message | the body, and its end; the last if it did not arrive as a whole |
//! | `Response` | back | [`ResponseHead`] | the operation is done |
//! | `Data`, `End`, `Broken` | back | bytes, none, a message | the response's body |
//!
//! Either side cancels a request by closing its end. What one side does not read fills the socket's buffer and holds the
//! other one back. The back takes the front for hostile: see [`crate::back`].

mod channel;
mod frame;
mod head;
mod news;

pub(crate) use channel::{Channel, Signal};
pub(crate) use frame::{
    FROM_BACK, FROM_FRONT, Frame, FrameReader, Kind, MAX_DATA_LEN, NEWS, broken, send, send_broken,
};
pub(crate) use head::{RequestHead, ResponseHead, headers, list};
pub(crate) use news::{Announced, Certificates, Pem, Settings};
