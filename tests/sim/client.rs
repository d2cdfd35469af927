//! A client: one connection at a time, calls sent in order and answered in order, and a role that says what to ask.

use super::administrator::Administrator;
use super::auditor::Auditor;
use super::call::{Call, Kind};
use super::clock::{MILLISECOND, SECOND};
use super::lessee::{Lease, Lessee};
use super::mover::Mover;
use super::native::{GONE, NativeWriter, take_call};
use super::native_reader::NativeReader;
use super::net;
use super::oracle::{Fate, Oracle};
use super::random::Random;
use super::reader::Reader;
use super::scenario::Settings;
use super::snapshot::{Asked, Keeper};
use super::subscriber::Subscriber;
use super::wire::{Replies, rebalance_request, request, snapshot_request};
use super::writer::Writer;
use serde_json::Value;
use std::collections::VecDeque;

/// What the roles see and change beside themselves.
pub struct Shared {
    pub settings: Settings,
    pub oracle: Oracle,
    /// Boot clock, ns.
    pub now: u64,
    /// Wall clock, µs.
    pub wall: u64,
    /// The node has been given an error by its disk in this life: it may refuse with `InternalFailure`.
    pub lenient: bool,
    /// The node is being stopped, or has been for a moment.
    pub stopping: bool,
    /// Stream and hash key of records that the node could not store.
    pub failed_puts: Vec<(usize, u128)>,
    /// The snapshot that was asked for.
    pub snapshot: Asked,
    /// Requests to move shards that this life has been sent; shards that were moved for one, in all.
    pub moves_asked: u32,
    pub moved: u64,
    /// Records that came by subscriptions.
    pub subscribed: u64,
    /// Records that were acked over the native protocol.
    pub natively: u64,
    /// Records that were read over it.
    pub read_natively: u64,
    pub lease: Lease,
    /// Calls answered, and calls lost.
    pub answered: u64,
    pub lost: u64,
}

pub enum Role {
    Writer(Writer),
    Reader(Reader),
    Administrator(Administrator),
    Keeper(Keeper),
    Mover(Mover),
    Lessee(Lessee),
    Native(NativeWriter),
    NativeReader(NativeReader),
    Auditor(Auditor),
    Subscriber(Subscriber),
}

/// What a role wants to ask.
pub type Wish = (&'static str, String, Kind);

pub struct Client {
    pub role: Role,
    pub random: Random,
    pub connection: Option<net::Id>,
    replies: Replies,
    outstanding: VecDeque<Call>,
    /// Number of the connection's first outstanding call, for its deadline.
    pub first: u64,
    /// A half-closed connection takes no more calls.
    half_closed: bool,
    /// Nothing is sent behind what is outstanding.
    alone: bool,
}

/// What the client asks of the network, and when it wants to be run again.
pub enum Act {
    Nothing,
    /// Send these bytes; the call's number, for its deadline; the client ends its direction behind them.
    Send {
        bytes: Vec<u8>,
        call: u64,
        half_close: bool,
    },
}

/// After this long without an answer a call is given up.
pub const PATIENCE: u64 = 40 * SECOND;

impl Client {
    pub fn new(role: Role, random: Random) -> Client {
        Client {
            role,
            random,
            connection: None,
            replies: Replies::default(),
            outstanding: VecDeque::new(),
            first: 0,
            half_closed: false,
            alone: false,
        }
    }

    /// How long it thinks before its next call, ns.
    pub fn pause(&mut self, settings: &Settings) -> u64 {
        match &self.role {
            Role::Auditor(_) => MILLISECOND,
            Role::Administrator(admin) if admin.is_busy() => 5 * MILLISECOND,
            Role::Administrator(_) => self.random.delay(settings.think * 12),
            Role::Mover(_) => self.random.delay(settings.duration / settings.moves),
            Role::Keeper(_) => self.random.delay(settings.duration / settings.snapshots),
            _ => self.random.delay(settings.think),
        }
    }

    /// When a subscription's stream gave something last.
    pub fn heard(&self) -> Option<u64> {
        match &self.role {
            Role::Subscriber(role) if !self.idle() => Some(role.heard),
            _ => None,
        }
    }

    pub fn idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    pub fn is_native(&self) -> bool {
        matches!(self.role, Role::Native(_) | Role::NativeReader(_))
    }

    fn think_natively(&mut self, shared: &mut Shared) -> Act {
        let (idle, waiting) = (self.idle(), self.outstanding.len());
        let wish = match &mut self.role {
            Role::Native(role) if waiting < 5 => role.next(&mut self.random, shared, idle),
            Role::NativeReader(role) if waiting < 9 => {
                role.next(&mut self.random, shared).map(|(bytes, number)| (bytes, Kind::Native { number }))
            }
            _ => None,
        };
        let Some((bytes, kind)) = wish else { return Act::Nothing };
        let call = self.first + waiting as u64;
        self.outstanding.push_back(Call { operation: "native", body: String::new(), kind, issued: shared.now });
        Act::Send { bytes, call, half_close: false }
    }

    fn receive_natively(&mut self, bytes: &[u8], shared: &mut Shared) {
        let answered = match &mut self.role {
            Role::Native(role) => role.receive(bytes, shared),
            Role::NativeReader(role) => role.receive(bytes, shared),
            _ => return,
        };
        for number in answered {
            let taken = match number {
                GONE => std::mem::take(&mut self.outstanding).len(),
                number => take_call(&mut self.outstanding, number) as usize,
            };
            self.first += taken as u64;
            shared.answered += taken as u64;
        }
    }

    /// Whether a call is wanted, now that there is a connection.
    pub fn think(&mut self, shared: &mut Shared) -> Act {
        if self.is_native() {
            return self.think_natively(shared);
        }
        let most = match &self.role {
            Role::Writer(_) => 3,
            _ => 1,
        };
        if self.outstanding.len() >= most || self.half_closed || self.alone && !self.idle() {
            return Act::Nothing;
        }
        let random = &mut self.random;
        let wish = match &mut self.role {
            Role::Writer(role) => role.next(random, shared),
            Role::Reader(role) => role.next(random, shared),
            Role::Administrator(role) => role.next(random, shared),
            Role::Keeper(role) => role.next(shared),
            Role::Mover(role) => role.next(random, shared),
            Role::Lessee(role) => role.next(random, shared),
            Role::Native(_) | Role::NativeReader(_) => unreachable!("it has its own messages"),
            Role::Auditor(role) => role.next(random, shared),
            Role::Subscriber(role) => role.next(random, shared),
        };
        let Some((operation, body, kind)) = wish else { return Act::Nothing };
        // Nothing is sent behind a chunked request before its reply: the server refuses that, and says so.
        self.alone = self.outstanding.is_empty() && random.chance(100);
        let bytes = match kind {
            Kind::Move => rebalance_request(&body),
            Kind::Snapshot => snapshot_request(),
            _ => request(operation, &body, self.alone, random),
        };
        let call = self.first + self.outstanding.len() as u64;
        self.outstanding.push_back(Call { operation, body, kind, issued: shared.now });
        self.half_closed = !matches!(self.role, Role::Auditor(_)) && random.chance(shared.settings.manners.resets / 4);
        Act::Send { bytes, call, half_close: self.half_closed }
    }

    /// Bytes have come.
    pub fn receive(&mut self, bytes: &[u8], shared: &mut Shared) {
        if self.is_native() {
            return self.receive_natively(bytes, shared);
        }
        self.replies.push(bytes);
        while let Some(reply) = self.replies.next().unwrap_or_else(|why| panic!("a reply that is none: {why}")) {
            if reply.more {
                let call = self.outstanding.front().unwrap_or_else(|| panic!("a stream without a call"));
                let Role::Subscriber(role) = &mut self.role else { panic!("{} gave a stream", call.operation) };
                role.chunk(call, &reply.body, shared);
                continue;
            }
            if reply.status == 408 {
                // Its body came so slowly that others waited. The connection ends, as one that is cut off in the middle of a request.
                assert!(!self.outstanding.is_empty(), "nothing was asked: {reply:?}");
                return;
            }
            let call = self.outstanding.pop_front().unwrap_or_else(|| panic!("a reply without a call: {reply:?}"));
            self.first += 1;
            shared.answered += 1;
            self.judge(call, reply.status, &reply.body, shared);
        }
    }

    fn judge(&mut self, call: Call, status: u16, body: &[u8], shared: &mut Shared) {
        let value = match body {
            b"" => Value::Null,
            _ => serde_json::from_slice(body).unwrap_or_else(|why| {
                panic!("{} answered what is not JSON ({why}): {:?}", call.operation, String::from_utf8_lossy(body))
            }),
        };
        assert!(matches!(status, 200 | 400 | 413 | 431 | 500 | 503), "{} answered {status}: {value}", call.operation);
        let random = &mut self.random;
        match &mut self.role {
            Role::Writer(role) => role.reply(call, status, &value, shared),
            Role::Reader(role) => role.reply(call, status, &value, random, shared),
            Role::Administrator(role) => role.reply(call, status, &value, shared),
            Role::Keeper(role) => role.reply(status, &value, shared),
            Role::Mover(role) => role.reply(&call, status, &value, shared),
            Role::Lessee(role) => role.reply(call, status, &value, shared),
            Role::Native(_) | Role::NativeReader(_) => unreachable!("it has its own messages"),
            Role::Auditor(role) => role.reply(call, status, &value, shared),
            Role::Subscriber(role) => role.reply(call, status, &value, random, shared),
        }
    }

    /// The connection is gone: what was asked may have happened or not.
    pub fn disconnected(&mut self, shared: &mut Shared) {
        self.connection = None;
        self.half_closed = false;
        self.replies = Replies::default();
        self.first += self.outstanding.len() as u64;
        match &mut self.role {
            Role::Native(role) => role.lost(shared),
            Role::NativeReader(role) => role.lost(),
            _ => {}
        }
        for call in std::mem::take(&mut self.outstanding) {
            shared.lost += 1;
            if let Kind::Put { marks, .. } = &call.kind {
                marks.iter().for_each(|mark| shared.oracle.settle(*mark, Fate::Unknown));
            }
            match &mut self.role {
                Role::Writer(role) => role.lost(call),
                Role::Reader(role) => role.lost(call, &mut self.random),
                Role::Administrator(role) => role.lost(call),
                Role::Keeper(_) | Role::Mover(_) | Role::Lessee(_) | Role::Native(_) | Role::NativeReader(_) => {}
                Role::Auditor(role) => role.lost(call),
                Role::Subscriber(role) => role.lost(call, &mut self.random),
            }
        }
    }

    /// The marks of the call that the connection's reply number `index` (from the first outstanding one) would acknowledge.
    pub fn puts_at(&self, index: usize) -> Option<&Call> {
        self.outstanding.get(index)
    }
}

impl Shared {
    pub fn note_failed_put(&mut self, mark: u64) {
        let attempt = &self.oracle.attempts[mark as usize];
        self.failed_puts.push((attempt.stream, attempt.hash));
    }

    /// An error reply that promises nothing: right only when something has gone wrong around the node.
    pub fn check_failure(&mut self, call: &Call, status: u16, value: &Value) {
        if self.lenient || self.stopping {
            return;
        }
        panic!("{} answered {status} though nothing was wrong: {value} to {}", call.operation, call.body);
    }
}
