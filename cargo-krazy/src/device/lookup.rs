//! The addresses of a device, looked up for every connection: after a restart it may have another one.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::discovery;

/// The host of one device. Whatever name a request has, these are its addresses.
#[derive(Clone, Debug)]
pub(super) struct Lookup(Arc<Host>);

#[derive(Debug)]
struct Host {
    /// A name, or an address that is link-local to an interface, `fe80::1%eth0`.
    name: String,
    /// The last answer by multicast DNS, for a device that does not answer to the next question.
    last: Mutex<Vec<SocketAddr>>,
}

impl Lookup {
    pub(super) fn new(name: &str) -> Self {
        Lookup(Arc::new(Host { name: name.to_owned(), last: Mutex::default() }))
    }
}

impl Resolve for Lookup {
    fn resolve(&self, _asked: Name) -> Resolving {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || host.addresses()).await??;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Host {
    /// Asks the local network for a name in `.local`, and the system for others and for those that nobody answers to.
    /// Ports are 0.
    fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        if discovery::is_local(&self.name) {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            // Where multicast DNS does not work, the system may know the name.
            let found = discovery::resolve(&self.name).unwrap_or_default();
            if !found.is_empty() {
                last.clone_from(&found);
            }
            if !last.is_empty() {
                return Ok(last.clone());
            }
        }
        Ok((self.name.as_str(), 0).to_socket_addrs()?.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_of_a_link_local_address_is_part_of_it() {
        let lo = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let found = Host { name: "fe80::1%lo".to_owned(), last: Mutex::default() }.addresses().unwrap();
        let [SocketAddr::V6(found)] = found[..] else { panic!("{found:?}") };
        assert_eq!(
            (found.ip().to_string().as_str(), found.scope_id().to_string()),
            ("fe80::1", lo.trim().to_owned())
        );
    }

    #[test]
    fn last_answer_counts_while_the_device_is_silent() {
        let last = vec!["10.0.0.5:0".parse().unwrap()];
        let host = Host { name: "nobody-has-this.local".to_owned(), last: Mutex::new(last.clone()) };
        assert_eq!(host.addresses().unwrap(), last);
    }
}
