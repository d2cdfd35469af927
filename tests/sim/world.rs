//! The whole: lives of the node one after another on one disk, clients that outlive them, and at the end an audit on a healed node.

use super::administrator::Administrator;
use super::client::{Client, Role, Shared};
use super::clock::{Clock, Heap, MICROSECOND, MILLISECOND, SECOND};
use super::disk::{Disk, SECOND_HALF};
use super::halves::Halves;
use super::lessee::{Lease, Lessee};
use super::mounting::Mounting;
use super::mover::Mover;
use super::native::NativeWriter;
use super::native_reader::NativeReader;
use super::net::{self, Net, Recv};
use super::node::Node;
use super::oracle::Oracle;
use super::plan::Plan;
use super::random::Random;
use super::reader::Reader;
use super::report::Report;
use super::scenario::Settings;
use super::scrub;
use super::snapshot::{Asked, Keeper, Kept};
use super::subscriber::Subscriber;
use super::trace::{Entry, Trace};
use super::wire::Replies;
use super::writer::Writer;
use penstock::io::op::{Completion, Op, Token};
use std::collections::BTreeMap;

/// A run of more events than this does not come to an end.
const EVENTS_MAX: u64 = 20_000_000;
/// Turns without a moment's rest: a worker that spins.
const RESTLESS_MAX: u32 = 20_000;

pub(super) enum Event {
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
    /// The file system has no room for segments, or has it again.
    Room,
    Pause,
    /// The drive of one half of everything dies.
    HalfDies {
        life: u32,
    },
    /// A stored record is harmed.
    Harm,
    /// A look whether the node is quiet after the audit.
    Settle {
        tries: u32,
    },
}

/// Replies of a connection as the node has submitted them.
pub(super) struct Outgoing {
    pub(super) client: usize,
    pub(super) replies: Replies,
    /// Number of the client's call that the first of these answers.
    pub(super) base: u64,
    pub(super) count: u64,
}

pub struct World<'a> {
    pub(super) clock: Clock,
    pub(super) heap: Heap<Event>,
    pub(super) disk: Disk,
    /// The second halves of all data directories.
    pub(super) twin: Option<Disk>,
    pub(super) halves: Halves,
    pub(super) net: Net,
    pub(super) node: Option<Node>,
    pub(super) life: u32,
    pub(super) plan: Plan,
    pub(super) clients: Vec<Client>,
    pub(super) outgoing: BTreeMap<net::Id, Outgoing>,
    pub(super) shared: Shared,
    pub(super) trace: &'a mut Trace,
    pub(super) random: Random,
    /// Slots that the last life had taken when it began to serve.
    pub(super) taken: Vec<Vec<usize>>,
    pub(super) auditing: bool,
    pub(super) audited: bool,
    pub(super) done: bool,
    pub(super) workers: u16,
    pub(super) mounting: Mounting,
    /// In the commits of this life, and the highest of earlier ones.
    pub(super) epoch: Option<u32>,
    /// The last life came to serve.
    pub(super) was_ready: bool,
    pub(super) stopped_cleanly: bool,
    /// When a record was harmed last.
    pub(super) harmed_at: Option<u64>,
    pub(super) damage_told: bool,
    pub(super) epoch_before: Option<u32>,
    pub(super) scrubs: scrub::Watch,
    /// This life believes the clock whatever it says.
    pub(super) accepting: bool,
    /// When a life began to serve whose clock was accepted; the clock has not gone back since.
    pub(super) accepted: Option<u64>,
    pub(super) kept: Vec<Kept>,
    /// This run audits a node that is restored from a snapshot: nothing may be wrong with what it finds.
    pub(super) restored: bool,
    pub report: Report,
}

/// The clients of a run.
fn roles(settings: &Settings) -> Vec<Client> {
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
    for number in 0..settings.subscribers {
        add(Role::Subscriber(Subscriber::new(if number == 1 { "other" } else { "one" })), 400 + number);
    }
    if settings.snapshots > 0 {
        add(Role::Keeper(Keeper), 200);
    }
    if settings.moves > 0 {
        add(Role::Mover(Mover), 300);
    }
    for number in 1..=settings.natives.0 {
        add(Role::Native(NativeWriter::new(number)), 500 + number);
    }
    for number in 1..=settings.natives.1 {
        add(Role::NativeReader(NativeReader::new()), 600 + number);
    }
    for number in 1..=settings.lessees {
        add(Role::Lessee(Lessee::default()), 400 + number);
    }
    clients
}

impl<'a> World<'a> {
    pub fn new(settings: Settings, trace: &'a mut Trace) -> World<'a> {
        let stream = |concern: &str| Random::stream(settings.seed, concern);
        let clients = roles(&settings);
        let mut disk = Disk::new(stream("disk"), settings.drives_max);
        (disk.typical, disk.block) = (settings.disk_typical, settings.block as u64);
        disk.reflinks = settings.reflinks;
        let twin = settings.mirrored.then(|| disk.second(stream("twin"), settings.drives_max));
        let net = Net::new(stream("net"), settings.manners);
        let plan = Plan::new(&settings, stream("plan"));
        let random = stream("world");
        let halves = Halves::new(stream("halves"));
        let (workers, mounting) = (settings.workers, Mounting::new(&settings, stream("mounting")));
        let shared = Shared {
            settings,
            oracle: Oracle::default(),
            now: 0,
            wall: 0,
            lenient: false,
            stopping: false,
            failed_puts: Vec::new(),
            snapshot: Asked::default(),
            moves_asked: 0,
            moved: 0,
            subscribed: 0,
            natively: 0,
            read_natively: 0,
            lease: Lease::default(),
            answered: 0,
            lost: 0,
        };
        World {
            clock: Clock::default(),
            heap: Heap::default(),
            disk,
            twin,
            halves,
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
            mounting,
            epoch: None,
            was_ready: false,
            stopped_cleanly: false,
            harmed_at: None,
            damage_told: false,
            epoch_before: None,
            scrubs: scrub::Watch::default(),
            accepting: false,
            accepted: None,
            kept: Vec::new(),
            restored: false,
            report: Report::default(),
        }
    }

    /// Runs the audit of a node that is restored from a snapshot.
    pub(super) fn run_restored(&mut self) {
        self.restored = true;
        self.life = self.shared.settings.lives + 1;
        self.auditing = true;
        self.heap.at(self.clock.mono(), Event::Start);
        self.handle_all();
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
        if self.shared.settings.harm {
            self.heap.at(self.random.between(1, 20) * SECOND, Event::Harm);
        }
        if self.shared.settings.room_varies {
            self.heap.at(self.random.between(1, 20) * SECOND, Event::Room);
        }
        self.handle_all();
        self.audit_snapshots();
        self.report.acked = self.shared.oracle.acked;
        self.report.reads = self.shared.oracle.reads;
        (self.report.answered, self.report.lost) = (self.shared.answered, self.shared.lost);
        self.report.moved = self.shared.moved;
        self.report.subscribed = self.shared.subscribed;
        self.report.natively = self.shared.natively;
        self.report.read_natively = self.shared.read_natively;
        (self.report.leases_taken, self.report.leases_refused) = (self.shared.lease.taken, self.shared.lease.refused);
        self.report.rotated_full = self.disk.rotated_full;
        self.report.scrubbed = self.scrubs.found;
        self.report.scrubs_gone_on = self.scrubs.gone_on as u64;
        self.report.virtual_seconds = self.clock.mono() as f64 / 1e9;
    }

    fn handle_all(&mut self) {
        while !self.done {
            let event = self.heap.pop(&mut self.clock).expect("something is always planned");
            assert!(self.trace.events < EVENTS_MAX, "the run does not come to an end");
            let now = self.clock.now();
            (self.shared.now, self.shared.wall) = (self.clock.mono(), now.wall.0);
            self.handle(event);
        }
    }

    pub(super) fn note(&mut self, text: String) {
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
                let step = *self.random.pick(&[3_590, -3_590, 60, -60, 1, -1]) * 1_000_000i64;
                let step = if self.shared.settings.steps_back { -step.abs() } else { step };
                self.clock.step(step);
                self.accepted = self.accepted.filter(|_| step > 0);
                self.note(format!("the wall clock steps by {step} µs"));
                self.heap.at(now + self.random.between(1, 20) * SECOND, Event::StepClock);
            }
            Event::Room => {
                self.disk.full = !self.disk.full && !self.auditing;
                self.twin.iter_mut().for_each(|twin| twin.full = self.disk.full);
                self.note(format!("the file system has {}", if self.disk.full { "no room" } else { "room" }));
                self.heap.at(now + self.random.between(1, 25) * SECOND, Event::Room);
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
            Event::Harm => {
                if self.node.as_ref().is_some_and(|node| node.ready) && !self.auditing {
                    self.harm_records();
                }
                self.heap.at(now + self.random.between(5, 60) * SECOND, Event::Harm);
            }
            Event::Settle { tries } => self.settle(tries),
            Event::HalfDies { life } if life == self.life => self.half_dies(),
            Event::HalfDies { .. } => {}
        }
    }

    /// Runs a call of the network's, and plans what follows.
    pub(super) fn with_net<T>(&mut self, call: impl FnOnce(&mut Net, &mut net::Later) -> T) -> T {
        let mut later = Vec::new();
        let result = call(&mut self.net, &mut later);
        let now = self.clock.mono();
        later.into_iter().for_each(|(at, event)| self.heap.at(at.max(now), Event::Net(event)));
        result
    }

    pub(super) fn plan_turn(&mut self, worker: u16, at: u64) {
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
            Op::Recv { socket, into } => {
                self.with_net(|net, later| net.recv(worker, socket, Recv { into, all: false }, now, later));
            }
            Op::RecvAll { socket, into } => {
                self.with_net(|net, later| net.recv(worker, socket, Recv { into, all: true }, now, later));
            }
            Op::Send { socket, from, then } => {
                let bytes = self.node.as_ref().expect("it is running").both(worker, from, then);
                let id = self.net.id(worker, socket);
                self.check_sent(id, &bytes);
                self.with_net(|net, later| net.send(worker, socket, (from, then), bytes, now, later));
            }
            Op::Close { socket } => self.with_net(|net, later| net.close(worker, socket, now, later)),
            Op::Locate { log, given } => {
                self.twin.iter_mut().for_each(|twin| twin.drives.locate(log, given));
                self.disk.drives.locate(log, given);
            }
            Op::Wake { worker: other } => self.tell(other, Completion::Woken),
            Op::Scrub { token, .. } if self.shared.settings.no_companion => {
                // Both halves of a mirror are asked for.
                if token.half() == 0 || self.twin.is_none() || !self.scrubs.has_refused(worker) {
                    self.scrubs.refuses(worker);
                }
                self.tell(worker, Completion::Scrubbed { token, report: None });
            }
            file => {
                self.check_epoch(worker, file);
                self.scrub_begins(worker, &file);
                self.check_mounted(file);
                let node = self.node.as_mut().expect("it is running");
                let disk = match (file.token().map_or(0, Token::half), &mut self.twin) {
                    (1, Some(twin)) => twin,
                    _ => &mut self.disk,
                };
                disk.repairs = file.token().is_some_and(penstock::mirror::is_copy);
                let (number, delay) = node.submit(worker, file, disk);
                self.heap.at(now + delay, Event::Disk { life: self.life, number });
            }
        }
    }

    fn disk_done(&mut self, number: u64) {
        let now = self.clock.mono();
        let Some(node) = &mut self.node else { return };
        let disk = match &mut self.twin {
            Some(twin) if number >= SECOND_HALF => twin,
            _ => &mut self.disk,
        };
        let outcome = node.finish(number, disk);
        self.shared.lenient |= self.disk.faults_given > 0 && self.twin.is_none();
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
                    self.check_failed_puts();
                    self.take_snapshot();
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
}
