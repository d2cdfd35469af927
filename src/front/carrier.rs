//! A socket of the ring whose bytes are not HTTP/1.1 as it is: they are encrypted, or HTTP/2, or both.

use super::Memory;
use super::http2::Http2;
use super::pipe::Pipe;
use super::tls::Tls;
use crate::io::buffers::Span;
use crate::io::clock::Mono;
use crate::io::op::{Completion, Completions, Errno, Op, Ops, Socket};
use std::net::IpAddr;

/// Keys must have been agreed on, and HTTP/2 begun, this long after the first byte.
const GREETING_MS: u64 = 10_000;
/// What is sent must be taken within this time; it is at most a pipe and a buffer full.
const SEND_MS: u64 = 60_000;
/// The same of the last that is sent.
const FAREWELL_MS: u64 = 5_000;

pub(super) struct Carrier {
    pub socket: Socket,
    pub tls: Option<Box<Tls>>,
    pub speaks: Speaks,
    /// Two thirds of it for what comes, the rest for what goes.
    pub memory: Span,
    /// Bytes that have come and wait for the rest of their record.
    held: u32,
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
    pub peer: Option<IpAddr>,
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
    Http2(Box<Http2>, Pipe),
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
    pub fn new(socket: Socket, memory: Span, held: u32, tls: Option<(Tls, Span)>, now: Mono) -> Carrier {
        let (tls, speaks) = match tls {
            Some((tls, wanted)) => {
                (Some(Box::new(tls)), Speaks::Unknown(OfCore { wanted: Some(wanted), sending: None }))
            }
            None => (None, http2()),
        };
        Carrier {
            socket,
            tls,
            speaks,
            memory,
            held,
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
            peer: None,
        }
    }

    pub fn http2(&mut self) -> Option<&mut Http2> {
        match &mut self.speaks {
            Speaks::Http2(http2, _) => Some(http2),
            _ => None,
        }
    }

    /// What the core has asked, where the connection is the core's.
    pub fn of_core(&mut self) -> Option<&mut OfCore> {
        match &mut self.speaks {
            Speaks::Unknown(core) | Speaks::Http1(core) => Some(core),
            Speaks::Http2(..) => None,
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
        if let Speaks::Http2(http2, _) = &self.speaks {
            http2.wake();
        }
    }

    /// Whether something has come, or waits and can be handed on now.
    pub fn has_come(&self) -> bool {
        let plain = self.tls.as_ref().is_some_and(|tls| !tls.plain().is_empty());
        self.fresh
            || match &self.speaks {
                Speaks::Http2(_, pipe) => plain && pipe.is_read(),
                Speaks::Http1(core) => core.wanted.is_some() && (plain || self.ended),
                // Its first bytes, if too few to tell, wait for more.
                Speaks::Unknown(core) => core.wanted.is_some() && self.ended,
            }
    }

    /// Takes in what has come: what the core is told of its own connection goes to `told`.
    pub fn take_in(&mut self, memory: &mut Memory<'_>, told: &mut Completions) {
        let incoming = self.incoming();
        self.fresh = false;
        if let Some(tls) = &mut self.tls {
            let bytes = &mut memory.buffers.bytes_mut(incoming)[..self.held as usize];
            let used = tls.open(bytes);
            bytes.copy_within(used.., 0);
            self.held -= used as u32;
            let stuck = self.held == incoming.len && tls.plain().is_empty();
            self.ended |= tls.ended || tls.failed || stuck;
            self.broken |= tls.failed;
            if tls.is_agreed() && !self.leaving && matches!(self.speaks, Speaks::Unknown(_)) {
                self.agree(told);
            }
        }
        match (&mut self.speaks, &mut self.tls) {
            (Speaks::Http2(http2, pipe), tls) => {
                if pipe.is_read() {
                    match tls {
                        Some(tls) => pipe.give_bytes(tls.take_plain()),
                        None => pipe.give(memory.own(), incoming.first(std::mem::take(&mut self.held))),
                    }
                }
                if self.ended {
                    pipe.end();
                }
                http2.wake();
            }
            (Speaks::Http1(core), Some(tls)) => {
                let socket = self.socket;
                if let Some(into) = core.wanted {
                    let len = tls.plain().len().min(into.len as usize);
                    if len > 0 || self.ended {
                        memory.buffers.bytes_mut(into.first(len as u32)).copy_from_slice(&tls.plain()[..len]);
                        tls.took(len);
                        core.wanted = None;
                        told.push(Completion::Received { socket, result: Ok(len as u32) });
                    }
                }
            }
            (Speaks::Unknown(core), _) if self.ended => {
                let socket = self.socket;
                if core.wanted.take().is_some() {
                    told.push(Completion::Received { socket, result: Ok(0) });
                }
            }
            _ => {}
        }
    }

    /// Keys have been agreed on, and as soon as it is known what is spoken: where it is HTTP/2, for the core the client has gone.
    fn agree(&mut self, told: &mut Completions) {
        let (Speaks::Unknown(core), Some(tls)) = (&mut self.speaks, &self.tls) else { return };
        let is_http2 = tls.is_http2();
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
        self.speaks = http2();
        let socket = self.socket;
        if core.wanted.is_some() {
            told.push(Completion::Received { socket, result: Ok(0) });
        }
    }

    /// Sends what is to be sent, receives when all has been read that came, and ends when it is over.
    pub fn go_on(&mut self, now: Mono, memory: &mut Memory<'_>, told: &mut Completions, asked: &mut Ops) {
        if self.closing {
            return;
        }
        if let Speaks::Http2(http2, _) = &self.speaks {
            if !http2.is_greeting() {
                self.begun_by = Mono(u64::MAX);
            }
            if http2.is_over() || self.broken {
                self.leave(now);
            }
        }
        if !self.sending {
            let len = self.fill(memory, told);
            if len > 0 {
                asked.push(Op::Send { socket: self.socket, from: self.outgoing().first(len), then: None });
                self.sending = true;
                if !self.leaving && matches!(self.speaks, Speaks::Http2(..)) {
                    self.deadline = now.plus_ms(SEND_MS);
                }
            }
        }
        if self.leaving && (!self.sending || self.broken) {
            return self.close(asked);
        }
        if !self.receiving && !self.ended && !self.leaving && self.is_read() {
            let rest = self.incoming().part(self.held, self.incoming().len - self.held);
            asked.push(Op::Recv { socket: self.socket, into: rest });
            self.receiving = true;
        }
    }

    /// Whether nothing that has come waits to be read.
    fn is_read(&self) -> bool {
        let plain = self.tls.as_ref().is_none_or(|tls| tls.plain().is_empty());
        match &self.speaks {
            Speaks::Http2(_, pipe) => plain && pipe.is_read(),
            Speaks::Http1(_) => plain,
            Speaks::Unknown(_) => true,
        }
    }

    /// Fills the half for what goes; gives how far.
    fn fill(&mut self, memory: &mut Memory<'_>, told: &mut Completions) -> u32 {
        let loans = memory.loans;
        let (incoming, out) = memory.buffers.bytes_mut(self.memory).split_at_mut(self.split() as usize);
        let held = &mut incoming[..self.held as usize];
        let mut filled = 0;
        let Some(tls) = &mut self.tls else {
            let Speaks::Http2(http2, pipe) = &self.speaks else { return 0 };
            let len = pipe.take(out);
            if len > 0 {
                // There is room in the pipe again.
                http2.wake();
            }
            return len as u32;
        };
        filled += tls.take_queued(out);
        match &mut self.speaks {
            Speaks::Http2(http2, pipe) => {
                let (used, len) = pipe.take_with(|plain| tls.seal(plain, &mut out[filled..], held));
                filled += len;
                if used > 0 {
                    http2.wake();
                }
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
                        told.push(Completion::Sent { socket: self.socket, result });
                    } else if used == 0 {
                        break;
                    }
                }
            }
        }
        if self.leaving {
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
        matches!(&self.speaks, Speaks::Http2(http2, _) if http2.streams.is_empty()) && !self.sending && !self.closing
    }
}

fn http2() -> Speaks {
    let pipe = Pipe::new();
    let http2 = Http2::new(pipe.clone());
    http2.wake();
    Speaks::Http2(Box::new(http2), pipe)
}
