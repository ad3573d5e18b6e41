//! The addresses of a device, looked up for every connection: after a restart it may have another one.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::discovery;
use crate::interrupt;

/// The time for which an answer of the local network counts without a new question: a command connects a few times, and
/// devices answer the same question once a second only.
const FRESH: Duration = Duration::from_secs(5);

/// The latest answers of the local network, for all clients of this program. Nobody may have answered.
static ANSWERS: Mutex<BTreeMap<String, Answer>> = Mutex::new(BTreeMap::new());

#[derive(Clone)]
struct Answer {
    at: Instant,
    addresses: Vec<SocketAddr>,
}

/// The host of one device, a name, or an address that is link-local to an interface, `fe80::1%eth0`. Whatever name a request
/// has, its addresses are these.
#[derive(Clone, Debug)]
pub(super) struct Lookup(String);

impl Lookup {
    pub(super) fn new(host: &str) -> Self {
        Lookup(host.to_owned())
    }
}

impl Resolve for Lookup {
    fn resolve(&self, _asked: Name) -> Resolving {
        let Lookup(host) = self.clone();
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || addresses(&host)).await??;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Asks the local network for a name in `.local`, and the system for others and for those that nobody answers to. Ports are
/// 0.
fn addresses(host: &str) -> io::Result<Vec<SocketAddr>> {
    if discovery::is_local(host) {
        let found = answer(host)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    if let Some((_, interface)) = host.split_once('%')
        && interface.parse::<u32>().is_err()
        && !Path::new("/sys/class/net").join(interface).exists()
    {
        let text = format!("this machine has no network interface `{interface}`");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok((host, 0).to_socket_addrs()?.collect())
}

/// Returns the addresses of the device that answers to `host`; the last ones if it is silent; none if it never answered.
fn answer(host: &str) -> io::Result<Vec<SocketAddr>> {
    let last = answers().get(host).cloned();
    if let Some(last) = last.as_ref().filter(|last| last.at.elapsed() < FRESH) {
        return Ok(last.addresses.clone());
    }
    // Where multicast DNS does not work, the system may know the name.
    let mut addresses = discovery::resolve(host).unwrap_or_default();
    interrupt::check().map_err(io::Error::other)?;
    if let Some(last) = last.filter(|_| addresses.is_empty()) {
        addresses = last.addresses;
    }
    answers().insert(host.to_owned(), Answer { at: Instant::now(), addresses: addresses.clone() });
    Ok(addresses)
}

fn answers() -> MutexGuard<'static, BTreeMap<String, Answer>> {
    ANSWERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Client;
    use crate::device::testing::{Answer as Answering, Device, answer, token};

    #[test]
    fn interface_of_a_link_local_address_is_part_of_it() {
        let lo = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let found = addresses("fe80::1%lo").unwrap();
        // The system may give an address once for each kind of socket.
        let Some(SocketAddr::V6(found)) = found.first() else { panic!("{found:?}") };
        let found = (found.ip().to_string(), found.scope_id().to_string());
        assert_eq!(found, ("fe80::1".to_owned(), lo.trim().to_owned()));
    }

    #[test]
    fn missing_interface_is_named() {
        let error = addresses("fe80::1%nowhere0").unwrap_err();
        assert_eq!(error.to_string(), "this machine has no network interface `nowhere0`");
    }

    #[test]
    fn device_is_followed_to_another_address() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
        let answering = |text: &'static str| -> Answering { Box::new(move |_, _| answer("200 OK", text)) };
        let before = Device::start_as(&pem, answering("\"before\""));
        let port = before.target.address.port;
        let after = Device::start_at(&format!("127.0.0.2:{port}"), &pem, answering("\"after\""));
        let mut target = before.target;
        target.address = format!("moving-nobody.local:{port}").parse().unwrap();
        let client = Client::with(&target, "weather", &[after.certificate], &token()).unwrap();
        for (ip, text) in [([127, 0, 0, 1], "before"), ([127, 0, 0, 2], "after")] {
            let addresses = vec![SocketAddr::from((ip, 0))];
            answers().insert("moving-nobody.local".to_owned(), Answer { at: Instant::now(), addresses });
            assert_eq!(client.get::<String>("/x").unwrap(), text);
        }
    }

    #[test]
    fn last_answer_counts_while_it_is_fresh_and_while_the_device_is_silent() {
        let addresses: Vec<SocketAddr> = vec!["10.0.0.5:0".parse().unwrap()];
        let old = Instant::now().checked_sub(2 * FRESH).unwrap();
        for (name, at) in [("fresh-nobody.local", Instant::now()), ("silent-nobody.local", old)] {
            answers().insert(name.to_owned(), Answer { at, addresses: addresses.clone() });
            assert_eq!(super::addresses(name).unwrap(), addresses);
        }
    }
}
