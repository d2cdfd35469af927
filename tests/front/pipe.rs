//! A client's input and output in memory, as `h2` asks for them.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that the client may write before the network has taken them.
const OUTGOING_MAX: usize = 32 << 10;

/// One handle is `h2`'s, one the client's. Nothing wakes anybody: the client is polled in every turn.
#[derive(Clone, Default)]
pub struct Pipe(Rc<RefCell<Ends>>);

#[derive(Default)]
struct Ends {
    incoming: Vec<u8>,
    ended: bool,
    outgoing: Vec<u8>,
}

impl Pipe {
    pub fn give(&self, bytes: &[u8]) {
        self.0.borrow_mut().incoming.extend_from_slice(bytes);
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// What has come, for who speaks without `h2`.
    pub fn read(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().incoming)
    }

    pub fn has_ended(&self) -> bool {
        self.0.borrow().ended
    }

    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().outgoing)
    }

    /// For who speaks without `h2`.
    pub fn put(&self, bytes: &[u8]) {
        self.0.borrow_mut().outgoing.extend_from_slice(bytes);
    }

    pub fn unread(&self) -> usize {
        self.0.borrow().incoming.len()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        if ends.incoming.is_empty() {
            return if ends.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let len = into.remaining().min(ends.incoming.len());
        into.put_slice(&ends.incoming[..len]);
        ends.incoming.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outgoing = &mut self.0.borrow_mut().outgoing;
        let len = bytes.len().min(OUTGOING_MAX - outgoing.len());
        outgoing.extend_from_slice(&bytes[..len]);
        if len == 0 && !bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(len)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
