//! The ring and the network under the front: sockets that receive and send in pieces of any size, and say so at any time.

use crate::random::Random;
use penstock::front::Memory;
use penstock::io::buffers::Span;
use penstock::io::op::{Completion, Completions, Errno, Op, Ops, Socket};

const RESET: Errno = Errno(libc::ECONNRESET);
/// Bytes on their way to a client that does not read them; a send beyond it waits.
const DOWN_MAX: usize = 96 << 10;

/// How a client ends its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It sends nothing more.
    Finished,
    /// It has gone, and takes nothing more.
    Reset,
}

/// A connection, between the client and the server's socket.
#[derive(Default)]
pub struct Line {
    /// From the client, not received yet.
    pub up: Vec<u8>,
    /// What comes behind that.
    pub up_end: Option<End>,
    /// To the client, not read yet.
    pub down: Vec<u8>,
    /// The server has closed.
    pub closed: bool,
    socket: Option<Socket>,
    recv: Option<Span>,
    send: Option<Sending>,
    closing: bool,
}

struct Sending {
    spans: (Span, Option<Span>),
    /// What was in them when they were given.
    bytes: Vec<u8>,
}

pub struct Ring {
    pub lines: Vec<Line>,
    sockets: Vec<Option<usize>>,
    random: Random,
}

impl Ring {
    pub fn new(seed: u64, sockets: u16) -> Ring {
        Ring { lines: Vec::new(), sockets: vec![None; sockets as usize], random: Random::stream(seed, "ring") }
    }

    /// A client connects; gives the number of its line.
    pub fn connect(&mut self) -> usize {
        self.lines.push(Line::default());
        self.lines.len() - 1
    }

    /// Sockets in use.
    pub fn open(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    /// Takes the server's operations, which must be ones that a ring can carry out.
    pub fn submit(&mut self, ops: &mut Ops, memory: &mut Memory<'_>) {
        for op in ops.drain(..) {
            let (Op::Recv { socket, .. } | Op::Send { socket, .. } | Op::Close { socket }) = op else {
                panic!("{op:?} is none of a socket")
            };
            let at = self.sockets[socket.0 as usize].unwrap_or_else(|| panic!("{op:?}: it is not open"));
            let line = &mut self.lines[at];
            assert!(!line.closing, "{op:?}: it is closing");
            match op {
                Op::Recv { into, .. } => {
                    assert!(line.recv.is_none() && into.len > 0, "{op:?}: two receives, or none");
                    // The kernel may write there from now on.
                    memory.buffers.bytes_mut(into).fill(0xdb);
                    line.recv = Some(into);
                }
                Op::Send { from, then, .. } => {
                    let bytes = both(memory, from, then);
                    assert!(line.send.is_none() && !bytes.is_empty(), "{op:?}: two sends, or none");
                    line.send = Some(Sending { spans: (from, then), bytes });
                }
                _ => line.closing = true,
            }
        }
    }

    /// What has happened by the next turn.
    pub fn complete(&mut self, done: &mut Completions, memory: &mut Memory<'_>) {
        let mut order: Vec<usize> = (0..self.lines.len()).filter(|at| !self.lines[*at].closed).collect();
        self.random.shuffle(&mut order);
        for at in order {
            match self.lines[at].socket {
                None => self.accept(at, done),
                Some(socket) => self.go_on(at, socket, done, memory),
            }
        }
    }

    fn accept(&mut self, at: usize, done: &mut Completions) {
        let Some(free) = self.sockets.iter().position(Option::is_none) else { return };
        let socket = Socket(free as u32);
        self.sockets[free] = Some(at);
        self.lines[at].socket = Some(socket);
        done.push(Completion::Accepted(Ok(socket)));
        done.push(Completion::Client { socket, peer: None, secure: false, over: None });
    }

    fn go_on(&mut self, at: usize, socket: Socket, done: &mut Completions, memory: &mut Memory<'_>) {
        let (line, random) = (&mut self.lines[at], &mut self.random);
        // The client's reset overtakes what it has sent.
        let reset = line.up_end == Some(End::Reset) && (line.up.is_empty() || random.chance(100));
        if let Some(into) = line.recv
            && random.chance(700)
            && let Some(result) = receive(line, into, reset, random, memory)
        {
            line.recv = None;
            done.push(Completion::Received { socket, result });
        }
        if let Some(Sending { spans: (from, then), bytes }) = &line.send {
            assert!(*bytes == both(memory, *from, *then), "{socket:?}: what is being sent was written to");
            let result = if reset || line.closing {
                // A part may have gone.
                let part = random.index(bytes.len() + 1);
                line.down.extend_from_slice(&bytes[..part]);
                Some(Err(RESET))
            } else if line.down.len() < DOWN_MAX && random.chance(700) {
                line.down.extend_from_slice(bytes);
                Some(Ok(()))
            } else {
                None
            };
            if let Some(result) = result {
                line.send = None;
                done.push(Completion::Sent { socket, result });
            }
        }
        if line.closing && line.recv.is_none() && line.send.is_none() && random.chance(500) {
            line.closed = true;
            self.sockets[socket.0 as usize] = None;
            done.push(Completion::Closed { socket });
        }
    }
}

/// The answer to a receive, if there is one.
fn receive(
    line: &mut Line,
    into: Span,
    reset: bool,
    random: &mut Random,
    memory: &mut Memory<'_>,
) -> Option<Result<u32, Errno>> {
    if reset {
        return Some(Err(RESET));
    }
    if line.closing {
        return Some(Ok(0));
    }
    if line.up.is_empty() {
        return line.up_end.map(|_| Ok(0));
    }
    let most = line.up.len().min(into.len as usize);
    let len = match random.below(4) {
        0 => 1 + random.index(most.min(12)),
        1 => 1 + random.index(most),
        _ => most,
    };
    memory.buffers.bytes_mut(into.first(len as u32)).copy_from_slice(&line.up[..len]);
    line.up.drain(..len);
    Some(Ok(len as u32))
}

fn both(memory: &Memory<'_>, from: Span, then: Option<Span>) -> Vec<u8> {
    let mut bytes = memory.buffers.bytes(from).to_vec();
    then.into_iter().for_each(|then| bytes.extend_from_slice(memory.buffers.bytes(then)));
    bytes
}
