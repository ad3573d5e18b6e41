//! Work that waits for a disk, in a thread in place of the loop: one task after another, in the order in which they
//! were queued. A worn-out card, or one that a service writes to, takes many seconds for a sync; meanwhile the loop
//! feeds the watchdog, reaps processes and answers requests.
//!
//! A part returns a task as [`Effect::Disk`](super::effect::Effect::Disk), or as the answer of a request. The task's
//! effects, and its answer, come back to the loop as a [`DiskOutcome`].

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::effect::Effects;
use super::inbox::{Report, Reporter};
use crate::control::{Reply, RequestError};
use crate::linux::process;

/// The most tasks that wait when a request adds one. The rest of the queue is for init's own: the note of a trial, the
/// record of the end, kept output.
const MAX_FOR_REQUESTS: usize = 16;

/// The most tasks that wait.
const MAX_TASKS: usize = 32;

type Work = dyn FnOnce(&mut Effects) -> Result<Reply, RequestError> + Send;

/// Work for the thread, and its name in messages.
pub(super) struct DiskTask {
    name: &'static str,
    work: Box<Work>,
}

/// The answer of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// It is known.
    Now(Reply),
    /// It is that of this task, which is not queued yet.
    Later(DiskTask),
}

/// The result of a task.
#[derive(Debug)]
pub(super) struct DiskOutcome {
    /// The connection that waits for the answer.
    pub client: Option<u32>,
    /// The answer to that connection.
    pub answer: Result<Reply, RequestError>,
    /// The effects of the task.
    pub effects: Effects,
}

/// The loop's end of the queue.
#[derive(Debug)]
pub(super) struct DiskQueue {
    sender: Sender<(DiskTask, Option<u32>)>,
    /// The tasks without an outcome, oldest first.
    waiting: VecDeque<&'static str>,
}

impl DiskTask {
    /// A task that somebody waits for.
    pub(super) fn answering(
        name: &'static str,
        work: impl FnOnce(&mut Effects) -> Result<Reply, RequestError> + Send + 'static,
    ) -> Self {
        DiskTask { name, work: Box::new(work) }
    }

    /// A task that nobody waits for.
    pub(super) fn new(name: &'static str, work: impl FnOnce(&mut Effects) + Send + 'static) -> Self {
        Self::answering(name, |effects| {
            work(effects);
            Ok(Reply::Done)
        })
    }

    /// Carries it out, in the thread or in a test.
    pub(super) fn run(self, effects: &mut Effects) -> Result<Reply, RequestError> {
        (self.work)(effects)
    }
}

/// Prints the name.
impl fmt::Debug for DiskTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// By the name.
impl PartialEq for DiskTask {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl DiskQueue {
    /// Starts the thread, which reports outcomes.
    pub(super) fn start(reporter: Reporter) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<(DiskTask, Option<u32>)>();
        let run = move || {
            // Lower priority: the services are starting now, and the time until the first one is ready counts.
            process::yield_to_services();
            for (task, client) in receiver {
                let mut effects = Effects::default();
                let answer = task.run(&mut effects);
                reporter.send(Report::Disk(DiskOutcome { client, answer, effects }));
            }
        };
        thread::Builder::new().name("disk".to_owned()).stack_size(512 << 10).spawn(run)?;
        Ok(DiskQueue { sender, waiting: VecDeque::new() })
    }

    /// Adds a task of init's own. Returns false, and drops the task, if the queue is full.
    pub(super) fn push(&mut self, task: DiskTask) -> bool {
        self.waiting.len() < MAX_TASKS && self.send(task, None)
    }

    /// Returns true if a request may add a task.
    pub(super) fn has_room_for_request(&self) -> bool {
        self.waiting.len() < MAX_FOR_REQUESTS
    }

    /// Adds the task that answers a request of `client`. Returns false, and drops the task, if too many wait.
    pub(super) fn push_request(&mut self, task: DiskTask, client: u32) -> bool {
        self.has_room_for_request() && self.send(task, Some(client))
    }

    /// Records that the loop has received the outcome of the oldest task.
    pub(super) fn finished_one(&mut self) {
        self.waiting.pop_front();
    }

    /// The names of the tasks without an outcome, oldest first.
    pub(super) fn waiting(&self) -> &VecDeque<&'static str> {
        &self.waiting
    }

    fn send(&mut self, task: DiskTask, client: Option<u32>) -> bool {
        let name = task.name;
        let is_sent = self.sender.send((task, client)).is_ok();
        if is_sent {
            self.waiting.push_back(name);
        }
        is_sent
    }
}

#[cfg(test)]
mod tests {
    use super::super::inbox;
    use super::*;

    #[test]
    fn full_queue_refuses_requests_before_inits_own_tasks() {
        let (reporter, inbox) = inbox::channel().unwrap();
        let mut queue = DiskQueue::start(reporter).unwrap();
        let (release, blocked) = mpsc::channel::<()>();
        assert!(queue.push(DiskTask::new("blocks", move |_| blocked.recv().unwrap())));
        let (order, done) = mpsc::channel();
        for number in 1..MAX_TASKS {
            let order = order.clone();
            let task = DiskTask::new("counts", move |_| order.send(number).unwrap());
            let is_taken =
                if number < MAX_FOR_REQUESTS { queue.push_request(task, 7) } else { queue.push(task) };
            assert!(is_taken);
        }
        assert!(!queue.push(DiskTask::new("too many", |_| {})));
        assert!(!queue.push_request(DiskTask::new("too many", |_| {}), 7));
        assert_eq!((queue.waiting().len(), queue.waiting()[0]), (MAX_TASKS, "blocks"));
        release.send(()).unwrap();
        assert!((1..MAX_TASKS).all(|number| done.recv().unwrap() == number), "in order");
        let mut outcomes = Vec::new();
        while outcomes.len() < MAX_TASKS {
            outcomes.extend(inbox.take());
        }
        let Report::Disk(DiskOutcome { client, answer, .. }) = &outcomes[1] else { panic!() };
        assert_eq!((*client, answer), (Some(7), &Ok(Reply::Done)));
        outcomes.iter().for_each(|_| queue.finished_one());
        assert!(queue.waiting().is_empty() && queue.has_room_for_request());
    }
}
