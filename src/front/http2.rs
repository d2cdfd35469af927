//! A connection of HTTP/2: `h2` over memory, polled by hand.

use super::pipe::Pipe;
use crate::io::op::Socket;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use http::Request;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Bytes of bodies that a client may send ahead: of one stream, and of the connection. The largest body takes 16 turns of it.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Streams at once on a connection; a client that has more to ask opens another connection.
const STREAMS_MAX: u32 = 1024;
/// Bytes of an answer that wait in a stream's buffer, where the client's window is open but its connection is full.
const SEND_BUFFER: usize = 64 << 10;
/// Larger than the default of 16 KiB: fewer frames for each body.
const FRAME_MAX: u32 = 64 << 10;
/// As [`crate::limits::HEAD_MAX`], counted as HTTP/2 counts: 32 bytes more for each header.
const HEADERS_MAX: u32 = 16 << 10;
/// Streams that a client may reset before they have been looked at; beyond it the connection ends (CVE-2023-44487).
const RESETS_MAX: usize = 64;

pub(super) struct Http2 {
    state: State,
    awake: Arc<Awake>,
    waker: Waker,
    /// What it carries.
    pub streams: Vec<Socket>,
}

enum State {
    /// The client's preface and settings are awaited.
    Greeting(Box<Handshake<Pipe, Bytes>>),
    Open(Box<Connection<Pipe, Bytes>>),
    Over,
}

/// What has been woken since it was last polled.
#[derive(Default)]
struct Awake {
    connection: AtomicBool,
    streams: Mutex<Vec<Socket>>,
}

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.connection.store(true, Ordering::Relaxed);
    }
}

struct AwakeStream {
    awake: Arc<Awake>,
    stream: Socket,
}

impl Wake for AwakeStream {
    fn wake(self: Arc<Self>) {
        self.awake.streams.lock().expect("nobody panics with it").push(self.stream);
    }
}

/// What a connection has brought.
pub(super) enum News {
    Request(Box<Request<RecvStream>>, SendResponse<Bytes>),
    /// It is over: what it has to send is in its pipe.
    Over,
}

impl Http2 {
    pub fn new(pipe: Pipe) -> Http2 {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS_MAX)
            .max_frame_size(FRAME_MAX)
            .max_header_list_size(HEADERS_MAX)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(RESETS_MAX)
            .max_pending_accept_reset_streams(RESETS_MAX)
            .handshake(pipe);
        let awake = Arc::new(Awake::default());
        let waker = Waker::from(awake.clone());
        Http2 { state: State::Greeting(Box::new(handshake)), awake, waker, streams: Vec::new() }
    }

    /// Its input or its output can go on.
    pub fn wake(&self) {
        self.awake.connection.store(true, Ordering::Relaxed);
    }

    /// Whether something has been woken since it was last polled.
    pub fn is_awake(&self) -> bool {
        self.awake.connection.load(Ordering::Relaxed)
            || !self.awake.streams.lock().expect("nobody panics with it").is_empty()
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether the client has not said yet what it must say first.
    pub fn is_greeting(&self) -> bool {
        matches!(self.state, State::Greeting(_))
    }

    /// Tells the client to ask nothing more; what it has asked is answered.
    pub fn go_away(&mut self) {
        match &mut self.state {
            State::Open(connection) => connection.graceful_shutdown(),
            State::Greeting(_) => self.state = State::Over,
            State::Over => {}
        }
        self.wake();
    }

    /// Who is to be polled when something has come for `stream`, or it may send.
    pub fn waker_of(&self, stream: Socket) -> Waker {
        Waker::from(Arc::new(AwakeStream { awake: self.awake.clone(), stream }))
    }

    /// Streams that have been woken since this was asked last.
    pub fn woken(&self) -> Vec<Socket> {
        mem::take(&mut *self.awake.streams.lock().expect("nobody panics with it"))
    }

    /// Goes on; `None`: until it is woken there is nothing more.
    pub fn next(&mut self) -> Option<News> {
        if !self.awake.connection.swap(false, Ordering::Relaxed) {
            return None;
        }
        let mut context = Context::from_waker(&self.waker);
        if let State::Greeting(handshake) = &mut self.state {
            self.state = match Pin::new(&mut **handshake).poll(&mut context) {
                Poll::Pending => return None,
                Poll::Ready(Ok(connection)) => State::Open(Box::new(connection)),
                Poll::Ready(Err(_)) => State::Over,
            };
            if self.is_over() {
                return Some(News::Over);
            }
        }
        let State::Open(connection) = &mut self.state else { return None };
        match connection.poll_accept(&mut context) {
            Poll::Pending => None,
            Poll::Ready(Some(Ok((request, respond)))) => {
                // There may be more.
                self.wake();
                Some(News::Request(Box::new(request), respond))
            }
            Poll::Ready(Some(Err(_)) | None) => {
                self.state = State::Over;
                Some(News::Over)
            }
        }
    }
}
