//! A client's end of HTTP/2, as far as puts need it: each request is a stream, sent as windows allow, one stream after the other; answers are put
//! together as they come. A request lies in its place as frames (`http2_body.rs`), whose blocks of headers use no table, so that it can be sent again.

use crate::http::http2::frame::{self, Code, HEAD, Head, Kind, LEN_FIRST, Setting, WINDOW_FIRST};
use crate::http::http2::hpack::Decoder;
use std::collections::VecDeque;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of an answer that a server may send, and of all answers before it is given more room.
const ANSWER_MAX: u32 = 1 << 20;
const ANSWERS_MAX: u32 = 16 << 20;
/// Of all answers that have begun and not ended: a server that spreads more than that over many streams is ended.
const UNFINISHED_MAX: usize = 64 << 20;
/// Of a block of headers.
const BLOCK_MAX: usize = 64 << 10;
/// Streams of a connection that has not said how many it takes.
const STREAMS: u32 = 100;
/// Behind so many streams another connection is made: their numbers end.
const STREAM_LAST: u32 = (1 << 31) - 3;
/// Bytes that are to be sent beside requests: a server that asks for more without reading is ended.
const CONTROL_MAX: usize = 8 << 10;

const UNASKED: &str = "the server answers what was not asked, or twice";

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
    /// Bytes of it that have gone, up to the head of a frame; and of the payload of that frame.
    at: u32,
    within: u32,
    /// Of its body, that may go.
    window: i64,
}

/// What of a request may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Goes before it: it is a piece of a frame, and this is the head that makes a frame of it.
    pub head: Option<[u8; HEAD]>,
    /// Where it lies among the request's frames.
    pub from: u32,
    pub len: u32,
}

/// A request that has been begun and is not answered.
struct Asked {
    stream: u32,
    /// 0: the answer has not begun.
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
    /// By rising number; no more than were begun. What comes for any other stream ends the connection.
    asked: VecDeque<Asked>,
    /// Bytes of bodies in it.
    unfinished: usize,
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
            asked: VecDeque::new(),
            unfinished: 0,
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

    /// A request is to be sent, behind which none is being sent. Numbers of streams rise.
    pub fn begin(&mut self, stream: u32) {
        debug_assert!(self.asked.back().is_none_or(|last| last.stream < stream));
        self.asked.push_back(Asked { stream, status: 0, body: Vec::new() });
        self.cursor = Some(Cursor { stream, at: 0, within: 0, window: self.window_first });
    }

    /// What of the request, whose frames these are, may go now. Whole frames where they fit; else, `cuts`, as much of one as does: a server may
    /// give less room than a frame has, and more of it only when that is used up. `frames` stay as they are.
    pub fn advance(&mut self, frames: &[u8], cuts: bool) -> Option<Part> {
        let cursor = self.cursor.as_mut()?;
        let from = cursor.at;
        while let Some(head) = Head::read(&frames[cursor.at as usize..]).filter(|_| cursor.within == 0) {
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
        let part = match len > 0 {
            true => Some(Part { head: None, from, len }),
            false if cuts => cut(cursor, &mut self.window, frames),
            false => None,
        };
        if cursor.at as usize == frames.len() {
            self.cursor = None;
        }
        part
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
                self.body(head.stream, unpadded(head, payload).ok_or(SHORT)?)?;
                self.end(head.stream, head.has(frame::END_STREAM), events);
            }
            Kind::Reset => {
                let code = payload.first_chunk::<4>().ok_or(SHORT)?;
                // Behind an early answer a server may reset what it does not want to see the rest of.
                if self.take(head.stream).is_some() {
                    let refused = frame::number(code) == Code::Refused as u32;
                    events.push(Event::Reset { stream: head.stream, refused });
                }
            }
            Kind::GoAway => {
                let last = frame::number(payload.first_chunk::<4>().ok_or(SHORT)?) & frame::STREAM_MAX;
                self.is_going = true;
                while let Some(stream) = self.asked.back().map(|asked| asked.stream).filter(|stream| *stream > last) {
                    self.take(stream);
                }
                events.push(Event::Going { last });
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
        let asked = self.find(stream).ok_or(UNASKED)?;
        match status {
            // The answer is still to come.
            100..200 if !ends => {}
            200.. if asked.status == 0 => asked.status = status,
            // Trailers.
            0 if asked.status != 0 && ends => {}
            _ => return Err("the headers of an answer are none"),
        }
        self.end(stream, ends, events);
        Ok(())
    }

    fn body(&mut self, stream: u32, payload: &[u8]) -> Result<(), &'static str> {
        self.unfinished += payload.len();
        let asked = self.find(stream).filter(|asked| asked.status != 0).ok_or(UNASKED)?;
        asked.body.extend_from_slice(payload);
        match asked.body.len() > ANSWER_MAX as usize || self.unfinished > UNFINISHED_MAX {
            true => Err("the server's answer is longer than any should be"),
            false => Ok(()),
        }
    }

    fn end(&mut self, stream: u32, ends: bool, events: &mut Vec<Event>) {
        if !ends {
            return;
        }
        if self.sending() == Some(stream) {
            frame::put_reset(&mut self.control, stream, Code::Cancel);
        }
        if let Some(Asked { stream, status, body }) = self.take(stream) {
            events.push(Event::Answer { stream, status, body });
        }
    }

    fn find(&mut self, stream: u32) -> Option<&mut Asked> {
        let at = self.asked.binary_search_by_key(&stream, |asked| asked.stream).ok()?;
        self.asked.get_mut(at)
    }

    /// A request is done with: nothing more of it is sent, or waited for.
    fn take(&mut self, stream: u32) -> Option<Asked> {
        self.cursor = self.cursor.filter(|cursor| cursor.stream != stream);
        let at = self.asked.binary_search_by_key(&stream, |asked| asked.stream).ok()?;
        let asked = self.asked.remove(at)?;
        self.unfinished -= asked.body.len();
        Some(asked)
    }
}

/// The next piece of a frame, as long as windows allow; `None`: they allow nothing.
fn cut(cursor: &mut Cursor, window: &mut i64, frames: &[u8]) -> Option<Part> {
    let head = Head::read(&frames[cursor.at as usize..])?;
    let left = head.len - cursor.within;
    let len = (*window).min(cursor.window).clamp(0, left as i64) as u32;
    if len == 0 {
        return None;
    }
    *window -= len as i64;
    cursor.window -= len as i64;
    let from = cursor.at + HEAD as u32 + cursor.within;
    let flags = if len == left && head.has(frame::END_STREAM) { frame::END_STREAM } else { 0 };
    cursor.within += len;
    if len == left {
        (cursor.at, cursor.within) = (cursor.at + HEAD as u32 + head.len, 0);
    }
    Some(Part { head: Some(frame::head(len as usize, head.kind, flags, cursor.stream)), from, len })
}

/// The payload without its padding; `None`: it is shorter than that.
fn unpadded<'p>(head: &Head, payload: &'p [u8]) -> Option<&'p [u8]> {
    if !head.has(frame::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(*padding as usize)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::http2::hpack;
    use crate::load::http2_body::CHUNK;
    use crate::load::http2_body::tests::{frames, request};

    fn settings(list: &[(Setting, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::put_settings(&mut out, list);
        out
    }

    fn window(stream: u32, more: u32) -> Vec<u8> {
        let mut out = Vec::new();
        frame::put_window(&mut out, stream, more);
        out
    }

    fn whole(from: usize, len: usize) -> Option<Part> {
        Some(Part { head: None, from: from as u32, len: len as u32 })
    }

    #[test]
    fn no_more_is_sent_than_windows_allow_and_all_of_it_in_the_end() {
        let (mut http2, mut events) = (Http2::new(), Vec::new());
        let made = request(6 * CHUNK);
        http2.begin(1);
        // 65,535 bytes: three frames, and a fourth without its last byte.
        assert_eq!(http2.advance(&made, false), whole(0, 3 * (CHUNK + HEAD)));
        assert_eq!(http2.advance(&made, false), None);
        http2.receive(&window(0, 1 << 20), &mut events).expect("a frame");
        assert_eq!(http2.advance(&made, false), None, "its stream has no room");
        // A larger first window counts for what is under way.
        http2.receive(&settings(&[(Setting::InitialWindow, 5 * CHUNK as u32)]), &mut events).expect("a frame");
        assert_eq!(http2.advance(&made, true), whole(3 * (CHUNK + HEAD), 2 * (CHUNK + HEAD)));
        http2.receive(&window(1, CHUNK as u32), &mut events).expect("a frame");
        assert_eq!(http2.advance(&made, true), whole(5 * (CHUNK + HEAD), CHUNK + HEAD));
        assert!(http2.sending().is_none() && http2.is_ready && events.is_empty());
    }

    #[test]
    fn a_server_that_gives_little_room_gets_pieces_of_frames_and_the_whole_in_the_end() {
        for (first, more) in [(0, 1000), (1, 1), (CHUNK as u32 - 1, CHUNK as u32 - 1), (20_000, 7_000)] {
            let (mut http2, mut events) = (Http2::new(), Vec::new());
            let made = request(2 * CHUNK + 5);
            http2.receive(&settings(&[(Setting::InitialWindow, first)]), &mut events).expect("a frame");
            http2.begin(1);
            let (mut sent, mut room) = (Vec::new(), first as i64);
            while http2.sending().is_some() {
                let Some(Part { head, from, len }) = http2.advance(&made, true) else {
                    assert_eq!(room, 0, "{first}, {more}: it waits though it may send");
                    http2.receive(&window(1, more), &mut events).expect("a frame");
                    http2.receive(&window(0, more), &mut events).expect("a frame");
                    room += more as i64;
                    continue;
                };
                let before = sent.len();
                sent.extend(head.into_iter().flatten());
                sent.extend(&made[from as usize..][..len as usize]);
                room -= frames(&sent[before..]).iter().map(|(head, _)| head.len as i64).sum::<i64>();
                assert!(room >= 0, "{first}, {more}: it sends more than it may");
            }
            let bytes: Vec<u8> = frames(&sent).iter().flat_map(|(_, payload)| payload.to_vec()).collect();
            assert_eq!(bytes, (100..100 + 2 * CHUNK + 5).map(|at| at as u8).collect::<Vec<u8>>());
            let ends: Vec<bool> = frames(&sent).iter().map(|(head, _)| head.has(frame::END_STREAM)).collect();
            assert_eq!(ends.iter().position(|ends| *ends), Some(ends.len() - 1), "{first}, {more}");
        }
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
            [1, 3, 5].into_iter().for_each(|stream| http2.begin(stream));
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
        http2.advance(&made, true).expect("there is room for some");
        let came = answer(1, 413, frame::END_STREAM);
        http2.receive(&came, &mut events).expect("a frame");
        assert_eq!(events, [Event::Answer { stream: 1, status: 413, body: Vec::new() }]);
        assert!(http2.sending().is_none());
        assert!(http2.receive(&came[..HEAD], &mut events) == Ok(0));
        // The server does not want to see the rest: that is no second end.
        let mut reset = Vec::new();
        frame::put_reset(&mut reset, 1, Code::None);
        http2.receive(&reset, &mut events).expect("a frame");
        assert_eq!(events.len(), 1);
    }

    fn answer(stream: u32, status: u16, flags: u8) -> Vec<u8> {
        let (mut out, mut block) = (Vec::new(), Vec::new());
        hpack::put_status(&mut block, status);
        frame::put(&mut out, Kind::Headers, frame::END_HEADERS | flags, stream, &block);
        out
    }

    #[test]
    fn nothing_is_kept_of_answers_that_were_not_asked_for_or_have_no_end() {
        let begun = || {
            let mut http2 = Http2::new();
            [1, 3].into_iter().for_each(|stream| http2.begin(stream));
            http2
        };
        let data = |stream, len: usize| {
            let mut out = Vec::new();
            frame::put(&mut out, Kind::Data, 0, stream, &vec![0; len]);
            out
        };
        let ended = answer(1, 200, frame::END_STREAM);
        for came in [
            answer(5, 200, 0),
            answer(2, 200, 0),
            data(5, 10),
            data(1, 10),
            [answer(1, 200, 0), answer(1, 200, 0)].concat(),
            [ended.clone(), ended.clone()].concat(),
            [ended, data(1, 10)].concat(),
            answer(1, 103, frame::END_STREAM),
            [answer(1, 200, 0), data(1, CHUNK).repeat(65)].concat(),
        ] {
            let (mut http2, mut events) = (begun(), Vec::new());
            http2.receive(&came, &mut events).expect_err("it is no answer");
            assert!(http2.asked.len() <= 2, "{came:?}");
        }
        // Many at once, none of which is too long.
        let (mut http2, mut events) = (Http2::new(), Vec::new());
        let streams = (1..400).step_by(2);
        streams.clone().for_each(|stream| http2.begin(stream));
        let came: Vec<u8> =
            streams.flat_map(|stream| [answer(stream, 200, 0), data(stream, CHUNK).repeat(40)].concat()).collect();
        let mut at = 0;
        let refused = loop {
            match http2.receive(&came[at..(at + (1 << 20)).min(came.len())], &mut events) {
                Ok(0) => break false,
                Ok(taken) => at += taken as usize,
                Err(_) => break true,
            }
            http2.control.clear();
        };
        assert!(refused && http2.unfinished <= UNFINISHED_MAX + CHUNK);
        // What the server will not look at is not waited for.
        let mut http2 = begun();
        let mut going = Vec::new();
        frame::put_go_away(&mut going, 1, Code::None);
        http2.receive(&going, &mut Vec::new()).expect("a frame");
        assert_eq!(http2.asked.iter().map(|asked| asked.stream).collect::<Vec<_>>(), [1]);
        assert!(http2.sending().is_none());
    }
}
