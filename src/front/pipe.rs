//! The two ends of a connection's bytes in memory, as the input and output that `h2` asks for.
//!
//! Nothing here waits: who feeds the pipe or empties it polls the connection afterwards, so no waker is kept.

use crate::io::buffers::{Loans, Span};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait to be sent; a full pipe stops its writer.
const OUTGOING_MAX: usize = 64 << 10;

/// A shared handle: one is `h2`'s, one its owner's.
#[derive(Clone)]
pub(super) struct Pipe(Rc<RefCell<Ends>>);

struct Ends {
    memory: Loans,
    /// Received and not read yet.
    incoming: Option<Span>,
    /// Nothing more will come.
    ended: bool,
    outgoing: Vec<u8>,
}

impl Pipe {
    /// `memory`: of this worker, in which what comes in lies.
    pub fn new(memory: Loans) -> Pipe {
        Pipe(Rc::new(RefCell::new(Ends { memory, incoming: None, ended: false, outgoing: Vec::new() })))
    }

    /// Gives what has been received. It must not change until it has been read: [`Pipe::is_read`].
    pub fn give(&self, received: Span) {
        let mut ends = self.0.borrow_mut();
        debug_assert!(ends.incoming.is_none(), "what came before has not been read");
        ends.incoming = (received.len > 0).then_some(received);
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// Whether all that came has been read.
    pub fn is_read(&self) -> bool {
        self.0.borrow().incoming.is_none()
    }

    pub fn has_outgoing(&self) -> bool {
        !self.0.borrow().outgoing.is_empty()
    }

    /// Moves what is to be sent to `out`, as much as fits; gives how much that was.
    pub fn take(&self, out: &mut [u8]) -> usize {
        let outgoing = &mut self.0.borrow_mut().outgoing;
        let len = outgoing.len().min(out.len());
        out[..len].copy_from_slice(&outgoing[..len]);
        outgoing.drain(..len);
        if outgoing.is_empty() && outgoing.capacity() > OUTGOING_MAX / 4 {
            // An idle connection holds no memory for what it sent once.
            *outgoing = Vec::new();
        }
        len
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        let Some(span) = ends.incoming else {
            return if ends.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        let len = into.remaining().min(span.len as usize) as u32;
        into.put_slice(ends.memory.bytes(span.first(len)));
        let rest = span.part(len, span.len - len);
        ends.incoming = (rest.len > 0).then_some(rest);
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

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outgoing = &mut self.0.borrow_mut().outgoing;
        let (mut written, mut whole) = (0, 0);
        for part in parts {
            let len = part.len().min(OUTGOING_MAX - outgoing.len());
            outgoing.extend_from_slice(&part[..len]);
            (written, whole) = (written + len, whole + part.len());
        }
        if written == 0 && whole > 0 { Poll::Pending } else { Poll::Ready(Ok(written)) }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is in the pipe is sent before the connection ends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
