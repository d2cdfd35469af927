//! What a client sends, frame by frame.

use super::super::stream::{Incoming, Stream, Windows};
use super::super::streams::Streams;
use super::request::{self, Request};
use super::{FRAME_MAX, GOING, Going, Held, Http2, RESETS_MAX, STREAM_WINDOW, STREAMS_MAX, Turn, hpack};
use crate::http::http1::HTTP2_PREFACE;
use crate::http::http2::frame::{self, Code, Head, Kind, Setting};
use crate::io::op::{Completion, Completions};
use std::mem;

/// Bytes of a block of headers, which is never longer than what it says but for a byte or two a header.
const BLOCK_MAX: usize = request::LIST_MAX + (1 << 10);
/// Frames of one block.
const BLOCK_FRAMES_MAX: u32 = 64;
/// The status of a request whose head is too large (RFC 6585).
const HEAD_TOO_LARGE: u16 = 431;

/// What comes next.
pub(super) enum Reading {
    Preface,
    Frame,
    /// A payload of which nobody wants to know.
    Skip(u32),
    Data(Data),
    /// The frames of a block, of which there are some.
    Block {
        id: u32,
        ends: bool,
        bytes: Vec<u8>,
        frames: u32,
    },
}

/// A payload of DATA.
#[derive(Clone, Copy)]
pub(super) struct Data {
    id: u32,
    left: u32,
    padding: u32,
    ends: bool,
}

enum Step {
    /// So many bytes have been read.
    Used(usize),
    /// A frame has not come whole.
    More,
    Hold(Held),
}

impl Http2 {
    /// Reads `input` as far as it can; gives how far. What is wrong ends the connection.
    pub fn read(&mut self, input: &[u8], turn: &mut Turn<'_, '_>) -> usize {
        let mut at = 0;
        self.held = Held::No;
        while !self.over {
            match self.step(&input[at..], turn) {
                Ok(Step::Used(len)) => at += len,
                Ok(Step::More) => return at,
                Ok(Step::Hold(held)) => {
                    self.held = held;
                    return at;
                }
                Err(code) => {
                    frame::put_go_away(&mut self.control, self.last, code);
                    self.end(turn);
                }
            }
        }
        input.len()
    }

    fn step(&mut self, input: &[u8], turn: &mut Turn<'_, '_>) -> Result<Step, Code> {
        match &mut self.reading {
            Reading::Preface => {
                let begins = &input[..input.len().min(HTTP2_PREFACE.len())];
                if !HTTP2_PREFACE.starts_with(begins) {
                    return Err(Code::Protocol);
                }
                if begins.len() < HTTP2_PREFACE.len() {
                    return Ok(Step::More);
                }
                self.reading = Reading::Frame;
                Ok(Step::Used(HTTP2_PREFACE.len()))
            }
            Reading::Skip(0) => {
                self.reading = Reading::Frame;
                Ok(Step::Used(0))
            }
            Reading::Skip(left) => {
                let len = input.len().min(*left as usize);
                *left -= len as u32;
                Ok(if len == 0 { Step::More } else { Step::Used(len) })
            }
            Reading::Data(data) => {
                let data = *data;
                self.read_data(data, input, turn)
            }
            Reading::Frame | Reading::Block { .. } => self.read_frame(input, turn),
        }
    }

    fn read_frame(&mut self, input: &[u8], turn: &mut Turn<'_, '_>) -> Result<Step, Code> {
        let Some(head) = Head::read(input) else { return Ok(Step::More) };
        if self.control.len() > super::CONTROL_MAX {
            return Ok(Step::Hold(Held::ForRoom));
        }
        let within = match &self.reading {
            Reading::Block { id, .. } => head.kind == Kind::Continuation && head.stream == *id,
            _ => head.kind != Kind::Continuation,
        };
        let greets = head.kind == Kind::Settings && !head.has(frame::ACK);
        if !within || (!self.greeted && !greets) {
            return Err(Code::Protocol);
        }
        if head.len > FRAME_MAX {
            return Err(Code::FrameSize);
        }
        let of_connection = matches!(head.kind, Kind::Settings | Kind::Ping | Kind::GoAway);
        let of_either = matches!(head.kind, Kind::Window | Kind::Unknown);
        if !of_either && of_connection != (head.stream == 0) {
            return Err(Code::Protocol);
        }
        match head.kind {
            Kind::Data => return self.begin_data(head, input, turn),
            Kind::GoAway | Kind::Unknown => {
                self.reading = Reading::Skip(head.len);
                return Ok(Step::Used(frame::HEAD));
            }
            Kind::Push => return Err(Code::Protocol),
            // All others are read whole, and none needs to be longer.
            _ if head.len as usize > BLOCK_MAX => return Err(Code::EnhanceYourCalm),
            _ => {}
        }
        let whole = frame::HEAD + head.len as usize;
        let Some(payload) = input.get(frame::HEAD..whole) else { return Ok(Step::More) };
        match head.kind {
            Kind::Headers => self.on_headers(head, payload, turn)?,
            Kind::Continuation => self.on_continuation(head, payload, turn)?,
            Kind::Settings => self.on_settings(head, payload, turn)?,
            Kind::Ping => self.on_ping(head, payload)?,
            Kind::Window => self.on_window(head, payload, turn)?,
            Kind::Reset => self.on_reset(head, payload, turn)?,
            // Streams are served as they come; it says nothing since RFC 9113.
            Kind::Priority if payload.len() == 5 => {}
            Kind::Priority => self.fail(head.stream, Code::FrameSize, turn.streams, turn.told),
            Kind::Data | Kind::Push | Kind::GoAway | Kind::Unknown => {}
        }
        Ok(Step::Used(whole))
    }

    fn begin_data(&mut self, head: Head, input: &[u8], turn: &mut Turn<'_, '_>) -> Result<Step, Code> {
        let (mut padding, mut extra) = (0, 0);
        if head.has(frame::PADDED) {
            if head.len == 0 {
                return Err(Code::FrameSize);
            }
            let Some(byte) = input.get(frame::HEAD) else { return Ok(Step::More) };
            (padding, extra) = (*byte as u32, *byte as u32 + 1);
            if extra > head.len {
                return Err(Code::Protocol);
            }
        }
        let (id, ends) = (head.stream, head.has(frame::END_STREAM));
        self.windows.receive -= head.len as i64;
        if id > self.last {
            return Err(Code::Protocol);
        }
        if self.windows.receive < 0 {
            return Err(Code::FlowControl);
        }
        self.windows.owed += extra as i64;
        let left = head.len - extra;
        match self.find(id, turn.streams) {
            None => self.on_closed(id),
            Some(stream) if stream.is_reset => self.on_closed(id),
            Some(stream) => match stream.expect(head.len, extra) {
                Ok(()) => {}
                Err(code) => self.fail(id, code, turn.streams, turn.told),
            },
        }
        self.reading = Reading::Data(Data { id, left, padding, ends });
        Ok(Step::Used(frame::HEAD + (extra > 0) as usize))
    }

    fn read_data(&mut self, mut data: Data, input: &[u8], turn: &mut Turn<'_, '_>) -> Result<Step, Code> {
        let len = input.len().min(if data.left > 0 { data.left } else { data.padding } as usize);
        let mut used = len;
        if data.left == 0 && data.padding == 0 {
            self.reading = Reading::Frame;
            if data.ends {
                self.on_end(data.id, turn);
            }
            return Ok(Step::Used(0));
        } else if len == 0 {
            return Ok(Step::More);
        } else if data.left == 0 {
            data.padding -= len as u32;
        } else {
            match self.find(data.id, turn.streams).filter(|stream| !stream.is_reset) {
                None => self.windows.owed += len as i64,
                Some(stream) => {
                    let before = stream.windows.owed;
                    used = stream.give(&input[..len], turn.memory.buffers);
                    let may_want = stream.may_want(turn.step);
                    if used == 0 && !may_want {
                        stream.keep(&input[..len]);
                        used = len;
                    }
                    let (given, socket) = (stream.windows.owed - before, stream.number);
                    self.windows.owed += given as i64;
                    self.stir(socket);
                    if used == 0 {
                        return Ok(Step::Hold(Held::ForCore));
                    }
                }
            }
            data.left -= used as u32;
        }
        self.reading = Reading::Data(data);
        Ok(Step::Used(used))
    }

    /// The client has said that its stream ends.
    fn on_end(&mut self, id: u32, turn: &mut Turn<'_, '_>) {
        let Some(stream) = self.find(id, turn.streams).filter(|stream| !stream.is_reset) else { return };
        let (socket, whole) = (stream.number, stream.end());
        match whole {
            // The end of chunks is to be given.
            Some(()) => {
                stream.give(&[], turn.memory.buffers);
                self.stir(socket);
            }
            None => self.fail(id, Code::Protocol, turn.streams, turn.told),
        }
    }

    /// A frame of a stream that is closed: no wonder where the server has closed it.
    fn on_closed(&mut self, id: u32) {
        if !self.recent.contains(&id) {
            self.reset(id, Code::StreamClosed);
        }
    }

    /// Resets a stream.
    pub(super) fn fail(&mut self, id: u32, code: Code, streams: &mut Streams, told: &mut Completions) {
        self.reset(id, code);
        self.lose(id, streams, told);
    }

    /// A stream has been reset; the core is told.
    fn lose(&mut self, id: u32, streams: &mut Streams, told: &mut Completions) {
        if let Some(stream) = self.find(id, streams) {
            let (forgotten, socket) = (stream.fail(told), stream.number);
            self.windows.owed += forgotten as i64;
            self.stir(socket);
        }
    }

    fn on_headers(&mut self, head: Head, payload: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), Code> {
        if head.stream.is_multiple_of(2) {
            return Err(Code::Protocol);
        }
        let mut block = payload;
        let mut padding = 0;
        if head.has(frame::PADDED) {
            let (first, rest) = block.split_first().ok_or(Code::FrameSize)?;
            (padding, block) = (*first as usize, rest);
        }
        if head.has(frame::PRIORITY) {
            block = block.get(5..).ok_or(Code::FrameSize)?;
        }
        let block = block.len().checked_sub(padding).map(|len| &block[..len]).ok_or(Code::Protocol)?;
        let ends = head.has(frame::END_STREAM);
        if head.has(frame::END_HEADERS) {
            return self.on_block(head.stream, ends, block, turn);
        }
        self.reading = Reading::Block { id: head.stream, ends, bytes: block.to_vec(), frames: 1 };
        Ok(())
    }

    fn on_continuation(&mut self, head: Head, payload: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), Code> {
        let Reading::Block { bytes, frames, .. } = &mut self.reading else { return Err(Code::Protocol) };
        *frames += 1;
        if bytes.len() + payload.len() > BLOCK_MAX || *frames > BLOCK_FRAMES_MAX {
            return Err(Code::EnhanceYourCalm);
        }
        bytes.extend_from_slice(payload);
        if head.has(frame::END_HEADERS)
            && let Reading::Block { id, ends, bytes, .. } = mem::replace(&mut self.reading, Reading::Frame)
        {
            self.on_block(id, ends, &bytes, turn)?;
        }
        Ok(())
    }

    /// A block of headers, whole: a request, or what stands behind a body.
    fn on_block(&mut self, id: u32, ends: bool, block: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), Code> {
        if id <= self.last {
            request::pass_over(block, &mut self.decoder).map_err(|hpack::Unreadable| Code::Compression)?;
            match self.find(id, turn.streams) {
                None => self.on_closed(id),
                Some(stream) if stream.is_reset => self.on_closed(id),
                Some(stream) => match stream.incoming {
                    Incoming::Open(_) if ends => self.on_end(id, turn),
                    Incoming::Open(_) => self.fail(id, Code::Protocol, turn.streams, turn.told),
                    Incoming::Ended | Incoming::Broken => self.fail(id, Code::StreamClosed, turn.streams, turn.told),
                },
            }
            return Ok(());
        }
        self.last = id;
        match request::read(block, ends, &mut self.decoder).map_err(|hpack::Unreadable| Code::Compression)? {
            request::Head::Request(request) => self.open(id, ends, request, turn),
            request::Head::Malformed => self.reset(id, Code::Protocol),
            request::Head::TooLarge => {
                self.put_head(id, true, |block| hpack::put_status(block, HEAD_TOO_LARGE));
                if !ends {
                    self.reset(id, Code::None);
                }
            }
        }
        Ok(())
    }

    /// A request: the core gets a connection for it, if there is one.
    fn open(&mut self, id: u32, ends: bool, request: Request, turn: &mut Turn<'_, '_>) {
        let full = self.streams.len() >= STREAMS_MAX && self.open_streams(turn) >= STREAMS_MAX;
        let number = if full || self.going == Going::Known { None } else { turn.streams.number() };
        let Some(number) = number else {
            // The client knows that nothing has been done, and tries again.
            return self.reset(id, Code::Refused);
        };
        let windows = Windows { receive: self.windows.receive_first, owed: 0, send: self.windows.send_first };
        let mut stream = Stream::new(number, self.socket, id, request, ends, windows);
        stream.note_told(turn.step);
        turn.streams.put(stream);
        self.streams.push((id, number));
        turn.told.push(Completion::Accepted(Ok(number)));
        let (peer, secure) = (self.peer, self.secure);
        turn.told.push(Completion::Client { socket: number, peer, secure, over: Some(self.socket) });
    }

    fn open_streams(&self, turn: &mut Turn<'_, '_>) -> usize {
        let mut open = 0;
        for (_, socket) in &self.streams {
            open += turn.streams.get(*socket).is_some_and(|stream| stream.is_open()) as usize;
        }
        open
    }

    fn on_settings(&mut self, head: Head, payload: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), Code> {
        if head.has(frame::ACK) {
            if !payload.is_empty() {
                return Err(Code::FrameSize);
            }
            // The client knows the server's settings; a second time that changes nothing.
            let more = STREAM_WINDOW - mem::replace(&mut self.windows.receive_first, STREAM_WINDOW);
            self.each_stream(turn, |stream| stream.windows.receive += more);
            return Ok(());
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Code::FrameSize);
        }
        for (setting, value) in frame::settings(payload) {
            match setting {
                Setting::EnablePush if value > 1 => return Err(Code::Protocol),
                Setting::InitialWindow if value as i64 > frame::WINDOW_MAX => return Err(Code::FlowControl),
                Setting::InitialWindow => {
                    let more = value as i64 - mem::replace(&mut self.windows.send_first, value as i64);
                    let mut most = 0;
                    self.each_stream(turn, |stream| {
                        stream.windows.send += more;
                        most = most.max(stream.windows.send);
                    });
                    if most > frame::WINDOW_MAX {
                        return Err(Code::FlowControl);
                    }
                    self.stirred.extend(self.streams.iter().map(|(_, socket)| *socket));
                }
                Setting::MaxFrame if !(frame::LEN_FIRST..1 << 24).contains(&value) => return Err(Code::Protocol),
                Setting::MaxFrame => self.windows.frame = value.min(FRAME_MAX),
                // Nothing is pushed, and of what is sent nothing is remembered.
                Setting::EnablePush | Setting::HeaderTableSize | Setting::MaxStreams | Setting::MaxHeaderList => {}
            }
        }
        self.greeted = true;
        frame::put(&mut self.control, Kind::Settings, frame::ACK, 0, &[]);
        Ok(())
    }

    fn each_stream(&self, turn: &mut Turn<'_, '_>, mut what: impl FnMut(&mut Stream)) {
        for (_, socket) in &self.streams {
            if let Some(stream) = turn.streams.get(*socket) {
                what(stream);
            }
        }
    }

    fn on_ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Code> {
        if payload.len() != 8 {
            return Err(Code::FrameSize);
        }
        if !head.has(frame::ACK) {
            frame::put(&mut self.control, Kind::Ping, frame::ACK, 0, payload);
        } else if payload == GOING && self.going == Going::Warned {
            self.going = Going::Known;
            frame::put_go_away(&mut self.control, self.last, Code::None);
        }
        Ok(())
    }

    fn on_window(&mut self, head: Head, payload: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), Code> {
        if payload.len() != 4 {
            return Err(Code::FrameSize);
        }
        let more = (frame::number(payload) & frame::STREAM_MAX) as i64;
        if head.stream == 0 {
            if more == 0 {
                return Err(Code::Protocol);
            }
            self.windows.send += more;
            return if self.windows.send > frame::WINDOW_MAX { Err(Code::FlowControl) } else { Ok(()) };
        }
        if head.stream > self.last {
            return Err(Code::Protocol);
        }
        let Some(stream) = self.find(head.stream, turn.streams).filter(|stream| !stream.is_reset) else {
            return Ok(());
        };
        stream.windows.send += more;
        let (socket, room) = (stream.number, stream.windows.send);
        match more {
            0 => self.fail(head.stream, Code::Protocol, turn.streams, turn.told),
            _ if room > frame::WINDOW_MAX => self.fail(head.stream, Code::FlowControl, turn.streams, turn.told),
            _ => self.stir(socket),
        }
        Ok(())
    }

    fn on_reset(&mut self, head: Head, payload: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), Code> {
        if payload.len() != 4 {
            return Err(Code::FrameSize);
        }
        if head.stream > self.last {
            return Err(Code::Protocol);
        }
        let Some(stream) = self.find(head.stream, turn.streams).filter(|stream| !stream.is_reset) else {
            return Ok(());
        };
        if stream.is_unanswered() {
            self.resets += 1;
            if self.resets > RESETS_MAX {
                return Err(Code::EnhanceYourCalm);
            }
        }
        self.lose(head.stream, turn.streams, turn.told);
        Ok(())
    }
}
