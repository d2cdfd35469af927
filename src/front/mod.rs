//! What stands between the ring and the core: connections that do not speak HTTP/1.1 as it is.
//!
//! ```text
//!   ring ─ bytes ─► Front ─┬─ HTTP/1.1 as it is: passed on as it came ───────────► core
//!                          ├─ TLS: a carrier decrypts what is HTTP/1.1 ──────────► core
//!                          └─ HTTP/2, in TLS or not: the carrier's streams are ──► core
//!                             sockets of the core's own, with one request each
//! ```
//!
//! The core knows sockets only, so it has one form of requests and answers, and the simulator drives it with plain bytes. A socket below
//! `Limits::connections` is the ring's; those above are streams. rustls draws on clocks, randomness and memory of its own, and a
//! connection of HTTP/2 has tables that grow: that is why they are here, on the worker's thread, and not in `Worker::step`.
//!
//! What a client speaks is seen from its first bytes: the preface of HTTP/2 is no request of HTTP/1.1, and no record of TLS either. The core has been told of the
//! connection by then and has asked for its bytes; it is told that the client has gone, and the carrier takes the socket over.

mod answer;
mod carrier;
mod http2;
mod stream;
mod streams;
mod tls;

use crate::http::http1::HTTP2_PREFACE;
use crate::io::buffers::{Buffers, Loans, Pool, Span};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Completion, Completions, Op, Ops, Socket};
use crate::limits::Limits;
use carrier::{Carrier, Core};
use http2::Turn;
use rustls::ServerConfig;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use streams::Streams;
use tls::Tls;

/// How often what has stalled is looked for.
const TICK_MS: u64 = 1_000;
/// Sockets of the ring that stay free, so that a new client can always be accepted.
const SPARE: usize = 4;
/// From this many bytes on, the preface of HTTP/2 can be told from every method.
const TELLING: u32 = 3;

/// A worker's memory, and what other workers have lent it.
pub struct Memory<'a> {
    pub buffers: &'a mut Buffers,
    pub loans: &'a [Loans],
    pub worker: u16,
}

impl Memory<'_> {
    fn bytes(&self, span: Span) -> &[u8] {
        self.loans[span.worker as usize].bytes(span)
    }
}

/// A socket of the ring.
enum Wire {
    Closed,
    /// What the client speaks is not known. The core receives into `into`, where `held` bytes are already.
    Fresh {
        into: Option<Span>,
        held: u32,
    },
    /// The core's own.
    Plain,
    /// A client without TLS is being told to use it.
    Refused,
    Carried(Box<Carrier>),
}

/// What clients may speak.
#[derive(Clone, Default)]
pub struct Spoken {
    pub tls: Option<Arc<ServerConfig>>,
    /// Where there is TLS: also without it.
    pub plaintext: bool,
}

/// The answer to a request that comes in the clear where it must not.
const SPEAK_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 37\r\n\
    Connection: close\r\n\r\nThis port speaks TLS: use https://.\r\n";

pub struct Front {
    spoken: Spoken,
    wires: Vec<Wire>,
    /// The address at the other end of each.
    peers: Vec<Option<IpAddr>>,
    /// Which of them are native clients, whose protocol is carried as HTTP/1.1 is.
    native: Vec<bool>,
    streams: Streams,
    /// Carriers that are to go on at the end of the turn.
    stirred: Vec<Socket>,
    /// Carriers whose input waits for the core.
    held: Vec<Socket>,
    /// Room for what is to be encrypted.
    scratch: Vec<u8>,
    /// The number of the core's next step.
    step: u64,
    /// For the core.
    told: Completions,
    /// For the ring.
    asked: Ops,
    /// Sockets of the ring in use, those of them that are carriers, and those of native clients beside them.
    open: usize,
    carried: usize,
    natives: usize,
    tick: Mono,
    stopping: bool,
}

impl Front {
    pub fn new(limits: &Limits, spoken: Spoken) -> Front {
        let first = limits.connections as u32;
        Front {
            wires: (0..limits.connections).map(|_| Wire::Closed).collect(),
            peers: vec![None; limits.connections as usize],
            native: vec![false; limits.connections as usize],
            streams: Streams::new(first, limits.streams as u32),
            stirred: Vec::new(),
            held: Vec::new(),
            scratch: vec![0; if spoken.tls.is_some() { limits.wire.1 as usize / 3 } else { 0 }],
            step: 0,
            spoken,
            told: Completions::new(),
            asked: Ops::new(),
            open: 0,
            carried: 0,
            natives: 0,
            tick: Mono(0),
            stopping: false,
        }
    }

    /// Sockets of the ring that the core does not know.
    pub fn carried(&self) -> usize {
        self.carried
    }

    /// Whether native clients are its own, too: as they speak TLS.
    pub fn takes_natives(&self) -> bool {
        self.spoken.tls.is_some()
    }

    /// So many native clients have come that are none of its own, but have sockets of the ring.
    pub fn note_natives(&mut self, came: usize) {
        self.natives += came;
        if came > 0 {
            self.make_room();
        }
    }

    /// Whether the core is to be told something in a next turn.
    pub fn has_news(&self) -> bool {
        !self.told.is_empty()
    }

    /// Before a turn: takes completions that are not for the core from `done`, and adds those of streams.
    pub fn receive(&mut self, now: Now, done: &mut Completions, memory: &mut Memory<'_>) {
        // What the last turn's operations have led to comes first: a socket is closed before its number is used again.
        let earlier = mem::take(&mut self.told);
        self.stirred.append(&mut self.held);
        done.retain(|completion| !self.takes(completion, now.mono, memory));
        self.go_on(now.mono, memory);
        if now.mono >= self.tick {
            self.tick = now.mono.plus_ms(TICK_MS);
            self.sweep(now.mono);
        }
        done.append(&mut self.told);
        done.splice(0..0, earlier);
    }

    /// After a turn: takes what the core asks of streams from `ops`, and adds what carriers ask of the ring.
    pub fn send(&mut self, now: Now, ops: &mut Ops, memory: &mut Memory<'_>) {
        // What it has been told it has seen.
        self.step += 1;
        self.stirred.append(&mut self.held);
        ops.retain(|op| !self.carries_out(op, now.mono));
        self.go_on(now.mono, memory);
        ops.append(&mut self.asked);
    }

    /// The server stops: clients are told to go elsewhere; what they have asked is answered by the core.
    pub fn stop(&mut self) {
        self.stopping = true;
        for wire in &mut self.wires {
            if let Wire::Carried(carrier) = wire
                && let Some(http2) = carrier.http2()
            {
                http2.go_away();
                self.stirred.push(carrier.socket);
            }
        }
    }

    /// Whether a completion is not the core's.
    fn takes(&mut self, completion: &Completion, now: Mono, memory: &mut Memory<'_>) -> bool {
        match *completion {
            Completion::Accepted(Ok(socket)) => {
                self.wires[socket.0 as usize] = Wire::Fresh { into: None, held: 0 };
                self.open += 1;
                self.make_room();
                // Behind the end of the connection that had the number before.
                self.told.push(completion.clone());
                true
            }
            Completion::NativeAccepted { socket, peer } => {
                self.wires[socket.0 as usize] = Wire::Fresh { into: None, held: 0 };
                (self.native[socket.0 as usize], self.peers[socket.0 as usize]) = (true, peer);
                self.note_natives(1);
                self.told.push(completion.clone());
                true
            }
            Completion::Client { socket, peer, .. } => {
                self.peers[socket.0 as usize] = peer;
                self.told.push(completion.clone());
                true
            }
            Completion::Received { socket, result } => match &mut self.wires[socket.0 as usize] {
                Wire::Fresh { into, held } => {
                    let (into, held) = (*into, *held);
                    match (result, into) {
                        (Ok(bytes), Some(into)) if bytes > 0 => self.look(socket, into, held + bytes, now, memory),
                        _ => {
                            self.wires[socket.0 as usize] = Wire::Plain;
                            false
                        }
                    }
                }
                Wire::Carried(carrier) => {
                    carrier.received(result);
                    self.stirred.push(socket);
                    true
                }
                Wire::Plain | Wire::Refused | Wire::Closed => false,
            },
            Completion::Sent { socket, result } => match &mut self.wires[socket.0 as usize] {
                Wire::Carried(carrier) => {
                    carrier.sent(result);
                    self.stirred.push(socket);
                    true
                }
                wire @ Wire::Refused => {
                    *wire = Wire::Plain;
                    self.told.push(Completion::Received { socket, result: Ok(0) });
                    true
                }
                _ => false,
            },
            Completion::Closed { socket } => {
                self.open -= 1;
                self.closed(socket, memory)
            }
            Completion::NativeClosed { socket } => {
                self.natives -= 1;
                let taken = self.closed(socket, memory);
                self.native[socket.0 as usize] = false;
                taken
            }
            _ => false,
        }
    }

    /// The ring has closed a socket; whether the core is not told of it so.
    fn closed(&mut self, socket: Socket, memory: &mut Memory<'_>) -> bool {
        match mem::replace(&mut self.wires[socket.0 as usize], Wire::Closed) {
            Wire::Carried(carrier) => {
                self.ended(*carrier, memory);
                true
            }
            _ => false,
        }
    }

    /// The first `held` bytes of a connection lie at the beginning of `into`. Gives whether the core is not told of them.
    fn look(&mut self, socket: Socket, into: Span, held: u32, now: Mono, memory: &mut Memory<'_>) -> bool {
        let begins = memory.bytes(into.first(held.min(HTTP2_PREFACE.len() as u32)));
        let native = self.native[socket.0 as usize];
        let (is_tls, is_http2) = (begins[0] == tls::HANDSHAKE, !native && HTTP2_PREFACE.starts_with(begins));
        match &self.spoken.tls {
            Some(config) if is_tls => {
                let tls = Tls::new(config.clone()).map(|tls| (tls, into));
                let may = tls.is_some();
                self.carry(socket, into, held, tls, may, now, memory);
            }
            Some(_) if !self.spoken.plaintext && native => {
                self.wires[socket.0 as usize] = Wire::Plain;
                self.told.push(Completion::Received { socket, result: Ok(0) });
            }
            Some(_) if !self.spoken.plaintext => {
                let text = memory.buffers.whole(Pool::Reply, socket.0 as u16).first(SPEAK_TLS.len() as u32);
                memory.buffers.bytes_mut(text).copy_from_slice(SPEAK_TLS);
                self.asked.push(Op::Send { socket, from: text, then: None });
                self.wires[socket.0 as usize] = Wire::Refused;
            }
            _ if !is_http2 => {
                self.wires[socket.0 as usize] = Wire::Plain;
                self.told.push(Completion::Received { socket, result: Ok(held) });
            }
            _ if held < TELLING => {
                self.wires[socket.0 as usize] = Wire::Fresh { into: Some(into), held };
                self.asked.push(Op::Recv { socket, into: into.part(held, into.len - held) });
            }
            _ => {
                // For the core the client has gone.
                self.told.push(Completion::Received { socket, result: Ok(0) });
                self.carry(socket, into, held, None, true, now, memory);
            }
        }
        true
    }

    /// Makes a carrier of a socket, if there is room for one and it `may` be; else the client is sent away.
    #[expect(clippy::too_many_arguments, reason = "what is known of a connection at its beginning")]
    fn carry(
        &mut self,
        socket: Socket,
        from: Span,
        held: u32,
        tls: Option<(Tls, Span)>,
        may: bool,
        now: Mono,
        memory: &mut Memory<'_>,
    ) {
        let room = if may && !self.stopping { memory.buffers.take(Pool::Wire) } else { None };
        let Some(room) = room else {
            if tls.is_some() || !may {
                self.told.push(Completion::Received { socket, result: Ok(0) });
            }
            self.wires[socket.0 as usize] = Wire::Plain;
            return self.close_longest_idle();
        };
        // What a client sends first fits: it was received into less.
        let (from, to) = memory.buffers.pair(from.first(held), room.first(held));
        to.copy_from_slice(from);
        self.stirred.push(socket);
        let peer = self.peers[socket.0 as usize];
        let native = self.native[socket.0 as usize];
        let mut carrier = Carrier::new(socket, peer, room, held, tls, now);
        carrier.native = native;
        self.wires[socket.0 as usize] = Wire::Carried(Box::new(carrier));
    }

    /// Whether an operation is not the ring's.
    fn carries_out(&mut self, op: &Op, now: Mono) -> bool {
        let (Op::Recv { socket, .. } | Op::Send { socket, .. } | Op::Close { socket }) = *op else { return false };
        if !self.streams.has(socket) {
            return self.is_of_carrier(socket, op, now);
        }
        let Some(stream) = self.streams.get(socket) else {
            debug_assert!(false, "{op:?} of a stream that is not there");
            return true;
        };
        let carrier = stream.carrier;
        match *op {
            Op::Recv { into, .. } => stream.receive(into),
            Op::Send { from, then, .. } => stream.send(from, then),
            _ => return self.close_stream(socket),
        }
        if stream.is_lost() {
            stream.lose(self.step, &mut self.told);
        } else if let Wire::Carried(carrier) = &mut self.wires[carrier.0 as usize]
            && let Some(http2) = carrier.http2()
        {
            http2.stir(socket);
        }
        self.stirred.push(carrier);
        true
    }

    /// An operation of the core on a socket of the ring. Gives whether it is none of the ring.
    fn is_of_carrier(&mut self, socket: Socket, op: &Op, now: Mono) -> bool {
        let carrier = match (&mut self.wires[socket.0 as usize], op) {
            (Wire::Carried(carrier), _) => carrier,
            (Wire::Fresh { into, .. }, Op::Recv { into: wanted, .. }) => {
                *into = Some(*wanted);
                return false;
            }
            (wire @ (Wire::Fresh { .. } | Wire::Refused), Op::Close { .. }) => {
                *wire = Wire::Plain;
                return false;
            }
            _ => return false,
        };
        match (carrier.of_core(), op) {
            (Some(core), Op::Recv { into, .. }) => core.wanted = Some(*into),
            (Some(core), Op::Send { from, then, .. }) => core.sending = Some((*from, *then)),
            (Some(_), _) => {
                carrier.core = Core::Closing;
                carrier.leave(now);
            }
            // It was told that the client has gone.
            (None, _) => {
                carrier.core = Core::Gone;
                self.carried += 1;
                self.told.push(Completion::Closed { socket });
            }
        }
        self.stirred.push(socket);
        true
    }

    /// The core has done with a stream.
    fn close_stream(&mut self, socket: Socket) -> bool {
        if let Some(stream) = self.streams.take(socket) {
            self.stirred.push(stream.carrier);
            if let Wire::Carried(carrier) = &mut self.wires[stream.carrier.0 as usize]
                && let Some(http2) = carrier.http2()
            {
                http2.closed(stream);
            }
            self.told.push(Completion::Closed { socket });
        }
        true
    }

    /// Lets every carrier go on that has been stirred, until none has anything to do.
    fn go_on(&mut self, now: Mono, memory: &mut Memory<'_>) {
        let Front { wires, stirred, held, asked, streams, told, step, scratch, .. } = self;
        let mut turn = Turn { memory, streams, told, step: *step, scratch };
        stirred.sort_unstable();
        stirred.dedup();
        for socket in stirred.drain(..) {
            let Wire::Carried(carrier) = &mut wires[socket.0 as usize] else { continue };
            drive(carrier, now, &mut turn, asked);
            if carrier.waits_for_core() {
                held.push(socket);
            }
        }
    }

    /// The ring has let go of a carrier's socket.
    fn ended(&mut self, mut carrier: Carrier, memory: &mut Memory<'_>) {
        let Front { streams, told, step, scratch, carried, .. } = self;
        if let Some(http2) = carrier.http2() {
            http2.end(&mut Turn { memory, streams, told, step: *step, scratch });
        }
        memory.buffers.give(carrier.memory);
        match carrier.core {
            Core::Gone => *carried -= 1,
            Core::Closing if carrier.native => told.push(Completion::NativeClosed { socket: carrier.socket }),
            Core::Closing => told.push(Completion::Closed { socket: carrier.socket }),
            Core::Has => debug_assert!(false, "a socket that the core has is closed by the core"),
        }
    }

    /// Closes what has stalled.
    fn sweep(&mut self, now: Mono) {
        for wire in &mut self.wires {
            if let Wire::Carried(carrier) = wire
                && carrier.is_overdue(now)
            {
                carrier.give_up(&mut self.told, &mut self.asked);
                self.stirred.push(carrier.socket);
            }
        }
    }

    /// Where the ring's sockets run out, an idle carrier ends; the core does the same with its own.
    fn make_room(&mut self) {
        if self.open + self.natives + SPARE > self.wires.len() {
            self.close_longest_idle();
        }
    }

    fn close_longest_idle(&mut self) {
        let carriers = self.wires.iter_mut().filter_map(|wire| match wire {
            Wire::Carried(carrier) if carrier.is_idle() => Some(carrier),
            _ => None,
        });
        if let Some(carrier) = carriers.min_by_key(|carrier| carrier.idle_since) {
            carrier.close(&mut self.asked);
        }
    }
}

fn drive(carrier: &mut Carrier, now: Mono, turn: &mut Turn<'_, '_>, asked: &mut Ops) {
    loop {
        let idle = !carrier.has_come();
        if !idle {
            carrier.take_in(turn);
        }
        let awake = carrier.go_on_streams(turn);
        carrier.go_on(now, turn, asked);
        if idle && !awake && !carrier.http2().is_some_and(|http2| http2.is_awake()) {
            break;
        }
    }
    if !carrier.is_idle() {
        carrier.idle_since = now;
    }
}
