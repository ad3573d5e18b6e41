//! Services whose process has not executed its program yet. The loop learns of the outcome by the pipe to the process, and
//! no part of PID 1 waits for it: a process that another one of its account stops delays its own service only.

use std::io;
use std::time::Duration;

use krazy_boot::error_chain::system_text;

use super::super::effect::Effects;
use super::super::poller::Source;
use super::super::state::Event;
use super::{Audience, Services};

impl Services {
    /// Has the loop wait for the outcome of this service's start. Returns what follows if it cannot.
    pub(super) fn await_launch(&mut self, id: usize) -> Option<Event> {
        let unit = self.units.get_mut(id)?;
        self.pids.extend(unit.pid().map(|pid| (pid, id)));
        let registrar = self.registrar.as_ref()?;
        match registrar.add(unit.launched()?.descriptor(), Source::Launch(id as u32)) {
            Ok(()) => None,
            Err(error) => {
                let given_up = unit.give_up_launch();
                self.end_launch(id, given_up.and(Err(error)))
            }
        }
    }

    /// Takes the outcome of a service's start, if it is known.
    pub(in super::super) fn settle_launch(
        &mut self,
        id: usize,
        audience: &mut Audience<'_>,
        effects: &mut Effects,
    ) {
        let outcome = self.units.get_mut(id).and_then(super::Unit::launch_outcome);
        if let Some(event) = outcome.and_then(|outcome| self.end_launch(id, outcome)) {
            self.handle(event, audience, effects);
        }
    }

    /// Gives up starts that take too long.
    pub(super) fn give_up_launches(
        &mut self,
        now: Duration,
        audience: &mut Audience<'_>,
        effects: &mut Effects,
    ) {
        for id in 0..self.units.len() {
            if self.units[id].launch_deadline().is_some_and(|deadline| now >= deadline) {
                let outcome = self.units[id].give_up_launch();
                if let Some(event) = self.end_launch(id, outcome) {
                    self.handle(event, audience, effects);
                }
            }
        }
    }

    /// Forgets the start, and the process if it did not become the service. Returns the event to handle.
    fn end_launch(&mut self, id: usize, outcome: io::Result<()>) -> Option<Event> {
        let unit = self.units.get_mut(id)?;
        let launched = unit.take_launched()?;
        // By itself it would stay: a process that was stopped before it executed its program has a copy of this end.
        let removed = self.registrar.as_ref().map_or(Ok(()), |poller| poller.remove(launched.descriptor()));
        match outcome.and(removed) {
            Ok(()) => Some(Event::Started(id)),
            Err(error) => {
                self.pids.remove(&launched.pid());
                unit.forget_process();
                Some(Event::StartFailed(id, system_text(&error)))
            }
        }
    }
}
