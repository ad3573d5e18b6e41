//! Tests of the loop while the disk takes nothing, with a watchdog that is a file.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;

use super::*;
use crate::console::Console;
use crate::control::Command;
use crate::linux::block::Disk;
use crate::linux::watchdog::Watchdog;
use crate::supervisor::disk_queue::DiskTask;
use crate::supervisor::inbox;

/// A loop whose disk takes nothing until [`Blocked::release`].
struct Blocked {
    dir: tempfile::TempDir,
    runtime: Runtime,
    disk: mpsc::Sender<()>,
}

impl Blocked {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A name that no disk has: nothing of the machine that runs the test is touched.
        let disk = Some(Disk { name: "no-such-disk".to_owned() });
        let machine = Machine { disk, ..requests::tests::machine() };
        let (reporter, inbox) = inbox::channel().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(inbox.descriptor(), Source::Inbox).unwrap();
        let mut effects = Effects::default();
        let now = kernel_clock::since_boot();
        fs::write(dir.path().join("watchdog"), "").unwrap();
        let watchdog = Watchdog::arm_device(&dir.path().join("watchdog")).unwrap().unwrap();
        let mut watchdog = WatchdogTimer::armed(watchdog, now);
        let mut control = ControlServer::closed();
        control.listen(&dir.path().join("krazy/control.sock"), 0, &poller).unwrap();
        let mut runtime = Runtime {
            services: Services::new(machine.title(), Vec::new(), reporter.clone()),
            devices: Devices::new(Default::default(), Default::default()),
            trial: Trial::begin(&machine, &mut watchdog, &mut effects),
            clock: WallClock::new(Duration::ZERO, None, now),
            journal: Journal::on(Console::on(Some(fs::File::create(dir.path().join("console")).unwrap()))),
            poller,
            signals: Signals::open().unwrap(),
            inbox,
            disk: DiskQueue::start(reporter.clone()).unwrap(),
            reporter,
            links: Links::default(),
            watchdog,
            control,
            shutdown: Shutdown::default(),
            machine,
        };
        let (disk, blocked) = mpsc::channel();
        assert!(runtime.disk.push(DiskTask::new("a slow write", move |_| blocked.recv().unwrap())));
        Blocked { dir, runtime, disk }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sends a request, and lets the loop take it.
    fn request(&mut self, command: Command) -> BufReader<UnixStream> {
        let mut client = UnixStream::connect(self.path("krazy/control.sock")).unwrap();
        client.write_all(&Request { version: 1, command }.to_line()).unwrap();
        client.set_nonblocking(true).unwrap();
        // One turn for the connection, one for the request.
        self.runtime.turn(&mut Vec::new());
        self.runtime.turn(&mut Vec::new());
        BufReader::new(client)
    }

    fn release(&mut self) {
        self.disk.send(()).unwrap();
        while !self.runtime.disk.waiting().is_empty() {
            self.runtime.turn(&mut Vec::new());
        }
    }
}

/// The response that has come; `None` if it has not.
fn response_to(client: &mut BufReader<UnixStream>) -> Option<String> {
    let mut line = String::new();
    match client.read_line(&mut line) {
        Ok(_) => Some(line),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn slow_disk_delays_only_the_answers_that_wait_for_it() {
    let mut blocked = Blocked::new();
    let mut order = blocked.request(Command::CopyCredentials);
    let gone = blocked.request(Command::CopyCredentials);
    drop(gone);
    let mut status = blocked.request(Command::Boot);
    assert!(response_to(&mut status).unwrap().contains("\"hostname\":\"weather\""));
    assert_eq!(
        fs::read(blocked.path("watchdog")).unwrap().len(),
        2,
        "fed when it was armed, and by the loop"
    );
    assert_eq!(response_to(&mut order), None);
    assert_eq!(blocked.runtime.disk.waiting().len(), 3);
    blocked.release();
    let answer = response_to(&mut order).unwrap();
    assert!(answer.contains("the credentials are not copied outside /data: "), "{answer}");
}

#[test]
fn requests_beyond_the_queue_are_refused() {
    let mut blocked = Blocked::new();
    let mut clients: Vec<_> = (0..16).map(|_| blocked.request(Command::CopyCredentials)).collect();
    let refused = response_to(clients.last_mut().unwrap()).unwrap();
    assert!(refused.contains("the disk is too slow: too many requests wait for it"), "{refused}");
    assert!(clients[..15].iter_mut().all(|client| response_to(client).is_none()));
    blocked.release();
    assert!(clients[..15].iter_mut().all(|client| response_to(client).is_some()));
}

#[test]
fn end_of_the_machine_waits_for_the_disk_up_to_a_limit() {
    let mut blocked = Blocked::new();
    let mut halt = blocked.request(Command::Halt);
    assert!(response_to(&mut halt).unwrap().contains("done"));
    let Runtime { shutdown, disk, .. } = &blocked.runtime;
    let limit = shutdown.deadline().unwrap();
    assert!((Duration::ZERO..=Duration::from_secs(10)).contains(&(limit - kernel_clock::since_boot())));
    assert_eq!(shutdown.ending(limit - Duration::from_millis(1), disk), None);
    assert_eq!(shutdown.ending(limit, disk), Some(End::Halt));
    let text = "the disk is too slow: a slow write and 1 more has not finished within 10 s";
    assert_eq!(shutdown::given_up(disk).as_deref(), Some(text));
    blocked.release();
    let Runtime { shutdown, disk, .. } = &blocked.runtime;
    assert_eq!(shutdown.ending(kernel_clock::since_boot(), disk), Some(End::Halt));
    assert_eq!(shutdown::given_up(disk), None);
}
