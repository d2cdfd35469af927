//! The streams of a worker's connections of HTTP/2, by their numbers as sockets of the core.

use super::stream::Stream;
use crate::io::op::Socket;

pub(super) struct Streams {
    /// The number of the first.
    first: u32,
    slots: Vec<Option<Box<Stream>>>,
    free: Vec<Socket>,
}

impl Streams {
    /// Numbers from `first` on, `most` of them.
    pub fn new(first: u32, most: u32) -> Streams {
        let free = (first..first + most).rev().map(Socket).collect();
        Streams { first, slots: (0..most).map(|_| None).collect(), free }
    }

    pub fn has(&self, socket: Socket) -> bool {
        socket.0 >= self.first
    }

    pub fn get(&mut self, socket: Socket) -> Option<&mut Stream> {
        self.slots[(socket.0 - self.first) as usize].as_deref_mut()
    }

    /// A number for a stream, if one is free: [`Streams::put`] follows.
    pub fn number(&mut self) -> Option<Socket> {
        self.free.pop()
    }

    pub fn put(&mut self, stream: Stream) {
        let slot = &mut self.slots[(stream.number.0 - self.first) as usize];
        debug_assert!(slot.is_none(), "one stream a number");
        *slot = Some(Box::new(stream));
    }

    pub fn take(&mut self, socket: Socket) -> Option<Box<Stream>> {
        let stream = self.slots[(socket.0 - self.first) as usize].take()?;
        self.free.push(socket);
        Some(stream)
    }
}
