//! Connections to others: made in the ring's table of files, in the slot that the core has chosen.
//!
//! ```text
//!   free ─Connect─► made ─► connected ─► without delay ─► Connected(Ok), open
//!                     └────────┴─ failed ─► closed ─► Connected(Err), free
//! ```
//!
//! A close that comes before the connection is there ends it: `Connected` with an error, then `Closed`.

use super::flight::Flight;
use super::op::{Completion, Completions, Errno, Socket};
use super::socket::{Address, Door, State};
use super::uring::{Ring, outcome};
use io_uring::types::{DestinationSlot, Fixed};
use io_uring::{opcode, squeue};
use std::io;
use std::net::SocketAddr;

/// What `TCP_NODELAY` is set to; the kernel reads it when the option is set.
static ON: i32 = 1;

impl Ring {
    pub(super) fn connect(&mut self, socket: Socket, to: SocketAddr) -> io::Result<()> {
        let slot = DestinationSlot::try_from_slot_target(socket.0).expect("a socket's number is one of a small table");
        let state = self.sockets.state(socket);
        debug_assert!(!state.open, "{socket:?} is in use");
        *state = State { open: true, door: Door::Out, busy: 1, ..State::default() };
        self.sockets.open += 1;
        self.sockets.addresses[socket.0 as usize] = written(to);
        let entry = opcode::Socket::new(domain(to), libc::SOCK_STREAM, 0).file_index(Some(slot)).build();
        self.launch(entry, Flight::Make { socket })
    }

    /// The socket is there, or cannot be.
    pub(super) fn made(&mut self, socket: Socket, result: i32, done: &mut Completions) -> io::Result<()> {
        if result < 0 || self.sockets.state(socket).closing {
            return self.not_connected(socket, result, done);
        }
        let address = &self.sockets.addresses[socket.0 as usize];
        let len = length(address);
        let at: *const Address = address;
        self.launch(opcode::Connect::new(Fixed(socket.0), at.cast(), len).build(), Flight::Connect { socket })
    }

    pub(super) fn connected(&mut self, socket: Socket, result: i32, done: &mut Completions) -> io::Result<()> {
        if result < 0 || self.sockets.state(socket).closing {
            return self.not_connected(socket, result, done);
        }
        self.launch(no_delay(socket), Flight::NoDelay { socket })
    }

    /// The option is set. Where the kernel refuses that, small messages are slower, and right all the same.
    pub(super) fn without_delay(&mut self, socket: Socket, done: &mut Completions) -> io::Result<()> {
        if self.sockets.state(socket).closing {
            return self.not_connected(socket, -libc::ECANCELED, done);
        }
        done.push(Completion::Connected { socket, result: Ok(()) });
        self.finish(socket)
    }

    fn not_connected(&mut self, socket: Socket, result: i32, done: &mut Completions) -> io::Result<()> {
        let errno = outcome(result).err().unwrap_or(Errno(libc::ECANCELED));
        if self.sockets.state(socket).closing {
            done.push(Completion::Connected { socket, result: Err(errno) });
            return self.finish(socket);
        }
        self.launch(opcode::Close::new(Fixed(socket.0)).build(), Flight::Unmake { socket, errno })
    }

    /// The slot of a connection that has failed is free.
    pub(super) fn unmade(&mut self, socket: Socket, errno: Errno, done: &mut Completions) {
        let closing = self.sockets.state(socket).closing;
        debug_assert!(!closing, "{socket:?} is closed before its connection is answered");
        *self.sockets.state(socket) = State::default();
        self.sockets.open -= 1;
        done.push(Completion::Connected { socket, result: Err(errno) });
    }
}

fn no_delay(socket: Socket) -> squeue::Entry {
    let (level, option) = (libc::IPPROTO_TCP as u32, libc::TCP_NODELAY as u32);
    opcode::SetSockOpt::new(Fixed(socket.0), level, option, (&raw const ON).cast(), size_of::<i32>() as u32).build()
}

fn domain(to: SocketAddr) -> i32 {
    if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// `to` as the kernel reads it: a `sockaddr_in` or `sockaddr_in6`.
fn written(to: SocketAddr) -> Address {
    let mut bytes = [0; 28];
    bytes[..2].copy_from_slice(&(domain(to) as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
    match to {
        SocketAddr::V4(to) => bytes[4..8].copy_from_slice(&to.ip().octets()),
        SocketAddr::V6(to) => {
            bytes[4..8].copy_from_slice(&to.flowinfo().to_be_bytes());
            bytes[8..24].copy_from_slice(&to.ip().octets());
            bytes[24..].copy_from_slice(&to.scope_id().to_ne_bytes());
        }
    }
    Address(bytes)
}

fn length(Address(bytes): &Address) -> u32 {
    let v4 = u16::from_ne_bytes([bytes[0], bytes[1]]) as i32 == libc::AF_INET;
    if v4 { size_of::<libc::sockaddr_in>() as u32 } else { size_of::<libc::sockaddr_in6>() as u32 }
}
