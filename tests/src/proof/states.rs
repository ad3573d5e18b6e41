//! The states in which a power cut can leave a recorded disk.
//!
//! Writes in front of a flush are durable. Of those behind the last one, the disk may have kept any: it has a cache and
//! an order of its own. For every flush, and the end of the recording, these are tried:
//!
//! - none of the writes since the flush before, and all of them;
//! - all but one: each of at most 8 writes, else 8 random ones;
//! - random subsets and random first parts, as many as requested, if there are more than two writes;
//! - all, with the last one torn on a boundary of 4 KiB: only its beginning, and only its end.
//!
//! Sectors are not torn: disks write them, and most disks whole pages of 4 KiB, as a unit.

use std::fmt;
use std::ops::Range;

use super::random::Random;
use super::recording::Event;
use super::write_log::Command;

/// The most writes of which each is left out once.
const SINGLE: usize = 8;

/// The unit that is written as a whole.
const PAGE: u64 = 4096;

/// A state of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The events in front of this one are durable.
    pub durable: usize,
    /// Later writes that the disk has kept.
    pub kept: Vec<usize>,
    /// A later write of which the disk has kept only these bytes of the disk.
    pub torn: Option<(usize, Range<u64>)>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the first {} events, then {:?}", self.durable, self.kept)?;
        match &self.torn {
            Some((event, range)) => write!(f, " and bytes {range:?} by {event}"),
            None => Ok(()),
        }
    }
}

/// Returns every state of the sample, with `random_states` random ones at every flush, in the order of the recording.
pub fn sample(events: &[Event], random_states: usize) -> Vec<State> {
    let mut random = Random::new(1);
    let mut states = Vec::new();
    let mut durable = 0;
    for (index, event) in events.iter().enumerate() {
        let last = index + 1 == events.len();
        match event.command {
            Command::Flush => add(&mut states, events, durable, index, random_states, &mut random),
            _ if last => add(&mut states, events, durable, index + 1, random_states, &mut random),
            _ => continue,
        }
        durable = index + 1;
    }
    if matches!(events.last(), Some(Event { command: Command::Flush, .. })) {
        states.push(State { durable: events.len(), kept: Vec::new(), torn: None });
    }
    states
}

/// Adds the states between two flushes: of the events from `begin` to `end`.
fn add(
    states: &mut Vec<State>,
    events: &[Event],
    begin: usize,
    end: usize,
    count: usize,
    random: &mut Random,
) {
    let writes: Vec<usize> = (begin..end).collect();
    let mut push = |kept: Vec<usize>, torn| states.push(State { durable: begin, kept, torn });
    push(Vec::new(), None);
    let Some((last, others)) = writes.split_last() else { return };
    push(writes.clone(), None);
    if writes.len() > 1 {
        for n in 0..writes.len().min(SINGLE) {
            let left_out = if writes.len() <= SINGLE { n } else { random.below(writes.len()) };
            let kept = writes.iter().enumerate().filter(|(index, _)| *index != left_out);
            push(kept.map(|(_, write)| *write).collect(), None);
        }
    }
    if writes.len() > 2 {
        for n in 0..count {
            let kept = match n % 2 {
                0 => writes.iter().copied().filter(|_| random.below(2) == 0).collect(),
                _ => writes[..random.below(writes.len())].to_vec(),
            };
            push(kept, None);
        }
    }
    if let Command::Write { start, end, .. } = events[*last].command {
        let first_page = (start / PAGE + 1) * PAGE;
        if first_page < end {
            let last_page = (end - 1) / PAGE * PAGE;
            push(others.to_vec(), Some((*last, start..first_page)));
            push(others.to_vec(), Some((*last, last_page..end)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(start: u64, end: u64) -> Event {
        Event { command: Command::Write { start, end, data: 0 }, log: 0, log_end: 0 }
    }

    const FLUSH: Event = Event { command: Command::Flush, log: 0, log_end: 0 };

    #[test]
    fn writes_are_kept_or_lost_until_the_next_flush() {
        let events = [write(0, 512), FLUSH, write(0, 512), write(4096, 12288), FLUSH];
        let states = sample(&events, 4);
        let state = |durable, kept: &[usize], torn| State { durable, kept: kept.to_vec(), torn };
        assert_eq!(
            states,
            [
                state(0, &[], None),
                state(0, &[0], None),
                state(2, &[], None),
                state(2, &[2, 3], None),
                state(2, &[3], None),
                state(2, &[2], None),
                state(2, &[2], Some((3, 4096..8192))),
                state(2, &[2], Some((3, 8192..12288))),
                state(5, &[], None),
            ]
        );
    }

    #[test]
    fn many_writes_are_sampled() {
        let events: Vec<_> = (0..100).map(|n| write(n * 512, n * 512 + 512)).collect();
        let states = sample(&events, 6);
        assert_eq!(states.len(), 2 + SINGLE + 6);
        assert_eq!(states, sample(&events, 6));
        assert!(states.iter().all(|state| state.durable == 0));
    }
}
