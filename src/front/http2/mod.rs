//! A connection of HTTP/2 (RFC 9113): frames in, frames out, and between them streams that the core takes for connections.
//!
//! Ours, because it lies on the way of every put: the bytes of a body go from where the kernel has put them to where the core wants them, and
//! those of an answer from where the core has them to where the kernel takes them. Input that the core has no place for yet waits where it
//! is until the core has had its turn, and is only kept elsewhere if the core wants none of it then.

mod read;
mod request;
mod write;

use super::Memory;
use super::stream::{Incoming, Stream};
use super::streams::Streams;
use crate::http::http2::frame::Setting;
use crate::http::http2::hpack::Decoder;
use crate::http::http2::{frame, hpack};
use crate::io::buffers::Loans;
use crate::io::op::{Completions, Socket};
use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;

pub(super) use crate::http::http2::frame::Code;
pub(super) use request::Request;

/// Bytes of bodies that a client may send ahead: of one stream, and of the connection. The largest body takes 16 turns of it.
const STREAM_WINDOW: i64 = 1 << 20;
const CONNECTION_WINDOW: i64 = 2 << 20;
/// Streams at once on a connection; a client that has more to ask opens another connection.
const STREAMS_MAX: usize = 1024;
/// Larger than the default of 16 KiB: fewer frames for each body.
const FRAME_MAX: u32 = 64 << 10;
/// Streams that a client may reset before they have been answered, less those that have been answered; beyond it the connection ends
/// (CVE-2023-44487).
const RESETS_MAX: u32 = 64;
/// Bytes that are to be sent beside answers: while there are more of them the client is not read from.
const CONTROL_MAX: usize = 8 << 10;
/// Streams that the server has reset, and of which the client may not know.
const RECENT_MAX: usize = 32;
/// What the client gives back when it knows that the server is going.
const GOING: &[u8; 8] = b"penstock";

/// What a connection works with in a turn.
pub(super) struct Turn<'a, 'm> {
    pub memory: &'a mut Memory<'m>,
    pub streams: &'a mut Streams,
    /// For the core, at its step of number `step`.
    pub told: &'a mut Completions,
    pub step: u64,
    /// Room for what is to be encrypted.
    pub scratch: &'a mut [u8],
}

/// What answers are read from, and who is told that they have gone.
pub(super) struct Answers<'a> {
    pub loans: &'a [Loans],
    pub streams: &'a mut Streams,
    pub told: &'a mut Completions,
}

pub(super) struct Http2 {
    /// What carries it.
    socket: Socket,
    /// Who has asked, and whether it is encrypted.
    peer: Option<IpAddr>,
    secure: bool,
    reading: read::Reading,
    decoder: Decoder,
    /// Why input is left where it is.
    pub held: Held,
    greeted: bool,
    going: Going,
    over: bool,
    /// Streams that the core has not let go of, in the order of their numbers.
    streams: Vec<(u32, Socket)>,
    /// The highest number that the client has given.
    last: u32,
    /// Streams of which something has come, or the core has asked something.
    stirred: Vec<Socket>,
    /// Streams that have something to send and room in their windows.
    ready: VecDeque<Socket>,
    /// Frames to be sent before all others.
    control: Vec<u8>,
    /// Whether a block has been sent, and the client knows that the server remembers none.
    told_table: bool,
    windows: Windows,
    /// Streams that the server has reset, the newest last.
    recent: VecDeque<u32>,
    resets: u32,
}

/// Bytes that may go.
struct Windows {
    /// That the client may send.
    receive: i64,
    /// That have been read, and for which the client has been given no new room.
    owed: i64,
    /// That may be sent.
    send: i64,
    /// Of a new stream, that the client may send, and that may be sent to it.
    receive_first: i64,
    send_first: i64,
    /// Of one frame that is sent.
    frame: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// All has been read, or the rest of a frame has not come.
    No,
    /// The core may want it, after its next step.
    ForCore,
    /// There is too much to be sent.
    ForRoom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    No,
    /// The client has been warned, and may have asked more meanwhile.
    Warned,
    /// It knows: what it asks from now on is refused.
    Known,
}

impl Http2 {
    pub fn new(socket: Socket, peer: Option<IpAddr>, secure: bool) -> Http2 {
        let mut control = Vec::new();
        let settings = [
            (Setting::MaxStreams, STREAMS_MAX as u32),
            (Setting::InitialWindow, STREAM_WINDOW as u32),
            (Setting::MaxFrame, FRAME_MAX),
            (Setting::MaxHeaderList, request::LIST_MAX as u32),
        ];
        frame::put_settings(&mut control, &settings);
        frame::put_window(&mut control, 0, (CONNECTION_WINDOW - frame::WINDOW_FIRST) as u32);
        Http2 {
            socket,
            peer,
            secure,
            reading: read::Reading::Preface,
            decoder: Decoder::new(),
            held: Held::No,
            greeted: false,
            going: Going::No,
            over: false,
            streams: Vec::new(),
            last: 0,
            stirred: Vec::new(),
            ready: VecDeque::new(),
            control,
            told_table: false,
            windows: Windows {
                receive: CONNECTION_WINDOW,
                owed: 0,
                send: frame::WINDOW_FIRST,
                receive_first: frame::WINDOW_FIRST,
                send_first: frame::WINDOW_FIRST,
                frame: frame::LEN_FIRST,
            },
            recent: VecDeque::new(),
            resets: 0,
        }
    }

    /// Nothing more is read; what is to be sent still is.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the client has not said yet what it must say first.
    pub fn is_greeting(&self) -> bool {
        !self.greeted
    }

    pub fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether a stream waits to be looked at, or input that has become readable.
    pub fn is_awake(&self) -> bool {
        !self.stirred.is_empty() || (self.held == Held::ForRoom && self.control.len() <= CONTROL_MAX)
    }

    /// Something of `stream` is to be looked at.
    pub fn stir(&mut self, stream: Socket) {
        if self.stirred.last() != Some(&stream) {
            self.stirred.push(stream);
        }
    }

    /// Tells the client to ask nothing more; what it has asked is answered.
    pub fn go_away(&mut self) {
        if !self.greeted {
            self.over = true;
        } else if !self.over && self.going == Going::No {
            self.going = Going::Warned;
            // What it has asked meanwhile is on its way: it is told the last number when this comes back.
            frame::put_go_away(&mut self.control, frame::STREAM_MAX, Code::None);
            frame::put(&mut self.control, frame::Kind::Ping, 0, 0, GOING);
        }
    }

    /// Before input is read: the core may want what has come before.
    pub fn attend(&mut self, turn: &mut Turn<'_, '_>) {
        for nth in 0..self.stirred.len() {
            let socket = self.stirred[nth];
            let Some(stream) = self.own(socket, turn.streams) else { continue };
            let before = stream.windows.owed;
            stream.give(&[], turn.memory.buffers);
            self.windows.owed += (stream.windows.owed - before) as i64;
        }
    }

    /// After input has been read: tells the core of it, and the client that it has been; and has those streams send that can.
    pub fn settle(&mut self, turn: &mut Turn<'_, '_>) {
        let half = self.windows.receive_first as u32 / 2;
        for nth in 0..self.stirred.len() {
            let socket = self.stirred[nth];
            let Some(stream) = self.own(socket, turn.streams) else { continue };
            stream.tell(turn.step, turn.told);
            if stream.is_reset {
                // Whatever the core goes on to send of it.
                stream.tell_sent(false, turn.told);
            } else if stream.sending.is_some() && !stream.is_ready {
                stream.is_ready = true;
                self.ready.push_back(socket);
            }
            let Some(stream) = self.own(socket, turn.streams) else { continue };
            let (owed, id) = (stream.windows.owed, stream.id);
            if owed >= half && matches!(stream.incoming, Incoming::Open(_)) {
                stream.windows.owed = 0;
                stream.windows.receive += owed as i64;
                frame::put_window(&mut self.control, id, owed);
            }
        }
        self.stirred.clear();
        if self.windows.owed >= CONNECTION_WINDOW / 2 {
            let owed = mem::take(&mut self.windows.owed);
            self.windows.receive += owed;
            frame::put_window(&mut self.control, 0, owed as u32);
        }
        if self.going == Going::Known && self.streams.is_empty() {
            self.over = true;
        }
    }

    /// Nothing more comes: neither can answers be awaited by anybody.
    pub fn end(&mut self, turn: &mut Turn<'_, '_>) {
        self.over = true;
        for (_, socket) in mem::take(&mut self.streams) {
            if let Some(stream) = turn.streams.get(socket) {
                stream.lose(turn.step, turn.told);
            }
        }
        self.stirred.clear();
        self.ready.clear();
    }

    /// The core has let go of a stream. Where one side waits for more of it still, it is reset.
    pub fn closed(&mut self, mut stream: Box<Stream>) {
        self.windows.owed += stream.forget() as i64;
        if stream.is_ready {
            self.ready.retain(|other| *other != stream.number);
        }
        let Ok(place) = self.streams.binary_search_by_key(&stream.id, |(id, _)| *id) else { return };
        self.streams.remove(place);
        match stream.incoming {
            _ if stream.is_reset => {}
            _ if stream.is_open() => self.reset(stream.id, Code::Cancel),
            // The answer is whole, and no more of the request is needed (8.1).
            Incoming::Open(_) => self.reset(stream.id, Code::None),
            Incoming::Ended | Incoming::Broken => {}
        }
        // The last one that is awaited may have been it.
        self.stir(stream.number);
    }

    /// The stream with the number `socket`, if it is of this connection.
    fn own<'s>(&self, socket: Socket, streams: &'s mut Streams) -> Option<&'s mut Stream> {
        streams.get(socket).filter(|stream| stream.carrier == self.socket && !stream.is_lost())
    }

    /// The stream `id`, if the core has not let go of it.
    fn find<'s>(&self, id: u32, streams: &'s mut Streams) -> Option<&'s mut Stream> {
        let place = self.streams.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        streams.get(self.streams[place].1)
    }

    fn reset(&mut self, id: u32, code: Code) {
        frame::put_reset(&mut self.control, id, code);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(id);
    }
}
