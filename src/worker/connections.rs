//! The table of a worker's connections: what is known of each.

use super::access::Pass;
use super::body::Unbuffered;
use super::mailbox::ConnectionId;
use super::serve::{Reply, Route};
use crate::auth::verify::Check;
use crate::http::chunked;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::Socket;
use crate::kinesis::object::Encoding;
use crate::limits::Limits;
use crate::observe::latency::Latency;
use std::collections::VecDeque;
use std::net::IpAddr;

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Free,
    /// Reading a head; idle while there is no byte of it.
    Head,
    /// Reading a body of known length.
    Body,
    /// Reading a chunked body.
    Chunks,
    /// The head has been read, and there is no buffer for the body yet.
    Unbuffered,
    /// The request is whole and is worked on.
    Working,
    Sending,
    /// A subscription sends its events; what is received meanwhile waits.
    Streaming,
    /// A refusal has been sent; what the client goes on sending is dropped until it closes. Closing at once would reset the connection,
    /// and most clients read the reply only when they have sent all.
    Draining,
    /// A client of the native protocol: all that is known of it is elsewhere.
    Native,
    /// `Op::Close` has been emitted.
    Closing,
}

/// One connection, or a free slot for one.
pub struct Connection {
    pub generation: u32,
    pub phase: Phase,
    /// A receive is in flight.
    pub(super) receiving: bool,
    /// Bytes received into its slot and not consumed.
    pub(super) filled: u32,
    pub(super) head_len: u32,
    /// Of the body: its length, and what of it has been received.
    pub(super) body_len: u32,
    pub(super) body_filled: u32,
    /// The buffer of a body that does not fit behind its head, since when it has that, or waits for one.
    pub(super) body: Option<Span>,
    pub(super) body_since: Mono,
    pub(super) chunks: chunked::Decoder,
    pub(super) is_chunked: bool,
    pub keep_alive: bool,
    /// The request was refused before its body was read: the client is sending it still.
    pub(super) unread: bool,
    /// What the request being read or worked on is for.
    pub route: Route,
    /// Of its body, and of the answer.
    pub encoding: Encoding,
    /// `100 Continue` is being sent; the body is received after it.
    pub(super) continuing: bool,
    /// When the phase has lasted too long.
    pub deadline: Mono,
    /// When the first byte of the request came, then when it was whole, then when its answer was handed to the kernel.
    pub(super) since: Mono,
    /// What it counts as while it is worked on.
    pub(super) timed: Option<Latency>,
    pub(super) idle_since: Mono,
    /// The signature of the request, until it has been verified, and how much of the body it has been given.
    pub(super) check: Option<Check>,
    pub(super) hashed: u32,
    /// Who has sent the request, where there are credentials.
    pub(super) pass: Pass,
    /// A request on it was signed by a user, or on another stream of the connection that carries it.
    pub(super) verified: bool,
    /// A whole body that took a buffer has come on it, or on another stream of the connection that carries it.
    pub(super) earnest: bool,
    /// The ring's socket that carries it, where it is a stream, and which connection has that number.
    pub(super) over: Option<(Socket, u32)>,
    /// The pool of its body's buffer, which counts among those of strangers.
    pub(super) counted: Option<Pool>,
    /// Where the client is, and whether nobody can listen, for policies.
    pub(super) peer: Option<IpAddr>,
    pub(super) secure: bool,
    /// A buffer that is being sent: given or sent back when it has been.
    pub sending: Option<Span>,
}

/// The connections of a worker.
pub struct Connections {
    pub slots: Vec<Connection>,
    /// Open connections, streams of HTTP/2 among them.
    pub open: usize,
    /// Those of them that are streams: their slots are from `sockets` on.
    pub(super) streams: usize,
    /// Slots of the ring's sockets.
    pub(super) sockets: usize,
    /// By socket of the ring: which connection has had a verified request on one of its streams, by its generation.
    pub(super) vouched: Vec<u32>,
    /// The same of bodies that took a buffer and were whole.
    pub(super) proven: Vec<u32>,
    /// Sockets of the ring that carry streams, and are none of these.
    pub carriers: usize,
    /// Those that wait for a buffer.
    pub(super) unbuffered: Unbuffered,
    /// Replies that wait for a buffer.
    pub(super) unsent: VecDeque<(ConnectionId, Reply)>,
}

/// A slot without a connection.
pub(super) fn free(body_max: u32) -> Connection {
    Connection {
        generation: 0,
        phase: Phase::Free,
        receiving: false,
        filled: 0,
        head_len: 0,
        body_len: 0,
        body_filled: 0,
        body: None,
        body_since: Mono(0),
        chunks: chunked::Decoder::new(body_max as usize),
        is_chunked: false,
        keep_alive: true,
        unread: false,
        route: Route::Health,
        encoding: Encoding::Json,
        continuing: false,
        deadline: Mono(u64::MAX),
        since: Mono(0),
        timed: None,
        idle_since: Mono(0),
        check: None,
        hashed: 0,
        pass: Pass::Nobody,
        verified: false,
        earnest: false,
        over: None,
        counted: None,
        peer: None,
        secure: false,
        sending: None,
    }
}

impl Connection {
    pub(super) fn head_len(&self) -> u32 {
        self.head_len
    }
}

impl Connections {
    pub fn new(limits: &Limits) -> Connections {
        let slots: Vec<Connection> = (0..limits.sockets()).map(|_| free(limits.large.1)).collect();
        let unbuffered = Unbuffered::new(slots.len());
        let sockets = limits.connections as usize;
        let (vouched, proven) = (vec![0; sockets], vec![0; sockets]);
        Connections {
            slots,
            open: 0,
            streams: 0,
            sockets,
            vouched,
            proven,
            carriers: 0,
            unbuffered,
            unsent: VecDeque::new(),
        }
    }

    /// Sockets of the ring that are in use.
    pub(super) fn in_ring(&self) -> usize {
        self.open - self.streams + self.carriers
    }

    pub(super) fn is_stream(&self, socket: Socket) -> bool {
        socket.0 as usize >= self.sockets
    }

    pub(super) fn count(&mut self, socket: Socket, opened: bool) {
        let counts = [Some(&mut self.open), (socket.0 as usize >= self.sockets).then_some(&mut self.streams)];
        counts.into_iter().flatten().for_each(|count| if opened { *count += 1 } else { *count -= 1 });
    }

    /// The id of the connection in `slot` now.
    pub fn id(&self, slot: u16) -> ConnectionId {
        ConnectionId { slot, generation: self.slots[slot as usize].generation }
    }

    /// Whether `id` is still there and waits for a reply; a native client may wait at any time.
    pub fn awaits(&self, id: ConnectionId) -> bool {
        let c = &self.slots[id.slot as usize];
        c.generation == id.generation && matches!(c.phase, Phase::Working | Phase::Native)
    }
}
