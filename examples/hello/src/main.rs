//! The example appliance of cargo krazy: a small web server that shows which machine it runs on.
//!
//! It is an ordinary Rust program. It prints to standard output, keeps its state in its home folder, and knows
//! nothing of cargo krazy except where the kernel command line names the running slot.

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

const USAGE: &str = "usage: hello [--listen ADDRESS:PORT] [--state FOLDER]";

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

/// `/` counts a visit and shows it; `/json` and `/text` only show.
fn answer(request: &Request, counter: &Counter) -> Response {
    let machine = machine::Machine::read();
    match request.path.as_str() {
        "/" => {
            let visits = if request.head { Ok(counter.visits()) } else { counter.visit() };
            match visits {
                Ok(visits) => Response::html(page::html(&machine, visits)),
                Err(error) => Response::error(500, &format!("the visit could not be stored: {error}")),
            }
        }
        "/json" => Response::json(page::json(&machine, counter.visits())),
        "/text" => Response::text(page::text(&machine, counter.visits())),
        _ => Response::error(404, "there is /, /json and /text"),
    }
}

/// The command line.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    /// Where to listen.
    listen: String,
    /// The folder of the counter.
    state: PathBuf,
}

impl Arguments {
    /// Reads `arguments`. The state is in `home`, which an appliance sets to a folder on /data.
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
    fn the_state_is_at_home_unless_there_is_none() {
        assert_eq!(parse(&[], Some("/data/x")).unwrap().state, PathBuf::from("/data/x"));
        assert_eq!(parse(&[], Some("/")).unwrap().state, PathBuf::from("/data/hello"));
        let given = parse(&["--state", "/tmp", "--listen", "[::]:8080"], None).unwrap();
        assert_eq!(given, Arguments { listen: "[::]:8080".into(), state: "/tmp".into() });
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert!(parse(&["--port", "1"], None).unwrap_err().starts_with("unknown argument `--port`"));
        assert!(parse(&["--listen"], None).unwrap_err().starts_with("--listen needs a value"));
    }

    #[test]
    fn only_a_page_that_was_seen_counts() {
        let folder = tempfile::tempdir().unwrap();
        let counter = Counter::open(folder.path()).unwrap();
        let get = |path: &str| answer(&Request { path: path.into(), head: false }, &counter);
        assert_eq!(get("/").status, 200);
        assert_eq!(get("/json").status, 200);
        assert_eq!(get("/nothing").status, 404);
        answer(&Request { path: "/".into(), head: true }, &counter);
        assert_eq!(counter.visits(), 1);
        assert!(get("/json").body.contains("\"visits\":1"));
    }
}
