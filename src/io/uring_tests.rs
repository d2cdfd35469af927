//! The ring over real sockets and files: every kind of operation, its failures, its races.

use super::buffers::{Buffers, Layouts, POOLS, Pool, Span};
use super::clock::Clock;
use super::companion::{Answer, Link, Request};
use super::op::*;
use super::peers::Peers;
use super::scrub::{Report, Segment};
use super::socket;
use super::uring::{Ring, RingSetup, Wait};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

/// Longest wait for something that must happen.
const PATIENCE_NS: u64 = 20_000_000_000;
const BLOCK: u32 = 4096;
const SCRUBBED: Segment =
    Segment { log: 0, index: 0, incarnation: 1, directory: 1, block: BLOCK, size: 1 << 20, end: BLOCK, footer: true };

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("penstock-ring-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A ring with memory and, instead of a worker, a test that says what to do.
struct Bench {
    ring: Ring,
    buffers: Buffers,
    done: Completions,
    address: SocketAddr,
    native: SocketAddr,
    peers: Arc<Peers>,
    scratch: Scratch,
}

impl Bench {
    fn new(connections: u16) -> Bench {
        Bench::with(connections, None)
    }

    fn with(connections: u16, companion: Option<Link>) -> Bench {
        let layouts = [
            (connections, 4096),
            (connections, 4096),
            (4, 65536),
            (2, 1 << 20),
            (1, 16 << 20),
            (1, 1 << 20),
            (0, 4096),
            (8, 65536),
            (0, 4096),
        ];
        let buffers = Buffers::new(0, Layouts(layouts));
        let scratch = Scratch::new();
        let free = || socket::claim("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let (address, native) = (free(), free());
        let peers = Peers::new(2).expect("eventfds");
        let setup = RingSetup {
            worker: 0,
            connections,
            loans: vec![buffers.loans()],
            log: Some(buffers.whole(Pool::Log, 0)),
            data: std::slice::from_ref(&scratch.0),
            directories: 1,
            listener: Some(socket::listen(address).expect("a listener")),
            native: Some(socket::listen(native).expect("a listener")),
            locks: Vec::new(),
            peers: peers.clone(),
            companion,
        };
        let (ring, _) = Ring::new(setup).expect("io_uring works here");
        Bench { ring, buffers, done: Vec::new(), address, native, peers, scratch }
    }

    fn carry(&mut self, op: Op) {
        self.ring.carry(&mut vec![op]).expect("the ring works");
    }

    /// Turns the ring until `enough` completions have come, and gives all of them.
    fn until(&mut self, mut enough: impl FnMut(&Completions) -> bool) -> Completions {
        let start = Clock.now().mono;
        while !enough(&self.done) {
            assert!(Clock.now().mono - start < PATIENCE_NS, "waited in vain; so far: {:?}", self.done);
            self.ring.enter(Wait::Sleep(50_000_000)).expect("the ring works");
            self.ring.collect(&mut self.done).expect("the ring works");
        }
        std::mem::take(&mut self.done)
    }

    fn next(&mut self) -> Completion {
        let mut done = self.until(|done| !done.is_empty());
        assert_eq!(done.len(), 1, "{done:?}");
        done.remove(0)
    }

    /// Carries out a file operation and gives its result.
    fn file(&mut self, op: Op) -> Result<u32, Errno> {
        self.carry(op);
        match self.next() {
            Completion::Done { token: Token(7), result } => result,
            other => panic!("{other:?} answers {op:?}"),
        }
    }

    /// The same of an operation that a thread carries out, which then wakes the ring.
    fn file_by_thread(&mut self, op: Op) -> Result<u32, Errno> {
        self.carry(op);
        let done = self.until(|done| done.contains(&Completion::Woken) && done.len() > 1);
        match done.iter().find(|completion| **completion != Completion::Woken) {
            Some(Completion::Done { token: Token(7), result }) => *result,
            other => panic!("{other:?} answers {op:?}"),
        }
    }

    fn connect(&mut self) -> (Socket, TcpStream) {
        let client = TcpStream::connect(self.address).expect("a connection");
        let done = self.until(|done| done.len() == 2);
        let Completion::Accepted(Ok(socket)) = done[0] else { panic!("{done:?} instead of a connection") };
        let peer = Some(client.local_addr().expect("an address").ip());
        assert_eq!(done[1], Completion::Client { socket, peer, secure: false, over: None });
        (socket, client)
    }

    fn filled(&mut self, pool: Pool, byte: u8) -> Span {
        let span = self.buffers.whole(pool, 0);
        self.buffers.bytes_mut(span).fill(byte);
        span
    }
}

const T: Token = Token(7);
const SEGMENT: FileName = FileName::Segment { log: 0, index: 1 };

fn errno(code: i32) -> Result<u32, Errno> {
    Err(Errno(code))
}

#[test]
fn a_request_comes_in_and_a_reply_of_two_spans_goes_out_whole() {
    let mut bench = Bench::new(4);
    bench.carry(Op::Accept);
    let (socket, mut client) = bench.connect();
    client.write_all(b"ping").expect("sent");
    let into = bench.buffers.whole(Pool::Connection, socket.0 as u16);
    bench.carry(Op::Recv { socket, into });
    assert_eq!(bench.next(), Completion::Received { socket, result: Ok(4) });
    assert_eq!(bench.buffers.bytes(into.first(4)), b"ping");

    // Far more than the socket's buffers hold: the send is cut and goes on while the client reads.
    let head = bench.filled(Pool::Reply, b'h');
    let body = bench.filled(Pool::Large, b'b');
    bench.carry(Op::Send { socket, from: head, then: Some(body) });
    let reader = std::thread::spawn(move || {
        let mut reply = vec![0; (head.len + body.len) as usize];
        client.read_exact(&mut reply).expect("the whole reply");
        (reply, client)
    });
    assert_eq!(bench.next(), Completion::Sent { socket, result: Ok(()) });
    let (reply, _client) = reader.join().expect("read");
    let (first, second) = reply.split_at(head.len as usize);
    assert!(first.iter().all(|b| *b == b'h') && second.iter().all(|b| *b == b'b'));
}

#[test]
fn a_receive_of_all_is_answered_when_all_has_come_or_the_stream_has_ended() {
    let mut bench = Bench::new(2);
    bench.carry(Op::Accept);
    let (socket, mut client) = bench.connect();
    let into = bench.buffers.whole(Pool::Connection, socket.0 as u16).first(3000);
    bench.carry(Op::RecvAll { socket, into });
    for _ in 0..3 {
        client.write_all(&[7; 900]).expect("sent");
        // Something else completes meanwhile, and only that.
        bench.carry(Op::List { dir: DirName::Top, token: T });
        assert!(matches!(bench.next(), Completion::Listed { .. }));
    }
    client.write_all(&[8; 300]).expect("sent");
    assert_eq!(bench.next(), Completion::Received { socket, result: Ok(3000) });
    let bytes = bench.buffers.bytes(into);
    assert!(bytes[..2700].iter().all(|b| *b == 7) && bytes[2700..].iter().all(|b| *b == 8));
    bench.carry(Op::RecvAll { socket, into });
    client.write_all(&[9; 500]).expect("sent");
    client.shutdown(std::net::Shutdown::Write).expect("half closed");
    assert_eq!(bench.next(), Completion::Received { socket, result: Ok(500) });
    bench.carry(Op::RecvAll { socket, into });
    assert_eq!(bench.next(), Completion::Received { socket, result: Ok(0) });
}

#[test]
fn close_ends_what_is_in_flight_before_it_frees_the_slot() {
    let mut bench = Bench::new(1);
    bench.carry(Op::Accept);
    let (socket, mut client) = bench.connect();
    let into = bench.buffers.whole(Pool::Connection, 0);
    let from = bench.filled(Pool::Large, 1);
    // The receive has nothing to receive, and the send cannot end as nobody reads.
    bench.carry(Op::Recv { socket, into });
    bench.carry(Op::Send { socket, from, then: None });
    bench.carry(Op::Close { socket });
    let done = bench.until(|done| done.contains(&Completion::Closed { socket }));
    assert_eq!(done.len(), 3, "{done:?}");
    assert_eq!(done[2], Completion::Closed { socket });
    assert!(done.iter().any(|c| matches!(c, Completion::Received { result: Ok(0), .. })), "{done:?}");
    assert!(done.iter().any(|c| matches!(c, Completion::Sent { result: Err(_), .. })), "{done:?}");
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    // The only slot is free again.
    assert_eq!(bench.connect().0, socket);
}

#[test]
fn a_peer_that_is_gone_ends_receives_and_fails_sends() {
    let mut bench = Bench::new(2);
    bench.carry(Op::Accept);
    let (socket, client) = bench.connect();
    drop(client);
    let into = bench.buffers.whole(Pool::Connection, 0);
    bench.carry(Op::Recv { socket, into });
    assert_eq!(bench.next(), Completion::Received { socket, result: Ok(0) });
    let from = bench.filled(Pool::Large, 1);
    bench.carry(Op::Send { socket, from, then: None });
    assert!(matches!(bench.next(), Completion::Sent { result: Err(_), .. }));
    bench.carry(Op::Close { socket });
    assert_eq!(bench.next(), Completion::Closed { socket });
}

#[test]
fn more_connections_than_slots_are_refused_one_by_one_and_accepting_goes_on() {
    let mut bench = Bench::new(8);
    bench.carry(Op::Accept);
    let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(bench.address).expect("the backlog holds it")).collect();
    let done = bench.until(|done| done.len() == 20 + 8);
    let done: Vec<_> = done.into_iter().filter(|c| !matches!(c, Completion::Client { .. })).collect();
    let slots: Vec<_> =
        done.iter().filter_map(|c| if let Completion::Accepted(Ok(s)) = c { Some(*s) } else { None }).collect();
    assert_eq!(slots.len(), 8);
    assert!(done.iter().all(|c| matches!(c, Completion::Accepted(Ok(_) | Err(Errno(libc::ENFILE))))), "{done:?}");
    bench.carry(Op::Close { socket: slots[3] });
    assert_eq!(bench.next(), Completion::Closed { socket: slots[3] });
    assert_eq!(bench.connect().0, slots[3]);
    drop(clients);
}

#[test]
fn a_native_client_is_told_from_others_when_it_comes_and_when_it_goes() {
    let mut bench = Bench::new(2);
    bench.carry(Op::Accept);
    let native = TcpStream::connect(bench.native).expect("a connection");
    let Completion::NativeAccepted { socket, peer } = bench.next() else { panic!("no native client") };
    assert_eq!(peer, Some(native.local_addr().expect("an address").ip()));
    let (other, _client) = bench.connect();
    assert_ne!(socket, other);
    bench.carry(Op::Close { socket });
    assert_eq!(bench.next(), Completion::NativeClosed { socket });
    bench.carry(Op::Close { socket: other });
    assert_eq!(bench.next(), Completion::Closed { socket: other });
}

#[test]
fn a_thousand_connections_are_served_at_once() {
    const COUNT: usize = 1000;
    let mut bench = Bench::new(1024);
    bench.carry(Op::Accept);
    let mut clients: Vec<_> = (0..COUNT).map(|_| TcpStream::connect(bench.address).expect("connected")).collect();
    for done in bench.until(|done| done.len() == 2 * COUNT) {
        let Completion::Accepted(Ok(socket)) = done else {
            assert!(matches!(done, Completion::Client { peer: Some(_), secure: false, .. }), "{done:?}");
            continue;
        };
        let into = bench.buffers.whole(Pool::Connection, socket.0 as u16);
        bench.carry(Op::Recv { socket, into });
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&(number as u32).to_le_bytes()).expect("sent");
    }
    for done in bench.until(|done| done.len() == COUNT) {
        let Completion::Received { socket, result: Ok(4) } = done else { panic!("{done:?}") };
        let from = bench.buffers.whole(Pool::Connection, socket.0 as u16).first(4);
        bench.carry(Op::Send { socket, from, then: None });
    }
    let sockets: Vec<_> = bench
        .until(|done| done.len() == COUNT)
        .into_iter()
        .map(|done| if let Completion::Sent { socket, result: Ok(()) } = done { socket } else { panic!("{done:?}") })
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let mut echo = [0; 4];
        client.read_exact(&mut echo).expect("echoed");
        assert_eq!(u32::from_le_bytes(echo), number as u32);
    }
    sockets.iter().for_each(|socket| bench.carry(Op::Close { socket: *socket }));
    let closed = bench.until(|done| done.len() == COUNT);
    assert!(closed.iter().all(|c| matches!(c, Completion::Closed { .. })));
    // Only the two accepts are left.
    assert_eq!(bench.ring.in_flight(), 2);
}

#[test]
fn after_the_stop_nobody_is_accepted() {
    let mut bench = Bench::new(2);
    bench.carry(Op::Accept);
    bench.connect();
    bench.ring.stop_accepting().expect("the ring works");
    bench.carry(Op::List { dir: DirName::Top, token: T });
    bench.next();
    while bench.ring.in_flight() > 0 {
        bench.ring.enter(Wait::Sleep(10_000_000)).expect("the ring works");
        bench.ring.collect(&mut bench.done).expect("the ring works");
    }
    assert!(TcpStream::connect(bench.address).is_err());
}

#[test]
fn a_file_lives_from_directory_to_unlink() {
    let mut bench = Bench::new(1);
    let dir = DirName::Log(0);
    let making = Op::MakeDir { dir, token: T };
    assert_eq!((bench.file(making), bench.file(making)), (Ok(0), Ok(0)));
    let create = Op::Open { file: SEGMENT, how: OpenHow::Create { size: 1 << 20 }, token: T };
    assert_eq!(bench.file(create), Ok(1), "it has one name");
    assert_eq!(bench.file(create), errno(libc::EEXIST));
    assert_eq!(bench.file(Op::SyncDir { dir, token: T }), Ok(0));
    assert_eq!(bench.file(Op::SyncDir { dir: DirName::Catalog, token: T }), errno(libc::ENOENT));

    let log = bench.filled(Pool::Log, 0xa5).first(16 * BLOCK);
    let block = bench.filled(Pool::Block, 0x5a).first(BLOCK);
    let write = |from, at, sync| Op::WriteAt { file: SEGMENT, at, from, sync, token: T };
    assert_eq!(bench.file(write(log, 0, Sync::Durable)), Ok(16 * BLOCK));
    assert_eq!(bench.file(write(block, 16 * BLOCK as u64, Sync::Later)), Ok(BLOCK));
    assert_eq!(bench.file(write(block, 100, Sync::Later)), errno(libc::EINVAL));
    assert_eq!(bench.file(Op::Fsync { file: SEGMENT, token: T }), Ok(0));

    let into = bench.buffers.whole(Pool::Medium, 0);
    let read = |at, into| Op::ReadAt { file: SEGMENT, at, into, token: T };
    assert_eq!(bench.file(read(15 * BLOCK as u64, into.first(2 * BLOCK))), Ok(2 * BLOCK));
    let bytes = bench.buffers.bytes(into.first(2 * BLOCK));
    assert!(bytes[..BLOCK as usize].iter().all(|b| *b == 0xa5) && bytes[BLOCK as usize..].iter().all(|b| *b == 0x5a));
    // Over the end there is less, at the end nothing.
    assert_eq!(bench.file(read((1 << 20) - BLOCK as u64, into)), Ok(BLOCK));
    assert_eq!(bench.file(read(1 << 20, into)), Ok(0));

    let moved = FileName::Segment { log: 0, index: 2 };
    assert_eq!(bench.file(Op::Rename { from: SEGMENT, to: moved, token: T }), Ok(0));
    assert_eq!(bench.file(write(block, 0, Sync::Later)), errno(libc::EBADF));
    assert_eq!(bench.file(Op::WriteAt { file: moved, at: 0, from: block, sync: Sync::Durable, token: T }), Ok(BLOCK));
    bench.carry(Op::List { dir, token: T });
    assert_eq!(bench.next(), Completion::Listed { token: T, result: Ok(vec![(moved, 1 << 20)]) });
    assert_eq!(bench.file(Op::CloseFile { file: moved, token: T }), Ok(0));
    assert_eq!(bench.file(Op::CloseFile { file: moved, token: T }), errno(libc::EBADF));
    assert_eq!(bench.file(Op::Unlink { file: moved, token: T }), Ok(0));
    assert_eq!(bench.file(Op::Open { file: moved, how: OpenHow::Existing, token: T }), errno(libc::ENOENT));
}

#[test]
fn an_absent_directory_is_listed_as_enoent_and_strangers_are_passed_over() {
    let mut bench = Bench::new(1);
    bench.carry(Op::List { dir: DirName::Catalog, token: T });
    assert_eq!(bench.next(), Completion::Listed { token: T, result: Err(Errno(libc::ENOENT)) });
    std::fs::write(bench.scratch.0.join("lock"), b"1").expect("written");
    std::fs::write(bench.scratch.0.join("superblock-1"), b"1").expect("written");
    bench.carry(Op::List { dir: DirName::Top, token: T });
    assert_eq!(bench.next(), Completion::Listed { token: T, result: Ok(vec![(FileName::Superblock(1), 1)]) });
}

#[test]
fn a_ring_without_a_companion_prepares_segments_one_after_the_other() {
    let mut bench = Bench::new(1);
    let path = bench.scratch.0.join("log-000");
    assert_eq!(bench.file(Op::MakeDir { dir: DirName::Log(0), token: T }), Ok(0));
    // A draft that a crash has left does not matter.
    std::fs::write(path.join("segment-000001.preparing"), b"old").expect("written");
    let size = (2 << 20) + 64 * 1024;
    bench.carry(Op::Prepare { log: 0, index: 1, size, token: Token(1) });
    bench.carry(Op::Prepare { log: 0, index: 2, size, token: Token(2) });
    bench.carry(Op::Prepare { log: 9, index: 1, size, token: Token(3) });
    let done = bench.until(|done| done.len() == 3);
    let answers = [(1, Ok(0)), (2, Ok(0)), (3, errno(libc::ENOENT))];
    assert_eq!(done, answers.map(|(token, result)| Completion::Done { token: Token(token), result }));
    for name in ["segment-000001", "segment-000002"] {
        let bytes = std::fs::read(path.join(name)).expect("it is there");
        assert!(bytes.len() as u64 == size && bytes.iter().all(|b| *b == 0));
    }
    assert_eq!(std::fs::read_dir(&path).expect("listed").count(), 2);
}

#[test]
fn a_companion_prepares_and_when_it_ends_the_ring_does_what_it_owes() {
    let (requests, asked) = mpsc::channel();
    let (answering, answers) = mpsc::channel();
    let mut bench = Bench::with(1, Some(Link { requests, answers }));
    assert_eq!(bench.file(Op::MakeDir { dir: DirName::Log(0), token: T }), Ok(0));
    for index in 0..2 {
        bench.carry(Op::Prepare { log: 0, index, size: 1 << 20, token: Token(index as u64) });
    }
    for token in [Token(2), Token(3)] {
        bench.carry(Op::Scrub { segment: SCRUBBED, rate: 1, token });
    }
    let Ok(Request::Prepare(request)) = asked.recv() else { panic!("the first request") };
    let Some(Request::Scrub(scrub)) = asked.iter().nth(1) else { panic!("the third one") };
    answering.send(Answer::Prepared { request, result: Ok(()) }).expect("the ring listens");
    answering.send(Answer::Scrubbed { request: scrub, report: Report::default() }).expect("the ring listens");
    bench.peers.peer(0).wake();
    let done = bench.until(|done| done.len() == 3);
    assert!(done.contains(&Completion::Woken) && done.contains(&Completion::Done { token: Token(0), result: Ok(0) }));
    assert!(done.contains(&Completion::Scrubbed { token: Token(2), report: Some(Box::default()) }));
    drop((asked, answering));
    // Nobody reads for it any more; what it was to prepare is prepared.
    let done = bench.until(|done| done.len() == 2);
    assert_eq!(done[0], Completion::Scrubbed { token: Token(3), report: None });
    assert_eq!(done[1], Completion::Done { token: Token(1), result: Ok(0) });
    bench.carry(Op::Scrub { segment: SCRUBBED, rate: 1, token: Token(4) });
    assert_eq!(bench.next(), Completion::Scrubbed { token: Token(4), report: None });
    assert!(bench.scratch.0.join("log-000/segment-000001").exists());
}

#[test]
fn a_sleeper_is_woken_by_another_ring_and_one_that_is_awake_is_not() {
    let mut bench = Bench::new(1);
    let peers = bench.peers.clone();
    let wake = || {
        let scratch = Scratch::new();
        let buffers = Buffers::new(1, Layouts([(0, 4096); POOLS]));
        let loans = vec![buffers.loans(); 2];
        let (peers, data) = (peers.clone(), &scratch.0);
        let setup = RingSetup {
            worker: 1,
            connections: 1,
            loans,
            log: None,
            data: std::slice::from_ref(data),
            directories: 1,
            listener: None,
            native: None,
            locks: Vec::new(),
            peers,
            companion: None,
        };
        let (mut other, _) = Ring::new(setup).expect("io_uring works here");
        other.carry(&mut vec![Op::Wake { worker: 0 }]).expect("the ring works");
        other.enter(Wait::Poll).expect("the ring works");
    };
    std::thread::scope(|scope| scope.spawn(wake).join().expect("carried"));
    bench.ring.enter(Wait::Poll).expect("the ring works");
    bench.ring.collect(&mut bench.done).expect("the ring works");
    assert_eq!(bench.done, []);
    bench.peers.peer(0).bell.about_to_sleep();
    std::thread::scope(|scope| scope.spawn(wake).join().expect("carried"));
    assert_eq!(bench.next(), Completion::Woken);
}

#[test]
fn a_segment_gets_a_second_name_which_an_open_tells_and_a_capture_is_cleared() {
    let mut bench = Bench::new(1);
    for dir in [DirName::Log(0), DirName::Capture(0), DirName::CaptureLog(0)] {
        assert_eq!(bench.file(Op::MakeDir { dir, token: T }), Ok(0));
    }
    assert_eq!(bench.file(Op::Open { file: SEGMENT, how: OpenHow::Create { size: 1 << 20 }, token: T }), Ok(1));
    let to = FileName::Captured(Piece::Segment { log: 0, index: 0 });
    let link = Op::Link { from: SEGMENT, to, token: T };
    let linked = Linked::of(bench.file_by_thread(link).expect("the same file system"));
    assert_ne!(linked, Linked::Copied);
    assert_eq!(bench.file_by_thread(link), errno(libc::EEXIST));
    assert_eq!(bench.file(Op::SyncDir { dir: DirName::CaptureLog(0), token: T }), Ok(0));
    let names = |bench: &mut Bench| {
        assert_eq!(bench.file(Op::CloseFile { file: SEGMENT, token: T }), Ok(0));
        bench.file(Op::Open { file: SEGMENT, how: OpenHow::Existing, token: T })
    };
    assert_eq!(names(&mut bench), Ok(if linked == Linked::Hard { 2 } else { 1 }));
    let clear = Op::Clear { dir: DirName::Capture(0), token: T };
    assert_eq!((bench.file_by_thread(clear), bench.file_by_thread(clear)), (Ok(0), Ok(0)), "also when there is none");
    assert_eq!(names(&mut bench), Ok(1));
    assert_eq!(bench.file(Op::SyncDir { dir: DirName::CaptureLog(0), token: T }), errno(libc::ENOENT));
}

#[test]
fn a_full_queue_is_submitted_in_between_and_every_operation_answered_once() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.file(Op::MakeDir { dir: DirName::Log(0), token: T }), Ok(0));
    assert_eq!(bench.file(Op::Open { file: SEGMENT, how: OpenHow::Create { size: 1 << 20 }, token: T }), Ok(1));
    let into = bench.buffers.whole(Pool::Block, 0).first(BLOCK);
    let mut ops: Ops = (0..20_000).map(|n| Op::ReadAt { file: SEGMENT, at: 0, into, token: Token(n) }).collect();
    bench.ring.carry(&mut ops).expect("the ring works");
    let mut tokens: Vec<_> = bench
        .until(|done| done.len() >= 20_000)
        .into_iter()
        .map(|done| if let Completion::Done { token, result: Ok(BLOCK) } = done { token.0 } else { panic!("{done:?}") })
        .collect();
    tokens.sort();
    assert!(tokens.into_iter().eq(0..20_000));
}

#[test]
fn the_lock_is_held_until_the_ring_is_gone() {
    let scratch = Scratch::new();
    let open = || std::fs::File::create(scratch.0.join("lock")).expect("a file");
    let lock = Arc::new(open());
    lock.try_lock().expect("nobody has it");
    let buffers = Buffers::new(0, Layouts([(1, 4096); POOLS]));
    let (loans, data, peers) = (vec![buffers.loans()], &scratch.0, Peers::new(1).expect("an eventfd"));
    let setup = RingSetup {
        worker: 0,
        connections: 1,
        loans,
        log: None,
        data: std::slice::from_ref(data),
        directories: 1,
        listener: None,
        native: None,
        locks: vec![lock.clone()],
        peers,
        companion: None,
    };
    let (ring, _) = Ring::new(setup).expect("io_uring works here");
    // The process's own descriptor is closed, as the kernel does for a process that was killed.
    drop(lock);
    assert!(open().try_lock().is_err(), "the ring does not hold the lock");
    drop(ring);
    let other = open();
    let free = (0..2_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        other.try_lock().is_ok()
    });
    assert!(free, "the lock outlives the ring");
}
