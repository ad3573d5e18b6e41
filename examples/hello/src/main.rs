//! The example appliance of cargo krazy: a small web server that shows the machine it runs on.
//!
//! It is an ordinary Rust program. It prints to standard output, keeps its state in its home directory, and depends
//! on cargo krazy only for the running slot, which is in its environment.

// A service's standard output is its log: /tmp/hello.log.
#![allow(clippy::print_stdout)]

mod counter;
mod machine;
mod page;
mod server;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use counter::Counter;
use server::{Request, Response};

/// Requests handled at the same time; more wait in the kernel's queue.
const WORKERS: usize = 16;

const USAGE: &str = "usage: hello [--listen ADDRESS:PORT] [--state DIRECTORY]";

fn main() -> Result<(), String> {
    let arguments = Arguments::parse(std::env::args().skip(1), std::env::var_os("HOME").map(PathBuf::from))?;
    let counter = Counter::open(&arguments.state)
        .map_err(|error| format!("failed to open the counter in {}: {error}", arguments.state.display()))?;
    let listener = TcpListener::bind(&arguments.listen)
        .map_err(|error| format!("failed to listen on {}: {error}", arguments.listen))?;
    println!("hello {} listening on {}", env!("CARGO_PKG_VERSION"), arguments.listen);
    server::serve(listener, WORKERS, Arc::new(move |request: &Request| answer(request, &counter)))
        .map_err(|error| format!("failed to serve: {error}"))
}

/// Answers a request. `/` counts a visit; `/json` and `/text` only show the number.
fn answer(request: &Request, counter: &Counter) -> Response {
    let machine = machine::Machine::read();
    match request.path.as_str() {
        "/" => {
            let visits = if request.head { Ok(counter.visits()) } else { counter.visit() };
            match visits {
                Ok(visits) => Response::html(page::html(&machine, visits)),
                Err(error) => Response::error(500, &format!("failed to store the visit: {error}")),
            }
        }
        "/json" => Response::json(page::json(&machine, counter.visits())),
        "/text" => Response::text(page::text(&machine, counter.visits())),
        _ => Response::error(404, "not found; there are /, /json and /text"),
    }
}

/// The command line.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    /// The address to listen on.
    listen: String,
    /// The directory of the counter.
    state: PathBuf,
}

impl Arguments {
    /// Parses `arguments`. The default of the state is `home`, which an appliance sets to a directory on /data.
    fn parse(arguments: impl IntoIterator<Item = String>, home: Option<PathBuf>) -> Result<Self, String> {
        let home = home.filter(|home| home.parent().is_some());
        let mut parsed = Arguments {
            listen: "0.0.0.0:80".to_owned(),
            state: home.unwrap_or_else(|| PathBuf::from("/data/hello")),
        };
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value; {USAGE}"));
            match name.as_str() {
                "--listen" => parsed.listen = value()?,
                "--state" => parsed.state = PathBuf::from(value()?),
                _ => return Err(format!("unknown argument `{name}`; {USAGE}")),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str], home: Option<&str>) -> Result<Arguments, String> {
        Arguments::parse(arguments.iter().map(|&s| s.to_owned()), home.map(PathBuf::from))
    }

    #[test]
    fn state_is_in_the_home_directory_if_there_is_one() {
        assert_eq!(parse(&[], Some("/data/x")).unwrap().state, PathBuf::from("/data/x"));
        assert_eq!(parse(&[], Some("/")).unwrap().state, PathBuf::from("/data/hello"));
        let given = parse(&["--state", "/tmp", "--listen", "[::]:8080"], None).unwrap();
        assert_eq!(given, Arguments { listen: "[::]:8080".into(), state: "/tmp".into() });
    }

    #[test]
    fn invalid_arguments_are_named() {
        assert!(parse(&["--port", "1"], None).unwrap_err().starts_with("unknown argument `--port`"));
        assert!(parse(&["--listen"], None).unwrap_err().starts_with("--listen needs a value"));
    }

    #[test]
    fn only_requests_for_the_page_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let counter = Counter::open(directory.path()).unwrap();
        let get = |path: &str| answer(&Request { path: path.into(), head: false }, &counter);
        assert_eq!(get("/").status, 200);
        assert_eq!(get("/json").status, 200);
        assert_eq!(get("/nothing").status, 404);
        answer(&Request { path: "/".into(), head: true }, &counter);
        assert_eq!(counter.visits(), 1);
        assert!(get("/json").body.contains("\"visits\":1"));
    }
}
