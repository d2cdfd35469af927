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
    incoming: Incoming,
    /// Nothing more will come.
    ended: bool,
    outgoing: Vec<u8>,
}

/// Received and not read yet.
enum Incoming {
    Nothing,
    /// Where the kernel has put it, in a worker's memory.
    Received(Loans, Span),
    /// Read up to that place.
    Decrypted(Vec<u8>, usize),
}

impl Pipe {
    pub fn new() -> Pipe {
        Pipe(Rc::new(RefCell::new(Ends { incoming: Incoming::Nothing, ended: false, outgoing: Vec::new() })))
    }

    /// Gives what has been received, when what came before has been read. It must not change until it has been read: [`Pipe::is_read`].
    pub fn give(&self, memory: Loans, received: Span) {
        debug_assert!(self.is_read(), "what came before has not been read");
        if received.len > 0 {
            self.0.borrow_mut().incoming = Incoming::Received(memory, received);
        }
    }

    /// The same of bytes that were decrypted.
    pub fn give_bytes(&self, bytes: Vec<u8>) {
        debug_assert!(self.is_read(), "what came before has not been read");
        if !bytes.is_empty() {
            self.0.borrow_mut().incoming = Incoming::Decrypted(bytes, 0);
        }
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// Whether all that came has been read.
    pub fn is_read(&self) -> bool {
        matches!(self.0.borrow().incoming, Incoming::Nothing)
    }

    /// Moves what is to be sent to `out`, as much as fits; gives how much that was.
    pub fn take(&self, out: &mut [u8]) -> usize {
        let copied = self.take_with(|outgoing| {
            let len = outgoing.len().min(out.len());
            out[..len].copy_from_slice(&outgoing[..len]);
            (len, len)
        });
        copied.0
    }

    /// Has `how` take the beginning of what is to be sent; its answer begins with how many bytes it took.
    pub fn take_with(&self, how: impl FnOnce(&[u8]) -> (usize, usize)) -> (usize, usize) {
        let outgoing = &mut self.0.borrow_mut().outgoing;
        let taken = how(outgoing);
        outgoing.drain(..taken.0);
        if outgoing.is_empty() && outgoing.capacity() > OUTGOING_MAX / 4 {
            // An idle connection holds no memory for what it sent once.
            *outgoing = Vec::new();
        }
        taken
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        let (len, rest) = match &mut ends.incoming {
            Incoming::Nothing => return if ends.ended { Poll::Ready(Ok(())) } else { Poll::Pending },
            Incoming::Received(memory, span) => {
                let len = into.remaining().min(span.len as usize);
                into.put_slice(memory.bytes(span.first(len as u32)));
                *span = span.part(len as u32, span.len - len as u32);
                (len, span.len as usize)
            }
            Incoming::Decrypted(bytes, read) => {
                let len = into.remaining().min(bytes.len() - *read);
                into.put_slice(&bytes[*read..*read + len]);
                *read += len;
                (len, bytes.len() - *read)
            }
        };
        debug_assert!(len > 0, "h2 reads into what has room");
        if rest == 0 {
            ends.incoming = Incoming::Nothing;
        }
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
