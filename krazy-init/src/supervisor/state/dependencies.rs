//! The dependencies of services: milestones, and other services.

use super::{After, Milestone, Service, State, Supervisor};
use crate::control::ExitReason;

impl Supervisor {
    /// The dependencies of `service` that are not ready yet.
    pub(super) fn missing(&self, service: &Service) -> Vec<After> {
        let is_missing = |after: &After| match after {
            After::Milestone(milestone) => !self.reached.contains(milestone),
            After::Service(other) => match self.services.get(*other) {
                Some(other) => match &other.state {
                    State::Running { ready, .. } => !ready,
                    // A job that is done counts as ready: its dependents need its result, not its process.
                    State::Exited => !other.last_exit.as_ref().is_some_and(ExitReason::is_success),
                    _ => true,
                },
                None => false,
            },
        };
        service.rules.after.iter().copied().filter(is_missing).collect()
    }

    /// The name of a dependency, for messages.
    pub(in crate::supervisor) fn name(&self, after: After) -> String {
        match after {
            After::Milestone(Milestone::Network) => "network".to_owned(),
            After::Milestone(Milestone::Clock) => "clock".to_owned(),
            After::Milestone(Milestone::Data) => "data".to_owned(),
            After::Service(id) => self.services.get(id).map_or_else(String::new, |s| s.rules.name.clone()),
        }
    }
}
