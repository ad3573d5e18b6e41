//! The management API of a cargo krazy appliance, over HTTPS.
//!
//! | module | is |
//! |---|---|
//! | [`config`] | where everything is; a test puts it below a folder of its own |
//! | [`credentials`] | what the host provisioned on `/data/krazy` |
//! | `announcement` | where the device is, told to its local network |
//! | `certificate` | the key and certificate in use, and those on trial |
//! | [`server`] | sockets, TLS, and the limits that keep strangers from using the device up |
//! | `seats`, `connections` | how many connections and live logs there are, and whose |
//! | `auth`, `clients`, `throttle` | who asks, from where, and how often a wrong answer may be tried |
//! | [`routes`] | every operation with its access: the one table behind server, tests and OpenAPI document |
//! | `api` | what the operations do |
//! | `body` | the content of a request |
//! | `tree` | paths, and files that do not lead out of where they may be |
//! | `update` | sessions that fill the slot that does not run, through [`krazy_boot::update::engine`] |
//! | `log` | the log of this service |
//! | [`problem`] | errors as clients see them, RFC 9457 |
//!
//! # Order of a request
//!
//! Credential, then route, then role, then the operation: without a credential nobody learns what exists, and
//! no operation can forget to ask. Only the health probe comes first. An operation that changes something is carried
//! to its end whether or not its client waits for it (`completion`).
//!
//! # Differences from other warp servers
//!
//! warp 0.4 brings the service, body, event-stream and reply types. Its routing is left aside for a table of
//! plain data, because a tree of `or`-ed filters can be neither listed, nor documented, nor tested for a
//! forgotten access check. Connections are accepted here, because warp has no TLS.

mod announcement;
mod api;
mod args;
mod auth;
mod body;
mod certificate;
mod clients;
mod completion;
pub mod config;
mod connections;
mod control;
pub mod credentials;
mod durable_file;
mod log;
pub mod problem;
pub mod routes;
mod seats;
pub mod server;
mod system;
mod throttle;
mod tree;
mod update;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use announcement::Announcement;
use args::Invocation;
use server::Server;

/// Runs the program with the command line `args`, the program's name included. Returns only on failure, or
/// after `--help` and `--version`.
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

fn run(config: config::Config) -> Result<std::convert::Infallible, server::StartError> {
    // One thread serves; a few more, which end when idle, wait for the disk.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .map_err(server::StartError::Runtime)?;
    runtime.block_on(async {
        let announced = config.announce.then(|| config.root.clone());
        let server = Server::bind(config).await?;
        log::write(format_args!("serving https on {}", server.local_addr()));
        // Without it the device is as useful to all who know its address.
        let _announced = announced.and_then(|root| {
            let announced = Announcement::begin(&root, server.local_addr().port());
            announced
                .inspect_err(|error| {
                    log::write(format_args!("the network is not told where this is: {error}"))
                })
                .ok()
        });
        Ok(server.run().await)
    })
}
