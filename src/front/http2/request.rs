//! The head of a request: headers of HTTP/2, checked, as the text of HTTP/1.1 that the core reads.

use crate::http::http2::hpack::{Decoder, OVERHEAD, Unreadable};
use crate::limits::HEAD_MAX;
use std::ops::Range;

/// Of names and values, with [`OVERHEAD`] each: more than fits into the core's head is refused before it is built.
pub(super) const LIST_MAX: usize = HEAD_MAX;

/// Headers that are a connection's own and have no place on a stream (RFC 9113, 8.2.2).
const OF_CONNECTIONS: [&[u8]; 5] =
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"];

/// The pseudo-headers of a request, in the order of [`Pseudo`].
const PSEUDO: [&[u8]; 4] = [b":method", b":scheme", b":authority", b":path"];

#[derive(Clone, Copy)]
enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
}

/// What a block of headers is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    Request(Request),
    /// More than [`LIST_MAX`].
    TooLarge,
    /// No request by RFC 9113, 8.1.1: the stream ends with PROTOCOL_ERROR.
    Malformed,
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::front) struct Request {
    /// Request line and headers, with the empty line.
    pub text: Vec<u8>,
    /// What `content-length` says; 0 where nothing follows the head, and `None` where nobody has said how much will.
    pub length: Option<u64>,
}

/// Reads the block of a new stream. `ends`: no body follows.
pub(super) fn read(block: &[u8], ends: bool, decoder: &mut Decoder) -> Result<Head, Unreadable> {
    let mut reader = Reader::default();
    decoder.read(block, |name, value| reader.take(name, value))?;
    Ok(reader.end(ends))
}

/// Reads a block behind a body. Nobody wants it, but the table of the connection must know of it.
pub(super) fn pass_over(block: &[u8], decoder: &mut Decoder) -> Result<(), Unreadable> {
    decoder.read(block, |_, _| ())
}

#[derive(Default)]
struct Reader {
    size: usize,
    malformed: bool,
    /// Values of the pseudo-headers, and where each lies.
    pseudo: Vec<u8>,
    places: [Option<Range<usize>>; PSEUDO.len()],
    text: Vec<u8>,
    length: Option<u64>,
}

impl Reader {
    fn take(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + OVERHEAD;
        if self.size > LIST_MAX || self.malformed {
            return;
        }
        let well = match name.first() {
            Some(b':') => self.take_pseudo(name, value),
            _ => self.take_header(name, value),
        };
        self.malformed = well.is_none();
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let nth = PSEUDO.iter().position(|pseudo| *pseudo == name)?;
        let begin = self.pseudo.len();
        let late = !self.text.is_empty();
        if late || self.places[nth].is_some() || value.is_empty() || !value.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        self.pseudo.extend_from_slice(value);
        self.places[nth] = Some(begin..self.pseudo.len());
        Some(())
    }

    fn pseudo(&self, which: Pseudo) -> Option<&[u8]> {
        self.places[which as usize].clone().map(|place| &self.pseudo[place])
    }

    fn take_header(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let named = !name.is_empty() && name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase());
        let trimmed =
            value.first().is_none_or(|byte| !is_blank(*byte)) && value.last().is_none_or(|byte| !is_blank(*byte));
        if !named || !trimmed || value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return None;
        }
        self.begin_text()?;
        match name {
            b"te" if value != b"trailers" => return None,
            // What is asked for twice has been called by its authority; and who expects an answer to the head alone has a stream for it.
            b"host" if self.pseudo(Pseudo::Authority).is_some() => return Some(()),
            b"expect" => return Some(()),
            b"content-length" => {
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let length = std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()?;
                if self.length.replace(length).is_some() {
                    return None;
                }
            }
            _ if OF_CONNECTIONS.contains(&name) => return None,
            _ => {}
        }
        self.put(&[name, b": ", value, b"\r\n"]);
        Some(())
    }

    /// Writes the request line, if it has not been written.
    fn begin_text(&mut self) -> Option<()> {
        if !self.text.is_empty() {
            return Some(());
        }
        let method = self.pseudo(Pseudo::Method)?;
        let path = self.pseudo(Pseudo::Path)?;
        self.pseudo(Pseudo::Scheme)?;
        let is_path = path[0] == b'/' || path == b"*";
        if !method.iter().all(|byte| is_token(*byte)) || !is_path {
            return None;
        }
        let mut text = Vec::with_capacity(1024);
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| text.extend_from_slice(part));
        put(&[method, b" ", path, b" HTTP/1.1\r\n"]);
        if let Some(authority) = self.pseudo(Pseudo::Authority) {
            put(&[b"host: ", authority, b"\r\n"]);
        }
        self.text = text;
        Some(())
    }

    fn put(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.text.extend_from_slice(part));
    }

    fn end(mut self, ends: bool) -> Head {
        if self.size > LIST_MAX {
            return Head::TooLarge;
        }
        if self.malformed || self.begin_text().is_none() || (ends && self.length.is_some_and(|length| length > 0)) {
            return Head::Malformed;
        }
        let length = if ends { Some(0) } else { self.length };
        if length.is_none() {
            self.put(&[b"transfer-encoding: chunked\r\n"]);
        }
        self.put(&[b"\r\n"]);
        Head::Request(Request { text: self.text, length })
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A byte of a name or a method (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::http2::hpack;

    const CALL: [(&str, &str); 4] =
        [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "localhost:1")];

    fn head(headers: &[(&str, &str)], ends: bool) -> Head {
        let mut block = Vec::new();
        for (name, value) in headers {
            block.push(0);
            hpack::put_string(&mut block, name.as_bytes());
            hpack::put_string(&mut block, value.as_bytes());
        }
        read(&block, ends, &mut Decoder::new()).expect("a block that can be read")
    }

    fn with(more: &[(&str, &str)], ends: bool) -> Head {
        head(&[&CALL[..], more].concat(), ends)
    }

    fn text(head: Head) -> (String, Option<u64>) {
        let Head::Request(request) = head else { panic!("{head:?}") };
        (String::from_utf8(request.text).expect("text"), request.length)
    }

    #[test]
    fn a_request_is_text() {
        let (whole, length) =
            text(with(&[("x-amz-target", "K.Put"), ("host", "other"), ("expect", "100-continue")], false));
        assert_eq!(
            whole,
            "POST / HTTP/1.1\r\nhost: localhost:1\r\nx-amz-target: K.Put\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(length, None);
        let (whole, length) = text(with(&[("content-length", "12")], false));
        assert_eq!(whole, "POST / HTTP/1.1\r\nhost: localhost:1\r\ncontent-length: 12\r\n\r\n");
        assert_eq!(length, Some(12));
        let (whole, length) = text(head(&[CALL[2], CALL[1], (":method", "GET"), ("host", "a")], true));
        assert_eq!((whole.as_str(), length), ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Some(0)));
        let (whole, length) = text(with(&[], true));
        assert_eq!((whole.as_str(), length), ("POST / HTTP/1.1\r\nhost: localhost:1\r\n\r\n", Some(0)));
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        for more in [
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("te", "gzip"),
            ("Upper", "case"),
            ("sp ace", "x"),
            ("", "x"),
            ("x", "a\r\ny: b"),
            ("x", "a\0"),
            ("x", " a"),
            ("x", "a\t"),
            ("content-length", "x"),
            ("content-length", "+1"),
            ("content-length", ""),
            ("content-length", "99999999999999999999"),
            (":method", "GET"),
            (":status", "200"),
            (":protocol", "websocket"),
        ] {
            assert_eq!(with(&[more], false), Head::Malformed, "{more:?}");
        }
        assert_eq!(with(&[("content-length", "1"), ("content-length", "1")], false), Head::Malformed);
        assert_eq!(with(&[("content-length", "1")], true), Head::Malformed, "nothing follows");
        for missing in &CALL[..3] {
            let call: Vec<_> = CALL.into_iter().filter(|header| header != missing).collect();
            assert_eq!(head(&call, true), Head::Malformed, "without {missing:?}");
        }
        for other in [(":path", "x"), (":path", "/a b"), (":path", "/\u{e9}"), (":method", "P/T"), (":method", "")] {
            let call: Vec<_> = CALL.iter().map(|header| if header.0 == other.0 { other } else { *header }).collect();
            assert_eq!(head(&call, true), Head::Malformed, "{other:?}");
        }
        assert_eq!(head(&[&[("x", "y")], &CALL[..]].concat(), true), Head::Malformed, "pseudo-headers come first");
    }

    #[test]
    fn what_is_too_large_is_told_apart() {
        assert_eq!(with(&[("x", &"y".repeat(LIST_MAX))], true), Head::TooLarge);
        let many = vec![("x", "y"); LIST_MAX / (OVERHEAD + 2) + 1];
        assert_eq!(with(&many, true), Head::TooLarge);
    }
}
