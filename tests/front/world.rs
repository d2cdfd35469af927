//! One run: ring, front, core and clients, turn by turn.

use crate::client::{Client, Plan};
use crate::core::Core;
use crate::counting;
use crate::random::Random;
use crate::ring::Ring;
use crate::secure::Secure;
use penstock::front::{Front, Memory, Spoken};
use penstock::io::buffers::{Buffers, Loans, Pool};
use penstock::io::clock::{Mono, Now, Wall};
use penstock::io::op::{Completions, Ops};
use penstock::limits::Limits;

/// More turns than the slowest clients take.
const TURNS_MAX: u32 = 60_000;
/// Turns in which all that is left must end when the clients have gone.
const END_MAX: u32 = 3_000;
/// What the front may hold beside its connections, and for each: a window of 2 MiB of bodies, and what waits in records and streams.
const HELD_MAX: i64 = 256 << 10;
const HELD_OF_EACH_MAX: i64 = 3 << 20;
/// What it may keep when all connections are over: the room of lists.
const KEPT_MAX: i64 = 16 << 10;

/// What runs have come to.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub clients: u64,
    pub struck: u64,
    pub exact: u64,
    pub requests: u64,
    pub turns: u64,
    pub held_most: i64,
    pub kept_most: i64,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.clients += other.clients;
        self.struck += other.struck;
        self.exact += other.exact;
        self.requests += other.requests;
        self.turns += other.turns;
        self.held_most = self.held_most.max(other.held_most);
        self.kept_most = self.kept_most.max(other.kept_most);
    }
}

pub struct World {
    ring: Ring,
    front: Front,
    core: Core,
    clients: Vec<Client>,
    buffers: Buffers,
    loans: Vec<Loans>,
    done: Completions,
    ops: Ops,
    now: Now,
    streams: usize,
    plaintext: bool,
    /// Bytes that the front holds on the heap, beside its tables.
    held: i64,
    held_most: i64,
    /// Nothing ends but what ends by itself, and there is room for all.
    exact: bool,
    /// Turns after which the server stops.
    stop: Option<u32>,
    random: Random,
}

impl World {
    pub fn new(seed: u64, secure: &Secure) -> World {
        let mut random = Random::stream(seed, "world");
        let exact = random.chance(700);
        let connections = if exact { 16 } else { random.between(6, 8) as u16 };
        let wires = if exact { 16 } else { random.between(1, 4) as u16 };
        let limits = Limits {
            connections,
            streams: if exact { 24 } else { random.between(1, 6) as u16 },
            wire: (wires, if random.chance(500) { 192 << 10 } else { 48 << 10 }),
            small: (random.between(1, 8) as u16, 64 << 10),
            ..Limits::tiny()
        };
        let buffers = Buffers::new(0, limits.layouts());
        let loans = vec![buffers.loans()];
        let plaintext = random.chance(800);
        let spoken = Spoken { tls: Some(secure.server()), plaintext };
        let mut ring = Ring::new(seed, connections);
        let clients = (0..random.between(1, 6)).map(|number| {
            let disturbed = random.chance(500);
            let plan = Plan { secure, plaintext: plaintext || !exact && random.chance(200), disturbed };
            Client::new(ring.connect(), &plan, Random::stream(seed.wrapping_mul(31) + number, "client"))
        });
        let clients = clients.collect();
        let stop = (!exact && random.chance(400)).then(|| random.between(1, 300) as u32);
        let front = Front::new(&limits, spoken);
        World {
            held: 0,
            held_most: 0,
            ring,
            front,
            core: Core::new(seed, limits.sockets()),
            clients,
            buffers,
            loans,
            done: Completions::new(),
            ops: Ops::new(),
            now: Now { mono: Mono(1_000_000_000), wall: Wall(1_790_000_000_000_000) },
            streams: limits.streams as usize,
            plaintext,
            exact,
            stop,
            random,
        }
    }

    pub fn run(mut self) -> Seen {
        let mut turns = 0;
        while !self.clients.iter().all(|client| client.has_left) {
            assert!(turns < TURNS_MAX, "after {turns} turns there are {}", self.waiting());
            turns += 1;
            self.turn(1);
            if self.stop == Some(turns) {
                self.front.stop();
            }
            if !self.exact && self.random.chance(1) {
                self.now.mono = self.now.mono.plus_ms(self.random.between(1, 70_000));
            }
        }
        let complaints: Vec<String> = self.clients.iter().flat_map(|client| client.complaints(self.exact)).collect();
        assert!(complaints.is_empty(), "{}\nand at the core there are\n{}", complaints.join("\n"), self.core.state());
        self.settle();
        let kept = self.held;
        if self.stop.is_none() && self.plaintext {
            self.crowd();
        }
        let count = |which: fn(&Client) -> bool| self.clients.iter().filter(|client| which(client)).count() as u64;
        Seen {
            clients: self.clients.len() as u64,
            struck: count(Client::has_been_struck),
            exact: if self.exact { count(|client| !client.is_disturbed()) } else { 0 },
            requests: self.core.requests,
            turns: turns as u64,
            held_most: self.held_most,
            kept_most: kept,
        }
    }

    fn waiting(&self) -> String {
        let waiting = self.clients.iter().filter(|client| !client.has_left);
        waiting.map(|client| client.state(&self.ring.lines[client.line])).collect::<Vec<_>>().join("\n")
    }

    fn turn(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus_ms(ms);
        for client in &mut self.clients {
            client.step(&mut self.ring.lines[client.line]);
        }
        let mut memory = Memory { buffers: &mut self.buffers, loans: &self.loans, worker: 0 };
        self.ring.complete(&mut self.done, &mut memory);
        let before = counting::held();
        self.front.receive(self.now, &mut self.done, &mut memory);
        self.held += counting::held() - before;
        self.core.step(&mut self.done, &mut self.ops, &mut memory);
        let before = counting::held();
        self.front.send(self.now, &mut self.ops, &mut memory);
        self.held += counting::held() - before;
        self.ring.submit(&mut self.ops, &mut memory);
        self.held_most = self.held_most.max(self.held);
        // Of clients rather than of sockets: streams stay until the core closes them.
        let most = HELD_MAX + HELD_OF_EACH_MAX * self.clients.len() as i64;
        assert!(self.held <= most, "the front holds {} bytes for {} clients", self.held, self.clients.len());
    }

    /// The clients have gone: everything comes to its end, and is given back.
    fn settle(&mut self) {
        let mut turns = 0;
        while self.ring.open() > 0 || self.core.open() > 0 || self.front.has_news() {
            assert!(turns < END_MAX, "{} sockets and {} of the core are open", self.ring.open(), self.core.open());
            turns += 1;
            self.turn(100);
        }
        assert_eq!(self.front.carried(), 0, "nothing is carried");
        for pool in [Pool::Wire, Pool::Small] {
            assert_eq!(self.buffers.available(pool), self.buffers.slots(pool) as usize, "{pool:?} is given back");
        }
        assert!(self.held <= KEPT_MAX, "{} bytes are kept for nobody", self.held);
    }

    /// Every stream is there again: as many requests at once as there are streams are answered.
    fn crowd(&mut self) {
        let line = self.ring.connect();
        self.clients.push(Client::crowd(line, self.streams, Random::stream(self.random.next(), "crowd")));
        let mut turns = 0;
        while !self.clients.iter().all(|client| client.has_left) {
            assert!(turns < TURNS_MAX, "a crowd has not been answered");
            turns += 1;
            self.turn(1);
        }
        let crowd = self.clients.pop().expect("it was added above");
        let complaints = crowd.complaints(true);
        assert!(
            complaints.is_empty(),
            "{}",
            complaints.join(
                "
"
            )
        );
        assert_eq!(crowd.refused(), 0, "there is a stream for each of {}", self.streams);
        self.settle();
    }
}
