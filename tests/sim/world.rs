//! The whole: lives of the node one after another on one disk, clients that outlive them, and at the end an audit on a healed node.

use super::administrator::Administrator;
use super::auditor::Auditor;
use super::call::{Kind, error_type};
use super::client::{Act, Client, PATIENCE, Role, Shared};
use super::clock::{Clock, Heap, MICROSECOND, MILLISECOND, SECOND};
use super::disk::{Disk, Faults, MARK, MARKED};
use super::net::{self, Net};
use super::node::Node;
use super::oracle::Oracle;
use super::plan::Plan;
use super::random::Random;
use super::reader::Reader;
use super::scenario::Settings;
use super::trace::{Entry, Trace};
use super::wire::{Replies, from_base64};
use super::writer::Writer;
use penstock::io::buffers::{ALL_POOLS, POOLS, Pool};
use penstock::io::op::{Completion, FileName, Op};
use penstock::worker::WhenFull;
use penstock::worker::notice::Notice;
use serde_json::Value;
use std::collections::BTreeMap;

/// A run of more events than this does not come to an end.
const EVENTS_MAX: u64 = 20_000_000;
/// A node that is not serving this long after its start is stuck.
const START_MAX: u64 = 60 * SECOND;
/// Turns without a moment's rest: a worker that spins.
const RESTLESS_MAX: u32 = 20_000;

/// Begins a commit: the log's format, 1.
const COMMIT_MAGIC: &[u8] = b"pC";

enum Event {
    Turn {
        life: u32,
        worker: u16,
        at: u64,
    },
    Disk {
        life: u32,
        number: u64,
    },
    Net(net::Event),
    Think {
        client: usize,
    },
    Deadline {
        client: usize,
        call: u64,
    },
    Quit {
        client: usize,
        connection: net::Id,
    },
    Start,
    /// The end of a life at a drawn time.
    End {
        life: u32,
    },
    /// A node is serving by now.
    Served {
        life: u32,
    },
    StepClock,
    Pause,
    /// A look whether the node is quiet after the audit.
    Settle {
        tries: u32,
    },
}

/// Replies of a connection as the node has submitted them.
struct Outgoing {
    client: usize,
    replies: Replies,
    /// Number of the client's call that the first of these answers.
    base: u64,
    count: u64,
}

pub struct World<'a> {
    clock: Clock,
    heap: Heap<Event>,
    disk: Disk,
    net: Net,
    node: Option<Node>,
    life: u32,
    plan: Plan,
    clients: Vec<Client>,
    outgoing: BTreeMap<net::Id, Outgoing>,
    shared: Shared,
    trace: &'a mut Trace,
    random: Random,
    /// Slots that the last life had taken when it began to serve.
    taken: Vec<Vec<usize>>,
    auditing: bool,
    audited: bool,
    done: bool,
    workers: u16,
    last_trim: Option<u64>,
    /// In the commits of this life, and the highest of earlier ones.
    epoch: Option<u32>,
    /// The last life came to serve.
    was_ready: bool,
    damage_told: bool,
    epoch_before: Option<u32>,
    pub report: Report,
}

/// What a run has been through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub acked: u64,
    pub reads: u64,
    pub answered: u64,
    pub lost: u64,
    pub failures: u64,
    pub cuts: u32,
    pub stops: u32,
    pub recycled: u64,
    pub virtual_seconds: f64,
}

impl Report {
    pub fn add(&mut self, other: &Report) {
        self.acked += other.acked;
        self.reads += other.reads;
        self.answered += other.answered;
        self.lost += other.lost;
        self.failures += other.failures;
        self.cuts += other.cuts;
        self.stops += other.stops;
        self.recycled += other.recycled;
        self.virtual_seconds += other.virtual_seconds;
    }
}

impl<'a> World<'a> {
    pub fn new(settings: Settings, trace: &'a mut Trace) -> World<'a> {
        let stream = |concern: &str| Random::stream(settings.seed, concern);
        let mut clients = Vec::new();
        let mut add = |role, number: usize| clients.push(Client::new(role, stream(&format!("client {number}"))));
        add(Role::Administrator(Administrator::default()), 0);
        for number in 1..=settings.writers {
            add(Role::Writer(Writer::new(number, &mut stream(&format!("writer {number}")))), number);
        }
        for number in 1..=settings.readers {
            add(Role::Reader(Reader::default()), 100 + number);
        }
        let mut disk = Disk::new(stream("disk"));
        disk.typical = settings.disk_typical;
        let net = Net::new(stream("net"), settings.manners);
        let plan = Plan::new(&settings, stream("plan"));
        let random = stream("world");
        let workers = settings.workers;
        let shared = Shared {
            settings,
            oracle: Oracle::default(),
            now: 0,
            wall: 0,
            lenient: false,
            stopping: false,
            answered: 0,
            lost: 0,
            failures: 0,
        };
        World {
            clock: Clock::default(),
            heap: Heap::default(),
            disk,
            net,
            node: None,
            life: 0,
            plan,
            clients,
            outgoing: BTreeMap::new(),
            shared,
            trace,
            random,
            taken: Vec::new(),
            auditing: false,
            audited: false,
            done: false,
            workers,
            last_trim: None,
            epoch: None,
            was_ready: false,
            damage_told: false,
            epoch_before: None,
            report: Report::default(),
        }
    }

    /// Runs to the end; a violation panics.
    pub fn run(&mut self) {
        self.heap.at(0, Event::Start);
        for client in 0..self.clients.len() {
            self.heap.at(client as u64 * MILLISECOND, Event::Think { client });
        }
        if self.shared.settings.clock_steps {
            self.heap.at(self.random.between(1, 5) * SECOND, Event::StepClock);
        }
        if self.shared.settings.pauses {
            self.heap.at(self.random.between(1, 3) * SECOND, Event::Pause);
        }
        while !self.done {
            let event = self.heap.pop(&mut self.clock).expect("something is always planned");
            assert!(self.trace.events < EVENTS_MAX, "the run does not come to an end");
            let now = self.clock.now();
            (self.shared.now, self.shared.wall) = (self.clock.mono(), now.wall.0);
            self.handle(event);
        }
        self.report.acked = self.shared.oracle.acked;
        self.report.reads = self.shared.oracle.reads;
        (self.report.answered, self.report.lost) = (self.shared.answered, self.shared.lost);
        self.report.failures = self.shared.failures;
        self.report.virtual_seconds = self.clock.mono() as f64 / 1e9;
    }

    fn note(&mut self, text: String) {
        self.trace.push(self.clock.mono(), Entry::Note(text));
    }

    fn handle(&mut self, event: Event) {
        let now = self.clock.mono();
        match event {
            Event::Turn { life, worker, at } if life == self.life => self.turn(worker, at),
            Event::Disk { life, number } if life == self.life => self.disk_done(number),
            Event::Turn { .. } | Event::Disk { .. } => {}
            Event::Net(event) => self.net_event(event),
            Event::Think { client } => self.think(client),
            Event::Deadline { client, call } => self.deadline(client, call),
            Event::Quit { client, connection } => {
                if self.clients[client].connection == Some(connection) {
                    self.with_net(|net, later| net.client_resets(now, connection, later));
                    self.outgoing.remove(&connection);
                    self.clients[client].disconnected(&mut self.shared);
                }
            }
            Event::Start => self.start(),
            Event::End { life } => {
                if life == self.life && self.node.is_some() {
                    self.end_life();
                }
            }
            Event::Served { life } => {
                let late = life == self.life && self.node.as_ref().is_some_and(|node| !node.ready && !node.stopping);
                assert!(!late || self.shared.lenient, "the node does not come to serve");
                if late {
                    self.power_cut();
                }
            }
            Event::StepClock => {
                let step = *self.random.pick(&[3_590, -3_590, 60, -60, 1, -1]) * 1_000_000;
                self.clock.step(step);
                self.note(format!("the wall clock steps by {step} µs"));
                self.heap.at(now + self.random.between(1, 20) * SECOND, Event::StepClock);
            }
            Event::Pause => {
                let pause = self.random.between(10, 3_000) * MILLISECOND;
                if let Some(node) = self.node.as_mut().filter(|_| !self.auditing) {
                    let seat = self.random.index(node.seats.len());
                    node.seats[seat].paused = now + pause;
                    self.note(format!("worker {seat} stands still for {} ms", pause / MILLISECOND));
                }
                self.heap.at(now + self.random.between(1, 10) * SECOND, Event::Pause);
            }
            Event::Settle { tries } => self.settle(tries),
        }
    }

    /// Runs a call of the network's, and plans what follows.
    fn with_net<T>(&mut self, call: impl FnOnce(&mut Net, &mut net::Later) -> T) -> T {
        let mut later = Vec::new();
        let result = call(&mut self.net, &mut later);
        let now = self.clock.mono();
        later.into_iter().for_each(|(at, event)| self.heap.at(at.max(now), Event::Net(event)));
        result
    }

    fn start(&mut self) {
        self.life += 1;
        self.epoch_before = self.epoch.take().or(self.epoch_before);
        let now = self.clock.mono();
        let settings = self.shared.settings.clone();
        self.auditing = self.life > settings.lives + 1;
        if settings.changing_workers && self.life > 1 {
            self.workers = self.random.between(1, 3) as u16;
        }
        let faulty = !self.auditing && self.life > 1 && self.random.chance(600);
        self.disk.faults = if faulty { settings.faults } else { Faults::default() };
        if self.auditing {
            self.disk.heal();
            self.plan.begin_last_life();
            self.net.manners = net::Manners { crumbs: 20, stalls: 0, resets: 0 };
        }
        if self.shared.settings.harm && self.life > 1 && !self.auditing {
            self.harm();
        }
        let node = Node::start(&settings, self.workers, now, &mut self.random);
        self.net.listen(self.workers, settings.limits.connections);
        self.note(format!(
            "life {} starts with {} workers{}",
            self.life,
            self.workers,
            if faulty { ", faults" } else { "" }
        ));
        self.node = Some(node);
        (self.shared.lenient, self.shared.stopping) = (self.shared.oracle.damaged, false);
        let life = self.life;
        self.heap.at(now + START_MAX, Event::Served { life });
        if !self.auditing {
            let end = self.plan.begin_life(now);
            self.heap.at(end, Event::End { life });
        }
        for worker in 0..self.workers {
            let delay = self.random.delay(10 * MICROSECOND);
            self.plan_turn(worker, now + delay);
        }
    }

    /// Bits flip while the node is down. One copy of the superblock is enough, when the other one is whole.
    fn harm(&mut self) {
        if self.was_ready && self.random.chance(400) {
            let copy = self.random.below(2) as u8;
            let harmed = self.disk.harm(FileName::Superblock(copy), self.random.below(200), self.random.below(8) as u8);
            self.note(format!("copy {copy} of the superblock is harmed: {harmed}"));
        } else if self.disk.harm_record() {
            self.shared.oracle.damaged = true;
            self.note("a record is harmed".into());
        }
    }

    fn plan_turn(&mut self, worker: u16, at: u64) {
        let Some(node) = &mut self.node else { return };
        let seat = &mut node.seats[worker as usize];
        let at = at.max(seat.paused);
        if seat.turn.is_none_or(|turn| at < turn) {
            seat.turn = Some(at);
            self.heap.at(at, Event::Turn { life: self.life, worker, at });
        }
    }

    fn tell(&mut self, worker: u16, completion: Completion) {
        let now = self.clock.mono();
        self.trace.push(now, Entry::Done(worker, completion.clone()));
        if let Some(node) = &mut self.node {
            node.seats[worker as usize].done.push(completion);
        }
        let delay = self.random.delay(2 * MICROSECOND);
        self.plan_turn(worker, now + delay);
    }

    fn turn(&mut self, worker: u16, at: u64) {
        let (now, mono) = (self.clock.now(), self.clock.mono());
        let Some(node) = &mut self.node else { return };
        let seat = &mut node.seats[worker as usize];
        if seat.turn != Some(at) {
            return;
        }
        seat.turn = None;
        seat.worker.step(now, &mut seat.done, &mut seat.ops);
        assert!(seat.done.is_empty(), "a turn drains its completions");
        let ops = std::mem::take(&mut seat.ops);
        seat.restless = if ops.is_empty() { seat.restless + 1 } else { 0 };
        assert!(seat.restless < RESTLESS_MAX, "worker {worker} spins: its deadline is always past");
        while let Some(notice) = self.node.as_mut().and_then(|node| node.seats[worker as usize].worker.notice()) {
            self.noticed(notice);
        }
        for op in ops {
            self.trace.push(mono, Entry::Op(worker, op));
            if self.plan.cuts_before(&op) {
                return self.power_cut();
            }
            self.carry_out(worker, op);
        }
        let Some(node) = &mut self.node else { return };
        if node.stopping && node.stopped() {
            return self.stopped();
        }
        if let Some(deadline) = node.deadline(worker) {
            let seat = &mut node.seats[worker as usize];
            if deadline > mono {
                seat.restless = 0;
            }
            self.plan_turn(worker, deadline.max(mono + MICROSECOND));
        }
    }

    fn carry_out(&mut self, worker: u16, op: Op) {
        let now = self.clock.mono();
        match op {
            Op::Accept => self.with_net(|net, later| net.accept(worker, now, later)),
            Op::Recv { socket, into } => self.with_net(|net, later| net.recv(worker, socket, into, now, later)),
            Op::Send { socket, from, then } => {
                let bytes = self.node.as_ref().expect("it is running").both(worker, from, then);
                let id = self.net.id(worker, socket);
                self.check_sent(id, &bytes);
                self.with_net(|net, later| net.send(worker, socket, (from, then), bytes, now, later));
            }
            Op::Close { socket } => self.with_net(|net, later| net.close(worker, socket, now, later)),
            Op::Wake { worker: other } => self.tell(other, Completion::Woken),
            file => {
                self.check_epoch(worker, file);
                let node = self.node.as_mut().expect("it is running");
                let (number, delay) = node.submit(worker, file, &mut self.disk);
                self.heap.at(now + delay, Event::Disk { life: self.life, number });
            }
        }
    }

    /// Every commit of a life carries one epoch, which no earlier life has used: what a power cut left of that one cannot pass for its.
    fn check_epoch(&mut self, worker: u16, op: Op) {
        let Op::WriteAt { file: FileName::Segment { .. }, from, .. } = op else { return };
        let bytes = self.node.as_ref().expect("it is running").bytes(worker, from);
        if bytes.starts_with(COMMIT_MAGIC) {
            let epoch = u32::from_le_bytes(bytes[24..28].try_into().expect("4 bytes"));
            let own = *self.epoch.get_or_insert(epoch);
            assert_eq!(epoch, own, "one life writes two epochs");
            assert!(self.epoch_before.is_none_or(|before| epoch > before), "epoch {epoch} has been used by an earlier life");
        }
    }

    fn disk_done(&mut self, number: u64) {
        let now = self.clock.mono();
        let Some(node) = &mut self.node else { return };
        let outcome = node.finish(number, &mut self.disk);
        self.shared.lenient |= self.disk.faults_given > 0;
        match outcome {
            Ok((worker, completion)) => self.tell(worker, completion),
            Err((number, delay)) => self.heap.at(now + delay, Event::Disk { life: self.life, number }),
        }
    }

    fn net_event(&mut self, event: net::Event) {
        let now = self.clock.mono();
        match event {
            net::Event::Deliver(id, bytes) => {
                if let Some(client) = self.client_of(id) {
                    self.clients[client].receive(&bytes, &mut self.shared);
                    self.note_progress(client);
                }
            }
            net::Event::Ended(id) => {
                if let Some(client) = self.client_of(id) {
                    self.clients[client].disconnected(&mut self.shared);
                }
                self.outgoing.remove(&id);
            }
            event => {
                let sent = match (&event, &self.node) {
                    (net::Event::SendDone(id), Some(node)) => node.sending(&self.net, *id),
                    _ => Vec::new(),
                };
                let told = self.with_net(|net, later| net.on(event, sent, now, later));
                let Some((worker, completion, bytes)) = told else { return };
                if let (Some((span, bytes)), Some(node)) = (bytes, &mut self.node) {
                    let to = node.seats[worker as usize].worker.buffers_mut().bytes_mut(span);
                    to[..bytes.len()].copy_from_slice(&bytes);
                }
                if matches!(completion, Completion::Accepted(Err(_))) {
                    self.with_net(|net, later| net.drop_refused(now, later));
                }
                self.tell(worker, completion);
            }
        }
    }

    fn client_of(&self, id: net::Id) -> Option<usize> {
        self.clients.iter().position(|client| client.connection == Some(id))
    }

    /// A reply has come to a client: an auditor goes on at once.
    fn note_progress(&mut self, client: usize) {
        if matches!(self.clients[client].role, Role::Auditor(_)) && self.clients[client].idle() {
            self.heap.at(self.clock.mono() + MICROSECOND, Event::Think { client });
        }
    }

    fn think(&mut self, client: usize) {
        let now = self.clock.mono();
        let is_auditor = matches!(self.clients[client].role, Role::Auditor(_));
        if self.auditing != is_auditor || self.audited {
            return;
        }
        let pause = self.clients[client].pause(&self.shared.settings);
        let again = match &self.clients[client].role {
            // Its next thought comes with the reply.
            Role::Auditor(_) => !self.clients[client].idle() || self.clients[client].connection.is_none(),
            _ => true,
        };
        if self.clients[client].connection.is_none() {
            let connection = self.with_net(|net, later| net.connect(now, later));
            self.clients[client].connection = connection;
            if let Some(id) = connection {
                let base = self.clients[client].first;
                self.outgoing.insert(id, Outgoing { client, replies: Replies::default(), base, count: 0 });
            }
        }
        if again {
            let delay = if self.clients[client].connection.is_none() { pause.max(10 * MILLISECOND) } else { pause };
            self.heap.at(now + delay, Event::Think { client });
        }
        let Some(id) = self.clients[client].connection else { return };
        let Act::Send { bytes, call, half_close } = self.clients[client].think(&mut self.shared) else {
            if let Role::Auditor(Auditor { done: true, .. }) = self.clients[client].role {
                self.audited(client, id);
            }
            return;
        };
        self.with_net(|net, later| net.client_sends(now, id, &bytes, later));
        if half_close {
            self.with_net(|net, later| net.client_half_closes(now, id, later));
        }
        self.heap.at(now + PATIENCE, Event::Deadline { client, call });
        let resets = self.net.manners.resets;
        if self.random.chance(resets) {
            self.heap.at(now + self.random.delay(200 * MICROSECOND), Event::Quit { client, connection: id });
        }
    }

    /// A call has had its time.
    fn deadline(&mut self, client: usize, call: u64) {
        let late = self.clients[client].first <= call && !self.clients[client].idle();
        if !late {
            return;
        }
        let settings = &self.shared.settings;
        let excused = self.shared.lenient || self.node.is_none() || settings.pauses && !self.auditing;
        assert!(
            excused,
            "a call has not been answered for {} s: {:?}",
            PATIENCE / SECOND,
            self.clients[client].puts_at(0)
        );
        let Some(id) = self.clients[client].connection else { return };
        let now = self.clock.mono();
        self.with_net(|net, later| net.client_resets(now, id, later));
        self.clients[client].disconnected(&mut self.shared);
    }

    fn noticed(&mut self, notice: Notice) {
        self.note(format!("notice: {notice}"));
        let now = self.clock.mono();
        match notice {
            Notice::Ready { .. } => {
                let node = self.node.as_mut().expect("it is running");
                node.ready = true;
                self.taken = node.taken();
                if self.auditing {
                    self.begin_audit();
                }
            }
            Notice::Refused { why } => {
                let excused = self.shared.lenient || self.shared.oracle.damaged;
                self.damage_told |= excused;
                assert!(excused, "the node refuses to start: {why}");
                self.power_cut();
            }
            Notice::Damage { file, position, why } => {
                self.damage_told = true;
                assert!(self.shared.settings.harm, "damage in {file} at {position}, where the disk is sound: {why}");
            }
            // A commit that is damaged and that no later one vouches for looks like one that was never whole.
            Notice::TornTail { .. } => self.damage_told |= self.shared.oracle.damaged,
            Notice::LogFailed { .. } | Notice::CatalogFailed { .. } => {
                assert!(self.shared.lenient, "a failure without a fault of the disk: {notice}");
            }
            Notice::Trimmed { records_until, .. } => {
                self.last_trim = Some(now);
                let ago = self.shared.wall.saturating_sub(records_until) * 1_000;
                let until = if self.shared.settings.clock_steps { now } else { now.saturating_sub(ago) + MILLISECOND };
                self.shared.oracle.trimmed_until = self.shared.oracle.trimmed_until.max(until);
            }
            _ => {}
        }
    }

    /// The end of a life has come: by a clean stop or by a power cut.
    fn end_life(&mut self) {
        let node = self.node.as_mut().expect("looked at by the caller");
        if node.stopping || !self.plan.stops_cleanly() {
            return self.power_cut();
        }
        node.stopping = true;
        self.shared.stopping = true;
        node.seats.iter_mut().for_each(|seat| seat.worker.stop());
        self.note("a clean stop begins".into());
        let now = self.clock.mono();
        // A stop that takes long is cut short, as an operator would.
        self.heap.at(now + 100 * SECOND, Event::End { life: self.life });
        for worker in 0..self.workers {
            self.plan_turn(worker, now + MICROSECOND);
        }
    }

    fn stopped(&mut self) {
        self.report.stops += 1;
        self.note("stopped".into());
        self.node_is_gone();
    }

    fn power_cut(&mut self) {
        self.report.cuts += 1;
        self.note("power cut".into());
        if self.shared.settings.when_full == WhenFull::Trim {
            // A segment may have been given up whose notice nobody has seen: it was full before the last one that was told.
            let until = self.last_trim.unwrap_or(self.clock.mono());
            self.shared.oracle.trimmed_until = self.shared.oracle.trimmed_until.max(until);
        }
        self.node_is_gone();
    }

    fn node_is_gone(&mut self) {
        let now = self.clock.mono();
        self.was_ready = self.node.take().is_some_and(|node| node.ready);
        self.disk.cut();
        let mut later = Vec::new();
        self.net.cut(&mut later);
        for (delay, event) in later {
            self.heap.at(now.max(delay), Event::Net(event));
        }
        self.heap.at(now + self.random.between(1, 2_000) * MILLISECOND, Event::Start);
    }

    /// The node serves for the last time: everything is read and compared.
    fn begin_audit(&mut self) {
        for client in 0..self.clients.len() {
            if let Some(id) = self.clients[client].connection.take() {
                self.outgoing.remove(&id);
            }
            self.clients[client].disconnected(&mut self.shared);
        }
        self.clients
            .push(Client::new(Role::Auditor(Auditor::default()), Random::stream(self.shared.settings.seed, "auditor")));
        let client = self.clients.len() - 1;
        self.heap.at(self.clock.mono() + MILLISECOND, Event::Think { client });
    }

    fn audited(&mut self, client: usize, id: net::Id) {
        let now = self.clock.mono();
        self.note("audited".into());
        self.audited = true;
        self.clients[client].connection = None;
        self.with_net(|net, later| net.client_resets(now, id, later));
        self.heap.at(now + 3 * SECOND, Event::Settle { tries: 0 });
    }

    /// After the audit nobody asks anything: every buffer must be back, but for the blocks that the catalog and the superblock keep.
    fn settle(&mut self, tries: u32) {
        let taken = self.node.as_ref().expect("nothing ends the last life").taken();
        let kept = |pool: usize, at_start: usize| if ALL_POOLS[pool] == Pool::Block { at_start } else { 0 };
        let more =
            |(now, start): (&Vec<usize>, &Vec<usize>)| (0..POOLS).any(|pool| now[pool] > kept(pool, start[pool]));
        if taken.iter().zip(&self.taken).any(more) || self.net.open() > 0 {
            let why = format!("taken {taken:?}, at the start {:?}; {} connections", self.taken, self.net.open());
            assert!(tries < 10, "memory does not come back to an idle node: {why}");
            return self.heap.at(self.clock.mono() + 10 * SECOND, Event::Settle { tries: tries + 1 });
        }
        let silent = self.shared.oracle.damage_shown.get() && !self.damage_told;
        assert!(!silent, "records are missing after damage that the node has not told");
        self.done = true;
    }

    /// A reply is being sent: what it acknowledges or shows must be durable already.
    fn check_sent(&mut self, id: net::Id, bytes: &[u8]) {
        let Some(outgoing) = self.outgoing.get_mut(&id) else { return };
        outgoing.replies.push(bytes);
        let client = outgoing.client;
        while let Some(reply) = self.outgoing.get_mut(&id).and_then(|o| o.replies.next().expect("a reply is HTTP")) {
            let outgoing = self.outgoing.get_mut(&id).expect("it was just there");
            let call = outgoing.base + outgoing.count;
            outgoing.count += 1;
            if reply.status == 200 && self.clients[client].connection == Some(id) {
                let index = call.checked_sub(self.clients[client].first).expect("no reply comes before it is sent");
                self.check_durable(client, index as usize, &reply.body);
            }
        }
    }

    fn check_durable(&self, client: usize, index: usize, body: &[u8]) {
        let Some(call) = self.clients[client].puts_at(index) else { return };
        let value: Value = match &call.kind {
            Kind::Put { .. } | Kind::Get { .. } => serde_json::from_slice(body).expect("a reply is JSON"),
            _ => return,
        };
        let oracle = &self.shared.oracle;
        let holds = |mark: u64| {
            let attempt = &oracle.attempts[mark as usize];
            self.disk.holds(mark, &attempt.data) || oracle.may_vanish(mark, self.shared.now)
        };
        match &call.kind {
            Kind::Put { marks, single, .. } => {
                let failed = |index: usize| !single && value["Records"][index].get("ErrorCode").is_some();
                for (_, mark) in marks.iter().enumerate().filter(|(index, _)| !failed(*index)) {
                    assert!(holds(*mark), "an ack is sent before its record is durable: {mark:x} {}", call.operation);
                }
            }
            _ => {
                let records = value["Records"].as_array().expect("a list of records");
                for data in records.iter().filter_map(|record| from_base64(record["Data"].as_str()?)) {
                    let digits = data.get(MARK.len()..MARKED).and_then(|digits| std::str::from_utf8(digits).ok());
                    let mark = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                    let mark =
                        mark.filter(|mark| (*mark as usize) < oracle.attempts.len()).expect("a record that was put");
                    assert!(holds(mark), "a record is shown before it is durable: {mark:x}");
                }
            }
        }
        debug_assert!(value.get("__type").is_none() || error_type(&value).is_empty(), "status 200 is no error");
    }
}
