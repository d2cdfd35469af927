//! The core against a server made for it, on a clock of their own: what is measured is compared with what must come out.

use super::client::Client;
use super::ledger::Findings;
use super::plan::{Pace, Plan, Share};
use super::plan_tests::plan;
use super::schedule::Shape;
use super::selftest::{Lindley, Service, theory};
use super::shelf_tests::{Harm, Shelf};
use super::tally::Tally;
use crate::io::buffers::{Buffers, Span};
use crate::io::clock::{Mono, Now, Wall};
use crate::io::op::{Completion, Completions, Errno, Op, Ops, Socket};
use crate::log::format::{HEADER, header_at, stride};
use crate::native::batch::Ack;
use crate::native::message::{Header, Kind};
use crate::native::refusal::{Code, Fault, Refusal};
use crate::native::welcome::{ShardLine, ShardState, Welcome, encode_shards};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const START: u64 = 1_000_000_000;

/// What the server does besides answering.
#[derive(Clone, Default)]
pub(super) struct Habits {
    pub service: Service,
    pub producers: bool,
    /// From when to when it is gone, ns of the run; what it has not answered by then it never answers.
    pub gone: Option<(u64, u64)>,
    /// From when to when it takes what comes, and answers none of it.
    pub mute: Option<(u64, u64)>,
    /// Every so many batches one is refused.
    pub refuses: Option<u64>,
    /// What is done to every so many batches that are stored.
    pub harm: (Harm, u64),
}

#[derive(Default)]
struct Peer {
    up: bool,
    came: Vec<u8>,
    goes: VecDeque<u8>,
    receiving: Option<Span>,
}

/// A server and a network of one client. Events are kept by their time, and then by the order in which they were made.
pub(super) struct World {
    client: Client,
    now: u64,
    peers: BTreeMap<u32, Peer>,
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
    habits: Habits,
    queue: Lindley,
    shelf: Shelf,
    /// Batches stored, by producer, shard and number, with how many records each has and the number of the first; how many came a second time.
    stored: BTreeMap<(u64, u64, u32), (u32, u64)>,
    stored_records: u64,
    again: u64,
    batches: u64,
    was_gone: bool,
}

enum Event {
    Tell(Completion),
    Answer { socket: u32, bytes: Vec<u8> },
}

impl World {
    pub fn new(plan: Plan, habits: Habits, connections: usize) -> World {
        let keys: Vec<u32> = (0..plan.keys).collect();
        let connections = keys.chunks(keys.len().div_ceil(connections)).map(<[u32]>::to_vec).collect();
        let share = Share { thread: 0, connections, shards: vec![0] };
        let plan = Arc::new(plan);
        let (layouts, _) = Client::layouts(&plan, &share);
        let buffers = Buffers::new(0, layouts);
        World {
            client: Client::new(plan, &share, buffers),
            now: START,
            peers: BTreeMap::new(),
            events: BTreeMap::new(),
            made: 0,
            queue: Lindley::new(habits.service.clone()),
            shelf: Shelf::new(habits.harm.0, habits.harm.1),
            habits,
            stored: BTreeMap::new(),
            stored_records: 0,
            again: 0,
            batches: 0,
            was_gone: false,
        }
    }

    pub fn findings(&self) -> Findings {
        self.client.findings()
    }

    fn at(&mut self, time: u64, event: Event) {
        self.made += 1;
        self.events.insert((time, self.made), event);
    }

    fn gone(&self) -> bool {
        let run = self.now.saturating_sub(BEGIN);
        self.habits.gone.is_some_and(|(from, to)| self.now >= BEGIN && (from..to).contains(&run))
    }

    /// Runs to the end; gives what the client has counted.
    pub fn run(&mut self) -> Tally {
        let (mut done, mut ops) = (Completions::new(), Ops::new());
        let mut begun = false;
        for turn in 0.. {
            assert!(turn < 20_000_000, "it does not end");
            self.leave_if_gone();
            let now = Now { mono: Mono(self.now), wall: Wall(self.now / 1000) };
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
                match entry.remove() {
                    Event::Tell(completion) => done.push(completion),
                    Event::Answer { socket, bytes } => self.deliver(socket, &bytes, &mut done),
                }
            }
            if self.client.is_ready() && !std::mem::replace(&mut begun, true) {
                assert!(self.now < BEGIN);
                self.client.begin(Now { mono: Mono(BEGIN), wall: Wall(BEGIN / 1000) });
            }
            self.client.step(now, &mut done, &mut ops);
            let busy = !ops.is_empty();
            std::mem::take(&mut ops).into_iter().for_each(|op| self.carry(op));
            if self.client.is_done() {
                break;
            }
            let next = self.events.keys().next().map(|(time, _)| *time);
            let deadline = self.client.deadline().map(|deadline| deadline.0);
            let gone = self.habits.gone.map(|(from, _)| BEGIN + from).filter(|from| *from > self.now);
            let wake = [next, deadline, gone].into_iter().flatten().min().unwrap_or(self.now + 1_000_000);
            self.now = if busy { self.now + 1 } else { wake.max(self.now + 1) };
        }
        self.client.take_tally()
    }

    fn leave_if_gone(&mut self) {
        if !self.gone() || std::mem::replace(&mut self.was_gone, true) {
            return;
        }
        self.events.retain(|_, event| !matches!(event, Event::Answer { .. }));
        let sockets: Vec<u32> = self.peers.iter().filter(|(_, peer)| peer.up).map(|(socket, _)| *socket).collect();
        for socket in sockets {
            self.shelf.leave(socket);
            let peer = self.peers.get_mut(&socket).expect("it is listed");
            (peer.up, peer.goes) = (false, VecDeque::new());
            if peer.receiving.take().is_some() {
                self.at(self.now, Event::Tell(Completion::Received { socket: Socket(socket), result: Ok(0) }));
            }
        }
    }

    fn carry(&mut self, op: Op) {
        let soon = self.now + 5_000;
        match op {
            Op::Connect { socket, .. } => {
                let result = if self.gone() { Err(Errno(111)) } else { Ok(()) };
                self.peers.insert(socket.0, Peer { up: result.is_ok(), ..Peer::default() });
                self.at(soon, Event::Tell(Completion::Connected { socket, result }));
            }
            Op::Send { socket, from, then } => {
                let bytes: Vec<u8> = [Some(from), then]
                    .into_iter()
                    .flatten()
                    .flat_map(|span| self.client.memory().bytes(span).to_vec())
                    .collect();
                let up = self.peers[&socket.0].up;
                let result = if up { Ok(()) } else { Err(Errno(32)) };
                self.at(soon, Event::Tell(Completion::Sent { socket, result }));
                if up {
                    self.peers.get_mut(&socket.0).expect("it is up").came.extend(bytes);
                    self.serve(socket.0);
                }
            }
            Op::Recv { socket, into } => {
                let peer = self.peers.get_mut(&socket.0).expect("connected");
                if !peer.up {
                    self.at(soon, Event::Tell(Completion::Received { socket, result: Ok(0) }));
                    return;
                }
                assert!(peer.receiving.replace(into).is_none(), "one receive at a time");
                self.at(self.now, Event::Answer { socket: socket.0, bytes: Vec::new() });
            }
            Op::Close { socket } => {
                self.shelf.leave(socket.0);
                let peer = self.peers.get_mut(&socket.0).expect("connected");
                peer.up = false;
                if peer.receiving.take().is_some() {
                    self.at(soon, Event::Tell(Completion::Received { socket, result: Ok(0) }));
                }
                self.at(soon + 10_000, Event::Tell(Completion::Closed { socket }));
            }
            other => panic!("a load client asks for {other:?}"),
        }
    }

    fn deliver(&mut self, socket: u32, bytes: &[u8], done: &mut Completions) {
        let Some(peer) = self.peers.get_mut(&socket).filter(|peer| peer.up) else { return };
        peer.goes.extend(bytes);
        if let Some(into) = peer.receiving.filter(|_| !peer.goes.is_empty()) {
            let len = peer.goes.len().min(into.len as usize);
            let taken: Vec<u8> = peer.goes.drain(..len).collect();
            peer.receiving = None;
            self.client.memory().bytes_mut(into.first(len as u32)).copy_from_slice(&taken);
            done.push(Completion::Received { socket: Socket(socket), result: Ok(len as u32) });
        }
    }

    fn serve(&mut self, socket: u32) {
        loop {
            let came = &self.peers[&socket].came;
            let Some(header) = header_at(came, 0).map(|head| Header::decode(head).expect("a message")) else { return };
            let size = stride(header.body) as usize;
            if came.len() < size {
                return;
            }
            header.check_body(&came[HEADER..HEADER + header.body as usize]).expect("a sound body");
            let message: Vec<u8> = self.peers.get_mut(&socket).expect("it is up").came.drain(..size).collect();
            let body = &message[HEADER..HEADER + header.body as usize];
            match header.kind {
                Kind::Hello => self.welcome(socket, header.producer),
                Kind::Batch => self.store(socket, &header, body),
                // What comes seldom enough for one needs no answer either.
                Kind::Ping => {}
                _ => {
                    let bytes = self.shelf.serve(socket, &header, body);
                    self.at(self.now, Event::Answer { socket, bytes });
                }
            }
            self.shelf
                .news()
                .into_iter()
                .for_each(|(socket, bytes)| self.at(self.now, Event::Answer { socket, bytes }));
        }
    }

    fn welcome(&mut self, socket: u32, producer: u64) {
        let welcome = Welcome {
            version: 1,
            features: 0,
            producer: if self.habits.producers { producer } else { 0 },
            largest: 1 << 20,
            unanswered: (64, 0),
            records: 65_535,
            record: 1 << 20,
            idle_seconds: 60,
            worker: 0,
            workers: 1,
            stream: 1,
        };
        let line =
            ShardLine { shard: 0, state: ShardState::Open, worker: 0, parents: [None; 2], first: 0, last: u128::MAX };
        let mut out = vec![0; 8192];
        let len = welcome.encode(&mut out);
        let len = len + encode_shards(&mut out[len..], 1, false, [line].into_iter());
        out.truncate(len);
        self.at(self.now, Event::Answer { socket, bytes: out });
    }

    fn store(&mut self, socket: u32, header: &Header, body: &[u8]) {
        self.batches += 1;
        let refused = self.habits.refuses.is_some_and(|every| self.batches.is_multiple_of(every));
        let mut out = vec![0; 1024];
        let len = match refused {
            true => {
                let refusal = Refusal::of(&Fault { code: Code::Full, why: "The log is full." }, 0);
                refusal.refused(&mut out, header.shard, header.number, header.count)
            }
            false => {
                let key = (header.producer, header.shard.0, header.number);
                let fresh = header.producer == 0 || !self.stored.contains_key(&key);
                self.stored_records += if fresh { header.count as u64 } else { 0 };
                self.again += !fresh as u64;
                // What comes a second time is answered as it was.
                let first = match fresh {
                    true => self.shelf.store(header, body),
                    false => self.stored[&key].1,
                };
                if header.producer != 0 {
                    self.stored.insert(key, (header.count, first));
                }
                let (shard, number, count) = (header.shard, header.number, header.count);
                Ack { shard, number, first, count, arrival: 1 }.encode(&mut out)
            }
        };
        out.truncate(len);
        let run = self.now.saturating_sub(BEGIN);
        if self.habits.mute.is_some_and(|(from, to)| (from..to).contains(&run)) {
            return;
        }
        let finish = self.queue.serve(self.now);
        self.at(finish, Event::Answer { socket, bytes: out });
    }
}

/// When a run begins: the connections are there by then.
const BEGIN: u64 = START + 100_000_000;

fn measured(shape: Shape, rate: f64, service: Service) -> (Tally, Tally) {
    let plan = Plan {
        read: None,
        keys: 1,
        pace: Pace::Open { shape, rate },
        warm_up: 1_000_000_000,
        end: 61_000_000_000,
        window: 8,
        ..plan()
    };
    let theory = theory(&plan, &service);
    let mut world = World::new(plan, Habits { service, ..Habits::default() }, 1);
    (world.run(), theory)
}

#[test]
fn latencies_are_those_of_a_queue_that_the_generator_cannot_hide() {
    let ms = 1_000_000;
    let services = [
        Service { usual: ms, ..Service::default() },
        Service { usual: ms, every: 500, pause: 200 * ms, ..Service::default() },
        Service { usual: ms, every: 10_000, pause: 1000 * ms, ..Service::default() },
        Service { usual: ms / 2, slow: 10 * ms, slow_every: 20, ..Service::default() },
    ];
    for service in services {
        for shape in [Shape::Fixed, Shape::Poisson, Shape::Burst { factor: 2.0, period: 5.0, length: 1.0 }] {
            let (tally, theory) = measured(shape, 400.0, service.clone());
            assert_eq!(tally.counts.acked_requests, theory.counts.acked_requests, "{service:?} {shape:?}");
            for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
                let (is, must) =
                    (tally.response.value_at_quantile(quantile), theory.response.value_at_quantile(quantile));
                assert!(is.abs_diff(must) * 50 <= must, "{service:?} {shape:?} at {quantile}: {is} for {must}");
            }
        }
    }
}

#[test]
fn a_closed_loop_hides_a_pause_and_an_open_one_does_not() {
    let ms = 1_000_000;
    let service = Service { usual: ms, every: 500, pause: 200 * ms, ..Service::default() };
    let (open, _) = measured(Shape::Fixed, 400.0, service.clone());
    let plan = Plan { read: None, keys: 1, pace: Pace::Closed { outstanding: 1 }, ..plan() };
    let closed = World::new(plan, Habits { service, ..Habits::default() }, 1).run();
    assert!(open.response.value_at_quantile(0.9) > 50 * ms);
    assert!(closed.response.value_at_quantile(0.99) < 2 * ms);
    // What a request takes once it is sent is the same in both, but for what is queued before it.
    assert!(open.service.value_at_quantile(0.5) < 10 * ms);
}

#[test]
fn a_generator_that_is_not_late_says_so_and_a_full_window_is_not_its_fault() {
    let slow = Service { usual: 20_000_000, ..Service::default() };
    let (tally, _) = measured(Shape::Fixed, 100.0, slow);
    // Fifty a second are answered, a hundred are due.
    assert!(tally.counts.sent < tally.counts.due * 6 / 10, "{:?}", tally.counts);
    assert!(tally.lag.value_at_quantile(0.99) < 1_000_000, "{}", tally.lag.value_at_quantile(0.99));
    assert!(tally.response.value_at_quantile(0.99) > 10_000_000_000);
}

fn broken(producers: bool) -> (World, Tally) {
    let plan =
        Plan { read: None, keys: 10, batch: 5, pace: Pace::Open { shape: Shape::Fixed, rate: 5000.0 }, ..plan() };
    let habits = Habits {
        service: Service { usual: 700_000, ..Service::default() },
        producers,
        gone: Some((2_000_000_000, 3_000_000_000)),
        refuses: None,
        ..Habits::default()
    };
    let mut world = World::new(plan, habits, 2);
    let tally = world.run();
    (world, tally)
}

#[test]
fn after_a_server_was_gone_connections_come_again_and_what_is_unknown_is_said() {
    let (world, tally) = broken(false);
    let counts = tally.counts;
    assert_eq!(counts.disconnects, 2);
    assert!(counts.unknown_records > 0 && counts.unknown_records <= 2 * 16 * 5, "{counts:?}");
    assert_eq!(counts.acked_records + counts.unknown_records, counts.sent * 5);
    assert!(world.stored_records >= counts.acked_records);
    // What was due while the server was gone was sent later, as late as it was.
    assert_eq!(counts.sent, counts.due);
    assert!(tally.response.max() > 1_000_000_000);
}

#[test]
fn a_producer_sends_again_what_was_not_answered_and_nothing_is_stored_twice() {
    let (world, tally) = broken(true);
    let counts = tally.counts;
    assert_eq!((counts.unknown_records, counts.disconnects), (0, 2));
    assert_eq!(counts.acked_records, counts.sent * 5);
    assert_eq!(world.stored_records, counts.acked_records);
    assert!(world.again > 0, "the server had stored some whose answer was lost");
}

#[test]
fn a_connection_over_which_no_answer_comes_is_given_up_in_time() {
    let pace = Pace::Open { shape: Shape::Fixed, rate: 100.0 };
    let plan = Plan { read: None, keys: 10, pace, end: 60_000_000_000, ..plan() };
    let habits = Habits { producers: true, mute: Some((2_000_000_000, 3_000_000_000)), ..Habits::default() };
    let mut world = World::new(plan, habits, 2);
    let counts = world.run().counts;
    assert_eq!((counts.disconnects, counts.unknown_records), (2, 0), "{counts:?}");
    assert_eq!((counts.sent, counts.acked_records), (counts.due, counts.due));
    assert!(world.again > 0 && world.stored_records == counts.acked_records);
    assert!(world.client.complaints().iter().any(|(text, _)| text.contains("no answer within")));
}

#[test]
fn refused_batches_are_counted_and_the_connection_goes_on() {
    for producers in [false, true] {
        let plan = Plan { read: None, ..plan() };
        let service = Service { usual: 100_000, ..Service::default() };
        let habits = Habits { service, producers, refuses: Some(10), ..Habits::default() };
        let mut world = World::new(plan, habits, 2);
        let counts = world.run().counts;
        assert_eq!(counts.acked_records + counts.refused_records, counts.sent);
        assert!(counts.refused_records >= counts.sent / 11 && counts.throttled_records > 0, "{counts:?}");
        assert_eq!(world.stored_records, counts.acked_records);
        // A producer's numbers have no gap.
        let numbers: Vec<u32> = world.stored.keys().map(|(_, _, number)| *number).collect();
        let per_producer =
            world.stored.keys().map(|(producer, ..)| producer).collect::<std::collections::BTreeSet<_>>();
        if producers {
            for producer in per_producer {
                let own: Vec<u32> =
                    world.stored.keys().filter(|(of, ..)| of == producer).map(|(_, _, number)| *number).collect();
                assert_eq!(own, (0..own.len() as u32).collect::<Vec<_>>());
            }
        } else {
            assert!(numbers.is_empty());
        }
    }
}

#[test]
fn a_server_that_never_answers_is_said_to_be_unreachable() {
    let plan = Plan { read: None, ..plan() };
    let habits = Habits { gone: Some((0, u64::MAX / 2)), ..Habits::default() };
    let mut world = World::new(plan, habits, 2);
    world.now = BEGIN;
    world.run();
    let why = world.client.fatal().expect("it cannot run");
    assert!(why.contains("cannot be reached") && why.contains("127.0.0.1:1"), "{why}");
}

#[test]
fn a_theory_is_the_recursion_done_by_hand() {
    let service = Service { usual: 10, every: 3, pause: 100, ..Service::default() };
    let mut queue = Lindley::new(service);
    // Arrivals at 0, 5, 30, 40: the third waits for nobody and is paused; the fourth waits for it.
    assert_eq!([0, 5, 30, 40].map(|at| queue.serve(at)), [10, 20, 140, 150]);
}
