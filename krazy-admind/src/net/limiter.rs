//! The limit on connections, in all and per client.

use std::sync::Arc;

use crate::config::Limits;
use crate::identity::clients::Client;
use crate::identity::quota::{Permit, Quota};

/// Admits connections up to [`Limits::connections`] and [`Limits::connections_per_client`].
pub(super) struct ConnectionLimiter {
    quota: Arc<Quota<Client>>,
    limits: Limits,
}

impl ConnectionLimiter {
    pub(super) fn new(limits: Limits) -> Self {
        ConnectionLimiter { quota: Arc::default(), limits }
    }

    /// Returns a permit for one connection of `client`, or `None` if the limit is reached.
    ///
    /// Unknown clients cannot use the last [`Limits::connections_kept`]: an owner must be able to confirm an update
    /// while somebody else holds every other connection.
    pub(super) fn admit(&self, client: Client) -> Option<Permit<Client>> {
        let Limits { connections, connections_kept, connections_per_client, .. } = self.limits;
        let total = match client {
            Client::Known(_) => connections,
            Client::Unknown(_) => connections.saturating_sub(connections_kept),
        };
        self.quota.acquire(client, connections_per_client, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_clients_leave_connections_to_known_ones() {
        let limiter = ConnectionLimiter::new(Limits {
            connections: 4,
            connections_kept: 1,
            connections_per_client: 2,
            ..Limits::default()
        });
        let [one, two, three] = [1, 2, 3].map(|last| Client::Unknown([10, 0, 0, last].into()));
        let held = [one, one, two].map(|client| limiter.admit(client).unwrap());
        assert!(limiter.admit(three).is_none());
        assert!(limiter.admit(Client::Known([10, 0, 0, 3].into())).is_some());
        drop(held);
        assert!(limiter.admit(three).is_some());
    }
}
