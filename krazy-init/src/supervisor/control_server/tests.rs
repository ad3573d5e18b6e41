//! Tests of connections over a real socket.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;

use super::*;
use crate::control::{Command, LogStream, MAX_LINE};

fn pair() -> (tempfile::TempDir, ControlServer, u32, UnixStream) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("krazy/control.sock");
    let mut server = ControlServer::closed();
    server.listen(&path, 0, &Poller::new().unwrap()).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let number = server.accept_one().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    (dir, server, number, client)
}

#[test]
fn requests_may_come_in_pieces_and_several_at_once() {
    let (_dir, mut server, number, mut client) = pair();
    let request = Request { version: 1, command: Command::List };
    let line = request.to_line();
    client.write_all(&line[..5]).unwrap();
    server.receive(number);
    assert_eq!(server.next_request(number), None);
    client.write_all(&line[5..]).unwrap();
    client.write_all(b"nonsense\n").unwrap();
    client.write_all(&line).unwrap();
    server.receive(number);
    let requests: Vec<_> = std::iter::from_fn(|| server.next_request(number)).collect();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0], Ok(request));
    assert!(requests[1].is_err() && requests[2].is_ok());
    drop(client);
    server.receive(number);
    assert!(!server.clients.contains_key(&number));
}

#[test]
fn answer_that_comes_later_precedes_lines_and_further_requests() {
    let (_dir, mut server, number, mut client) = pair();
    let line = Request { version: 1, command: Command::Confirm }.to_line();
    client.write_all(&line.repeat(2)).unwrap();
    server.receive(number);
    assert!(server.next_request(number).is_some());
    server.answers_later(number);
    assert_eq!(server.next_request(number), None, "in order");
    server.follow(number, 3);
    server.publish(3, &LogLine { stream: LogStream::Err, text: "line".to_owned() });
    server.answer(number, &Response::ok(Reply::Done));
    let mut reader = BufReader::new(&client);
    let mut lines = || {
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        text
    };
    assert!(lines().contains("done") && lines().contains("\"text\":\"line\""));
    assert!(server.next_request(number).is_some());

    // A client that goes meanwhile is forgotten, as is one that sends without an end.
    server.answers_later(number);
    client.set_nonblocking(true).unwrap();
    while client.write_all(&line).is_ok() && server.clients.contains_key(&number) {
        server.receive(number);
    }
    assert!(!server.clients.contains_key(&number));
    server.answer(number, &Response::ok(Reply::Done));
}

#[test]
fn line_that_is_too_long_is_refused_and_not_kept() {
    let (_dir, mut server, number, mut client) = pair();
    let writer = std::thread::spawn(move || {
        client.write_all(&vec![b'x'; 3 * MAX_LINE]).unwrap();
        client
    });
    let mut refusals = 0;
    while refusals == 0 {
        server.receive(number);
        refusals += std::iter::from_fn(|| server.next_request(number)).count();
        assert!(server.clients[&number].input.len() <= MAX_LINE);
    }
    while !writer.is_finished() {
        server.receive(number);
        let _refused = server.next_request(number);
    }
    drop(writer.join().unwrap());
}

#[test]
fn followers_get_lines_and_clients_that_do_not_read_are_closed() {
    let (dir, mut server, number, client) = pair();
    let mut sleeper = UnixStream::connect(dir.path().join("krazy/control.sock")).unwrap();
    let other = server.accept_one().unwrap();
    server.follow(number, 3);
    server.follow(other, 4);
    let line = LogLine { stream: LogStream::Err, text: "x".repeat(1000) };
    server.publish(3, &line);
    let mut text = String::new();
    BufReader::new(client).read_line(&mut text).unwrap();
    assert!(text.contains("\"line\":{\"stream\":\"err\""), "{text}");
    for _ in 0..10_000 {
        server.publish(4, &line);
    }
    assert!(!server.clients.contains_key(&other));
    let mut rest = Vec::new();
    sleeper.read_to_end(&mut rest).unwrap();
}

#[test]
fn followers_leave_room_for_requests() {
    let (dir, mut server, number, client) = pair();
    let path = dir.path().join("krazy/control.sock");
    let mut clients = vec![client];
    let mut connect = |server: &mut ControlServer| {
        clients.push(UnixStream::connect(&path).unwrap());
        server.accept_one()
    };
    assert!(server.may_follow(number));
    server.follow(number, 0);
    for service in 1..MAX_HELD {
        let follower = connect(&mut server).unwrap();
        assert!(server.may_follow(follower));
        server.follow(follower, service);
    }
    for _ in MAX_HELD..MAX_CLIENTS {
        let asking = connect(&mut server).unwrap();
        assert!(!server.may_follow(asking), "{MAX_HELD} connections are held");
    }
    assert_eq!(connect(&mut server), None);
    assert!(server.may_follow(number), "another service, with the same connection");
    server.close(number);
    let late = connect(&mut server).unwrap();
    assert!(server.may_follow(late));
    server.follow(late, 0);
    // A service that may control init holds its connection, whatever it does with it.
    server.clients.get_mut(&late).unwrap().follows = None;
    assert_eq!(server.held(), MAX_HELD - 1);
    server.clients.get_mut(&late).unwrap().own = false;
    assert_eq!(server.held(), MAX_HELD);
}
