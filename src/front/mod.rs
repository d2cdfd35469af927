//! What stands between the ring and the core: connections that do not speak HTTP/1.1 as it is.
//!
//! ```text
//!   ring ─ bytes ─► Front ─┬─ HTTP/1.1: passed on as it came ────────────────────► core
//!                          └─ HTTP/2: a carrier, whose streams are sockets of ───► core
//!                             the core's own, with one request of HTTP/1.1 each
//! ```
//!
//! The core knows sockets only, so it has one form of requests and answers, and the simulator drives it with plain bytes. A socket below
//! `Limits::connections` is the ring's; those above are streams. `h2` draws on clocks and memory of its own: that is why it is here, on
//! the worker's thread, and not in `Worker::step`.
//!
//! What a client speaks is seen from its first bytes: the preface of HTTP/2 is no request of HTTP/1.1. The core has been told of the
//! connection by then and has asked for its bytes; it is told that the client has gone, and the carrier takes the socket over.

mod answer;
mod carrier;
mod http2;
mod pipe;
mod stream;

use crate::http::http1::HTTP2_PREFACE;
use crate::io::buffers::{Buffers, Loans, Pool, Span};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Completion, Completions, Op, Ops, Socket};
use crate::limits::Limits;
use carrier::Carrier;
use h2::Reason;
use http2::News;
use std::mem;
use stream::Stream;

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

    fn own(&self) -> Loans {
        self.loans[self.worker as usize].clone()
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
    /// Closed for the core, or about to be.
    Carried(Box<Carrier>),
}

pub struct Front {
    wires: Vec<Wire>,
    /// By number of the socket, less that of the first.
    streams: Vec<Option<Box<Stream>>>,
    free: Vec<Socket>,
    /// Carriers that are to go on at the end of the turn.
    stirred: Vec<Socket>,
    /// For the core.
    told: Completions,
    /// For the ring.
    asked: Ops,
    /// Sockets of the ring in use, and those of them that are carriers.
    open: usize,
    carried: usize,
    tick: Mono,
    stopping: bool,
}

impl Front {
    pub fn new(limits: &Limits) -> Front {
        let first = limits.connections as u32;
        Front {
            wires: (0..limits.connections).map(|_| Wire::Closed).collect(),
            streams: (0..limits.streams).map(|_| None).collect(),
            free: (first..first + limits.streams as u32).rev().map(Socket).collect(),
            stirred: Vec::new(),
            told: Completions::new(),
            asked: Ops::new(),
            open: 0,
            carried: 0,
            tick: Mono(0),
            stopping: false,
        }
    }

    /// Sockets of the ring that the core does not know.
    pub fn carried(&self) -> usize {
        self.carried
    }

    /// Whether the core is to be told something in a next turn.
    pub fn has_news(&self) -> bool {
        !self.told.is_empty()
    }

    /// Before a turn: takes completions that are not for the core from `done`, and adds those of streams.
    pub fn receive(&mut self, now: Now, done: &mut Completions, memory: &mut Memory<'_>) {
        // What the last turn's operations have led to comes first: a socket is closed before its number is used again.
        let earlier = mem::take(&mut self.told);
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
        ops.retain(|op| !self.carries_out(op, memory));
        self.go_on(now.mono, memory);
        ops.append(&mut self.asked);
    }

    /// The server stops: clients are told to go elsewhere; what they have asked is answered by the core.
    pub fn stop(&mut self) {
        self.stopping = true;
        for wire in &mut self.wires {
            if let Wire::Carried(carrier) = wire {
                carrier.http2.go_away();
                self.stirred.push(carrier.socket);
            }
        }
    }

    fn is_stream(&self, socket: Socket) -> bool {
        socket.0 as usize >= self.wires.len()
    }

    /// Whether a completion is not the core's.
    fn takes(&mut self, completion: &Completion, now: Mono, memory: &mut Memory<'_>) -> bool {
        match *completion {
            Completion::Accepted(Ok(socket)) => {
                self.wires[socket.0 as usize] = Wire::Fresh { into: None, held: 0 };
                self.open += 1;
                self.make_room();
                false
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
                Wire::Plain | Wire::Closed => false,
            },
            Completion::Sent { socket, result } => match &mut self.wires[socket.0 as usize] {
                Wire::Carried(carrier) => {
                    carrier.sent(result, &mut self.asked);
                    self.stirred.push(socket);
                    true
                }
                _ => false,
            },
            Completion::Closed { socket } => {
                self.open -= 1;
                match mem::replace(&mut self.wires[socket.0 as usize], Wire::Closed) {
                    Wire::Carried(carrier) => self.ended(*carrier, memory),
                    _ => return false,
                }
                true
            }
            _ => false,
        }
    }

    /// The first `held` bytes of a connection lie at the beginning of `into`. Gives whether the core is not told of them.
    fn look(&mut self, socket: Socket, into: Span, held: u32, now: Mono, memory: &mut Memory<'_>) -> bool {
        let begins = memory.bytes(into.first(held.min(HTTP2_PREFACE.len() as u32)));
        if !HTTP2_PREFACE.starts_with(begins) {
            self.wires[socket.0 as usize] = Wire::Plain;
            self.told.push(Completion::Received { socket, result: Ok(held) });
            return true;
        }
        if held < TELLING {
            self.wires[socket.0 as usize] = Wire::Fresh { into: Some(into), held };
            self.asked.push(Op::Recv { socket, into: into.part(held, into.len - held) });
            return true;
        }
        // For the core the client has gone; without room for a carrier, it has.
        self.told.push(Completion::Received { socket, result: Ok(0) });
        let room = memory.buffers.take(Pool::Wire).filter(|room| room.len / 2 >= held && !self.stopping);
        self.wires[socket.0 as usize] = match room {
            None => {
                self.close_longest_idle();
                Wire::Plain
            }
            Some(room) => {
                let (from, to) = memory.buffers.pair(into.first(held), room.first(held));
                to.copy_from_slice(from);
                self.carried += 1;
                self.stirred.push(socket);
                Wire::Carried(Box::new(Carrier::new(socket, room, held, now, memory)))
            }
        };
        true
    }

    /// Whether an operation is not the ring's.
    fn carries_out(&mut self, op: &Op, memory: &mut Memory<'_>) -> bool {
        let (Op::Recv { socket, .. } | Op::Send { socket, .. } | Op::Close { socket }) = *op else { return false };
        if !self.is_stream(socket) {
            return self.is_of_carrier(socket, op);
        }
        let first = self.wires.len();
        let Some(stream) = self.streams[socket.0 as usize - first].as_mut() else {
            debug_assert!(false, "{op:?} of a stream that is not there");
            return true;
        };
        self.stirred.push(stream.carrier);
        match *op {
            Op::Recv { into, .. } => stream.receive(into, memory, &mut self.told),
            Op::Send { from, then, .. } => stream.send(from, then, memory, &mut self.told),
            _ => self.close_stream(socket),
        }
        true
    }

    /// An operation of the core on a socket of the ring: a close of one that is carried is the carrier's beginning, no more.
    fn is_of_carrier(&mut self, socket: Socket, op: &Op) -> bool {
        match (&mut self.wires[socket.0 as usize], op) {
            (Wire::Fresh { into, .. }, Op::Recv { into: wanted, .. }) => {
                *into = Some(*wanted);
                false
            }
            (wire @ Wire::Fresh { .. }, Op::Close { .. }) => {
                *wire = Wire::Plain;
                false
            }
            (Wire::Carried(_), Op::Close { .. }) => {
                self.told.push(Completion::Closed { socket });
                true
            }
            _ => false,
        }
    }

    /// The core has done with a stream. One that has not ended is reset by `h2` when nobody holds it any more.
    fn close_stream(&mut self, socket: Socket) {
        let first = self.wires.len();
        let Some(stream) = self.streams[socket.0 as usize - first].take() else { return };
        if let Wire::Carried(carrier) = &mut self.wires[stream.carrier.0 as usize] {
            carrier.http2.streams.retain(|other| *other != socket);
            carrier.http2.wake();
        }
        self.free.push(socket);
        self.told.push(Completion::Closed { socket });
    }

    /// Lets every carrier go on that has been stirred, until none has anything to do.
    fn go_on(&mut self, now: Mono, memory: &mut Memory<'_>) {
        while let Some(socket) = self.stirred.pop() {
            // Out of the table while its streams are at work.
            let Wire::Carried(mut carrier) = mem::replace(&mut self.wires[socket.0 as usize], Wire::Plain) else {
                continue;
            };
            self.drive(&mut carrier, now, memory);
            self.wires[socket.0 as usize] = Wire::Carried(carrier);
        }
    }

    fn drive(&mut self, carrier: &mut Carrier, now: Mono, memory: &mut Memory<'_>) {
        loop {
            let mut idle = true;
            while let Some(news) = carrier.http2.next() {
                idle = false;
                match news {
                    News::Request(request, respond) => self.open(carrier, *request, respond),
                    News::Over => self.lose_streams(carrier),
                }
            }
            for socket in carrier.http2.woken() {
                let of = carrier.socket;
                let Front { wires, streams, told, .. } = self;
                let stream = streams[socket.0 as usize - wires.len()].as_mut();
                if let Some(stream) = stream.filter(|stream| stream.carrier == of) {
                    stream.go_on(memory, told);
                    idle = false;
                }
            }
            if idle {
                carrier.go_on(now, memory, &mut self.asked);
                if !carrier.http2.is_awake() {
                    break;
                }
            }
        }
        if !carrier.http2.streams.is_empty() {
            carrier.idle_since = now;
        }
    }

    /// A request: the core gets a connection for it, if there is one.
    fn open(
        &mut self,
        carrier: &mut Carrier,
        request: http::Request<h2::RecvStream>,
        mut respond: h2::server::SendResponse<bytes::Bytes>,
    ) {
        let Some(socket) = self.free.pop() else {
            // The client knows that nothing has been done, and tries again.
            return respond.send_reset(Reason::REFUSED_STREAM);
        };
        let (head, body) = request.into_parts();
        let waker = carrier.http2.waker_of(socket);
        carrier.http2.streams.push(socket);
        let stream = Stream::new(socket, carrier.socket, waker, &head, body, respond);
        let first = self.wires.len();
        self.streams[socket.0 as usize - first] = Some(Box::new(stream));
        self.told.push(Completion::Accepted(Ok(socket)));
    }

    fn lose_streams(&mut self, carrier: &mut Carrier) {
        for socket in mem::take(&mut carrier.http2.streams) {
            let first = self.wires.len();
            if let Some(stream) = self.streams[socket.0 as usize - first].as_mut() {
                stream.lose(&mut self.told);
            }
        }
    }

    /// The ring has let go of a carrier's socket.
    fn ended(&mut self, mut carrier: Carrier, memory: &mut Memory<'_>) {
        self.lose_streams(&mut carrier);
        memory.buffers.give(carrier.memory);
        self.carried -= 1;
    }

    /// Closes what has stalled.
    fn sweep(&mut self, now: Mono) {
        for wire in &mut self.wires {
            if let Wire::Carried(carrier) = wire
                && carrier.is_overdue(now)
            {
                carrier.close(&mut self.asked);
            }
        }
    }

    /// Where the ring's sockets run out, an idle carrier ends; the core does the same with its own.
    fn make_room(&mut self) {
        if self.open + SPARE > self.wires.len() {
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
