//! A socket of the ring that carries HTTP/2.

use super::Memory;
use super::http2::Http2;
use super::pipe::Pipe;
use crate::io::buffers::Span;
use crate::io::clock::Mono;
use crate::io::op::{Errno, Op, Ops, Socket};

/// A client must have said what HTTP/2 begins with this long after its first byte.
const GREETING_MS: u64 = 10_000;
/// What is sent must be taken within this time; it is at most a pipe and a buffer full.
const SEND_MS: u64 = 60_000;

pub(super) struct Carrier {
    pub socket: Socket,
    pub http2: Http2,
    pipe: Pipe,
    /// Half of it for what comes, half for what goes.
    pub memory: Span,
    receiving: bool,
    sending: bool,
    closing: bool,
    /// When the client must have done what is waited for.
    deadline: Mono,
    /// Without a stream since.
    pub idle_since: Mono,
}

impl Carrier {
    /// `first`: bytes that have been received, at the beginning of `memory`.
    pub fn new(socket: Socket, memory: Span, first: u32, now: Mono, loans: &Memory<'_>) -> Carrier {
        let pipe = Pipe::new(loans.own());
        pipe.give(memory.first(first));
        let http2 = Http2::new(pipe.clone());
        http2.wake();
        let deadline = now.plus_ms(GREETING_MS);
        let (receiving, sending, closing) = (false, false, false);
        Carrier { socket, http2, pipe, memory, receiving, sending, closing, deadline, idle_since: now }
    }

    fn incoming(&self) -> Span {
        self.memory.first(self.memory.len / 2)
    }

    fn outgoing(&self) -> Span {
        self.memory.part(self.memory.len / 2, self.memory.len / 2)
    }

    pub fn received(&mut self, result: Result<u32, Errno>) {
        self.receiving = false;
        match result {
            Ok(bytes) if bytes > 0 => self.pipe.give(self.incoming().first(bytes)),
            _ => self.pipe.end(),
        }
        self.http2.wake();
    }

    pub fn sent(&mut self, result: Result<(), Errno>, asked: &mut Ops) {
        self.sending = false;
        self.deadline = Mono(u64::MAX);
        match result {
            Ok(()) => self.http2.wake(),
            Err(_) => self.close(asked),
        }
    }

    /// Sends what is to be sent, receives when all has been read that came, and ends when it is over.
    pub fn go_on(&mut self, now: Mono, memory: &mut Memory<'_>, asked: &mut Ops) {
        if self.closing {
            return;
        }
        if !self.http2.is_greeting() && !self.sending {
            self.deadline = Mono(u64::MAX);
        }
        if !self.sending && self.pipe.has_outgoing() {
            let out = self.outgoing();
            let len = self.pipe.take(memory.buffers.bytes_mut(out)) as u32;
            asked.push(Op::Send { socket: self.socket, from: out.first(len), then: None });
            self.sending = true;
            self.deadline = now.plus_ms(SEND_MS);
            // There is room in the pipe again.
            self.http2.wake();
        }
        if self.http2.is_over() && !self.sending {
            return self.close(asked);
        }
        if !self.receiving && self.pipe.is_read() && !self.http2.is_over() {
            asked.push(Op::Recv { socket: self.socket, into: self.incoming() });
            self.receiving = true;
        }
    }

    pub fn close(&mut self, asked: &mut Ops) {
        if !self.closing {
            self.closing = true;
            self.deadline = Mono(u64::MAX);
            asked.push(Op::Close { socket: self.socket });
        }
    }

    pub fn is_overdue(&self, now: Mono) -> bool {
        self.deadline < now
    }

    /// Whether nothing is lost if it ends now.
    pub fn is_idle(&self) -> bool {
        self.http2.streams.is_empty() && !self.sending && !self.closing
    }
}
