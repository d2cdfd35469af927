//! Reads what the core sends on a stream: HTTP/1.1 text, of which HTTP/2 wants the head as fields and the body without framing.
//!
//! The text is this server's own, so whatever cannot be read is a defect of it: the stream ends with an error.

use crate::http::http2::hpack;

/// More headers than `http::response` writes.
const HEADERS_MAX: usize = 24;

/// Where in an answer the next byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Head,
    /// Bytes of the body to come.
    Length(u64),
    /// In the line that says how long a chunk is, as far as it has been read.
    Size(u32),
    /// Bytes of the chunk to come.
    Chunk(u32),
    /// Bytes of the line end behind a chunk to come.
    ChunkEnd(u32),
    /// Bytes of the line end behind the last chunk to come.
    End(u32),
    Done,
}

/// What the next bytes are.
#[derive(Debug)]
pub(super) enum Part {
    /// A head of `len` bytes, as a block of headers; `ends`: with nothing behind it.
    Head { len: usize, block: Vec<u8>, ends: bool },
    /// Framing, to be passed over.
    Framing(usize),
    /// `len` bytes of the body follow, of which any part may be taken: [`Answer::took`].
    Data(usize),
    /// The last byte of the framing of a chunked body, of `len` bytes.
    Last(usize),
}

impl Answer {
    /// What `bytes`, of which there is at least one, begin with; `None`: it cannot be read.
    pub fn next(&mut self, bytes: &[u8]) -> Option<Part> {
        match *self {
            Answer::Head => self.head(bytes),
            Answer::Length(left) => Some(Part::Data(bytes.len().min(left as usize))),
            Answer::Size(size) => self.size(size, bytes),
            Answer::Chunk(left) => Some(Part::Data(bytes.len().min(left as usize))),
            Answer::ChunkEnd(left) => {
                let len = left.min(bytes.len() as u32);
                *self = if len == left { Answer::Size(0) } else { Answer::ChunkEnd(left - len) };
                Some(Part::Framing(len as usize))
            }
            Answer::End(left) => {
                let len = left.min(bytes.len() as u32);
                *self = if len == left { Answer::Done } else { Answer::End(left - len) };
                Some(if len == left { Part::Last(len as usize) } else { Part::Framing(len as usize) })
            }
            Answer::Done => None,
        }
    }

    /// Notes that `len` bytes of [`Part::Data`] have been taken; gives whether they were the last ones of the answer.
    pub fn took(&mut self, len: usize) -> bool {
        match self {
            Answer::Length(left) => {
                *left -= len as u64;
                let last = *left == 0;
                if last {
                    *self = Answer::Done;
                }
                last
            }
            Answer::Chunk(left) => {
                *left -= len as u32;
                if *left == 0 {
                    *self = Answer::ChunkEnd(2);
                }
                false
            }
            _ => false,
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Option<Part> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut raw = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(len)) = raw.parse(bytes) else { return None };
        let mut block = Vec::with_capacity(len);
        hpack::put_status(&mut block, raw.code?);
        let mut body = Answer::Length(0);
        for header in raw.headers.iter() {
            match header.name {
                "Connection" => continue,
                "Transfer-Encoding" => {
                    body = Answer::Size(0);
                    continue;
                }
                "Content-Length" => {
                    body = Answer::Length(std::str::from_utf8(header.value).ok()?.parse().ok()?);
                }
                _ => {}
            }
            hpack::put(&mut block, header.name.as_bytes(), header.value);
        }
        let ends = body == Answer::Length(0);
        *self = if ends { Answer::Done } else { body };
        Some(Part::Head { len, block, ends })
    }

    fn size(&mut self, mut size: u32, bytes: &[u8]) -> Option<Part> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'\r' => {}
                b'\n' => {
                    *self = if size == 0 { Answer::End(2) } else { Answer::Chunk(size) };
                    return Some(Part::Framing(at + 1));
                }
                digit => size = size.checked_mul(16)?.checked_add((*digit as char).to_digit(16)?)?,
            }
        }
        *self = Answer::Size(size);
        Some(Part::Framing(bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `text` in pieces of `size` bytes (the head whole, as the core sends it): status, body, and whether it has ended.
    fn read(text: &[u8], size: usize) -> (u16, Vec<u8>, bool) {
        let (mut answer, mut status, mut body, mut ended) = (Answer::Head, 0, Vec::new(), false);
        let mut at = 0;
        while at < text.len() {
            assert!(!ended, "nothing follows the end");
            let piece = if at == 0 { text } else { &text[at..text.len().min(at + size)] };
            match answer.next(piece).expect("it can be read") {
                Part::Head { len, block, ends } => {
                    (status, ended) = (status_of(&block), ends);
                    at += len;
                }
                Part::Framing(len) => at += len,
                Part::Data(len) => {
                    body.extend_from_slice(&piece[..len]);
                    ended = answer.took(len);
                    at += len;
                }
                Part::Last(len) => {
                    ended = true;
                    at += len;
                }
            }
        }
        (status, body, ended)
    }

    /// The status in a block, which has no header of a connection.
    fn status_of(block: &[u8]) -> u16 {
        let mut status = 0;
        let read = hpack::Decoder::new().read(block, |name, value| {
            assert_ne!(name, b"connection");
            if name == b":status" {
                status = std::str::from_utf8(value).expect("digits").parse().expect("a number");
            }
        });
        assert_eq!(read, Ok(()));
        status
    }

    #[test]
    fn framing_is_taken_off_wherever_the_bytes_are_cut() {
        let sized = b"HTTP/1.1 400 Bad Request\r\nDate: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n02\r\nlo\r\n0\r\n\r\n";
        for size in 1..20 {
            assert_eq!(read(sized, size), (400, b"hello".to_vec(), true));
            assert_eq!(read(chunked, size), (200, b"hello".to_vec(), true));
        }
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1), (200, Vec::new(), true));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert!(Answer::Head.next(b"HTTP/2 what").is_none());
        assert!(Answer::Done.next(b"x").is_none());
        assert!(Answer::Size(0).next(b"xyz\r\n").is_none());
        assert!(Answer::Size(0).next(b"fffffffff\r\n").is_none());
    }
}
