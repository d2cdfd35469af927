//! A stream of HTTP/2, which the core sees as a connection of HTTP/1.1 with one request.
//!
//! What comes is copied once, from where the kernel has put it to where the core wants it; only what comes while the core wants nothing is
//! kept in between, within the stream's window.

use super::answer::Answer;
use super::http2::{Code, Request};
use crate::io::buffers::{Buffers, Span};
use crate::io::op::{Completion, Completions, Errno, Socket};
use std::mem;

/// What the client has ended, or its connection.
const GONE: Errno = Errno(libc::ECONNRESET);

pub(super) struct Stream {
    /// Its number as a socket of the core.
    pub number: Socket,
    /// The ring's socket that carries it.
    pub carrier: Socket,
    /// Its number on its connection.
    pub id: u32,
    pub incoming: Incoming,
    /// Text that the core reads before what comes next.
    lead: Vec<u8>,
    lead_read: usize,
    /// The core gets the body in chunks, as nobody has said how long it is.
    chunks: Option<Chunks>,
    /// Bytes of the body that came while the core wanted none.
    queue: Vec<u8>,
    queue_read: usize,
    /// Where the core wants what comes next, and how much of that has come.
    wanted: Option<Span>,
    filled: u32,
    /// The core is told of what has come at its step of this number.
    told_at: u64,
    /// What the core is sending, from its first part on, and what is to follow it.
    pub sending: Option<(Span, Option<Span>)>,
    pub answer: Answer,
    /// It is among those of its connection that have something to send.
    pub is_ready: bool,
    pub windows: Windows,
    /// The carrier is gone.
    lost: bool,
    /// One side has reset it: nothing more is said of it.
    pub is_reset: bool,
}

/// What of a request's body is to come from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// So many bytes, if the head has said how many.
    Open(Option<u64>),
    Ended,
    /// The client has reset the stream, or its body is not what it said.
    Broken,
}

/// Bytes that may go before somebody gives more room.
pub(super) struct Windows {
    /// That the client may send.
    pub receive: i64,
    /// That have been read, and for which the client has been given no new room.
    pub owed: u32,
    /// That may be sent. Below 0 where the client has made it smaller meanwhile.
    pub send: i64,
}

/// Where in the framing of chunks the core is.
#[derive(Default)]
struct Chunks {
    begun: bool,
    /// Bytes of the chunk to come.
    left: usize,
    /// The last one has been given.
    ended: bool,
}

impl Stream {
    pub fn new(number: Socket, carrier: Socket, id: u32, request: Request, ends: bool, windows: Windows) -> Stream {
        Stream {
            number,
            carrier,
            id,
            incoming: if ends { Incoming::Ended } else { Incoming::Open(request.length) },
            lead: request.text,
            lead_read: 0,
            chunks: request.length.is_none().then(Chunks::default),
            queue: Vec::new(),
            queue_read: 0,
            wanted: None,
            filled: 0,
            told_at: 0,
            sending: None,
            answer: Answer::Head,
            is_ready: false,
            windows,
            lost: false,
            is_reset: false,
        }
    }

    /// The core wants what comes next in `into`.
    pub fn receive(&mut self, into: Span) {
        debug_assert!(self.wanted.is_none(), "one receive at a time");
        (self.wanted, self.filled) = (Some(into), 0);
    }

    /// The core sends `from`, then `then`.
    pub fn send(&mut self, from: Span, then: Option<Span>) {
        debug_assert!(self.sending.is_none(), "one send at a time");
        self.sending = Some((from, then));
    }

    /// Whether the core will say by its step `step`, if not before, where it wants what comes next.
    pub fn may_want(&self, step: u64) -> bool {
        match self.wanted {
            Some(into) => self.filled == into.len,
            None => self.told_at >= step,
        }
    }

    /// The core has been told of the stream, before its step `step`.
    pub fn note_told(&mut self, step: u64) {
        self.told_at = step;
    }

    /// Gives the core of `fresh`, behind what has come before, as much as it has room for; gives how much of `fresh` that was. Bytes of the
    /// body that are given are owed to the client's windows.
    pub fn give(&mut self, fresh: &[u8], buffers: &mut Buffers) -> usize {
        let Some(into) = self.wanted else { return 0 };
        let out = &mut buffers.bytes_mut(into)[self.filled as usize..];
        let (mut at, mut used) = (0, 0);
        while at < out.len() {
            let leads = self.lead_read < self.lead.len();
            let waits = self.queue.len() - self.queue_read + fresh.len() - used;
            let source = if leads {
                &self.lead[self.lead_read..]
            } else if self.frame_chunk(waits) {
                continue;
            } else if self.queue_read < self.queue.len() {
                &self.queue[self.queue_read..]
            } else {
                &fresh[used..]
            };
            let most = self.chunks.as_ref().filter(|_| !leads).map_or(usize::MAX, |chunks| chunks.left);
            let len = source.len().min(out.len() - at).min(most);
            if len == 0 {
                break;
            }
            out[at..at + len].copy_from_slice(&source[..len]);
            at += len;
            if leads {
                self.lead_read += len;
                continue;
            }
            match self.queue_read < self.queue.len() {
                true => self.queue_read += len,
                false => used += len,
            }
            if let Some(chunks) = &mut self.chunks {
                chunks.left -= len;
            }
            self.windows.owed += len as u32;
        }
        self.filled += at as u32;
        if self.queue_read == self.queue.len() && !self.queue.is_empty() {
            (self.queue, self.queue_read) = (Vec::new(), 0);
        }
        used
    }

    /// Where `waits` bytes are to be read and no chunk says so: leads with its head; or with the end of all chunks.
    fn frame_chunk(&mut self, waits: usize) -> bool {
        let Some(chunks) = &mut self.chunks else { return false };
        if chunks.left > 0 || chunks.ended || (waits == 0 && self.incoming != Incoming::Ended) {
            return false;
        }
        self.lead.clear();
        self.lead_read = 0;
        if mem::replace(&mut chunks.begun, true) {
            self.lead.extend_from_slice(b"\r\n");
        }
        match waits {
            0 => {
                chunks.ended = true;
                self.lead.extend_from_slice(b"0\r\n\r\n");
            }
            _ => {
                chunks.left = waits;
                self.lead.extend_from_slice(format!("{waits:x}\r\n").as_bytes());
            }
        }
        true
    }

    /// Keeps what the core has no room for.
    pub fn keep(&mut self, bytes: &[u8]) {
        if self.queue_read > self.queue.len() / 2 {
            self.queue.drain(..self.queue_read);
            self.queue_read = 0;
        }
        self.queue.extend_from_slice(bytes);
    }

    /// Forgets what is kept; gives how many bytes that were.
    pub fn forget(&mut self) -> u32 {
        let len = self.queue.len() - self.queue_read;
        (self.queue, self.queue_read) = (Vec::new(), 0);
        len as u32
    }

    /// The client has ended its body. `None`: that is not as long as it said.
    pub fn end(&mut self) -> Option<()> {
        let whole = matches!(self.incoming, Incoming::Open(None | Some(0)));
        if whole {
            self.incoming = Incoming::Ended;
        }
        whole.then_some(())
    }

    /// Tells the core, before its step `step`, what it waits for, if that is known.
    pub fn tell(&mut self, step: u64, told: &mut Completions) {
        if self.wanted.is_none() {
            return;
        }
        let result = match self.filled {
            0 => match self.nothing_more() {
                Some(result) => result,
                None => return,
            },
            filled => Ok(filled),
        };
        self.wanted = None;
        self.told_at = step;
        told.push(Completion::Received { socket: self.number, result });
    }

    /// What a core that waits for what comes next is told where nothing will. Behind a whole request that is so when the answer has gone or
    /// the client has taken the request back: a connection of HTTP/1.1 too stays open until then.
    fn nothing_more(&self) -> Option<Result<u32, Errno>> {
        match self.incoming {
            Incoming::Broken => Some(Err(GONE)),
            _ if self.lost => Some(Ok(0)),
            Incoming::Ended if self.answer == Answer::Done => Some(Ok(0)),
            Incoming::Ended | Incoming::Open(_) => None,
        }
    }

    /// What the core is sending has gone, or cannot go.
    pub fn tell_sent(&mut self, gone: bool, told: &mut Completions) {
        if self.sending.take().is_some() {
            told.push(Completion::Sent { socket: self.number, result: if gone { Ok(()) } else { Err(GONE) } });
        }
    }

    /// One side has reset the stream. What it held of the connection's window is given.
    pub fn fail(&mut self, told: &mut Completions) -> u32 {
        self.is_reset = true;
        self.incoming = Incoming::Broken;
        self.tell_sent(false, told);
        self.forget()
    }

    /// The carrier is gone: what the core waits for is answered, and whatever it asks for from now on.
    pub fn lose(&mut self, step: u64, told: &mut Completions) {
        self.lost = true;
        self.forget();
        self.tell(step, told);
        self.tell_sent(false, told);
    }

    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// A frame of `len` bytes has begun, `extra` of which are none of the body. The error ends the stream.
    pub fn expect(&mut self, len: u32, extra: u32) -> Result<(), Code> {
        let Incoming::Open(left) = &mut self.incoming else { return Err(Code::StreamClosed) };
        self.windows.receive -= len as i64;
        self.windows.owed += extra;
        if self.windows.receive < 0 {
            return Err(Code::FlowControl);
        }
        if let Some(left) = left {
            *left = left.checked_sub((len - extra) as u64).ok_or(Code::Protocol)?;
        }
        Ok(())
    }

    /// Whether nothing of an answer has come from the core.
    pub fn is_unanswered(&self) -> bool {
        self.answer == Answer::Head
    }

    /// Whether the client waits for something of it still.
    pub fn is_open(&self) -> bool {
        !self.is_reset && self.answer != Answer::Done
    }
}
