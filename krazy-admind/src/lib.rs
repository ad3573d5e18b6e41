//! The management API of a cargo krazy appliance, over HTTPS.
//!
//! | module | is |
//! |---|---|
//! | [`config`] | addresses, the root directory and the limits; a test uses a root of its own |
//! | `net` | sockets, TLS, HTTP, connection limits, the announcement over mDNS |
//! | `identity` | the certificate, the credentials of clients, known and unknown clients |
//! | `api` | the handlers of the operations that [`krazy_boot::api`] defines |
//! | `body` | the body of a request |
//! | `device` | files, slots and disk: everything that needs the rights of root |
//! | `control` | the client of krazy-init's control socket |
//! | `problem` | errors as clients see them, RFC 9457 |
//! | `task`, `log` | work on other threads; the log of this service |
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
//! `net`, `identity` and `api` handle data from the network, and reach the disk only through `device::Device` and
//! `device::CredentialStore`, and init only through `control`. These three take and return plain data.

mod api;
mod args;
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
mod task;

pub use net::{Server, StartError};

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
        Ok(never) => match never {},
        Err(error) => {
            log::write(format_args!("failed to start: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(config: config::Config) -> Result<std::convert::Infallible, StartError> {
    // One thread serves all connections, to save memory. Up to four more wait for the disk, and exit when idle.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(async {
        let announce = config.announce;
        let server = Server::bind(config).await?;
        log::write(format_args!("serving https on {}", server.local_addr()));
        // A failure is only logged: clients that know the address need no announcement.
        let _announcement = match announce {
            true => server
                .announce()
                .await
                .inspect_err(|error| log::write(format_args!("failed to announce the device: {error}")))
                .ok(),
            false => None,
        };
        Ok(server.run().await)
    })
}
