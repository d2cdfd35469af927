//! A connection that is kept: made, made again after it has ended, each time after a longer wait.
//!
//! ```text
//!   down ─wait over─► connecting ─► up ─end, error─► closing ─► down
//!     ▲                   └─ failed, or too slow ────────┴───────┘
//! ```

use super::random::Random;
use crate::io::buffers::Span;
use crate::io::clock::Mono;
use crate::io::op::{Errno, Op, Ops, Socket};
use std::net::SocketAddr;

/// How long a connection may take.
const CONNECT_NS: u64 = 5_000_000_000;
/// Waits before a connection is tried again: the first, and the longest.
const WAIT_NS: u64 = 20_000_000;
const WAIT_MAX_NS: u64 = 2_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down { again: Mono },
    Connecting { until: Mono },
    Up,
    Closing,
}

#[derive(Debug)]
pub struct Link {
    socket: Socket,
    to: SocketAddr,
    state: State,
    wait: u64,
    random: Random,
    receiving: bool,
    sending: bool,
    /// Room for what comes, and how much of it is filled.
    room: Span,
    filled: u32,
    /// Why it could not be made the last time.
    pub error: Option<Errno>,
}

impl Link {
    pub fn new(socket: Socket, to: SocketAddr, room: Span, random: Random) -> Link {
        let state = State::Down { again: Mono(0) };
        Link {
            socket,
            to,
            state,
            wait: WAIT_NS,
            random,
            receiving: false,
            sending: false,
            room,
            filled: 0,
            error: None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub fn is_sending(&self) -> bool {
        self.sending
    }

    /// Nothing is in flight for it.
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. })
    }

    /// Begins what is due.
    pub fn turn(&mut self, now: Mono, ops: &mut Ops) {
        match self.state {
            State::Down { again } if again <= now => {
                self.state = State::Connecting { until: now + CONNECT_NS };
                ops.push(Op::Connect { socket: self.socket, to: self.to });
            }
            State::Connecting { until } if until <= now => self.close(ops),
            _ => {}
        }
    }

    /// When [`Link::turn`] has something to do.
    pub fn deadline(&self) -> Option<Mono> {
        match self.state {
            State::Down { again: at } | State::Connecting { until: at } => Some(at),
            State::Up | State::Closing => None,
        }
    }

    /// Whether the connection is there now.
    pub fn connected(&mut self, now: Mono, result: Result<(), Errno>) -> bool {
        match (self.state, result) {
            (State::Connecting { .. }, Ok(())) => {
                self.state = State::Up;
                self.filled = 0;
                true
            }
            (State::Connecting { .. }, Err(errno)) => {
                self.error = Some(errno);
                self.is_to_wait(now);
                false
            }
            (_, result) => {
                self.error = result.err().or(self.error);
                false
            }
        }
    }

    /// It has been of use: the next wait is short again.
    pub fn is_good(&mut self) {
        self.wait = WAIT_NS;
        self.error = None;
    }

    pub fn close(&mut self, ops: &mut Ops) {
        if matches!(self.state, State::Up | State::Connecting { .. }) {
            self.state = State::Closing;
            ops.push(Op::Close { socket: self.socket });
        }
    }

    pub fn closed(&mut self, now: Mono) {
        debug_assert!(!self.sending && !self.receiving, "a socket is closed when nothing is in flight");
        self.is_to_wait(now);
    }

    fn is_to_wait(&mut self, now: Mono) {
        // Not all connections at the same moment.
        let wait = self.wait / 2 + self.random.below(self.wait / 2);
        self.state = State::Down { again: now + wait };
        self.wait = (self.wait * 2).min(WAIT_MAX_NS);
    }

    /// Sends, if nothing is being sent.
    pub fn send(&mut self, from: Span, then: Option<Span>, ops: &mut Ops) {
        debug_assert!(self.is_up() && !self.sending);
        self.sending = true;
        ops.push(Op::Send { socket: self.socket, from, then });
    }

    /// Whether the connection goes on.
    pub fn sent(&mut self, result: Result<(), Errno>, ops: &mut Ops) -> bool {
        self.sending = false;
        if result.is_err() {
            self.close(ops);
        }
        self.is_up()
    }

    /// Waits for more, if it does not already.
    pub fn receive(&mut self, ops: &mut Ops) {
        self.receive_at_most(u32::MAX, ops);
    }

    /// The same, no more than `most` bytes at once.
    pub fn receive_at_most(&mut self, most: u32, ops: &mut Ops) {
        let left = (self.room.len - self.filled).min(most);
        if self.is_up() && !self.receiving && left > 0 {
            self.receiving = true;
            ops.push(Op::Recv { socket: self.socket, into: self.room.part(self.filled, left) });
        }
    }

    /// Whether there is something new to look at; else the connection ends.
    pub fn received(&mut self, result: Result<u32, Errno>, ops: &mut Ops) -> bool {
        self.receiving = false;
        match result {
            Ok(bytes) if bytes > 0 && self.is_up() => {
                self.filled += bytes;
                true
            }
            _ => {
                self.close(ops);
                false
            }
        }
    }

    /// What has come and has not been taken.
    pub fn held(&self) -> Span {
        self.room.first(self.filled)
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.filled == self.room.len
    }

    /// The first `bytes` have been taken and the rest has been moved to the front.
    pub fn taken(&mut self, bytes: u32) {
        self.filled -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffers::Pool;

    fn link() -> Link {
        let room = Span { worker: 0, pool: Pool::Connection, slot: 0, at: 0, len: 100 };
        Link::new(Socket(0), "127.0.0.1:1".parse().expect("an address"), room, Random::new(1))
    }

    #[test]
    fn waits_grow_up_to_a_bound_and_are_short_again_after_a_good_connection() {
        let (mut link, mut ops, mut now) = (link(), Ops::new(), Mono(1));
        let mut waits = Vec::new();
        for _ in 0..12 {
            link.turn(now, &mut ops);
            assert_eq!(ops.drain(..).count(), 1);
            assert!(!link.connected(now, Err(Errno(111))));
            let again = link.deadline().expect("it tries again");
            waits.push(again - now);
            link.turn(now, &mut ops);
            assert!(ops.is_empty(), "not before its time");
            now = again;
        }
        assert!(waits[0] <= WAIT_NS && waits[11] >= WAIT_MAX_NS / 2 && waits[11] <= WAIT_MAX_NS, "{waits:?}");
        assert_eq!(link.error, Some(Errno(111)));
        link.turn(now, &mut ops);
        assert!(link.connected(now, Ok(())));
        link.is_good();
        link.close(&mut ops);
        link.closed(now);
        assert!(link.deadline().expect("it tries again") - now <= WAIT_NS);
    }

    #[test]
    fn a_connection_that_takes_too_long_is_given_up() {
        let (mut link, mut ops) = (link(), Ops::new());
        link.turn(Mono(1), &mut ops);
        link.turn(Mono(1) + CONNECT_NS, &mut ops);
        assert!(matches!(ops[..], [Op::Connect { .. }, Op::Close { .. }]));
        assert!(!link.connected(Mono(2) + CONNECT_NS, Ok(())), "it comes too late");
        assert!(!link.is_down());
        link.closed(Mono(2) + CONNECT_NS);
        assert!(link.is_down());
    }

    #[test]
    fn the_end_of_a_stream_and_a_failed_send_close_it_once() {
        let (mut link, mut ops) = (link(), Ops::new());
        link.turn(Mono(1), &mut ops);
        link.connected(Mono(1), Ok(()));
        link.receive(&mut ops);
        link.receive(&mut ops);
        link.send(link.room.first(10), None, &mut ops);
        assert_eq!(ops.len(), 3);
        assert!(link.received(Ok(40), &mut ops));
        link.receive(&mut ops);
        assert!(!link.received(Ok(0), &mut ops) && !link.sent(Err(Errno(32)), &mut ops));
        assert_eq!(ops.iter().filter(|op| matches!(op, Op::Close { .. })).count(), 1);
    }
}
