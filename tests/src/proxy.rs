//! A TCP proxy between a client and a device that breaks or holds the connection on request.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// Pause before a connection breaks. The device reads what is on its way meanwhile; on a busy host, buffers hold
/// megabytes, and how much of them is lost would be a matter of luck.
const DRAIN_TIME: Duration = Duration::from_secs(4);

/// The faults to inject, in bytes sent by the client over all connections.
#[derive(Debug, Default)]
struct Plan {
    sent: u64,
    /// Offsets at which the connection breaks, each once.
    cuts: Vec<u64>,
    /// The offset beyond which nothing passes.
    hold: Option<u64>,
    /// The number of connections.
    connections: u32,
}

/// A TCP proxy on loopback. Its threads end with their connections, or with the process.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The port that clients connect to.
    pub port: u16,
    plan: Arc<(Mutex<Plan>, Condvar)>,
}

impl Proxy {
    /// Starts a proxy for `device`.
    pub fn start(device: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let proxy = Proxy { port: listener.local_addr()?.port(), plan: Arc::default() };
        let own = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                own.with(|plan| plan.connections += 1);
                // A device that is off rejects connections; dropping `client` closes its connection.
                let Ok(server) = TcpStream::connect(device) else { continue };
                own.connect(client, server);
            }
        });
        Ok(proxy)
    }

    /// Breaks the connection after the client has sent each of these numbers of bytes, once.
    pub fn cut_at(&self, bytes: &[u64]) {
        self.with(|plan| plan.cuts.extend(bytes.iter().map(|at| plan.sent + at)));
    }

    /// Holds everything after the next `bytes` until [`Proxy::release`].
    pub fn hold_after(&self, bytes: u64) {
        self.with(|plan| plan.hold = Some(plan.sent + bytes));
    }

    /// Releases held bytes.
    pub fn release(&self) {
        self.with(|plan| plan.hold = None);
    }

    /// Waits until something is being held.
    pub fn wait_until_held(&self, limit: Duration) -> Result<()> {
        let (plan, changed) = &*self.plan;
        let guard = plan.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |plan: &mut Plan| plan.hold.is_none_or(|hold| plan.sent < hold);
        let (guard, timeout) =
            changed.wait_timeout_while(guard, limit, held).unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(!timeout.timed_out(), "only {} bytes were sent", guard.sent);
        Ok(())
    }

    /// Returns the bytes that clients have sent.
    pub fn sent(&self) -> u64 {
        self.with(|plan| plan.sent)
    }

    /// Returns the number of cuts still to come.
    pub fn cuts_left(&self) -> usize {
        self.with(|plan| plan.cuts.len())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        let (plan, changed) = &*self.plan;
        let result = change(&mut plan.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
        result
    }

    fn connect(&self, client: TcpStream, server: TcpStream) {
        let (Ok(mut from_server), Ok(mut to_client)) = (server.try_clone(), client.try_clone()) else {
            return;
        };
        thread::spawn(move || {
            let _ended = std::io::copy(&mut from_server, &mut to_client);
            let _gone = to_client.shutdown(Shutdown::Both);
        });
        let own = self.clone();
        thread::spawn(move || {
            let (mut client, mut server) = (client, server);
            let mut buffer = vec![0; 16 << 10];
            while let Ok(count @ 1..) = client.read(&mut buffer) {
                if !own.pass(count as u64) || server.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _gone = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
        });
    }

    /// Counts bytes and waits while they are held. Returns false if the connection breaks here.
    fn pass(&self, count: u64) -> bool {
        let (plan, changed) = &*self.plan;
        let mut guard = plan.lock().unwrap_or_else(PoisonError::into_inner);
        guard.sent += count;
        changed.notify_all();
        let held = |plan: &mut Plan| plan.hold.is_some_and(|hold| plan.sent >= hold);
        guard = changed.wait_while(guard, held).unwrap_or_else(PoisonError::into_inner);
        let sent = guard.sent;
        let before = guard.cuts.len();
        guard.cuts.retain(|at| *at > sent);
        let intact = guard.cuts.len() == before;
        drop(guard);
        if !intact {
            thread::sleep(DRAIN_TIME);
        }
        intact
    }
}
