//! What is in flight: a table whose index travels through the kernel as `user_data`.

use super::buffers::Span;
use super::op::{Errno, FileName, Socket, Token};
use super::socket::Door;
use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};

/// An operation that the kernel works on, with what it takes to go on with it or to answer it. Paths live here until then.
#[expect(dead_code, reason = "the paths are read by the kernel alone")]
pub(super) enum Flight {
    Accept {
        at: Door,
    },
    /// A pause after an accept that failed for want of memory or descriptors.
    AcceptLater {
        at: Door,
    },
    /// The address of a connection that has been accepted.
    Peer {
        socket: Socket,
    },
    /// The socket of a connection to be opened, and what follows it.
    Make {
        socket: Socket,
    },
    Connect {
        socket: Socket,
    },
    NoDelay {
        socket: Socket,
    },
    /// The close of a socket whose connection has failed.
    Unmake {
        socket: Socket,
        errno: Errno,
    },
    Recv {
        socket: Socket,
        into: Span,
        all: bool,
    },
    Send {
        socket: Socket,
        from: Span,
        then: Option<Span>,
    },
    Shutdown {
        socket: Socket,
    },
    CloseSocket {
        socket: Socket,
    },
    Open {
        file: FileName,
        flags: i32,
        size: u64,
        token: Token,
        path: CString,
    },
    Allocate {
        file: FileName,
        fd: OwnedFd,
        size: u64,
        token: Token,
    },
    Transfer(Transfer),
    /// Nothing follows: a flush, a directory, a close.
    Plain {
        token: Token,
        path: Option<CString>,
    },
    MakeDir {
        token: Token,
        path: CString,
    },
    Rename {
        from: FileName,
        to: FileName,
        token: Token,
        paths: (CString, CString),
    },
    /// A step of a preparation that the ring does itself.
    Prepare,
}

/// A read or write that may take several turns of the kernel.
pub(super) struct Transfer {
    pub fd: RawFd,
    pub token: Token,
    pub span: Span,
    pub at: u64,
    /// Bytes of `span` that are done.
    pub moved: u32,
    pub kind: TransferKind,
    /// How often the kernel asked to try again.
    pub tries: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TransferKind {
    Read,
    Write { durable: bool },
}

/// Slots of operations in flight. Grows only past the size it was made with.
pub(super) struct Flights {
    slots: Vec<Option<Flight>>,
    free: Vec<u32>,
}

impl Flights {
    pub fn new(slots: usize) -> Flights {
        let mut flights = Flights { slots: Vec::with_capacity(slots), free: Vec::with_capacity(slots) };
        flights.slots.resize_with(slots, || None);
        flights.free.extend((0..slots as u32).rev());
        flights
    }

    /// Takes a slot for `flight`; the number is its `user_data`.
    pub fn put(&mut self, flight: Flight) -> u64 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        debug_assert!(self.slots[slot as usize].is_none(), "slot {slot} is in use");
        self.slots[slot as usize] = Some(flight);
        slot as u64
    }

    pub fn get(&self, user_data: u64) -> Option<&Flight> {
        self.slots.get(user_data as usize)?.as_ref()
    }

    /// Gives the slot back with what was in flight; `None` if nothing was: a completion that nobody waits for.
    pub fn take(&mut self, user_data: u64) -> Option<Flight> {
        let flight = self.slots.get_mut(user_data as usize)?.take()?;
        self.free.push(user_data as u32);
        Some(flight)
    }

    /// Operations in flight.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
