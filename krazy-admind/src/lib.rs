//! The management API of a cargo krazy appliance, over HTTPS.
//!
//! | module | is | in the process |
//! |---|---|---|
//! | `process` | the two processes: the back, which init starts, and its child, the front | |
//! | `net` | sockets, TLS, HTTP, connection limits, the announcement over mDNS | front |
//! | `transport` | the protocol between the two | both |
//! | `back` | requests from the front, and what it is told | back |
//! | `identity` | the certificate, the credentials of clients, known and unknown clients | back; known clients both |
//! | `api` | the handlers of the operations that [`krazy_boot::api`] defines | back |
//! | `body` | the body of a request | back |
//! | `device` | files, slots and disk: everything that needs the rights of root | back |
//! | `control` | the client of krazy-init's control socket | back |
//! | `server` | the start of everything | back |
//! | `problem` | errors as clients see them, RFC 9457 | both |
//! | `task`, `log` | work on other threads; the log of this service | back, both |
//! | [`config`] | addresses, the root directory and the limits; a test uses a root of its own | both |
//!
//! # Order of a request
//!
//! Credential, route, role, operation: clients without a credential cannot find out which paths exist, and no operation
//! can omit the check. Only the health probe comes before it. An operation that changes something runs to its end even if
//! its client disconnects (`task`).
//!
//! # Use of warp
//!
//! warp 0.4 provides the service, body, event-stream and reply types. Its routing is replaced by a table of plain data,
//! because a tree of `or`-ed filters can be neither listed, nor documented, nor tested for a missing access check.
//! Connections are accepted here, because warp has no TLS.
//!
//! # Privileges
//!
//! The front parses TLS, HTTP and mDNS without rights: `process::front` gives up what [`krazy_init::seal`] can take. The
//! back has the rights of root, and parses frames and JSON of the front, whose length is bounded, credentials, and what
//! operations take. It reaches the disk only through `device::Device` and `device::CredentialStore`, and init only through
//! `control`. These three take and return plain data.
//!
//! A front that was taken over sees the tokens and the data that pass through it, and has the key of the certificate. It
//! cannot make a token, nor do anything without one.
//!
//! [`Server::run`] has both in one process, for tests. Requests pass through the same channel there.

mod api;
mod args;
mod back;
mod body;
pub mod config;
mod control;
mod device;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod identity;
mod log;
mod net;
mod problem;
mod process;
mod server;
mod task;
mod transport;

pub use server::{Server, StartError};

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use args::Invocation;

/// Runs the program with the command line `args`, whose first item is the name of the program. Returns only on failure,
/// and after `--help` and `--version`.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match args::parse(args) {
        Ok(Invocation::Serve(config)) => config,
        Ok(Invocation::Front(inheritance)) => return process::front::run(&inheritance),
        Ok(Invocation::Print(text)) => {
            return match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Err(error) => {
            log::write(format_args!("{error}\nhelp: run `krazy-admind --help`"));
            return ExitCode::from(2);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            log::write(format_args!("failed to start: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(config: config::Config) -> Result<(), StartError> {
    // One thread serves all connections, to save memory. Up to four more wait for the disk, and exit when idle.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(async {
        let root = config.root.clone();
        process::serve(Server::bind(config).await?, &root).await
    })
}
