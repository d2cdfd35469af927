//! A socket of the ring whose bytes are not HTTP/1.1 as it is: they are encrypted, or HTTP/2, or both.

use super::http2::{Answers, Held, Http2, Turn};
use super::tls::{RECORDS_OVERHEAD, Tls};
use crate::io::buffers::Span;
use crate::io::clock::Mono;
use crate::io::op::{Completion, Completions, Errno, Op, Ops, Socket};
use std::net::IpAddr;

/// Keys must have been agreed on, and HTTP/2 begun, this long after the first byte.
const GREETING_MS: u64 = 10_000;
/// What is sent must be taken within this time; it is at most a buffer full.
const SEND_MS: u64 = 60_000;
/// The same of the last that is sent.
const FAREWELL_MS: u64 = 5_000;

pub(super) struct Carrier {
    pub socket: Socket,
    pub tls: Option<Box<Tls>>,
    pub speaks: Speaks,
    /// Two thirds of it for what comes, the rest for what goes.
    pub memory: Span,
    /// Bytes that have come: encrypted ones wait for the rest of their record, others up to `read` have been read.
    held: u32,
    read: u32,
    receiving: bool,
    sending: bool,
    /// Something has come that has not been taken in.
    fresh: bool,
    /// The client sends nothing more, or nothing that is read.
    ended: bool,
    /// Nothing can be sent any more.
    broken: bool,
    /// The socket is to be closed when what waits has been sent.
    leaving: bool,
    closing: bool,
    /// When keys must have been agreed on, and HTTP/2 begun, whatever has been sent meanwhile.
    begun_by: Mono,
    /// When the client must have taken what is being sent.
    deadline: Mono,
    /// Without a stream since.
    pub idle_since: Mono,
    pub core: Core,
    peer: Option<IpAddr>,
    /// A client of the native protocol: its bytes are the core's own, whatever it has agreed on.
    pub native: bool,
}

/// What the core knows of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Core {
    /// It is the core's, as far as the core knows.
    Has,
    /// The core has asked for its end, and waits for it.
    Closing,
    /// Nothing any more.
    Gone,
}

/// What is carried.
pub(super) enum Speaks {
    /// Keys are not agreed on yet, or no protocol and the first bytes have not come; the core waits as for HTTP/1.1.
    Unknown(OfCore),
    /// The core's own connection.
    Http1(OfCore),
    Http2(Box<Http2>),
}

/// What the core has asked of its own connection.
#[derive(Default)]
pub(super) struct OfCore {
    pub wanted: Option<Span>,
    pub sending: Option<(Span, Option<Span>)>,
}

impl Carrier {
    /// `held`: bytes that have been received, at the beginning of `memory`. With TLS the core waits for bytes in `wanted`; without it the
    /// connection is HTTP/2, and the core has been told that it is none of its own.
    pub fn new(
        socket: Socket,
        peer: Option<IpAddr>,
        memory: Span,
        held: u32,
        tls: Option<(Tls, Span)>,
        now: Mono,
    ) -> Carrier {
        let (tls, speaks) = match tls {
            Some((tls, wanted)) => {
                (Some(Box::new(tls)), Speaks::Unknown(OfCore { wanted: Some(wanted), sending: None }))
            }
            None => (None, Speaks::Http2(Box::new(Http2::new(socket, peer, false)))),
        };
        Carrier {
            socket,
            tls,
            speaks,
            memory,
            held,
            read: 0,
            receiving: false,
            sending: false,
            fresh: true,
            ended: false,
            broken: false,
            leaving: false,
            closing: false,
            begun_by: now.plus_ms(GREETING_MS),
            deadline: Mono(u64::MAX),
            idle_since: now,
            core: Core::Has,
            peer,
            native: false,
        }
    }

    pub fn http2(&mut self) -> Option<&mut Http2> {
        match &mut self.speaks {
            Speaks::Http2(http2) => Some(http2),
            _ => None,
        }
    }

    /// What the core has asked, where the connection is the core's.
    pub fn of_core(&mut self) -> Option<&mut OfCore> {
        match &mut self.speaks {
            Speaks::Unknown(core) | Speaks::Http1(core) => Some(core),
            Speaks::Http2(_) => None,
        }
    }

    /// Where what goes begins. More comes at once: bodies of puts, in frames of up to 64 KiB with their heads, which would not fit one half.
    fn split(&self) -> u32 {
        self.memory.len / 3 * 2
    }

    fn incoming(&self) -> Span {
        self.memory.first(self.split())
    }

    fn outgoing(&self) -> Span {
        self.memory.part(self.split(), self.memory.len - self.split())
    }

    pub fn received(&mut self, result: Result<u32, Errno>) {
        (self.receiving, self.fresh) = (false, true);
        match result {
            Ok(bytes) if bytes > 0 => self.held += bytes,
            _ => self.ended = true,
        }
    }

    pub fn sent(&mut self, result: Result<(), Errno>) {
        self.sending = false;
        self.deadline = if self.leaving { self.deadline } else { Mono(u64::MAX) };
        if result.is_err() {
            (self.ended, self.broken, self.fresh) = (true, true, true);
        }
    }

    /// Whether something has come, or waits and can be handed on now.
    pub fn has_come(&self) -> bool {
        let plain = self.tls.as_ref().is_some_and(|tls| !tls.plain().is_empty());
        self.fresh
            || match &self.speaks {
                // What waits for the core is looked at once in each turn.
                Speaks::Http2(_) => false,
                Speaks::Http1(core) => core.wanted.is_some() && (plain || self.ended),
                // Its first bytes, if too few to tell, wait for more.
                Speaks::Unknown(core) => core.wanted.is_some() && self.ended,
            }
    }

    /// Takes in what has come: what the core is told of its own connection goes to `told`.
    pub fn take_in(&mut self, turn: &mut Turn<'_, '_>) {
        self.fresh = false;
        self.decrypt(turn);
        let socket = self.socket;
        match (&mut self.speaks, &mut self.tls) {
            (Speaks::Http1(core), Some(tls)) => {
                if let Some(into) = core.wanted {
                    let len = tls.plain().len().min(into.len as usize);
                    if len > 0 || self.ended {
                        turn.memory.buffers.bytes_mut(into.first(len as u32)).copy_from_slice(&tls.plain()[..len]);
                        tls.took(len);
                        core.wanted = None;
                        turn.told.push(Completion::Received { socket, result: Ok(len as u32) });
                    }
                }
            }
            (Speaks::Unknown(core), _) if self.ended => {
                let waits = core.wanted.take();
                turn.told.extend(waits.map(|_| Completion::Received { socket, result: Ok(0) }));
            }
            _ => {}
        }
    }

    fn decrypt(&mut self, turn: &mut Turn<'_, '_>) {
        let incoming = self.incoming();
        let Some(tls) = &mut self.tls else { return };
        let bytes = &mut turn.memory.buffers.bytes_mut(incoming)[..self.held as usize];
        let used = tls.open(bytes);
        bytes.copy_within(used.., 0);
        self.held -= used as u32;
        let stuck = self.held == incoming.len && tls.plain().is_empty();
        self.ended |= tls.ended || tls.failed || stuck;
        self.broken |= tls.failed;
        if tls.is_agreed() && !self.leaving && matches!(self.speaks, Speaks::Unknown(_)) {
            self.agree(turn.told);
        }
    }

    /// Lets a connection of HTTP/2 read what has come, and its streams go on. Gives whether there is more to do.
    pub fn go_on_streams(&mut self, turn: &mut Turn<'_, '_>) -> bool {
        let incoming = self.incoming();
        let Speaks::Http2(http2) = &mut self.speaks else { return false };
        http2.attend(turn);
        match &mut self.tls {
            Some(tls) => {
                let used = http2.read(tls.plain(), turn);
                tls.took(used);
            }
            None => {
                let loans = &turn.memory.loans[turn.memory.worker as usize];
                let input = loans.bytes(incoming.part(self.read, self.held - self.read));
                self.read += http2.read(input, turn) as u32;
            }
        }
        if self.ended && http2.held == Held::No && !http2.is_over() {
            http2.end(turn);
        }
        http2.settle(turn);
        http2.is_awake()
    }

    /// Keys have been agreed on, and as soon as it is known what is spoken: where it is HTTP/2, for the core the client has gone.
    fn agree(&mut self, told: &mut Completions) {
        let (Speaks::Unknown(core), Some(tls)) = (&mut self.speaks, &self.tls) else { return };
        let is_http2 = if self.native { Some(false) } else { tls.is_http2() };
        if is_http2 != Some(true) {
            // From here on it is for the core to wait.
            self.begun_by = Mono(u64::MAX);
        }
        let Some(is_http2) = is_http2 else { return };
        let core = std::mem::take(core);
        if !is_http2 {
            self.speaks = Speaks::Http1(core);
            told.push(Completion::Client { socket: self.socket, peer: self.peer, secure: true, over: None });
            return;
        }
        let socket = self.socket;
        self.speaks = Speaks::Http2(Box::new(Http2::new(socket, self.peer, true)));
        if core.wanted.is_some() {
            told.push(Completion::Received { socket, result: Ok(0) });
        }
    }

    /// Sends what is to be sent, receives when all has been read that came, and ends when it is over.
    pub fn go_on(&mut self, now: Mono, turn: &mut Turn<'_, '_>, asked: &mut Ops) {
        if self.closing {
            return;
        }
        if let Speaks::Http2(http2) = &self.speaks {
            if !http2.is_greeting() {
                self.begun_by = Mono(u64::MAX);
            }
            if http2.is_over() || self.broken {
                self.leave(now);
            }
        }
        if !self.sending {
            let len = self.fill(turn);
            if len > 0 {
                asked.push(Op::Send { socket: self.socket, from: self.outgoing().first(len), then: None });
                self.sending = true;
                if !self.leaving && matches!(self.speaks, Speaks::Http2(_)) {
                    self.deadline = now.plus_ms(SEND_MS);
                }
            }
        }
        if self.leaving && (!self.sending || self.broken) {
            return self.close(asked);
        }
        if !self.receiving && !self.ended && !self.leaving && self.is_read() {
            self.make_room(turn);
            let rest = self.incoming().part(self.held, self.incoming().len - self.held);
            asked.push(Op::Recv { socket: self.socket, into: rest });
            self.receiving = true;
        }
    }

    /// Whether of what has come nothing waits for anybody but the client.
    fn is_read(&self) -> bool {
        match &self.speaks {
            Speaks::Http2(http2) => http2.held == Held::No,
            Speaks::Http1(_) => self.tls.as_ref().is_none_or(|tls| tls.plain().is_empty()),
            Speaks::Unknown(_) => true,
        }
    }

    /// Whether input waits for the core's next step.
    pub fn waits_for_core(&self) -> bool {
        matches!(&self.speaks, Speaks::Http2(http2) if http2.held == Held::ForCore)
    }

    /// Moves the beginning of a frame, of which more is to come, to where it has room.
    fn make_room(&mut self, turn: &mut Turn<'_, '_>) {
        if self.read > 0 {
            let incoming = self.incoming();
            turn.memory.buffers.bytes_mut(incoming).copy_within(self.read as usize..self.held as usize, 0);
            (self.held, self.read) = (self.held - self.read, 0);
        }
    }

    /// Fills the half for what goes; gives how far.
    fn fill(&mut self, turn: &mut Turn<'_, '_>) -> u32 {
        let loans = turn.memory.loans;
        let (incoming, out) = turn.memory.buffers.bytes_mut(self.memory).split_at_mut(self.split() as usize);
        let held = &mut incoming[..self.held as usize];
        let mut answers = Answers { loans, streams: turn.streams, told: turn.told };
        let Some(tls) = &mut self.tls else {
            let Speaks::Http2(http2) = &mut self.speaks else { return 0 };
            return http2.write(out, &mut answers) as u32;
        };
        let mut filled = tls.take_queued(out);
        match &mut self.speaks {
            Speaks::Http2(http2) => {
                let room = (out.len() - filled).saturating_sub(RECORDS_OVERHEAD);
                let plain = turn.scratch.get_mut(..room).unwrap_or_default();
                let len = http2.write(plain, &mut answers);
                let (used, len) = tls.seal(&plain[..len], &mut out[filled..], held);
                // Whoever has agreed on HTTP/2 has agreed on keys; and what cannot be sealed can never be.
                self.broken |= used < len && tls.failed;
                filled += len;
            }
            Speaks::Unknown(core) | Speaks::Http1(core) => {
                while let Some((from, then)) = core.sending {
                    let (used, len) = tls.seal(loans[from.worker as usize].bytes(from), &mut out[filled..], held);
                    filled += len;
                    let rest = from.part(used as u32, from.len - used as u32);
                    core.sending = if rest.len > 0 { Some((rest, then)) } else { then.map(|then| (then, None)) };
                    let failed = self.broken;
                    if core.sending.is_none() || failed {
                        let result = if failed { Err(Errno(libc::ECONNRESET)) } else { Ok(()) };
                        core.sending = None;
                        answers.told.push(Completion::Sent { socket: self.socket, result });
                    } else if used == 0 {
                        break;
                    }
                }
            }
        }
        let rest = matches!(&self.speaks, Speaks::Http2(http2) if http2.has_output());
        if self.leaving && !rest {
            tls.say_end(held);
            filled += tls.take_queued(&mut out[filled..]);
        }
        filled as u32
    }

    /// Ends when what waits has been sent.
    pub fn leave(&mut self, now: Mono) {
        if !self.leaving {
            self.leaving = true;
            self.deadline = now.plus_ms(FAREWELL_MS);
        }
    }

    pub fn close(&mut self, asked: &mut Ops) {
        if !self.closing {
            self.closing = true;
            (self.begun_by, self.deadline) = (Mono(u64::MAX), Mono(u64::MAX));
            asked.push(Op::Close { socket: self.socket });
        }
    }

    pub fn is_overdue(&self, now: Mono) -> bool {
        self.begun_by.min(self.deadline) < now
    }

    /// The client has stalled. A connection that the core has is closed when the core lets go of it.
    pub fn give_up(&mut self, told: &mut Completions, asked: &mut Ops) {
        (self.begun_by, self.deadline) = (Mono(u64::MAX), Mono(u64::MAX));
        (self.ended, self.broken) = (true, true);
        let (socket, known) = (self.socket, self.core == Core::Has);
        match self.of_core() {
            Some(core) if known => {
                if core.wanted.take().is_some() {
                    told.push(Completion::Received { socket, result: Ok(0) });
                }
            }
            _ => self.close(asked),
        }
    }

    /// Whether nothing is lost if it ends now, and nobody else knows of it.
    pub fn is_idle(&self) -> bool {
        matches!(&self.speaks, Speaks::Http2(http2) if http2.is_idle()) && !self.sending && !self.closing
    }
}
