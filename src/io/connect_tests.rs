//! Connections that are opened from here, over real sockets.

use super::buffers::{Buffers, Layouts, Pool};
use super::clock::Clock;
use super::op::*;
use super::peers::Peers;
use super::uring::{Ring, RingSetup, Wait};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

/// Longest wait for something that must happen.
const PATIENCE_NS: u64 = 20_000_000_000;
const ONE: Socket = Socket(1);

struct Bench {
    ring: Ring,
    buffers: Buffers,
    done: Completions,
}

impl Bench {
    fn new() -> Bench {
        let none = (0, 4096);
        let buffers = Buffers::new(0, Layouts([(4, 4096), (4, 4096), none, none, none, none, none, none, none]));
        let setup = RingSetup {
            worker: 0,
            connections: 4,
            loans: vec![buffers.loans()],
            log: None,
            data: &[],
            directories: 0,
            listener: None,
            native: None,
            locks: Vec::new(),
            peers: Peers::new(1).expect("an eventfd"),
            companion: None,
        };
        let (ring, _) = Ring::new(setup).expect("a ring");
        Bench { ring, buffers, done: Completions::new() }
    }

    fn ask(&mut self, op: Op) {
        self.ring.carry(&mut vec![op]).expect("carried");
    }

    /// The next completion.
    fn next(&mut self) -> Completion {
        let end = Clock.now().mono + PATIENCE_NS;
        while self.done.is_empty() {
            assert!(Clock.now().mono < end, "nothing has completed");
            self.ring.enter(Wait::Sleep(10_000_000)).expect("entered");
            self.ring.collect(&mut self.done).expect("collected");
        }
        self.done.remove(0)
    }
}

fn listener(address: &str) -> Option<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).ok()?;
    let at = listener.local_addr().expect("it is bound");
    Some((listener, at))
}

#[test]
fn a_connection_carries_bytes_both_ways_and_its_slot_is_used_again() {
    let mut bench = Bench::new();
    let (server, to) = listener("127.0.0.1:0").expect("loopback");
    // A host may have no IPv6.
    for (server, to) in [Some((server, to)), listener("[::1]:0")].into_iter().flatten() {
        for _ in 0..2 {
            bench.ask(Op::Connect { socket: ONE, to });
            assert_eq!(bench.next(), Completion::Connected { socket: ONE, result: Ok(()) });
            let (mut peer, _) = server.accept().expect("it has come");
            let (from, into) = (bench.buffers.whole(Pool::Reply, 1), bench.buffers.whole(Pool::Connection, 1));
            bench.buffers.bytes_mut(from)[..4].copy_from_slice(b"ping");
            bench.ask(Op::Send { socket: ONE, from: from.first(4), then: None });
            assert_eq!(bench.next(), Completion::Sent { socket: ONE, result: Ok(()) });
            let mut got = [0; 4];
            peer.read_exact(&mut got).expect("read");
            peer.write_all(&got).expect("written");
            bench.ask(Op::Recv { socket: ONE, into });
            assert_eq!(bench.next(), Completion::Received { socket: ONE, result: Ok(4) });
            assert_eq!(&bench.buffers.bytes(into)[..4], b"ping");
            bench.ask(Op::Close { socket: ONE });
            assert_eq!(bench.next(), Completion::Closed { socket: ONE });
            assert_eq!(peer.read(&mut got).expect("the end"), 0);
        }
    }
}

#[test]
fn where_nobody_listens_the_connection_fails_and_its_slot_is_free() {
    let mut bench = Bench::new();
    let (server, to) = listener("127.0.0.1:0").expect("loopback");
    drop(server);
    for _ in 0..3 {
        bench.ask(Op::Connect { socket: ONE, to });
        let refused = Errno(libc::ECONNREFUSED);
        assert_eq!(bench.next(), Completion::Connected { socket: ONE, result: Err(refused) });
    }
    assert_eq!(bench.ring.in_flight(), 0);
}

#[test]
fn a_close_ends_a_connection_that_is_not_there_yet() {
    let mut bench = Bench::new();
    let (_server, to) = listener("127.0.0.1:0").expect("loopback");
    bench.ask(Op::Connect { socket: ONE, to });
    bench.ask(Op::Close { socket: ONE });
    // The connection may have been faster.
    assert!(matches!(bench.next(), Completion::Connected { socket: ONE, .. }));
    assert_eq!(bench.next(), Completion::Closed { socket: ONE });
    bench.ask(Op::Connect { socket: ONE, to });
    assert_eq!(bench.next(), Completion::Connected { socket: ONE, result: Ok(()) });
}
