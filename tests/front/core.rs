//! The simplest core: it reads requests of HTTP/1.1 and answers each as its path says. It holds the front to what a ring owes a core.

use crate::random::Random;
use penstock::front::Memory;
use penstock::io::buffers::{Pool, Span};
use penstock::io::op::{Completion, Completions, Op, Ops, Socket};
use std::collections::VecDeque;

/// A request is never larger here, unless it has been disturbed.
const REQUEST_MAX: usize = 1 << 20;

/// What a request wants: the path of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub kind: Kind,
    pub len: usize,
    pub id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer that says its length.
    Sized,
    /// One in chunks, each a send, and a receive in flight all the while: a subscription.
    Chunked,
    /// The core closes instead of answering.
    None,
    /// The core closes in the middle of a chunk.
    Half,
}

const KINDS: [(Kind, &str); 4] =
    [(Kind::Sized, "sized"), (Kind::Chunked, "chunked"), (Kind::None, "none"), (Kind::Half, "half")];

impl Wanted {
    pub fn path(&self) -> String {
        let name = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name);
        format!("/{name}/{}/{}", self.len, self.id)
    }

    fn parse(path: &str) -> Option<Wanted> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let name = parts.next()?;
        let (kind, _) = KINDS.iter().find(|(_, other)| *other == name)?;
        let (len, id) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (len <= REQUEST_MAX).then_some(Wanted { kind: *kind, len, id })
    }

    /// The body of the answer: it tells the number of the request, and every byte of its body.
    pub fn answer(&self, body: &[u8]) -> Vec<u8> {
        let hash = |hash: u64, byte: &u8| (hash ^ *byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        let mut random = Random::stream(body.iter().fold(self.id, hash), "answer");
        (0..self.len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(self.len).collect()
    }
}

#[derive(Default)]
struct Slot {
    open: bool,
    closing: bool,
    receiving: bool,
    /// It is to receive, in its own time.
    wanting: bool,
    sending: bool,
    received: Vec<u8>,
    /// What is to be sent, each one a send; empty where the core closes.
    steps: VecDeque<Vec<u8>>,
    answering: bool,
    /// The answer is in chunks, and a receive is in flight meanwhile.
    streaming: bool,
    /// The client sends nothing more.
    ended: bool,
    lent: Option<Span>,
}

pub struct Core {
    slots: Vec<Slot>,
    random: Random,
    /// How soon it receives and sends, in parts of 1,000 turns.
    eager: u32,
    /// Requests that it has seen whole.
    pub requests: u64,
}

impl Core {
    pub fn new(seed: u64, sockets: u16) -> Core {
        let slots = (0..sockets).map(|_| Slot::default()).collect();
        let mut random = Random::stream(seed, "core");
        let eager = *random.pick(&[1000, 600, 100]);
        Core { slots, random, eager, requests: 0 }
    }

    /// For who waits for it in vain.
    pub fn state(&self) -> String {
        let open = self.slots.iter().enumerate().filter(|(_, slot)| slot.open);
        let state = |(number, slot): (usize, &Slot)| {
            let Slot { closing, receiving, wanting, sending, answering, ended, .. } = slot;
            format!(
                "{number}: closing {closing}, receiving {receiving}, wanting {wanting}, sending {sending}, answering {answering}, \
                 ended {ended}, {} received, {} steps",
                slot.received.len(),
                slot.steps.len()
            )
        };
        open.map(state).collect::<Vec<_>>().join("\n")
    }

    /// Sockets that it believes to be open.
    pub fn open(&self) -> usize {
        self.slots.iter().filter(|slot| slot.open).count()
    }

    pub fn step(&mut self, done: &mut Completions, ops: &mut Ops, memory: &mut Memory<'_>) {
        for completion in done.drain(..) {
            self.on(completion, ops, memory);
        }
        // Who found no buffer, or is slow.
        for number in 0..self.slots.len() {
            let slot = &mut self.slots[number];
            if slot.wanting && self.random.chance(self.eager) {
                slot.wanting = false;
                if !slot.closing {
                    slot.receiving = true;
                    let into = memory.buffers.whole(Pool::Connection, number as u16);
                    ops.push(Op::Recv { socket: Socket(number as u32), into });
                }
            }
            if slot.answering && !slot.sending && !slot.closing && self.random.chance(self.eager) {
                self.send(number, ops, memory);
            }
        }
    }

    fn on(&mut self, completion: Completion, ops: &mut Ops, memory: &mut Memory<'_>) {
        match completion {
            Completion::Accepted(Ok(socket)) => {
                let slot = &mut self.slots[socket.0 as usize];
                assert!(!slot.open, "{socket:?} is accepted twice");
                *slot = Slot { open: true, ..Slot::default() };
                receive(slot);
            }
            Completion::Client { socket, .. } => {
                assert!(self.slots[socket.0 as usize].open, "{completion:?}: it is not open");
            }
            Completion::Received { socket, result } => {
                let slot = &mut self.slots[socket.0 as usize];
                assert!(slot.open && slot.receiving, "{completion:?}: nobody waits for it");
                slot.receiving = false;
                match result {
                    Ok(len) if len > 0 => {
                        let span = memory.buffers.whole(Pool::Connection, socket.0 as u16).first(len);
                        slot.received.extend_from_slice(memory.buffers.bytes(span));
                    }
                    _ => slot.ended = true,
                }
                self.go_on(socket.0 as usize, ops);
            }
            Completion::Sent { socket, result } => {
                let slot = &mut self.slots[socket.0 as usize];
                assert!(slot.open && slot.sending, "{completion:?}: nothing was being sent");
                slot.sending = false;
                slot.lent.take().into_iter().for_each(|span| memory.buffers.give(span));
                match result {
                    Ok(()) => self.sent(socket.0 as usize, ops),
                    Err(_) => close(slot, socket, ops),
                }
            }
            Completion::Closed { socket } => {
                let slot = &mut self.slots[socket.0 as usize];
                assert!(slot.open && slot.closing, "{completion:?}: it was not to be closed");
                slot.lent.take().into_iter().for_each(|span| memory.buffers.give(span));
                *slot = Slot::default();
            }
            other => panic!("{other:?} is none of a socket"),
        }
    }

    /// Something has come, or the end.
    fn go_on(&mut self, number: usize, ops: &mut Ops) {
        let (slot, socket) = (&mut self.slots[number], Socket(number as u32));
        if slot.closing {
            return;
        }
        if slot.answering {
            // What a subscriber sends meanwhile waits.
            match slot.ended {
                true => close(slot, socket, ops),
                false => receive(slot),
            }
            return;
        }
        match read(&slot.received) {
            Read::Whole { wanted, body, len } => {
                slot.received.drain(..len);
                self.requests += 1;
                self.answer(number, wanted, &body, ops);
            }
            Read::More if slot.ended || slot.received.len() > REQUEST_MAX => close(slot, socket, ops),
            Read::More => receive(slot),
            Read::Wrong => {
                slot.steps.push_back(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec());
                slot.steps.push_back(Vec::new());
                slot.answering = true;
            }
        }
    }

    fn answer(&mut self, number: usize, wanted: Wanted, body: &[u8], ops: &mut Ops) {
        let (slot, socket) = (&mut self.slots[number], Socket(number as u32));
        let bytes = wanted.answer(body);
        // Small pieces, but not too many of them.
        let most = 1 + bytes.len() / 200;
        slot.answering = true;
        slot.streaming = wanted.kind == Kind::Chunked;
        if wanted.kind == Kind::Sized {
            let head = format!("HTTP/1.1 200 OK\r\nx-id: {}\r\nContent-Length: {}\r\n\r\n", wanted.id, bytes.len());
            slot.steps.push_back(head.into_bytes());
            let most = most.max(self.random.index(30_000));
            slot.steps.extend(bytes.chunks(most).map(<[u8]>::to_vec));
            return;
        }
        if wanted.kind == Kind::None {
            return close(slot, socket, ops);
        }
        let head = format!("HTTP/1.1 200 OK\r\nx-id: {}\r\nTransfer-Encoding: chunked\r\n\r\n", wanted.id);
        slot.steps.push_back(head.into_bytes());
        for chunk in bytes.chunks(most.max(self.random.index(9_000))) {
            slot.steps.push_back([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        slot.steps.push_back(b"0\r\n\r\n".to_vec());
        if wanted.kind == Kind::Half {
            // The last send ends in the middle of what it began.
            slot.steps.truncate(1 + self.random.index(slot.steps.len()));
            slot.steps.push_back(b"5\r\nab".to_vec());
            slot.steps.push_back(Vec::new());
        } else {
            receive(slot);
        }
    }

    /// Sends the next step, if there is a buffer for it: up to some place from the reply's slot, the rest from one of the pools.
    fn send(&mut self, number: usize, ops: &mut Ops, memory: &mut Memory<'_>) {
        let (slot, socket) = (&mut self.slots[number], Socket(number as u32));
        let Some(step) = slot.steps.front() else { return };
        if step.is_empty() {
            return close(slot, socket, ops);
        }
        let reply = memory.buffers.whole(Pool::Reply, number as u16);
        let head = step.starts_with(b"HTTP/1.1 ");
        let first = if head { step.len() } else { 1 + self.random.index(step.len().min(reply.len as usize)) };
        let then = match first < step.len() {
            true => match memory.buffers.take(Pool::Small) {
                Some(span) => Some(span),
                None => return,
            },
            false => None,
        };
        let from = reply.first(first as u32);
        memory.buffers.bytes_mut(from).copy_from_slice(&step[..first]);
        slot.lent = then;
        let then = then.map(|span| span.first((step.len() - first) as u32));
        if let Some(span) = then {
            memory.buffers.bytes_mut(span).copy_from_slice(&step[first..]);
        }
        slot.sending = true;
        slot.steps.pop_front();
        ops.push(Op::Send { socket, from, then });
        // A deadline of the core, where the answer is one that need not be whole.
        if slot.steps.front().is_some_and(Vec::is_empty) && self.random.chance(300) {
            close(slot, socket, ops);
        }
    }

    fn sent(&mut self, number: usize, ops: &mut Ops) {
        let slot = &mut self.slots[number];
        if slot.closing || !slot.steps.is_empty() {
            return;
        }
        slot.answering = false;
        if std::mem::take(&mut slot.streaming) && (slot.receiving || slot.wanting) {
            return;
        }
        match slot.received.is_empty() && !slot.ended {
            true => receive(slot),
            false => self.go_on(number, ops),
        }
    }
}

fn receive(slot: &mut Slot) {
    slot.wanting |= !slot.receiving;
}

fn close(slot: &mut Slot, socket: Socket, ops: &mut Ops) {
    if !slot.closing {
        slot.closing = true;
        ops.push(Op::Close { socket });
    }
}

enum Read {
    Whole { wanted: Wanted, body: Vec<u8>, len: usize },
    More,
    Wrong,
}

/// The request that `text` begins with.
fn read(text: &[u8]) -> Read {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let at = match head.parse(text) {
        Ok(httparse::Status::Complete(at)) => at,
        Ok(httparse::Status::Partial) => return Read::More,
        Err(_) => return Read::Wrong,
    };
    let Some(wanted) = head.path.and_then(Wanted::parse) else { return Read::Wrong };
    let header = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if header("transfer-encoding").is_some() {
        return chunks(&text[at..]).map_or(Read::More, |(body, len)| Read::Whole { wanted, body, len: at + len });
    }
    let len = header("content-length").and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    match text[at..].get(..len.unwrap_or(0)) {
        Some(body) => Read::Whole { wanted, body: body.to_vec(), len: at + body.len() },
        None => Read::More,
    }
}

/// A body in chunks and how long it was with its framing; `None`: it is not whole.
pub fn chunks(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = memchr::memmem::find(&text[at..], b"\r\n")?;
        let size = std::str::from_utf8(&text[at..at + line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("whoever sends a chunk says how long it is");
        at += line + 2;
        body.extend_from_slice(text.get(at..at + size)?);
        let end = text.get(at + size..at + size + 2)?;
        assert_eq!(end, b"\r\n", "a chunk is as long as it was said to be");
        at += size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}
