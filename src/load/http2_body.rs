//! A request as it lies in its place for HTTP/2: as frames, one of headers, and its body in as many as it takes.

use crate::http::http2::frame::{self, HEAD, Head, Kind, LEN_FIRST};

/// Bytes of a body in one frame: what every server takes.
pub const CHUNK: usize = LEN_FIRST as usize;

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
pub(super) mod tests {
    use super::*;

    /// The frames of a body of so many bytes, which count from 100.
    pub fn request(body: usize) -> Vec<u8> {
        let mut out = vec![0; 100 + body];
        out.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
        out.resize(100 + framed(body), 0);
        let end = put_in_frames(&mut out, 100, body);
        out.truncate(end);
        out.drain(..100 - HEAD);
        out
    }

    /// Frames one behind the other, taken apart.
    pub fn frames(bytes: &[u8]) -> Vec<(Head, &[u8])> {
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
}
