//! A server without sockets and TLS, for the fuzz target `http`: HTTP settings, router and handlers are the real ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use krazy_boot::digest::sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::connection::{protocol, service};
use super::front::Front;
use crate::fuzzing::server;
use crate::server::StartError;

/// Requests that are still unanswered then, such as live logs and rejected credentials, are dropped.
const TIMEOUT: Duration = Duration::from_millis(20);

/// A server on a device's root directory.
pub struct Http {
    runtime: Runtime,
    front: Arc<Front>,
    /// The number of connections. Each comes from another address, so that a rejected one delays no other.
    connections: u32,
}

impl Http {
    /// Starts a server on the device at `root`.
    pub fn new(root: PathBuf) -> Result<Self, StartError> {
        let (runtime, server) = server(root)?;
        let front = runtime.block_on(async {
            tokio::spawn(server.back.run(|| ()));
            let front = Front::new(server.front).await;
            let front = Arc::new(front.map_err(|error| StartError::Channel(std::io::Error::other(error)))?);
            let follower = Arc::clone(&front);
            tokio::spawn(async move { follower.follow_news().await });
            Ok::<_, StartError>(front)
        })?;
        Ok(Http { runtime, front, connections: 0 })
    }

    /// Answers the bytes that a client sends after TLS, and then the end of its stream.
    pub fn serve(&mut self, input: &[u8]) {
        self.answer(input, TIMEOUT);
    }

    /// Returns the answer, or nothing after `limit`.
    pub(crate) fn answer(&mut self, input: &[u8], limit: Duration) -> Vec<u8> {
        self.connections = self.connections.wrapping_add(1);
        let peer = SocketAddr::from((Ipv4Addr::from(self.connections), 40000));
        let front = Arc::clone(&self.front);
        let service = service(Arc::clone(&front), peer, sha256(&[]), Arc::default());
        let mut builder = protocol(&front.limits, front.known_clients.client(peer.ip()));
        // Otherwise the end of the stream would drop requests before they are answered.
        builder.http1().half_close(true);
        self.runtime.block_on(async {
            let (mut client, stream) = duplex(64 << 10);
            let connection =
                builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            let conversation = async {
                let mut answer = Vec::new();
                // The server may hang up first.
                if client.write_all(input).await.is_ok() && client.shutdown().await.is_ok() {
                    let _ = client.read_to_end(&mut answer).await;
                }
                answer
            };
            let both = timeout(limit, futures_util::future::join(connection, conversation)).await;
            both.map_or_else(|_| Vec::new(), |(_, answer)| answer)
        })
    }
}
