//! Services that are ready when a process listens on a port, or answers a request for a page there.

use std::collections::HashMap;
use std::time::Duration;

use krazy_boot::manifest::Ready;

use super::super::effect::Effects;
use super::super::state::Event;
use super::{Audience, Services};
use crate::linux::http_probe::{Answer, HttpProbe};
use crate::linux::readiness;

/// The pause between two checks for a port that a service is to open, or for the answer to a request.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The pause before another request for a page.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Requests for pages, by service.
pub(super) type Pages = HashMap<usize, Page>;

/// The requests for the page of one service.
#[derive(Debug, Default)]
pub(super) struct Page {
    probe: Option<HttpProbe>,
    tries: u32,
    next_try: Duration,
}

impl Services {
    /// Checks for the ports that services are to open, and for the pages that they are to answer. Returns the time of the
    /// next check if one is missing.
    pub(super) fn check_ports(
        &mut self,
        now: Duration,
        audience: &mut Audience<'_>,
        effects: &mut Effects,
    ) -> Option<Duration> {
        let awaited: Vec<usize> = self.state.unready().collect();
        self.pages.retain(|id, _| awaited.contains(id));
        let mut is_waiting = false;
        for id in awaited {
            let Some(spec) = self.units.get(id).map(super::Unit::spec) else { continue };
            let is_ready = match (&spec.checks.http, spec.ready) {
                (Some(page), _) => self.pages.entry(id).or_default().is_answered(page.port, &page.path, now),
                (None, Ready::Tcp(port)) => readiness::is_listening(port),
                // It tells itself.
                (None, Ready::Started | Ready::Notify) => continue,
            };
            if is_ready {
                self.pages.remove(&id);
                self.handle(Event::Ready(id), audience, effects);
            } else {
                is_waiting = true;
            }
        }
        is_waiting.then_some(now + POLL_INTERVAL)
    }
}

impl Page {
    fn is_answered(&mut self, port: u16, path: &str, now: Duration) -> bool {
        match &mut self.probe {
            None if now >= self.next_try => {
                // A server may listen on addresses of one family only.
                self.probe = HttpProbe::start(port, path, self.tries % 2 == 1, now).ok();
                self.tries = self.tries.wrapping_add(1);
                self.next_try = now + RETRY_PAUSE;
                false
            }
            None => false,
            Some(probe) => match probe.poll(now) {
                Answer::Pending => false,
                Answer::Good => true,
                Answer::Bad => {
                    self.probe = None;
                    self.next_try = now + RETRY_PAUSE;
                    false
                }
            },
        }
    }
}
