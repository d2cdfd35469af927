//! Connections: accepted straight into the ring's table of files, so that the slot is the socket's number and no descriptor is made.
//!
//! ```text
//!   free ─accept─► open ─Close─► shutting ─(shutdown done, nothing in flight)─► closing ─► Closed, free
//! ```

use super::buffers::Span;
use super::flight::Flight;
use super::op::{Completion, Completions, Errno, Socket};
use super::uring::{Ring, again, outcome};
use io_uring::types::{Fixed, Timespec};
use io_uring::{opcode, types};
use socket2::{Domain, Protocol, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

/// Connections that wait to be accepted, for one listener.
const BACKLOG: i32 = 4096;
/// Of the kernel's `asm-generic/socket.h`: the option that is `getpeername(2)`.
const SO_PEERNAME: u32 = 28;
/// After an accept that failed for want of memory or descriptors.
const ACCEPT_PAUSE: Timespec = Timespec::new().nsec(10_000_000);

/// Where a connection came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Door {
    #[default]
    Http,
    Native,
    /// It did not come in: it was opened from here.
    Out,
}

/// A listener, if there is one.
struct Listening {
    listener: Option<TcpListener>,
    /// How long a client's address is: the kernel refuses to write less than it is asked for.
    address_len: u32,
    /// `user_data` of the accept in flight.
    accepting: Option<u64>,
}

impl Listening {
    fn at(listener: Option<TcpListener>) -> Listening {
        let is_v6 = listener.as_ref().and_then(|it| it.local_addr().ok()).is_some_and(|address| address.is_ipv6());
        let address_len = if is_v6 { size_of::<libc::sockaddr_in6>() } else { size_of::<libc::sockaddr_in>() } as u32;
        Listening { listener, address_len, accepting: None }
    }
}

#[derive(Clone, Copy, Default)]
pub(super) struct State {
    pub open: bool,
    pub door: Door,
    /// Receives and sends in flight.
    pub busy: u8,
    pub closing: bool,
    /// The shutdown has completed.
    pub shut: bool,
}

/// Header of a send of two spans; the kernel reads it while the send is in flight. One a socket, as a socket has one send.
struct Message {
    parts: [libc::iovec; 2],
    header: libc::msghdr,
}

/// Room for the longer of the two forms of an address.
#[derive(Clone, Copy, Default)]
#[repr(align(8))]
pub(super) struct Address(pub [u8; 28]);

pub(super) struct Sockets {
    /// By [`Door`].
    doors: [Listening; 2],
    states: Box<[State]>,
    messages: Box<[Message]>,
    /// Where the kernel writes the address of a client that has just come, or reads the one of a server. One a socket.
    pub(super) addresses: Box<[Address]>,
    pause: Box<Timespec>,
    pub(super) open: u16,
}

impl Sockets {
    pub fn new(connections: u16, http: Option<TcpListener>, native: Option<TcpListener>) -> Sockets {
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let header = libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: std::ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        let message = |_| Message { parts: [none; 2], header };
        Sockets {
            doors: [http, native].map(Listening::at),
            states: vec![State::default(); connections as usize].into(),
            messages: (0..connections).map(message).collect(),
            addresses: vec![Address::default(); connections as usize].into(),
            pause: Box::new(ACCEPT_PAUSE),
            open: 0,
        }
    }

    /// Drops the listeners; gives what is to be cancelled.
    pub fn stop_accepting(&mut self) -> [Option<u64>; 2] {
        self.doors.each_mut().map(|door| {
            door.listener = None;
            door.accepting.take()
        })
    }

    /// The socket's slot is free; gives what the core is told.
    pub fn closed(&mut self, socket: Socket) -> Completion {
        self.open -= 1;
        match std::mem::take(self.state(socket)).door {
            Door::Http | Door::Out => Completion::Closed { socket },
            Door::Native => Completion::NativeClosed { socket },
        }
    }

    pub(super) fn state(&mut self, socket: Socket) -> &mut State {
        &mut self.states[socket.0 as usize]
    }

    /// Counts a receive or send, unless the socket is not one to use any more.
    fn begin(&mut self, socket: Socket) -> bool {
        let state = self.state(socket);
        let usable = state.open && !state.closing;
        debug_assert!(usable, "{socket:?} is used after its close");
        state.busy += usable as u8;
        usable
    }
}

impl Ring {
    pub(super) fn accept(&mut self, at: Door) -> io::Result<()> {
        let door = &mut self.sockets.doors[at as usize];
        let Some(listener) = &door.listener else { return Ok(()) };
        if door.accepting.is_some() {
            return Ok(());
        }
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).allocate_file_index(true).build();
        let user_data = self.flights.put(Flight::Accept { at });
        door.accepting = Some(user_data);
        self.push(entry.user_data(user_data))
    }

    /// A connection, whose address is asked for before anybody is told of it, or its failure.
    pub(super) fn accepted(&mut self, at: Door, result: i32, done: &mut Completions) -> io::Result<()> {
        let socket = match outcome(result).map(Socket) {
            Ok(socket) => socket,
            Err(errno) => {
                done.push(Completion::Accepted(Err(errno)));
                return Ok(());
            }
        };
        let state = self.sockets.state(socket);
        debug_assert!(!state.open, "{socket:?} was open");
        *state = State { open: true, door: at, ..State::default() };
        self.sockets.open += 1;
        let address: *mut Address = &mut self.sockets.addresses[socket.0 as usize];
        let len = self.sockets.doors[at as usize].address_len;
        let option =
            opcode::GetSockOpt::new(Fixed(socket.0), libc::SOL_SOCKET as u32, SO_PEERNAME, address.cast(), len);
        self.launch(option.build(), Flight::Peer { socket })
    }

    /// The address of a connection is known, or cannot be: the client may have gone already.
    pub(super) fn peer_is(&mut self, socket: Socket, result: i32, done: &mut Completions) {
        let peer = outcome(result).ok().and_then(|_| address_of(&self.sockets.addresses[socket.0 as usize]));
        match self.sockets.state(socket).door {
            Door::Http => {
                done.push(Completion::Accepted(Ok(socket)));
                done.push(Completion::Client { socket, peer, secure: false, over: None });
            }
            Door::Native => done.push(Completion::NativeAccepted { socket, peer }),
            Door::Out => debug_assert!(false, "{socket:?} was opened from here"),
        }
    }

    /// The last answer of a multishot accept: it is armed again, at once or, when it would fail again, a little later.
    pub(super) fn accept_ended(&mut self, at: Door, result: i32, done: &mut Completions) -> io::Result<()> {
        let door = &mut self.sockets.doors[at as usize];
        door.accepting = None;
        if door.listener.is_none() {
            // Stopping. A connection that came with the last answer is still one to serve or close.
            return if result >= 0 { self.accepted(at, result, done) } else { Ok(()) };
        }
        if !again(result) && result != -libc::ECANCELED {
            self.accepted(at, result, done)?;
        }
        // A full table has consumed the connection; other failures leave it in the queue, where it would fail again at once.
        let full = result == -libc::ENFILE && self.sockets.open as usize == self.sockets.states.len();
        match -result {
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS if !full => {
                let pause: *const Timespec = &*self.sockets.pause;
                self.launch(opcode::Timeout::new(pause).build(), Flight::AcceptLater { at })
            }
            _ => self.accept(at),
        }
    }

    /// `all`: with all of `into` full, and not before.
    pub(super) fn recv(&mut self, socket: Socket, into: Span, all: bool) -> io::Result<()> {
        if !self.sockets.begin(socket) {
            self.early.push(Completion::Received { socket, result: Err(Errno(libc::ENOTCONN)) });
            return Ok(());
        }
        self.recv_more(socket, into, all)
    }

    fn recv_more(&mut self, socket: Socket, into: Span, all: bool) -> io::Result<()> {
        let flags = if all { libc::MSG_WAITALL } else { 0 };
        let entry = opcode::Recv::new(Fixed(socket.0), self.address(into), into.len).flags(flags).build();
        self.launch(entry, Flight::Recv { socket, into, all })
    }

    pub(super) fn received(
        &mut self,
        socket: Socket,
        into: Span,
        all: bool,
        result: i32,
        done: &mut Completions,
    ) -> io::Result<()> {
        if again(result) && !self.sockets.state(socket).closing {
            return self.recv_more(socket, into, all);
        }
        done.push(Completion::Received { socket, result: outcome(result) });
        self.finish(socket)
    }

    pub(super) fn send(&mut self, socket: Socket, from: Span, then: Option<Span>) -> io::Result<()> {
        if !self.sockets.begin(socket) {
            self.early.push(Completion::Sent { socket, result: Err(Errno(libc::ENOTCONN)) });
            return Ok(());
        }
        self.send_more(socket, from, then)
    }

    fn send_more(&mut self, socket: Socket, from: Span, then: Option<Span>) -> io::Result<()> {
        const FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let first = self.address(from);
        let entry = match then {
            None => opcode::Send::new(Fixed(socket.0), first, from.len).flags(FLAGS).build(),
            Some(second) => {
                let parts = [(first, from.len), (self.address(second), second.len)];
                let message = &mut self.sockets.messages[socket.0 as usize];
                message.parts = parts.map(|(at, len)| libc::iovec { iov_base: at.cast(), iov_len: len as usize });
                message.header.msg_iov = message.parts.as_mut_ptr();
                message.header.msg_iovlen = message.parts.len();
                opcode::SendMsg::new(Fixed(socket.0), &raw const message.header).flags(FLAGS as u32).build()
            }
        };
        self.launch(entry, Flight::Send { socket, from, then })
    }

    pub(super) fn sent(
        &mut self,
        socket: Socket,
        from: Span,
        then: Option<Span>,
        result: i32,
        done: &mut Completions,
    ) -> io::Result<()> {
        let sent = match outcome(result) {
            Ok(sent) => Ok(rest(from, then, sent)),
            Err(_) if again(result) => Ok(Some((from, then))),
            Err(errno) => Err(errno),
        };
        let result = match sent {
            // The rest, which brings the reason why it was cut short, if there is one.
            Ok(Some((from, then))) if !self.sockets.state(socket).closing => return self.send_more(socket, from, then),
            Ok(Some(_)) => Err(Errno(libc::EPIPE)),
            Ok(None) => Ok(()),
            Err(errno) => Err(errno),
        };
        done.push(Completion::Sent { socket, result });
        self.finish(socket)
    }

    /// Ends both directions: what is in flight completes, with an error or the end. Then the slot is freed.
    pub(super) fn close(&mut self, socket: Socket) -> io::Result<()> {
        let state = self.sockets.state(socket);
        debug_assert!(state.open && !state.closing, "{socket:?} is closed twice");
        if !state.open || state.closing {
            return Ok(());
        }
        state.closing = true;
        let entry = opcode::Shutdown::new(Fixed(socket.0), libc::SHUT_RDWR).build();
        self.launch(entry, Flight::Shutdown { socket })
    }

    /// The shutdown has completed; its failure means that the peer was faster.
    pub(super) fn shut(&mut self, socket: Socket) -> io::Result<()> {
        self.sockets.state(socket).shut = true;
        self.free_when_idle(socket)
    }

    pub(super) fn finish(&mut self, socket: Socket) -> io::Result<()> {
        self.sockets.state(socket).busy -= 1;
        self.free_when_idle(socket)
    }

    fn free_when_idle(&mut self, socket: Socket) -> io::Result<()> {
        let state = self.sockets.state(socket);
        if !state.shut || state.busy > 0 {
            return Ok(());
        }
        let entry = opcode::Close::new(Fixed(socket.0)).build();
        self.launch(entry, Flight::CloseSocket { socket })
    }
}

/// The address that the kernel has written, a `sockaddr_in` or `sockaddr_in6`.
fn address_of(Address(bytes): &Address) -> Option<IpAddr> {
    match u16::from_ne_bytes([bytes[0], bytes[1]]) as i32 {
        libc::AF_INET => bytes[4..].first_chunk::<4>().map(|address| IpAddr::from(*address)),
        libc::AF_INET6 => bytes[8..].first_chunk::<16>().map(|address| IpAddr::from(*address)),
        _ => None,
    }
}

/// What is left to send after `sent` bytes; `None` when that was all.
fn rest(from: Span, then: Option<Span>, sent: u32) -> Option<(Span, Option<Span>)> {
    if sent < from.len {
        return Some((from.part(sent, from.len - sent), then));
    }
    let (second, sent) = (then?, sent - from.len);
    (sent < second.len).then(|| (second.part(sent, second.len - sent), None))
}

/// Refuses an address that another server has, shared or not; gives it with its real port.
pub fn claim(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the address is not one of the internet"))
}

/// A listener that shares `address` with those of the other workers; its connections have `TCP_NODELAY`.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Inherited by what it accepts.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::super::buffers::Pool;
    use super::*;

    fn span(at: u32, len: u32) -> Span {
        Span { worker: 0, pool: Pool::Reply, slot: 0, at, len }
    }

    #[test]
    fn the_rest_of_a_send_begins_where_it_was_cut() {
        let (head, body) = (span(0, 10), span(100, 20));
        assert_eq!(rest(head, Some(body), 0), Some((head, Some(body))));
        assert_eq!(rest(head, Some(body), 4), Some((span(4, 6), Some(body))));
        assert_eq!(rest(head, Some(body), 10), Some((body, None)));
        assert_eq!(rest(head, Some(body), 29), Some((span(119, 1), None)));
        assert_eq!(rest(head, Some(body), 30), None);
        assert_eq!(rest(head, None, 10), None);
    }

    #[test]
    fn an_address_that_is_listened_on_cannot_be_claimed() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let address = claim(any).expect("a free port");
        let shared = listen(address).expect("it is ours");
        let error = claim(address).expect_err("somebody listens there");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        listen(address).expect("another worker shares it");
        drop(shared);
    }
}
