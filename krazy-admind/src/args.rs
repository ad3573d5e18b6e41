//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;

use lexopt::{Arg, Parser, ValueExt};

use crate::config::Config;
use crate::process::front::Inheritance;

const HELP: &str = "\
HTTPS management API of a cargo krazy appliance

Usage: krazy-admind [--listen ADDRESS:PORT] [--tls-1.2] [--no-mdns] [--signed-only] [--floor VERSION] [--root DIRECTORY]

Options:
      --listen ADDRESS:PORT  address to listen on; default: port 8443 of every address
      --tls-1.2              accept TLS 1.2 beside TLS 1.3
      --no-mdns              do not announce this device on the local network
      --signed-only          nothing but signed updates changes what this device starts
      --floor VERSION        the lowest version that updates may bring
      --root DIRECTORY       use DIRECTORY as /, to try this program elsewhere than on a device
  -h, --help                 print this help
  -V, --version              print the version

Reads its certificate and tokens from /data/krazy, where `cargo krazy image` puts them.
";

/// The action that the command line requests.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Serve requests.
    Serve(Config),
    /// Serve the network for the process that started this one.
    Front(Inheritance),
    /// Print a text and exit.
    Print(String),
}

/// Parses the command line `args`, whose first item is the name of the program.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, lexopt::Error> {
    let mut parser = Parser::from_iter(args);
    let mut config = Config::device();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("listen") => config.listen = vec![parser.value()?.parse::<SocketAddr>()?],
            Arg::Long("tls-1.2") => config.tls12 = true,
            Arg::Long("no-mdns") => config.announce = false,
            Arg::Long("signed-only") => config.policy.signed_only = true,
            Arg::Long("floor") => config.policy.floor = Some(parser.value()?.parse()?),
            Arg::Long("root") => config = Config { root: parser.value()?.into(), ..config },
            Arg::Long("front") => {
                let [listener, channel] = [parser.value()?.parse()?, parser.value()?.parse()?];
                let empty = parser.value().ok().map(Into::into);
                let datagrams = config.announce;
                return Ok(Invocation::Front(Inheritance { listener, channel, empty, datagrams }));
            }
            Arg::Short('h') | Arg::Long("help") => return Ok(Invocation::Print(HELP.to_owned())),
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Invocation::Print(format!("krazy-admind {}\n", env!("CARGO_PKG_VERSION"))));
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Invocation::Serve(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Invocation, String> {
        let args = ["krazy-admind"].iter().chain(args).map(OsString::from);
        parse(args).map_err(|error| error.to_string())
    }

    #[test]
    fn options_change_the_configuration() {
        let Ok(Invocation::Serve(config)) = parsed(&["--listen", "10.0.0.1:444", "--tls-1.2", "--no-mdns"])
        else {
            panic!("the options are rejected")
        };
        assert_eq!(config.listen, ["10.0.0.1:444".parse().unwrap()]);
        assert!(config.tls12 && !config.announce);
        assert!(!config.policy.signed_only && config.policy.floor.is_none());
        let Ok(Invocation::Serve(config)) = parsed(&["--signed-only", "--floor", "1.2.0-rc.1"]) else {
            panic!("the options are rejected")
        };
        assert!(config.policy.signed_only);
        assert_eq!(config.policy.floor, Some("1.2.0-rc.1".parse().unwrap()));
        let Ok(Invocation::Serve(config)) = parsed(&[]) else { panic!("the options are rejected") };
        assert!(!config.tls12 && config.announce);
        assert!(config.listen.iter().all(|address| address.port() == 8443));
    }

    #[test]
    fn front_is_given_descriptors_and_a_directory() {
        for (args, empty) in [(&["--front", "3", "4"][..], None), (&["--front", "3", "4", "/e"], Some("/e"))]
        {
            let Ok(Invocation::Front(inheritance)) = parsed(args) else { panic!("{args:?}") };
            let expected =
                Inheritance { listener: 3, channel: 4, empty: empty.map(Into::into), datagrams: true };
            assert_eq!(inheritance, expected);
        }
        let Ok(Invocation::Front(front)) = parsed(&["--no-mdns", "--front", "3", "4"]) else { panic!() };
        assert!(!front.datagrams);
        assert!(parsed(&["--front", "3"]).is_err() && parsed(&["--front", "x", "4"]).is_err());
    }

    #[test]
    fn invalid_options_are_named() {
        assert_eq!(parsed(&["--port", "1"]).unwrap_err(), "invalid option '--port'");
        let error = parsed(&["--listen", "8443"]).unwrap_err();
        assert!(error.contains("\"8443\""), "{error}");
        let error = parsed(&["--floor", "1.2"]).unwrap_err();
        assert!(error.contains("\"1.2\""), "{error}");
    }
}
