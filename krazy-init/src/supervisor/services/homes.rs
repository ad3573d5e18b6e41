//! The directories of services on `/data`, which threads prepare: a new one is written to a disk that may be slow, and one
//! that is handed over may have many files.

use std::io;
use std::thread;

use krazy_boot::error_chain::system_text;

use super::super::effect::Effects;
use super::super::inbox::Report;
use super::super::plan::Spec;
use super::super::state::{Action, Event};
use super::{Audience, Services};
use crate::linux::data::{self, Home};

impl Services {
    /// Prepares a home in a thread; then the service is started.
    pub(super) fn prepare_home(&mut self, id: usize, home: Home, effects: &mut Effects) -> Option<Event> {
        let Spec { name, home: directory, rights, .. } = self.units.get(id)?.spec();
        let (directory, uid, reporter) = (directory.clone(), rights.uid, self.reporter.clone());
        if home == Home::Foreign {
            let path = directory.display();
            effects.log(format!("service {name} is given {path}, which belonged to another account"));
        }
        let work = move || {
            let outcome = data::prepare_home(&directory, uid).map_err(|error| {
                let (path, why) = (directory.display(), system_text(&error));
                let text = match home {
                    Home::Foreign => format!("{path} stays another account's: {why}"),
                    Home::Ready | Home::Unprepared => format!("{path}: {why}"),
                };
                io::Error::new(error.kind(), text)
            });
            reporter.send(Report::HomePrepared(id, outcome));
        };
        let thread = thread::Builder::new().name("home".to_owned()).stack_size(256 << 10).spawn(work);
        thread.err().map(|error| Event::StartFailed(id, system_text(&error)))
    }

    /// Takes the outcome of preparing a service's home: starts it, or gives it up.
    pub(in super::super) fn home_prepared(
        &mut self,
        id: usize,
        outcome: io::Result<()>,
        audience: &mut Audience<'_>,
        effects: &mut Effects,
    ) {
        let event = match outcome {
            // Not more in one turn of the loop than otherwise.
            Ok(()) if !self.state.is_ending() => self.carry_out(Action::Spawn(id), audience, effects),
            Ok(()) => Some(Event::StartFailed(id, "the machine ends".to_owned())),
            Err(error) => Some(Event::StartFailed(id, system_text(&error))),
        };
        if let Some(event) = event {
            self.handle(event, audience, effects);
        }
    }
}
