//! TLS between a load thread's ring and its core: takes operations and completions of sockets, and puts others in their place. rustls
//! draws on clocks, randomness and memory of its own, so it is not part of a turn.
//!
//! ```text
//!   core ─ Connect, Recv, Send of text ─► Secure ─ Connect, Recv, Send of records ─► ring
//! ```
//!
//! The core hears of a connection when keys have been agreed on, of a send when its last record has gone, and of its end in the order that it expects:
//! what it waits for first, `Closed` last.

use crate::cli::tls::HTTP_2;
use crate::io::buffers::{Buffers, Pool, Span};
use crate::io::op::{Completion, Completions, Errno, Op, Ops, Socket};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

/// Text that rustls takes ahead of what has been sent.
const AHEAD: usize = 64 << 10;

/// Who is spoken to, and how it proves who it is.
#[derive(Clone)]
pub struct Trust {
    /// Of HTTP/1.1 and of HTTP/2.
    configs: [Arc<ClientConfig>; 2],
    name: ServerName<'static>,
}

impl Trust {
    /// In `host`, a name or an address without its port.
    pub fn new(configs: [Arc<ClientConfig>; 2], host: &str) -> Result<Trust, String> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string());
        let name = name.map_err(|_| format!("{host}: no certificate can be for such a name"))?;
        let trust = Trust { configs, name };
        trust.session()?;
        Ok(trust)
    }

    /// The client's end of a connection of HTTP/1.1.
    pub fn session(&self) -> Result<ClientConnection, String> {
        self.session_of(false)
    }

    fn session_of(&self, http2: bool) -> Result<ClientConnection, String> {
        let made = ClientConnection::new(self.configs[http2 as usize].clone(), self.name.clone());
        made.map_err(|error| format!("TLS: {error}"))
    }
}

struct Session {
    tls: ClientConnection,
    http2: bool,
    socket: Socket,
    wire: Span,
    /// What of the wire's first half has come and rustls has not taken yet.
    came: (u32, u32),
    /// The core does not know of the connection yet.
    hidden: bool,
    wants: Option<Span>,
    /// What the core sends, and how much of it rustls has taken.
    sends: Option<(Span, Option<Span>, u32)>,
    receiving: bool,
    sending: bool,
    /// Nothing comes or goes any more.
    over: bool,
    /// Its close has been asked of the ring; and by the core.
    closing: bool,
    left: bool,
}

pub struct Secure {
    trust: Trust,
    /// Sockets below this number speak HTTP/2.
    http2: u32,
    sessions: Vec<Option<Session>>,
    told: Completions,
    own: Ops,
    /// Why a connection could not be made safe.
    pub failure: Option<String>,
}

impl Secure {
    /// For so many sockets, of which the first `http2` speak HTTP/2.
    pub fn new(trust: Trust, sockets: u16, http2: u32) -> Secure {
        let sessions = (0..sockets).map(|_| None).collect();
        Secure { trust, http2, sessions, told: Completions::new(), own: Ops::new(), failure: None }
    }

    /// Whether there is something to tell the core at once.
    pub fn has_news(&self) -> bool {
        !self.told.is_empty()
    }

    /// Takes completions of the ring; what is left is the core's.
    pub fn receive(&mut self, done: &mut Completions, memory: &mut Buffers, ops: &mut Ops) {
        let came: Completions = std::mem::take(done);
        done.append(&mut self.told);
        for completion in came {
            match socket_of(&completion) {
                Some(socket) => self.complete(socket, completion, memory),
                None => done.push(completion),
            }
        }
        done.append(&mut self.told);
        ops.append(&mut self.own);
    }

    /// Takes operations of the core; what is left is the ring's.
    pub fn send(&mut self, ops: &mut Ops, memory: &mut Buffers) {
        let asked: Ops = std::mem::take(ops);
        for op in asked {
            let socket = match op {
                Op::Recv { socket, .. } | Op::Send { socket, .. } | Op::Close { socket } => socket,
                _ => {
                    ops.push(op);
                    continue;
                }
            };
            match (&mut self.sessions[socket.0 as usize], op) {
                (Some(session), Op::Recv { into, .. }) => session.wants = Some(into),
                (Some(session), Op::Send { from, then, .. }) => session.sends = Some((from, then, 0)),
                (session, _) => {
                    let is_asked = session.as_mut().is_some_and(|session| {
                        session.left = true;
                        std::mem::replace(&mut session.closing, true)
                    });
                    if !is_asked {
                        ops.push(op);
                    }
                    continue;
                }
            }
            self.pump(socket, memory);
        }
        ops.append(&mut self.own);
    }

    fn complete(&mut self, socket: Socket, completion: Completion, memory: &mut Buffers) {
        let at = socket.0 as usize;
        match completion {
            Completion::Connected { result: Ok(()), .. } => {
                // What it is made of has been tried before the run.
                let http2 = socket.0 < self.http2;
                let mut tls = self.trust.session_of(http2).expect("a session can be made again");
                tls.set_buffer_limit(Some(AHEAD));
                self.sessions[at] = Some(Session::new(tls, http2, socket, memory));
            }
            Completion::Closed { .. } => return self.closed(socket),
            Completion::Received { result, .. } => {
                if let Some(session) = &mut self.sessions[at] {
                    session.receiving = false;
                    match result {
                        Ok(bytes) if bytes > 0 => session.came = (0, bytes),
                        _ => session.over = true,
                    }
                }
            }
            Completion::Sent { result, .. } => {
                if let Some(session) = &mut self.sessions[at] {
                    session.sending = false;
                    session.over |= result.is_err();
                }
            }
            other => return self.told.push(other),
        }
        self.pump(socket, memory);
    }

    /// The socket is free: whatever the core waits for has failed.
    fn closed(&mut self, socket: Socket) {
        let Some(session) = self.sessions[socket.0 as usize].take() else {
            return self.told.push(Completion::Closed { socket });
        };
        let errno = Errno(libc::ECONNRESET);
        if session.hidden {
            // As after a connection that could not be made; if the core has closed it meanwhile it waits for both.
            self.told.push(Completion::Connected { socket, result: Err(Errno(libc::EPROTO)) });
            if !session.left {
                return;
            }
        }
        if session.wants.is_some() {
            self.told.push(Completion::Received { socket, result: Err(errno) });
        }
        if session.sends.is_some() {
            self.told.push(Completion::Sent { socket, result: Err(errno) });
        }
        self.told.push(Completion::Closed { socket });
    }

    fn pump(&mut self, socket: Socket, memory: &mut Buffers) {
        let Secure { sessions, told, own, failure, .. } = self;
        let Some(session) = &mut sessions[socket.0 as usize] else { return };
        if let Err(error) = session.pump(memory, told, own) {
            failure.get_or_insert(format!("TLS: {error}"));
            session.over = true;
        }
        if session.over && session.hidden && !session.closing {
            // The core knows of no connection, so it closes none.
            session.closing = true;
            own.push(Op::Close { socket });
        } else if session.over && !session.hidden {
            session.tell_end(told);
        }
    }
}

fn socket_of(completion: &Completion) -> Option<Socket> {
    match completion {
        Completion::Connected { socket, .. }
        | Completion::Received { socket, .. }
        | Completion::Sent { socket, .. }
        | Completion::Closed { socket } => Some(*socket),
        _ => None,
    }
}

impl Session {
    fn new(tls: ClientConnection, http2: bool, socket: Socket, memory: &Buffers) -> Session {
        Session {
            tls,
            http2,
            socket,
            wire: memory.whole(Pool::Wire, socket.0 as u16),
            came: (0, 0),
            hidden: true,
            wants: None,
            sends: None,
            receiving: false,
            sending: false,
            over: false,
            closing: false,
            left: false,
        }
    }

    /// Does what can be done now.
    fn pump(&mut self, memory: &mut Buffers, told: &mut Completions, ops: &mut Ops) -> Result<(), rustls::Error> {
        if self.over || self.closing {
            return Ok(());
        }
        while self.take_text(memory) | self.take_wire(memory)? | self.give_text(memory, told) {}
        self.give_wire(memory, ops);
        if self.hidden && !self.tls.is_handshaking() {
            if self.http2 && self.tls.alpn_protocol() != Some(HTTP_2) {
                return Err(rustls::Error::General("the server does not take HTTP/2 in it".to_string()));
            }
            self.hidden = false;
            told.push(Completion::Connected { socket: self.socket, result: Ok(()) });
        }
        let all_gone = !self.sending && !self.tls.wants_write();
        if self.sends.is_some_and(|(from, then, taken)| taken == length(from, then)) && all_gone {
            self.sends = None;
            told.push(Completion::Sent { socket: self.socket, result: Ok(()) });
        }
        let nothing_left = self.came.0 == self.came.1;
        if (self.hidden || self.wants.is_some()) && nothing_left && !self.receiving && !self.over {
            self.receiving = true;
            ops.push(Op::Recv { socket: self.socket, into: self.wire.part(0, self.wire.len / 2) });
        }
        Ok(())
    }

    /// Hands rustls what the core sends; whether it took any.
    fn take_text(&mut self, memory: &Buffers) -> bool {
        let Some((from, then, taken)) = &mut self.sends else { return false };
        if self.tls.is_handshaking() {
            return false;
        }
        let rest = match taken.checked_sub(from.len) {
            None => from.part(*taken, from.len - *taken),
            Some(of_second) => match then {
                Some(then) => then.part(of_second, then.len - of_second),
                None => return false,
            },
        };
        let more = self.tls.writer().write(memory.bytes(rest)).unwrap_or(0);
        *taken += more as u32;
        more > 0
    }

    /// Hands rustls what has come; whether it took any.
    fn take_wire(&mut self, memory: &Buffers) -> Result<bool, rustls::Error> {
        let (from, to) = self.came;
        if from == to {
            return Ok(false);
        }
        let mut bytes = memory.bytes(self.wire.part(from, to - from));
        // It takes no more while text waits to be read.
        let taken = self.tls.read_tls(&mut bytes).unwrap_or(0);
        self.came.0 += taken as u32;
        self.tls.process_new_packets()?;
        Ok(taken > 0)
    }

    /// Gives the core the text that it waits for; whether there was any.
    fn give_text(&mut self, memory: &mut Buffers, told: &mut Completions) -> bool {
        let Some(into) = self.wants else { return false };
        match self.tls.reader().read(memory.bytes_mut(into)) {
            Ok(bytes) => {
                self.wants = None;
                self.over |= bytes == 0;
                told.push(Completion::Received { socket: self.socket, result: Ok(bytes as u32) });
                bytes > 0
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.over = true;
                false
            }
        }
    }

    /// Sends the records that are ready.
    fn give_wire(&mut self, memory: &mut Buffers, ops: &mut Ops) {
        if self.sending || !self.tls.wants_write() {
            return;
        }
        let room = self.wire.part(self.wire.len / 2, self.wire.len / 2);
        let mut rest: &mut [u8] = memory.bytes_mut(room);
        let mut len = 0;
        while self.tls.wants_write() && !rest.is_empty() {
            match self.tls.write_tls(&mut rest) {
                Ok(0) | Err(_) => break,
                Ok(more) => len += more as u32,
            }
        }
        if len > 0 {
            self.sending = true;
            ops.push(Op::Send { socket: self.socket, from: room.first(len), then: None });
        }
    }

    /// Nothing comes or goes any more: the core hears it by what it waits for.
    fn tell_end(&mut self, told: &mut Completions) {
        if self.wants.take().is_some() {
            told.push(Completion::Received { socket: self.socket, result: Ok(0) });
        }
        if self.sends.take().is_some() {
            told.push(Completion::Sent { socket: self.socket, result: Err(Errno(libc::EPIPE)) });
        }
    }
}

fn length(from: Span, then: Option<Span>) -> u32 {
    from.len + then.map_or(0, |then| then.len)
}
