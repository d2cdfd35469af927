//! What a client is sent: frames of the connection first, then answers, a frame of each in turn.

use super::super::answer::Part;
use super::super::stream::Stream;
use super::{Answers, CONTROL_MAX, Http2, Windows, hpack};
use crate::http::http2::frame::{self, Code, Kind};
use crate::io::op::Socket;
use std::mem;

/// Room for which a frame is begun: its head, and some bytes.
const ROOM_MIN: usize = frame::HEAD + 64;

/// How far an answer went.
enum Went {
    /// So many bytes have been written; 0: the head is among the frames that go first.
    On(usize),
    /// The client has to give more room: to the stream, or to all of them.
    NoWindow,
    NoConnectionWindow,
    /// What the core sends is no answer: a defect.
    Failed,
}

impl Http2 {
    /// Whether frames wait to be written, for which there may be no window.
    pub fn has_output(&self) -> bool {
        !self.control.is_empty() || !self.ready.is_empty()
    }

    /// Writes what is to be sent to `out`, as much as fits; gives how much that was.
    pub fn write(&mut self, out: &mut [u8], answers: &mut Answers<'_>) -> usize {
        let (mut filled, mut blocked) = (0, 0);
        loop {
            let len = self.control.len().min(out.len() - filled);
            out[filled..filled + len].copy_from_slice(&self.control[..len]);
            self.control.drain(..len);
            filled += len;
            if !self.control.is_empty() || out.len() - filled < ROOM_MIN || blocked >= self.ready.len() {
                break;
            }
            let Some(socket) = self.ready.pop_front() else { break };
            let Some(stream) = self.own(socket, answers.streams) else { continue };
            stream.is_ready = false;
            match self.write_answer(socket, &mut out[filled..], answers) {
                Went::On(len) => (filled, blocked) = (filled + len, 0),
                Went::NoConnectionWindow => blocked += 1,
                Went::NoWindow => continue,
                Went::Failed => {
                    let id = self.own(socket, answers.streams).map_or(0, |stream| stream.id);
                    self.fail(id, Code::Internal, answers.streams, answers.told);
                    continue;
                }
            }
            self.after(socket, answers);
        }
        if self.control.is_empty() && self.control.capacity() > CONTROL_MAX / 4 {
            // An idle connection holds no memory for what it sent once.
            self.control = Vec::new();
        }
        filled
    }

    /// A frame of a stream has gone: the others have their turn, if more of it is to go.
    fn after(&mut self, socket: Socket, answers: &mut Answers<'_>) {
        let Some(stream) = self.own(socket, answers.streams) else { return };
        if stream.sending.is_some() {
            stream.is_ready = true;
            self.ready.push_back(socket);
        } else if !stream.is_open() {
            // A client that has been answered may take back another request; and the core may wait for the end.
            self.resets = self.resets.saturating_sub(1);
            self.stir(socket);
        }
    }

    /// Writes a frame of what the core sends on a stream.
    fn write_answer(&mut self, socket: Socket, out: &mut [u8], answers: &mut Answers<'_>) -> Went {
        let mut went = Went::On(0);
        loop {
            let Some(stream) = self.own(socket, answers.streams) else { return went };
            let Some((from, then)) = stream.sending else { return went };
            if from.len == 0 {
                match then {
                    Some(then) => stream.sending = Some((then, None)),
                    None => stream.tell_sent(true, answers.told),
                }
                continue;
            }
            if matches!(went, Went::On(len) if len > 0) {
                return went;
            }
            let bytes = answers.loans[from.worker as usize].bytes(from);
            let len = match stream.answer.next(bytes) {
                None => return Went::Failed,
                Some(Part::Framing(len)) => len,
                Some(Part::Head { len, ends, block }) => {
                    let id = stream.id;
                    self.put_head(id, ends, |out| out.extend_from_slice(&block));
                    self.sent(socket, len, answers);
                    // It goes before what follows it, so that must wait; but if nothing does, that is to be known now.
                    if !ends {
                        return went;
                    }
                    continue;
                }
                Some(Part::Last(len)) => {
                    out[..frame::HEAD].copy_from_slice(&frame::head(0, Kind::Data, frame::END_STREAM, stream.id));
                    went = Went::On(frame::HEAD);
                    len
                }
                Some(Part::Data(len)) => {
                    went = write_data(stream, &bytes[..len], out, &mut self.windows);
                    match went {
                        Went::On(written) => written - frame::HEAD,
                        _ => return went,
                    }
                }
            };
            self.sent(socket, len, answers);
        }
    }

    /// `len` bytes of what the core sends on a stream have gone.
    fn sent(&mut self, socket: Socket, len: usize, answers: &mut Answers<'_>) {
        if let Some(stream) = self.own(socket, answers.streams)
            && let Some((from, _)) = &mut stream.sending
        {
            *from = from.part(len as u32, from.len - len as u32);
        }
    }

    /// Queues a frame of headers, whose block `put` writes.
    pub(super) fn put_head(&mut self, id: u32, ends: bool, put: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.control.len();
        self.control.extend_from_slice(&[0; frame::HEAD]);
        if !mem::replace(&mut self.told_table, true) {
            self.control.push(hpack::NO_TABLE);
        }
        put(&mut self.control);
        let len = self.control.len() - begin - frame::HEAD;
        let flags = frame::END_HEADERS | if ends { frame::END_STREAM } else { 0 };
        self.control[begin..begin + frame::HEAD].copy_from_slice(&frame::head(len, Kind::Headers, flags, id));
    }
}

/// Writes the beginning of `bytes`, as much as windows, the longest frame and `out` allow.
fn write_data(stream: &mut Stream, bytes: &[u8], out: &mut [u8], windows: &mut Windows) -> Went {
    if stream.windows.send <= 0 {
        return Went::NoWindow;
    }
    let most = stream.windows.send.min(windows.send).min(windows.frame as i64);
    if most <= 0 {
        return Went::NoConnectionWindow;
    }
    let len = bytes.len().min(most as usize).min(out.len() - frame::HEAD);
    stream.windows.send -= len as i64;
    windows.send -= len as i64;
    let flags = if stream.answer.took(len) { frame::END_STREAM } else { 0 };
    out[..frame::HEAD].copy_from_slice(&frame::head(len, Kind::Data, flags, stream.id));
    out[frame::HEAD..][..len].copy_from_slice(&bytes[..len]);
    Went::On(frame::HEAD + len)
}
