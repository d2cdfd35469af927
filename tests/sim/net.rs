//! The network: connections between clients and workers. Bytes arrive in any pieces; connections end in any way.
//!
//! Each direction keeps its order; when its pieces arrive is drawn. The core's side is told in completions, the client's side in
//! [`Event::Deliver`] and [`Event::Ended`], which whoever runs the clients handles.

use super::clock::{MICROSECOND, MILLISECOND};
use super::random::Random;
use penstock::io::buffers::Span;
use penstock::io::op::{Completion, Errno, Socket};
use std::collections::{BTreeMap, VecDeque};

const ECONNRESET: Errno = Errno(104);
const EPIPE: Errno = Errno(32);
const ECANCELED: Errno = Errno(125);
const ENFILE: Errno = Errno(23);

/// A connection, never used again.
pub type Id = u64;

#[derive(Clone, Debug)]
pub enum Event {
    /// The connection reaches the listener.
    Connect(Id),
    /// Bytes of the client reach the server.
    Arrive(Id, Vec<u8>),
    /// The client has ended its direction.
    HalfClose(Id),
    /// The client's reset reaches the server.
    Reset(Id),
    RecvDone(Id),
    SendDone(Id),
    CloseDone(Id),
    /// Bytes reach the client.
    Deliver(Id, Vec<u8>),
    /// The client sees the end (or the reset) of the connection.
    Ended(Id),
}

/// How unpleasant the network is.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// In parts of 1,000: pieces of a few bytes.
    pub crumbs: u32,
    /// In parts of 1,000 sends: the reader stalls for a while.
    pub stalls: u32,
    /// In parts of 1,000 requests: the connection is reset somewhere.
    pub resets: u32,
}

#[derive(Debug)]
struct Connection {
    worker: u16,
    native: bool,
    socket: Option<Socket>,
    /// Bytes that have reached the server and have not been received.
    inbound: VecDeque<u8>,
    ended: bool,
    reset: bool,
    /// The receive in flight, and whether its completion is on the way.
    recv: Option<Recv>,
    recv_due: bool,
    send: Option<Sending>,
    closing: bool,
    /// When the last piece in each direction arrives: later ones come later.
    last_in: u64,
    last_out: u64,
}

/// A receive: with `all`, of nothing less than all of `into`.
#[derive(Clone, Copy, Debug)]
pub struct Recv {
    pub into: Span,
    pub all: bool,
}

#[derive(Debug)]
struct Sending {
    spans: (Span, Option<Span>),
    /// As they were when the send was submitted.
    bytes: Vec<u8>,
}

/// A worker, its completion, and bytes for a span of its memory.
pub type Told = (u16, Completion, Option<(Span, Vec<u8>)>);

/// What the network tells the one who runs it, beside the completion.
pub type Later = Vec<(u64, Event)>;

#[derive(Debug)]
pub struct Net {
    connections: BTreeMap<Id, Connection>,
    /// For each worker: whether it accepts, and which connection has each socket.
    listeners: Vec<Listener>,
    random: Random,
    pub manners: Manners,
    next: Id,
}

#[derive(Debug)]
struct Listener {
    accepting: bool,
    waiting: Vec<Id>,
    sockets: Vec<Option<Id>>,
}

impl Net {
    pub fn new(random: Random, manners: Manners) -> Net {
        Net { connections: BTreeMap::new(), listeners: Vec::new(), random, manners, next: 1 }
    }

    /// A node with this many workers and sockets for each has started.
    pub fn listen(&mut self, workers: u16, sockets: u16) {
        let listener = |_| Listener { accepting: false, waiting: Vec::new(), sockets: vec![None; sockets as usize] };
        self.listeners = (0..workers).map(listener).collect();
    }

    /// The node is gone: every connection ends for its client.
    pub fn cut(&mut self, later: &mut Later) {
        self.listeners.clear();
        for (id, connection) in std::mem::take(&mut self.connections) {
            later.push((connection.last_out.max(1) + self.random.delay(100 * MICROSECOND), Event::Ended(id)));
        }
    }

    /// A client connects; `None` when nobody listens.
    pub fn connect(&mut self, now: u64, later: &mut Later) -> Option<Id> {
        if self.listeners.is_empty() {
            return None;
        }
        let id = self.next;
        self.next += 1;
        let worker = self.random.below(self.listeners.len() as u64) as u16;
        let connection = Connection {
            worker,
            native: false,
            socket: None,
            inbound: VecDeque::new(),
            ended: false,
            reset: false,
            recv: None,
            recv_due: false,
            send: None,
            closing: false,
            last_in: 0,
            last_out: 0,
        };
        self.connections.insert(id, connection);
        let at = self.after(now, id, 30 * MICROSECOND);
        later.push((at, Event::Connect(id)));
        Some(id)
    }

    /// The same; `native`: to the listener of the native protocol.
    pub fn connect_to(&mut self, native: bool, now: u64, later: &mut Later) -> Option<Id> {
        let id = self.connect(now, later)?;
        self.connections.get_mut(&id).expect("it was just made").native = native;
        Some(id)
    }

    /// A time after `now` and after everything that is on its way from the client of `id`.
    fn after(&mut self, now: u64, id: Id, typical: u64) -> u64 {
        let delay = self.random.delay(typical);
        let connection = self.connections.get_mut(&id).expect("asked for a connection that is there");
        connection.last_in = connection.last_in.max(now + delay) + 1;
        connection.last_in
    }

    /// A client sends: in pieces of any size.
    pub fn client_sends(&mut self, now: u64, id: Id, bytes: &[u8], later: &mut Later) {
        if !self.connections.contains_key(&id) {
            return;
        }
        let crumbs = self.random.chance(self.manners.crumbs);
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = if crumbs { self.random.between(1, 40) } else { self.random.between(1, 20_000) } as usize;
            let (piece, behind) = rest.split_at(most.min(rest.len()));
            // Crumbs arrive one by one, so that each can be received alone; other pieces may pile up.
            let from = if crumbs { self.connections[&id].last_in.max(now) } else { now };
            let at = self.after(from, id, 5 * MICROSECOND);
            later.push((at, Event::Arrive(id, piece.to_vec())));
            rest = behind;
        }
    }

    pub fn client_half_closes(&mut self, now: u64, id: Id, later: &mut Later) {
        if self.connections.contains_key(&id) {
            let at = self.after(now, id, 5 * MICROSECOND);
            later.push((at, Event::HalfClose(id)));
        }
    }

    /// A client goes away without a word; part of what it has sent may not arrive.
    pub fn client_resets(&mut self, now: u64, id: Id, later: &mut Later) {
        if self.connections.contains_key(&id) {
            let delay = self.random.delay(20 * MICROSECOND);
            later.push((now + delay, Event::Reset(id)));
        }
    }

    /// The worker takes connections from now on.
    pub fn accept(&mut self, worker: u16, now: u64, later: &mut Later) {
        let listener = &mut self.listeners[worker as usize];
        assert!(!listener.accepting, "worker {worker} accepts twice");
        listener.accepting = true;
        let waiting = std::mem::take(&mut listener.waiting);
        later.extend(waiting.into_iter().map(|id| (now + 1, Event::Connect(id))));
    }

    fn at(&mut self, worker: u16, socket: Socket) -> (Id, &mut Connection) {
        let id = self.listeners[worker as usize].sockets[socket.0 as usize];
        let id = id.unwrap_or_else(|| panic!("worker {worker} uses {socket:?}, which is not connected"));
        let connection = self.connections.get_mut(&id).expect("a socket in use has its connection");
        assert!(!connection.closing, "worker {worker} uses {socket:?} after closing it");
        (id, connection)
    }

    /// The connection of a socket in use.
    pub fn id(&mut self, worker: u16, socket: Socket) -> Id {
        self.at(worker, socket).0
    }

    pub fn recv(&mut self, worker: u16, socket: Socket, recv: Recv, now: u64, later: &mut Later) {
        let (id, connection) = self.at(worker, socket);
        assert!(connection.recv.is_none() && recv.into.len > 0, "two receives, or an empty one, on {socket:?}");
        connection.recv = Some(recv);
        self.receive_if_ready(id, now, later);
    }

    fn receive_if_ready(&mut self, id: Id, now: u64, later: &mut Later) {
        let delay = self.random.delay(MICROSECOND);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(recv) = connection.recv else { return };
        let least = if recv.all { recv.into.len as usize } else { 1 };
        let ready = connection.inbound.len() >= least || connection.ended || connection.reset || connection.closing;
        if !connection.recv_due && ready {
            connection.recv_due = true;
            later.push((now + delay, Event::RecvDone(id)));
        }
    }

    /// `bytes`: of both spans.
    pub fn send(
        &mut self,
        worker: u16,
        socket: Socket,
        spans: (Span, Option<Span>),
        bytes: Vec<u8>,
        now: u64,
        later: &mut Later,
    ) {
        let stall = self.random.chance(self.manners.stalls);
        let delay = if stall {
            self.random.between(MILLISECOND, 3_000 * MILLISECOND)
        } else {
            self.random.delay(10 * MICROSECOND)
        };
        let (id, connection) = self.at(worker, socket);
        assert!(connection.send.is_none() && !bytes.is_empty(), "two sends, or an empty one, on {socket:?}");
        connection.send = Some(Sending { spans, bytes });
        later.push((now + delay, Event::SendDone(id)));
    }

    pub fn close(&mut self, worker: u16, socket: Socket, now: u64, later: &mut Later) {
        let (id, connection) = self.at(worker, socket);
        connection.closing = true;
        if connection.send.is_some() {
            // A send that is stalled is cut short; the event of its natural end finds nothing then.
            later.push((now + 2, Event::SendDone(id)));
        }
        self.receive_if_ready(id, now, later);
        let delay = self.random.delay(5 * MICROSECOND);
        later.push((now + delay, Event::CloseDone(id)));
    }

    /// The spans of a send in flight, to be read again when it completes.
    pub fn sending(&self, id: Id) -> Option<(u16, Span, Option<Span>)> {
        let connection = self.connections.get(&id)?;
        let (first, then) = connection.send.as_ref()?.spans;
        Some((connection.worker, first, then))
    }

    /// An event at the server's side has come: what the worker is told, with the bytes to put into its span. `sent`: the spans' bytes
    /// now, for the end of a send.
    pub fn on(&mut self, event: Event, sent: Vec<u8>, now: u64, later: &mut Later) -> Option<Told> {
        match event {
            Event::Connect(id) => self.on_connect(id),
            Event::Arrive(id, bytes) => {
                let connection = self.connections.get_mut(&id)?;
                if !connection.reset && !connection.closing {
                    connection.inbound.extend(bytes);
                }
                self.receive_if_ready(id, now, later);
                None
            }
            Event::HalfClose(id) => {
                self.connections.get_mut(&id)?.ended = true;
                self.receive_if_ready(id, now, later);
                None
            }
            Event::Reset(id) => {
                let connection = self.connections.get_mut(&id)?;
                connection.reset = true;
                connection.inbound.clear();
                if connection.send.is_some() {
                    later.push((now + MICROSECOND, Event::SendDone(id)));
                }
                self.receive_if_ready(id, now, later);
                None
            }
            Event::RecvDone(id) => self.on_recv_done(id),
            Event::SendDone(id) => self.on_send_done(id, sent, now, later),
            Event::CloseDone(id) => self.on_close_done(id, now, later),
            Event::Deliver(..) | Event::Ended(_) => unreachable!("the client's side"),
        }
    }

    fn on_connect(&mut self, id: Id) -> Option<Told> {
        let connection = self.connections.get_mut(&id)?;
        let worker = connection.worker;
        let listener = &mut self.listeners[worker as usize];
        if !listener.accepting {
            listener.waiting.push(id);
            return None;
        }
        let Some(free) = listener.sockets.iter().position(Option::is_none) else {
            connection.reset = true;
            return Some((worker, Completion::Accepted(Err(ENFILE)), None));
        };
        listener.sockets[free] = Some(id);
        connection.socket = Some(Socket(free as u32));
        let socket = Socket(free as u32);
        let accepted = match connection.native {
            true => Completion::NativeAccepted { socket, peer: None },
            false => Completion::Accepted(Ok(socket)),
        };
        Some((worker, accepted, None))
    }

    fn on_recv_done(&mut self, id: Id) -> Option<Told> {
        let connection = self.connections.get_mut(&id)?;
        let Recv { into, .. } = connection.recv.take().expect("a receive that is due is in flight");
        connection.recv_due = false;
        let socket = connection.socket.expect("received on a socket");
        let told = |result| Completion::Received { socket, result };
        if connection.closing {
            let result = if self.random.chance(500) { Ok(0) } else { Err(ECANCELED) };
            return Some((connection.worker, told(result), None));
        }
        if connection.reset {
            return Some((connection.worker, told(Err(ECONNRESET)), None));
        }
        let len = connection.inbound.len().min(into.len as usize);
        let bytes: Vec<u8> = connection.inbound.drain(..len).collect();
        Some((connection.worker, told(Ok(len as u32)), Some((into, bytes))))
    }

    fn on_send_done(&mut self, id: Id, sent: Vec<u8>, now: u64, later: &mut Later) -> Option<Told> {
        let connection = self.connections.get_mut(&id)?;
        let mut sending = connection.send.take()?;
        assert!(sending.bytes == sent, "bytes changed while they were being sent: {:?}", sending.spans);
        let socket = connection.socket.expect("sent on a socket");
        let result = match (connection.reset, connection.closing) {
            (true, _) => Err(EPIPE),
            (_, true) => Err(ECANCELED),
            _ => Ok(()),
        };
        if connection.closing {
            sending.bytes.truncate(self.random.index(sending.bytes.len()));
        }
        if !connection.reset {
            let mut rest = sending.bytes.as_slice();
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at((self.random.between(1, 30_000) as usize).min(rest.len()));
                connection.last_out = connection.last_out.max(now) + self.random.delay(10 * MICROSECOND);
                later.push((connection.last_out, Event::Deliver(id, piece.to_vec())));
                rest = behind;
            }
        }
        Some((connection.worker, Completion::Sent { socket, result }, None))
    }

    fn on_close_done(&mut self, id: Id, now: u64, later: &mut Later) -> Option<Told> {
        let connection = self.connections.get(&id)?;
        if connection.send.is_some() || connection.recv.is_some() {
            later.push((now + 3 * MICROSECOND, Event::CloseDone(id)));
            return None;
        }
        let connection = self.connections.remove(&id).expect("looked up above");
        let socket = connection.socket.expect("closed a socket");
        self.listeners[connection.worker as usize].sockets[socket.0 as usize] = None;
        later.push((connection.last_out.max(now) + self.random.delay(10 * MICROSECOND), Event::Ended(id)));
        let closed = match connection.native {
            true => Completion::NativeClosed { socket },
            false => Completion::Closed { socket },
        };
        Some((connection.worker, closed, None))
    }

    /// A refused connection is forgotten once the worker has been told.
    pub fn drop_refused(&mut self, now: u64, later: &mut Later) {
        let refused = |c: &Connection| c.reset && c.socket.is_none();
        let ids: Vec<Id> = self.connections.iter().filter(|(_, c)| refused(c)).map(|(id, _)| *id).collect();
        for id in ids {
            self.connections.remove(&id);
            later.push((now + 10 * MICROSECOND, Event::Ended(id)));
        }
    }

    pub fn open(&self) -> usize {
        self.connections.len()
    }
}
