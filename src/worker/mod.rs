//! A worker: one pinned thread's state, driven in turns.
//!
//! `step` does the same in every turn: apply completions, take messages, go on with what waited, then the closing list: append what
//! waited for memory, seal and submit commits, release acks, tell other workers.

pub mod access;
pub mod ack;
mod ahead;
pub mod append;
mod body;
pub mod boot;
mod client_metrics;
pub mod clock;
pub mod connection;
mod connections;
pub mod control;
pub mod directories;
pub mod errand;
pub mod event;
pub mod fanout;
pub mod get;
mod get_answer;
pub mod handover;
mod hang;
pub mod latest;
pub mod mailbox;
pub mod message;
mod mirror;
mod native;
mod native_batch;
mod native_bulk;
mod native_read;
mod native_read_gather;
mod native_read_send;
mod native_receive;
mod native_send;
pub mod notice;
mod pace;
pub mod pinning;
pub mod put;
pub mod put_answer;
pub mod put_lend;
pub mod rebalance;
pub mod registrar;
mod room;
pub mod scrub;
pub mod serve;
pub mod setup;
pub mod snapshot;
pub mod space;
pub mod stream_news;
mod subscribe;
mod subscription;
mod tables;
mod upkeep;

use crate::catalog::identity::Identity;
use crate::catalog::place::LogPlace;
use crate::catalog::state::State;
use crate::front::Memory;
use crate::http::response::Date;
use crate::io::buffers::{Buffers, Loans, Span};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Completion, Completions, FileName, Op, Ops, Token};
use crate::limits::Limits;
use crate::log::Log;
use crate::log::format::ShardKey;
use crate::mirror::Mirror;
use crate::observe::counter::{Counter, Counters};
use crate::shard::Shards;
use access::Gate;
use ack::{Acks, LatestWait, Tell};
use append::Pending;
use boot::Boot;
use connection::Connections;
use control::Control;
use fanout::Fanout;
use get::{GET_TOKEN, Gets};
use handover::Handovers;
use hang::Hang;
use mailbox::{ConnectionId, Mailboxes, Message};
use native::Natives;
use notice::Notice;
use pace::Slow;
use pinning::Pinning;
use put::Puts;
use rebalance::Rebalances;
use registrar::Registrar;
use scrub::Scrub;
pub use setup::{Options, Setup, WhenFull};
use snapshot::Snapshots;
use space::{RetentionClock, Space};
use std::collections::{BTreeMap, VecDeque};
use subscription::Subscriptions;
use tables::Desk;

/// How often stalled connections, overdue puts and expired records are looked for.
const TICK_MS: u64 = 1_000;
/// A turn this long is counted as slow.
const SLOW_TURN_NS: u64 = 2_000_000;
/// Notices that nobody has taken; beyond it the oldest are dropped.
const NOTICES_MAX: usize = 256;

/// Owner of a token, in its top byte.
const CATALOG_TOKEN: u8 = 0x43;
const IDENTITY_TOKEN: u8 = 0x49;
const SUPERBLOCK_TOKEN: u8 = 0x53;
const SNAPSHOT_TOKEN: u8 = 0x50;
const LINK_TOKEN: u8 = 0x4b;
const LOG_TOKEN: u8 = 0x4c;

/// One worker. `step` is its only input; `ops`, `deadline`, `notice` are its outputs.
pub struct Worker {
    id: u16,
    workers: u16,
    limits: Limits,
    options: Options,
    identity: Identity,
    iterator_key: [u8; 16],
    retention_hour: u32,
    now: Now,
    buffers: Buffers,
    loans: Vec<Loans>,
    counters: Counters,
    all_counters: Vec<Counters>,
    mail: Mailboxes,
    boot: Option<Boot>,
    /// Requests are taken.
    serving: bool,
    stopping: bool,
    /// The logs are being closed; everything is.
    stop_begun: bool,
    stop_told: bool,
    step_told: bool,
    /// Workers that have said that they stop, this one included.
    stopped_workers: Vec<bool>,
    logs: Vec<Log>,
    log_count: u32,
    /// Where each log lies, by its number; and where the directories are.
    places: Vec<LogPlace>,
    paths: Vec<String>,
    space: Vec<Space>,
    hangs: Vec<Hang>,
    tell: Vec<Tell>,
    shards: Shards,
    /// Where recovery found that shards go on: (next number, arrival).
    found: BTreeMap<ShardKey, (u64, u64)>,
    connections: Connections,
    /// Who was slow when somebody waited last.
    slow: Vec<Slow>,
    natives: Natives,
    handovers: Handovers,
    gate: Gate,
    puts: Puts,
    pending: VecDeque<Pending>,
    acks: Acks,
    latest: VecDeque<LatestWait>,
    /// LATEST iterators asked for by workers that have applied more changes: (asker, connection, shard, their change).
    latest_early: VecDeque<(u16, ConnectionId, ShardKey, u64)>,
    /// LATEST iterators whose shard has moved: (connection, shard, change of the catalog to ask again with).
    latest_moved: VecDeque<(ConnectionId, ShardKey, u64)>,
    gets: Gets,
    /// Subscriptions: those of this worker's connections, calls for events of its shards, and who may subscribe to which shard.
    subscriptions: Subscriptions,
    fanout: Fanout,
    registrar: Registrar,
    /// Worker 0 only.
    control: Option<Control>,
    /// Worker 0's part of a snapshot, and every worker's.
    snapshots: Snapshots,
    pinning: Pinning,
    /// Worker 0's moves of shards.
    rebalances: Rebalances,
    /// Worker 0's requests on lease tables.
    desk: Desk,
    /// What clients' PutMetricData has brought to worker 0.
    client_metrics: crate::client_metrics::store::Store,
    /// The catalog's copy of every other worker.
    view: State,
    applied_untold: Option<u64>,
    retention: RetentionClock,
    /// Lent spans that wait for room to be returned.
    returns: VecDeque<Span>,
    scrub: Scrub,
    /// Where every data directory has two halves.
    mirror: Option<Box<Mirror>>,
    /// Halves that have failed here: workers that have not been told, by number.
    untold_halves: VecDeque<(u16, u8, u8)>,
    repaired_moves: VecDeque<FileName>,
    notices: VecDeque<Notice>,
    date: Date,
    request_id: u128,
    nonce: u64,
    tick: Mono,
}

impl Worker {
    /// One turn: applies `done` (drained), emits `ops`. No system call, no clock, no randomness, and after start no allocation on the ack
    /// path. Worker 0 boots the directory in its first turns and tells the others; `Op::Accept` is emitted when the worker may serve.
    pub fn step(&mut self, now: Now, done: &mut Completions, ops: &mut Ops) {
        self.now = now;
        self.date.refresh(now.wall);
        self.retention.advance(now);
        self.counters.add(Counter::Turns, 1);
        if let Some(mirror) = &mut self.mirror {
            mirror.join(now, done, &mut self.buffers);
        }
        self.boot_begin(ops);
        // Messages first: a change of the catalog that a client has seen through another worker is applied before the client's next
        // request is looked at here.
        self.take_messages(ops);
        for completion in done.drain(..) {
            self.complete(completion, ops);
        }
        self.boot_go_on(ops);
        self.run_control(ops);
        self.send_kept(ops);
        self.buffer_waiting(ops);
        self.put_unanswered(ops);
        self.put_moved(ops);
        self.put_unlent(ops);
        self.put_queued(ops);
        self.natives_turn(ops);
        self.latest_again(ops);
        self.repaired(ops);
        self.gets_turn(ops);
        if now.mono >= self.tick {
            self.tick = now.mono.plus_ms(TICK_MS);
            self.sweep_connections(ops);
            self.keep_pace(ops);
            self.sweep_natives(ops);
            self.sweep_puts(ops);
            self.sweep_subscriptions(ops);
            self.fanout_tick(ops);
            self.look_for_space();
            self.look_for_hangs();
            self.expire_shards();
            self.forget_formers();
            self.scrub(ops);
            self.forget_readers();
            self.keep_retention_time(ops);
            self.look_for_catalog_room(ops);
            self.tell_refusals();
        }
        self.close_turn(ops);
        self.mirror_turn(ops);
    }

    /// What every turn ends with.
    fn close_turn(&mut self, ops: &mut Ops) {
        if !self.pending.is_empty() {
            self.append_waiting(ops);
        }
        self.relocate(ops);
        self.handovers_turn();
        for log in &mut self.logs {
            log.end_turn(self.now, &mut self.buffers, ops);
        }
        self.log_events(ops);
        self.run_pinning(ops);
        self.reclaim(ops);
        if self.serving {
            self.release_acks(ops);
            self.natives_release(ops);
            self.tell_ends();
            self.fanout_turn(ops);
            self.natives_release_bulk();
        }
        self.tell_others();
        self.stop_go_on(ops);
        for worker in 0..self.workers {
            if std::mem::take(&mut self.mail.dirty[worker as usize]) {
                ops.push(Op::Wake { worker });
            }
        }
    }

    fn complete(&mut self, completion: Completion, ops: &mut Ops) {
        match completion {
            Completion::Accepted(result) => self.on_accepted(result, ops),
            Completion::NativeAccepted { socket, peer } => self.on_native_accepted(socket, peer, ops),
            Completion::NativeClosed { socket } => self.on_native_closed(socket, ops),
            Completion::Received { socket, result } => self.on_received(socket, result, ops),
            Completion::Sent { socket, result } => self.on_sent(socket, result, ops),
            Completion::Closed { socket } => self.on_closed(socket),
            Completion::Done { token, result } => match owner(token) {
                GET_TOKEN => self.on_get_read(token, result, ops),
                LOG_TOKEN => {
                    let log = log_slot(token);
                    self.logs[log].on_done(self.now, token, result, &mut self.buffers, ops);
                }
                SNAPSHOT_TOKEN => self.snapshot_done(token, result, ops),
                LINK_TOKEN => self.segment_linked(result),
                _ => self.boot_done(token, result, ops),
            },
            Completion::Listed { token, result } => match owner(token) {
                LOG_TOKEN => self.logs[log_slot(token)].on_listed(token, result, ops),
                _ => self.boot_listed(token, result, ops),
            },
            Completion::Scrubbed { report, .. } => self.scrubbed(report, ops),
            Completion::Client { socket, peer, secure, over } => self.on_client(socket, peer, secure, over),
            // A worker is connected to; it connects to nobody.
            Completion::Woken | Completion::Connected { .. } => {}
            Completion::Access(table) => self.on_access(table),
        }
    }

    /// What is owed to other workers and found no room before.
    fn tell_others(&mut self) {
        if let Some(number) = self.applied_untold
            && self.mail.offer(0, Message::Applied { number }).is_ok()
        {
            self.applied_untold = None;
        }
        while let Some(span) = self.returns.pop_front() {
            if self.mail.offer(span.worker, Message::Return { span }).is_err() {
                self.returns.push_front(span);
                break;
            }
        }
    }

    /// Gives a buffer back: to its pool, or to the worker that lent it.
    fn release(&mut self, span: Span) {
        match span.worker == self.id {
            true => self.take_back(span),
            false => self.returns.push_back(span),
        }
    }

    /// A buffer of this worker is not needed any more by one of those who had it.
    fn take_back(&mut self, span: Span) {
        if self.fanout.returned(span) {
            self.buffers.give(span);
        }
    }

    /// The worker that owns log `log`.
    fn owner_of(&self, log: u32) -> u16 {
        (log % self.workers as u32) as u16
    }

    /// The place of log `number` among this worker's.
    fn log_index(&self, number: u32) -> Option<usize> {
        (self.owner_of(number) == self.id).then_some((number / self.workers as u32) as usize)
    }

    fn tell_operator(&mut self, notice: Notice) {
        if self.notices.len() == NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// When the next turn must be, though nothing completes. A turn in the past: at once.
    pub fn deadline(&self) -> Option<Mono> {
        let logs = self.logs.iter().filter_map(Log::deadline).min();
        let (now, soon) = self.fanout.goes_on();
        let (native_now, native_soon) = self.natives.goes_on();
        let held = !self.returns.is_empty()
            || self.applied_untold.is_some()
            || self.boot_waits()
            || self.rebalance_goes_on()
            || self.handovers.goes_on()
            || soon
            || native_soon
            || self.subscriptions.wait_for_changes()
            || self.snapshot_goes_on();
        let soon = held.then(|| self.now.mono.plus_ms(1));
        let at_once = (self.gets.goes_on() || now || native_now).then_some(self.now.mono);
        let mirror = self.mirror.as_ref().and_then(|mirror| mirror.deadline());
        [Some(self.tick), logs, soon, at_once, self.space_deadline(), mirror].into_iter().flatten().min()
    }

    /// Whether a commit is in flight and nothing else is to do: then sleeping beats spinning.
    pub fn waits_for_disk(&self) -> bool {
        self.logs.iter().any(Log::in_flight)
    }

    /// Whether another worker's message waits: looked at once more before the thread sleeps.
    pub fn mail_waits(&mut self) -> bool {
        self.mail.waits()
    }

    /// Something worth a line on standard error, oldest first.
    pub fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    pub fn buffers_mut(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    /// The memory of worker `worker`, for spans in `Op::Send` that it has lent to this one.
    pub fn loans(&self, worker: u16) -> &Loans {
        &self.loans[worker as usize]
    }

    /// Its own memory, and what others have lent it.
    pub fn memory(&mut self) -> Memory<'_> {
        Memory { buffers: &mut self.buffers, loans: &self.loans, worker: self.id }
    }

    /// Counts a turn that took `ns`.
    pub fn note_turn(&self, ns: u64) {
        if ns > SLOW_TURN_NS {
            self.counters.add(Counter::SlowTurns, 1);
        }
    }
}

/// The owner of a token.
fn owner(token: Token) -> u8 {
    (token.0 >> 56) as u8
}

/// The place of the log that made a token, among its worker's.
fn log_slot(token: Token) -> usize {
    (token.0 >> 48 & 0xff) as usize
}

/// The upper bits of the tokens of the log at place `slot`.
fn log_tokens(slot: usize) -> u64 {
    (LOG_TOKEN as u64) << 56 | (slot as u64) << 48
}
