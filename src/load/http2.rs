//! A client's end of HTTP/2, as far as puts need it: each request is a stream, sent whole frames at a time as windows allow, one stream after the other;
//! answers are put together as they come.
//!
//! A request lies in its place as its frames: one of headers, and its body in as many as it takes. Blocks of headers use no table, so they can be sent again.

use crate::http::http2::frame::{self, Code, HEAD, Head, Kind, LEN_FIRST, Setting, WINDOW_FIRST};
use crate::http::http2::hpack::Decoder;
use std::collections::VecDeque;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a body in one frame: what every server takes.
const CHUNK: usize = LEN_FIRST as usize;
/// Bytes of an answer that a server may send, and of all answers before it is given more room.
const ANSWER_MAX: u32 = 1 << 20;
const ANSWERS_MAX: u32 = 16 << 20;
/// Of a block of headers.
const BLOCK_MAX: usize = 64 << 10;
/// Streams of a connection that has not said how many it takes.
const STREAMS: u32 = 100;
/// Behind so many streams another connection is made: their numbers end.
const STREAM_LAST: u32 = (1 << 31) - 3;
/// Bytes that are to be sent beside requests: a server that asks for more without reading is ended.
const CONTROL_MAX: usize = 8 << 10;

/// What has come of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Answer {
        stream: u32,
        status: u16,
        body: Vec<u8>,
    },
    /// It will not be answered. Whether it was not looked at.
    Reset {
        stream: u32,
        refused: bool,
    },
    /// Streams behind this number have not been looked at, and there will be no further ones.
    Going {
        last: u32,
    },
}

/// A request that is being sent.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    stream: u32,
    /// Bytes of it that have gone.
    at: u32,
    /// Of its body, that may go.
    window: i64,
}

struct Answer {
    stream: u32,
    status: u16,
    body: Vec<u8>,
}

pub struct Http2 {
    decoder: Decoder,
    /// Frames that go before any request.
    control: Vec<u8>,
    /// The server has said what it takes.
    pub is_ready: bool,
    /// It takes no further streams on this connection.
    pub is_going: bool,
    next: u32,
    /// Of bodies, that may be sent; of a new stream.
    window: i64,
    window_first: i64,
    /// Streams at once.
    pub streams_max: u32,
    cursor: Option<Cursor>,
    answers: VecDeque<Answer>,
    /// Of answers, that the server has been given no new room for.
    owed: u32,
    /// A block of headers that is not whole: its stream, and whether that ends with it.
    block: Option<(u32, bool, Vec<u8>)>,
}

impl Http2 {
    /// Of a connection that has just been made.
    pub fn new() -> Http2 {
        let mut control = PREFACE.to_vec();
        frame::put_settings(&mut control, &[(Setting::EnablePush, 0), (Setting::InitialWindow, ANSWER_MAX)]);
        frame::put_window(&mut control, 0, ANSWERS_MAX - WINDOW_FIRST as u32);
        Http2 {
            decoder: Decoder::new(),
            control,
            is_ready: false,
            is_going: false,
            next: 1,
            window: WINDOW_FIRST,
            window_first: WINDOW_FIRST,
            streams_max: STREAMS,
            cursor: None,
            answers: VecDeque::new(),
            owed: 0,
            block: None,
        }
    }

    /// The number of the next request's stream.
    pub fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 2;
        self.is_going |= self.next >= STREAM_LAST;
        number
    }

    /// What must be sent before anything else, moved to `out`; gives its length.
    pub fn take_control(&mut self, out: &mut [u8]) -> u32 {
        let len = self.control.len().min(out.len());
        out[..len].copy_from_slice(&self.control[..len]);
        self.control.drain(..len);
        len as u32
    }

    /// Whether a request has been begun to be sent, and not ended.
    pub fn sending(&self) -> Option<u32> {
        self.cursor.map(|cursor| cursor.stream)
    }

    /// A request is to be sent, behind which none is being sent.
    pub fn begin(&mut self, stream: u32) {
        self.cursor = Some(Cursor { stream, at: 0, window: self.window_first });
    }

    /// What of the request, whose frames these are, may go now: from where, and how much.
    pub fn advance(&mut self, frames: &[u8]) -> Option<(u32, u32)> {
        let cursor = self.cursor.as_mut()?;
        let from = cursor.at;
        while let Some(head) = Head::read(&frames[cursor.at as usize..]) {
            if head.kind == Kind::Data {
                let left = self.window.min(cursor.window);
                if head.len as i64 > left {
                    break;
                }
                self.window -= head.len as i64;
                cursor.window -= head.len as i64;
            }
            cursor.at += HEAD as u32 + head.len;
        }
        let len = cursor.at - from;
        if cursor.at as usize == frames.len() {
            self.cursor = None;
        }
        (len > 0).then_some((from, len))
    }

    /// Takes whole frames; gives how many bytes they had. What is no HTTP/2 is an error that people understand.
    pub fn receive(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<u32, &'static str> {
        let mut at = 0;
        while let Some(head) = Head::read(&bytes[at..]) {
            if head.len > LEN_FIRST {
                return Err("what came is no frame of HTTP/2: does the server speak it there?");
            }
            let Some(payload) = bytes[at + HEAD..].get(..head.len as usize) else { break };
            at += HEAD + payload.len();
            self.frame(&head, payload, events)?;
            if self.control.len() > CONTROL_MAX {
                return Err("the server asks for more than it reads");
            }
        }
        Ok(at as u32)
    }

    fn frame(&mut self, head: &Head, payload: &[u8], events: &mut Vec<Event>) -> Result<(), &'static str> {
        const SHORT: &str = "a frame of HTTP/2 is short";
        if self.block.is_some() != (head.kind == Kind::Continuation) {
            return Err("a block of headers is broken off");
        }
        match head.kind {
            Kind::Settings if !head.has(frame::ACK) => self.settings(payload),
            Kind::Headers => {
                let payload = unpadded(head, payload).ok_or(SHORT)?;
                let skip = if head.has(frame::PRIORITY) { 5 } else { 0 };
                let block = payload.get(skip..).ok_or(SHORT)?.to_vec();
                self.block = Some((head.stream, head.has(frame::END_STREAM), block));
                self.headers(head, events)?;
            }
            Kind::Continuation => {
                let (_, _, block) = self.block.as_mut().ok_or(SHORT)?;
                block.extend_from_slice(payload);
                if block.len() > BLOCK_MAX {
                    return Err("a block of headers is longer than any should be");
                }
                self.headers(head, events)?;
            }
            Kind::Data => {
                self.owed += head.len;
                if self.owed >= ANSWERS_MAX / 2 {
                    frame::put_window(&mut self.control, 0, std::mem::take(&mut self.owed));
                }
                let payload = unpadded(head, payload).ok_or(SHORT)?;
                if let Some(answer) = self.answers.iter_mut().find(|answer| answer.stream == head.stream) {
                    answer.body.extend_from_slice(payload);
                    if answer.body.len() > ANSWER_MAX as usize {
                        return Err("the server's answer is longer than any should be");
                    }
                }
                self.end(head.stream, head.has(frame::END_STREAM), events);
            }
            Kind::Reset => {
                let code = payload.first_chunk::<4>().ok_or(SHORT)?;
                self.answers.retain(|answer| answer.stream != head.stream);
                self.forget(head.stream);
                let refused = frame::number(code) == Code::Refused as u32;
                events.push(Event::Reset { stream: head.stream, refused });
            }
            Kind::GoAway => {
                let last = payload.first_chunk::<4>().ok_or(SHORT)?;
                self.is_going = true;
                events.push(Event::Going { last: frame::number(last) & frame::STREAM_MAX });
            }
            Kind::Ping if !head.has(frame::ACK) => frame::put(&mut self.control, Kind::Ping, frame::ACK, 0, payload),
            Kind::Window => {
                let more = (frame::number(payload.first_chunk::<4>().ok_or(SHORT)?) & frame::STREAM_MAX) as i64;
                match (head.stream, &mut self.cursor) {
                    (0, _) => self.window += more,
                    (stream, Some(cursor)) if cursor.stream == stream => cursor.window += more,
                    _ => {}
                }
            }
            Kind::Push => return Err("the server pushes what nobody has asked for"),
            Kind::Settings | Kind::Ping | Kind::Priority | Kind::Unknown => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) {
        for (setting, value) in frame::settings(payload) {
            match setting {
                Setting::MaxStreams => self.streams_max = value,
                Setting::InitialWindow => {
                    let change = value as i64 - self.window_first;
                    self.window_first += change;
                    self.cursor.iter_mut().for_each(|cursor| cursor.window += change);
                }
                _ => {}
            }
        }
        frame::put(&mut self.control, Kind::Settings, frame::ACK, 0, &[]);
        self.is_ready = true;
    }

    /// The block is whole, if this frame says so.
    fn headers(&mut self, head: &Head, events: &mut Vec<Event>) -> Result<(), &'static str> {
        if !head.has(frame::END_HEADERS) {
            return Ok(());
        }
        let Some((stream, ends, block)) = self.block.take() else { return Ok(()) };
        let mut status = 0;
        let read = self.decoder.read(&block, |name, value| {
            if name == b":status" {
                status = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            }
        });
        read.map_err(|_| "a block of headers cannot be read")?;
        // 1xx: the answer is still to come. Trailers have no status.
        if status >= 200 {
            self.answers.push_back(Answer { stream, status, body: Vec::new() });
        }
        self.end(stream, ends, events);
        Ok(())
    }

    fn end(&mut self, stream: u32, ends: bool, events: &mut Vec<Event>) {
        if !ends {
            return;
        }
        let Some(at) = self.answers.iter().position(|answer| answer.stream == stream) else { return };
        if let Some(Answer { stream, status, body }) = self.answers.remove(at) {
            if self.sending() == Some(stream) {
                frame::put_reset(&mut self.control, stream, Code::Cancel);
            }
            self.forget(stream);
            events.push(Event::Answer { stream, status, body });
        }
    }

    /// Nothing more of this request is sent.
    fn forget(&mut self, stream: u32) {
        self.cursor = self.cursor.filter(|cursor| cursor.stream != stream);
    }
}

/// The payload without its padding; `None`: it is shorter than that.
fn unpadded<'p>(head: &Head, payload: &'p [u8]) -> Option<&'p [u8]> {
    if !head.has(frame::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(*padding as usize)?)
}

/// Bytes of a body in frames.
pub const fn framed(body: usize) -> usize {
    body + HEAD * body.div_ceil(CHUNK)
}

/// Puts the heads of frames into a body, which lies in `out` from `room` on, `body` bytes long and not empty: the first head right before it. Gives where
/// it ends.
pub fn put_in_frames(out: &mut [u8], room: usize, body: usize) -> usize {
    let chunks = body.div_ceil(CHUNK);
    for chunk in (0..chunks).rev() {
        let (from, len) = (room + chunk * CHUNK, CHUNK.min(body - chunk * CHUNK));
        let to = from + chunk * HEAD;
        out.copy_within(from..from + len, to);
        let flags = if chunk + 1 == chunks { frame::END_STREAM } else { 0 };
        out[to - HEAD..to].copy_from_slice(&frame::head(len, Kind::Data, flags, 0));
    }
    room - HEAD + framed(body)
}

/// Gives the frames of a request the number of their stream.
pub fn put_number(frames: &mut [u8], number: u32) {
    let mut at = 0;
    while let Some(head) = Head::read(&frames[at..]) {
        frames[at + 5..at + HEAD].copy_from_slice(&number.to_be_bytes());
        at += HEAD + head.len as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::http2::hpack;

    fn request(body: usize) -> Vec<u8> {
        let mut out = vec![0; 100 + body];
        out.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
        out.resize(100 + framed(body), 0);
        let end = put_in_frames(&mut out, 100, body);
        out.truncate(end);
        out.drain(..100 - HEAD);
        out
    }

    fn frames(bytes: &[u8]) -> Vec<(Head, &[u8])> {
        let (mut at, mut found) = (0, Vec::new());
        while let Some(head) = Head::read(&bytes[at..]) {
            found.push((head, &bytes[at + HEAD..at + HEAD + head.len as usize]));
            at += HEAD + head.len as usize;
        }
        assert_eq!(at, bytes.len());
        found
    }

    #[test]
    fn a_body_is_cut_into_frames_and_none_of_its_bytes_is_lost() {
        for body in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            let mut made = request(body);
            put_number(&mut made, 7);
            let found = frames(&made);
            let bytes: Vec<u8> = found.iter().flat_map(|(_, payload)| payload.to_vec()).collect();
            assert_eq!(bytes, (100..100 + body).map(|at| at as u8).collect::<Vec<u8>>());
            assert!(found.iter().all(|(head, _)| head.stream == 7 && head.kind == Kind::Data && head.len <= LEN_FIRST));
            let ends: Vec<bool> = found.iter().map(|(head, _)| head.has(frame::END_STREAM)).collect();
            assert_eq!(ends.iter().filter(|ends| **ends).count(), 1);
            assert_eq!(ends.last(), Some(&true));
        }
    }

    fn settings(list: &[(Setting, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::put_settings(&mut out, list);
        out
    }

    #[test]
    fn no_more_is_sent_than_windows_allow_and_all_of_it_in_the_end() {
        let (mut http2, mut events) = (Http2::new(), Vec::new());
        let made = request(6 * CHUNK);
        http2.begin(1);
        // 65,535 bytes: three frames.
        assert_eq!(http2.advance(&made), Some((0, 3 * (CHUNK + HEAD) as u32)));
        assert_eq!(http2.advance(&made), None);
        let mut more = Vec::new();
        frame::put_window(&mut more, 0, 1 << 20);
        http2.receive(&more, &mut events).expect("a frame");
        assert_eq!(http2.advance(&made), None, "its stream has no room");
        // A larger first window counts for what is under way.
        http2.receive(&settings(&[(Setting::InitialWindow, 5 * CHUNK as u32)]), &mut events).expect("a frame");
        assert_eq!(http2.advance(&made), Some((3 * (CHUNK + HEAD) as u32, 2 * (CHUNK + HEAD) as u32)));
        more.clear();
        frame::put_window(&mut more, 1, CHUNK as u32);
        http2.receive(&more, &mut events).expect("a frame");
        assert_eq!(http2.advance(&made), Some((5 * (CHUNK + HEAD) as u32, (CHUNK + HEAD) as u32)));
        assert!(http2.sending().is_none() && http2.is_ready && events.is_empty());
    }

    #[test]
    fn answers_come_whole_wherever_they_are_cut_and_in_any_order() {
        let mut came = settings(&[(Setting::MaxStreams, 7)]);
        let mut block = Vec::new();
        hpack::put_status(&mut block, 200);
        hpack::put(&mut block, b"content-type", b"x");
        frame::put(&mut came, Kind::Headers, frame::END_HEADERS, 3, &block);
        frame::put(&mut came, Kind::Ping, 0, 0, b"12345678");
        frame::put(&mut came, Kind::Headers, 0, 1, &block[..1]);
        frame::put(&mut came, Kind::Continuation, frame::END_HEADERS, 1, &block[1..]);
        frame::put(&mut came, Kind::Data, 0, 3, b"hel");
        frame::put(&mut came, Kind::Data, frame::END_STREAM, 1, b"first");
        frame::put(&mut came, Kind::Data, frame::PADDED | frame::END_STREAM, 3, b"\x02lo\0\0");
        frame::put_reset(&mut came, 5, Code::Refused);
        frame::put_go_away(&mut came, 9, Code::None);
        for step in [1, 7, came.len()] {
            let (mut http2, mut events, mut held) = (Http2::new(), Vec::new(), Vec::new());
            for piece in came.chunks(step) {
                held.extend_from_slice(piece);
                let taken = http2.receive(&held, &mut events).expect("sound frames");
                held.drain(..taken as usize);
            }
            let answer = |stream, body: &[u8]| Event::Answer { stream, status: 200, body: body.to_vec() };
            let reset = Event::Reset { stream: 5, refused: true };
            assert_eq!(events, [answer(1, b"first"), answer(3, b"hello"), reset, Event::Going { last: 9 }]);
            assert_eq!((http2.streams_max, http2.is_going), (7, true));
            let mut out = [0; 1000];
            let len = http2.take_control(&mut out) as usize;
            assert!(out[..len].ends_with(b"12345678") && out.starts_with(PREFACE));
        }
    }

    #[test]
    fn what_is_no_http2_is_told_and_an_early_answer_ends_the_request() {
        let (mut http2, mut events) = (Http2::new(), Vec::new());
        let text = http2.receive(b"HTTP/1.1 400 Bad Request\r\n", &mut events).expect_err("it is HTTP/1.1");
        assert!(text.contains("does the server speak it"), "{text}");
        let made = request(9 * CHUNK);
        let mut http2 = Http2::new();
        http2.begin(1);
        http2.advance(&made).expect("there is room for some");
        let (mut came, mut block) = (Vec::new(), Vec::new());
        hpack::put_status(&mut block, 413);
        frame::put(&mut came, Kind::Headers, frame::END_HEADERS | frame::END_STREAM, 1, &block);
        http2.receive(&came, &mut events).expect("a frame");
        assert_eq!(events, [Event::Answer { stream: 1, status: 413, body: Vec::new() }]);
        assert!(http2.sending().is_none());
        assert!(http2.receive(&came[..HEAD], &mut events) == Ok(0));
    }
}
