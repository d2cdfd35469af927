//! The network model's own tests.

use super::net::{Event, Later, Manners, Net, Recv, Told};
use super::random::Random;
use penstock::io::buffers::{Pool, Span};
use penstock::io::op::{Completion, Socket};

const QUIET: Manners = Manners { crumbs: 0, stalls: 0, resets: 0 };
const CRUMBS: Manners = Manners { crumbs: 1000, stalls: 0, resets: 0 };

fn span(len: u32) -> Span {
    Span { worker: 0, pool: Pool::Connection, slot: 0, at: 0, len }
}

/// A receive of a byte or more.
fn some(len: u32) -> Recv {
    Recv { into: span(len), all: false }
}

/// A network and what is on its way, by time.
struct Rig {
    net: Net,
    later: Later,
    now: u64,
    /// What a send's span holds when it completes.
    memory: Vec<u8>,
}

impl Rig {
    fn new(manners: Manners) -> Rig {
        let mut net = Net::new(Random::stream(1, "net"), manners);
        net.listen(1, 2);
        let mut rig = Rig { net, later: Vec::new(), now: 0, memory: Vec::new() };
        rig.net.accept(0, 0, &mut rig.later);
        rig
    }

    /// The next event: what the worker is told, or what the client sees.
    fn next(&mut self) -> Option<Result<Told, Event>> {
        while !self.later.is_empty() {
            let first = (0..self.later.len()).min_by_key(|at| (self.later[*at].0, *at)).expect("not empty");
            let (at, event) = self.later.remove(first);
            self.now = self.now.max(at);
            if matches!(event, Event::Deliver(..) | Event::Ended(_)) {
                return Some(Err(event));
            }
            if let Some(told) = self.net.on(event, self.memory.clone(), self.now, &mut self.later) {
                return Some(Ok(told));
            }
        }
        None
    }

    /// A connection that the worker has accepted.
    fn connected(&mut self) -> (u64, Socket) {
        let id = self.net.connect(self.now, &mut self.later).expect("somebody listens");
        match self.next() {
            Some(Ok((0, Completion::Accepted(Ok(socket)), _))) => (id, socket),
            other => panic!("not accepted: {other:?}"),
        }
    }

    fn receive(&mut self, socket: Socket) -> Vec<u8> {
        self.net.recv(0, socket, some(1000), self.now, &mut self.later);
        match self.next() {
            Some(Ok((0, Completion::Received { result: Ok(_), .. }, bytes))) => bytes.map_or(Vec::new(), |(_, b)| b),
            other => panic!("nothing received: {other:?}"),
        }
    }
}

#[test]
fn bytes_arrive_in_order_whatever_the_pieces() {
    let mut rig = Rig::new(CRUMBS);
    let (id, socket) = rig.connected();
    let sent: Vec<u8> = (0..=255).cycle().take(3000).collect();
    rig.net.client_sends(rig.now, id, &sent, &mut rig.later);
    rig.net.client_half_closes(rig.now, id, &mut rig.later);
    let (mut got, mut pieces) = (Vec::new(), 0);
    loop {
        let piece = rig.receive(socket);
        if piece.is_empty() {
            break;
        }
        (got, pieces) = ([got, piece].concat(), pieces + 1);
    }
    assert!(got == sent && pieces > 20, "{} bytes in {pieces} pieces", got.len());
}

#[test]
fn a_receive_of_all_takes_no_less_unless_the_stream_has_ended() {
    let mut rig = Rig::new(CRUMBS);
    let (id, socket) = rig.connected();
    rig.net.client_sends(rig.now, id, &[7; 500], &mut rig.later);
    let received = |rig: &mut Rig| {
        rig.net.recv(0, socket, Recv { into: span(400), all: true }, rig.now, &mut rig.later);
        match rig.next() {
            Some(Ok((0, Completion::Received { result: Ok(len), .. }, _))) => len,
            other => panic!("nothing received: {other:?}"),
        }
    };
    assert_eq!(received(&mut rig), 400);
    rig.net.client_half_closes(rig.now, id, &mut rig.later);
    assert_eq!(received(&mut rig), 100);
}

#[test]
fn a_send_reaches_the_client_whole_and_a_close_ends_it() {
    let mut rig = Rig::new(QUIET);
    let (id, socket) = rig.connected();
    rig.memory = b"a reply".to_vec();
    rig.net.send(0, socket, (span(7), None), rig.memory.clone(), rig.now, &mut rig.later);
    assert!(matches!(rig.next(), Some(Ok((0, Completion::Sent { result: Ok(()), .. }, _)))));
    assert!(matches!(rig.next(), Some(Err(Event::Deliver(at, bytes))) if at == id && bytes == b"a reply"));
    rig.net.close(0, socket, rig.now, &mut rig.later);
    assert!(matches!(rig.next(), Some(Ok((0, Completion::Closed { .. }, _)))));
    assert!(matches!(rig.next(), Some(Err(Event::Ended(at))) if at == id));
    assert_eq!(rig.net.open(), 0);
}

#[test]
fn a_close_waits_for_what_is_in_flight() {
    let mut rig = Rig::new(QUIET);
    let (_, socket) = rig.connected();
    rig.net.recv(0, socket, some(10), rig.now, &mut rig.later);
    rig.net.close(0, socket, rig.now, &mut rig.later);
    assert!(matches!(rig.next(), Some(Ok((0, Completion::Received { .. }, _)))));
    assert!(matches!(rig.next(), Some(Ok((0, Completion::Closed { .. }, _)))));
}

#[test]
fn a_reset_fails_what_is_in_flight() {
    let mut rig = Rig::new(QUIET);
    let (id, socket) = rig.connected();
    rig.net.recv(0, socket, some(10), rig.now, &mut rig.later);
    rig.net.client_resets(rig.now, id, &mut rig.later);
    assert!(matches!(rig.next(), Some(Ok((0, Completion::Received { result: Err(_), .. }, _)))));
}

#[test]
fn without_a_free_socket_a_connection_is_refused() {
    let mut rig = Rig::new(QUIET);
    let sockets = [rig.connected().1, rig.connected().1];
    assert_ne!(sockets[0], sockets[1]);
    rig.net.connect(rig.now, &mut rig.later);
    assert!(matches!(rig.next(), Some(Ok((0, Completion::Accepted(Err(_)), _)))));
}

#[test]
#[should_panic(expected = "bytes changed while they were being sent")]
fn bytes_that_change_while_they_are_sent_are_noticed() {
    let mut rig = Rig::new(QUIET);
    let (_, socket) = rig.connected();
    rig.memory = b"b reply".to_vec();
    rig.net.send(0, socket, (span(7), None), b"a reply".to_vec(), rig.now, &mut rig.later);
    rig.next();
}
