//! A stream of HTTP/2, which the core sees as a connection of HTTP/1.1 with one request.

use super::Memory;
use super::answer::{Answer, Part};
use crate::io::buffers::Span;
use crate::io::op::{Completion, Completions, Errno, Socket};
use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::request::Parts;
use std::task::{Context, Poll, Waker};

/// What the client has ended, or its connection.
const GONE: Errno = Errno(libc::ECONNRESET);
/// A chunk's length, with its line ends.
const CHUNK_HEAD_MAX: usize = 16;

pub(super) struct Stream {
    /// Its number as a socket of the core.
    number: Socket,
    /// The ring's socket that carries it.
    pub carrier: Socket,
    waker: Waker,
    request: RecvStream,
    respond: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
    /// Text that the core reads before `piece`.
    lead: Vec<u8>,
    lead_read: usize,
    piece: Bytes,
    /// Bytes of `piece` when it came: returned to the client's window when it has been read.
    piece_len: usize,
    incoming: Incoming,
    /// Where the core wants what comes next.
    wanted: Option<Span>,
    /// What the core is sending, from its first part on, and what is to follow it.
    sending: Option<(Span, Option<Span>)>,
    answer: Answer,
    /// The carrier is gone.
    lost: bool,
}

/// What of a request's body is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incoming {
    /// As long as the head has said.
    Sized,
    /// Nobody has said how long: the core gets it in chunks. `begun`: one has been given.
    Chunked {
        begun: bool,
    },
    Whole,
    /// The client has reset the stream, or its body is not what it said.
    Broken,
}

impl Stream {
    pub fn new(
        number: Socket,
        carrier: Socket,
        waker: Waker,
        head: &Parts,
        request: RecvStream,
        respond: SendResponse<Bytes>,
    ) -> Stream {
        let sized = head.headers.contains_key(http::header::CONTENT_LENGTH) || request.is_end_stream();
        Stream {
            number,
            carrier,
            waker,
            lead: head_text(head, !sized),
            lead_read: 0,
            request,
            respond,
            body: None,
            piece: Bytes::new(),
            piece_len: 0,
            incoming: if sized { Incoming::Sized } else { Incoming::Chunked { begun: false } },
            wanted: None,
            sending: None,
            answer: Answer::Head,
            lost: false,
        }
    }

    /// The core wants what comes next in `into`.
    pub fn receive(&mut self, into: Span, memory: &mut Memory<'_>, told: &mut Completions) {
        debug_assert!(self.wanted.is_none(), "one receive at a time");
        self.wanted = Some(into);
        self.feed(memory, told);
    }

    /// The core sends `from`, then `then`.
    pub fn send(&mut self, from: Span, then: Option<Span>, memory: &Memory<'_>, told: &mut Completions) {
        debug_assert!(self.sending.is_none(), "one send at a time");
        self.sending = Some((from, then));
        self.pump(memory, told);
        self.end(told);
    }

    /// The carrier is gone: what the core waits for is answered, and whatever it asks for from now on.
    pub fn lose(&mut self, told: &mut Completions) {
        self.lost = true;
        if self.wanted.take().is_some() {
            told.push(Completion::Received { socket: self.number, result: Ok(0) });
        }
        if self.sending.take().is_some() {
            told.push(Completion::Sent { socket: self.number, result: Err(GONE) });
        }
    }

    /// Goes as far as it can: something has come, or there is room to send.
    pub fn go_on(&mut self, memory: &mut Memory<'_>, told: &mut Completions) {
        self.feed(memory, told);
        self.pump(memory, told);
        self.end(told);
    }

    /// Gives the core what has come, if it waits for it.
    fn feed(&mut self, memory: &mut Memory<'_>, told: &mut Completions) {
        let Some(into) = self.wanted else { return };
        let out = memory.buffers.bytes_mut(into);
        let mut filled = 0;
        while filled < out.len() {
            let room = out.len() - filled;
            let len = if self.lead_read < self.lead.len() {
                let text = &self.lead[self.lead_read..];
                let len = text.len().min(room);
                out[filled..filled + len].copy_from_slice(&text[..len]);
                self.lead_read += len;
                len
            } else if self.piece.has_remaining() {
                let len = self.piece.remaining().min(room);
                self.piece.copy_to_slice(&mut out[filled..filled + len]);
                if !self.piece.has_remaining() {
                    // Fails only where the stream has ended, and nobody waits for its window.
                    let _ = self.request.flow_control().release_capacity(self.piece_len);
                }
                len
            } else if self.next_piece() {
                0
            } else {
                break;
            };
            filled += len;
        }
        if filled > 0 {
            self.wanted = None;
            told.push(Completion::Received { socket: self.number, result: Ok(filled as u32) });
        } else {
            self.end(told);
        }
    }

    /// Tells a core that waits for what comes next that nothing will. Behind a whole request that is so when the answer has gone or the
    /// client has taken the request back: a connection of HTTP/1.1 too stays open until then.
    fn end(&mut self, told: &mut Completions) {
        if self.wanted.is_none() {
            return;
        }
        let result = match self.incoming {
            Incoming::Broken => Err(GONE),
            _ if self.lost => Ok(0),
            Incoming::Whole if self.answer == Answer::Done => Ok(0),
            Incoming::Whole => match self.is_reset() {
                true => Err(GONE),
                false => return,
            },
            Incoming::Sized | Incoming::Chunked { .. } => return,
        };
        self.wanted = None;
        told.push(Completion::Received { socket: self.number, result });
    }

    /// Whether the client has given up its stream. It is woken when it does.
    fn is_reset(&mut self) -> bool {
        let mut context = Context::from_waker(&self.waker);
        match &mut self.body {
            Some(body) => body.poll_reset(&mut context).is_ready(),
            None => self.respond.poll_reset(&mut context).is_ready(),
        }
    }

    /// Takes what has come next from the connection, if something has.
    fn next_piece(&mut self) -> bool {
        let begun = match self.incoming {
            Incoming::Whole | Incoming::Broken => return false,
            Incoming::Sized => None,
            Incoming::Chunked { begun } => Some(begun),
        };
        match self.request.poll_data(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(piece))) => {
                self.piece_len = piece.len();
                if let Some(begun) = begun
                    && !piece.is_empty()
                {
                    self.lead_with(begun, &format!("{:x}\r\n", piece.len()));
                    self.incoming = Incoming::Chunked { begun: true };
                }
                self.piece = piece;
                true
            }
            Poll::Ready(Some(Err(_))) => {
                self.incoming = Incoming::Broken;
                false
            }
            Poll::Ready(None) => {
                self.incoming = Incoming::Whole;
                if let Some(begun) = begun {
                    self.lead_with(begun, "0\r\n\r\n");
                }
                begun.is_some()
            }
        }
    }

    /// Framing of a chunk, behind the line end of the one before it.
    fn lead_with(&mut self, begun: bool, text: &str) {
        self.lead.clear();
        self.lead.shrink_to(CHUNK_HEAD_MAX);
        self.lead_read = 0;
        self.lead.extend_from_slice(if begun { b"\r\n" } else { b"" });
        self.lead.extend_from_slice(text.as_bytes());
    }

    /// Hands on what the core is sending, as far as the client's window and the connection's buffer allow.
    fn pump(&mut self, memory: &Memory<'_>, told: &mut Completions) {
        let Some((mut from, mut then)) = self.sending else { return };
        let mut sent = if self.lost { Sent::Failed } else { Sent::Some };
        while sent == Sent::Some {
            if from.len == 0 {
                match then.take() {
                    Some(span) => from = span,
                    None => {
                        sent = Sent::All;
                        continue;
                    }
                }
            }
            match self.push(memory.bytes(from)) {
                Ok(0) => sent = Sent::Blocked,
                Ok(len) => from = from.part(len as u32, from.len - len as u32),
                Err(()) => sent = Sent::Failed,
            }
        }
        self.sending = (sent == Sent::Blocked).then_some((from, then));
        let result = match sent {
            Sent::All => Ok(()),
            Sent::Failed => Err(GONE),
            Sent::Some | Sent::Blocked => return,
        };
        told.push(Completion::Sent { socket: self.number, result });
    }

    /// Hands on the beginning of `bytes`; gives how long that was, 0 where it has to wait.
    fn push(&mut self, bytes: &[u8]) -> Result<usize, ()> {
        if bytes.is_empty() {
            return Err(());
        }
        match self.answer.next(bytes).ok_or(())? {
            Part::Head { len, response, ends } => {
                self.body = Some(self.respond.send_response(*response, ends).map_err(drop)?);
                Ok(len)
            }
            Part::Framing(len) => Ok(len),
            Part::Last(len) => {
                self.body.as_mut().ok_or(())?.send_data(Bytes::new(), true).map_err(drop)?;
                Ok(len)
            }
            Part::Data(len) => {
                let body = self.body.as_mut().ok_or(())?;
                body.reserve_capacity(len);
                let mut room = body.capacity();
                while room == 0 {
                    match body.poll_capacity(&mut Context::from_waker(&self.waker)) {
                        Poll::Pending => return Ok(0),
                        Poll::Ready(Some(Ok(more))) => room = more,
                        Poll::Ready(Some(Err(_)) | None) => return Err(()),
                    }
                }
                let len = len.min(room);
                let last = self.answer.took(len);
                let body = self.body.as_mut().ok_or(())?;
                body.send_data(Bytes::copy_from_slice(&bytes[..len]), last).map_err(drop)?;
                Ok(len)
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Sent {
    Some,
    All,
    Blocked,
    Failed,
}

/// A request's head as the text of HTTP/1.1. `h2` has checked that no value breaks a line, and that no header is one of a connection.
fn head_text(head: &Parts, chunked: bool) -> Vec<u8> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut text = Vec::with_capacity(1024);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| text.extend_from_slice(part));
    put(&[head.method.as_str().as_bytes(), b" ", path.as_bytes(), b" HTTP/1.1\r\n"]);
    if let Some(authority) = head.uri.authority() {
        put(&[b"host: ", authority.as_str().as_bytes(), b"\r\n"]);
    }
    for (name, value) in &head.headers {
        let own = (*name == http::header::HOST && head.uri.authority().is_some()) || *name == http::header::EXPECT;
        if !own {
            put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    if chunked {
        put(&[b"transfer-encoding: chunked\r\n"]);
    }
    put(&[b"\r\n"]);
    text
}
