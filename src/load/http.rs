//! HTTP from a client's side: heads of requests written, and answers of HTTP/1.1 found in what has come.

use crate::auth::sign::Signer;
use crate::http::http2::frame::{self, HEAD, Kind};
use crate::http::http2::hpack;

/// Headers of an answer at most.
const HEADERS_MAX: usize = 64;
/// Room that is kept in front of a body for its head: what goes there is as long as it is.
const LENGTH_DIGITS: usize = 10;
/// Bytes of a head at most: a session token may have four thousand.
const TEXT_MAX: usize = 6 << 10;

/// What all requests of a connection have in common.
pub struct Speaker {
    host: String,
    signer: Option<Signer>,
    /// `json` or `cbor`.
    encoding: &'static str,
    /// A block of headers that is being made.
    block: Vec<u8>,
}

/// An answer that has come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Where its body begins and ends in what has come.
    pub begin: u32,
    pub end: u32,
    /// The server ends the connection behind it.
    pub closes: bool,
}

impl Speaker {
    pub fn new(host: String, signer: Option<Signer>, encoding: &'static str) -> Speaker {
        Speaker { host, signer, encoding, block: Vec::new() }
    }

    /// Writes the head of a POST of `operation` in front of its body: the body lies from `room` on in `out`, `body` bytes long, and the head goes
    /// right before it. Gives where it begins.
    pub fn head(&mut self, out: &mut [u8], room: usize, body: usize, operation: &str, now: u64) -> usize {
        let mut text = [0u8; TEXT_MAX];
        let (mut kind, mut target) = ([0u8; 48], [0u8; 80]);
        let kind = join(&mut kind, &["application/x-amz-", self.encoding, "-1.1"]);
        let target = join(&mut target, &["Kinesis_20131202.", operation]);
        let mut at = 0;
        let mut put = |part: &[u8]| {
            text[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        for part in ["POST / HTTP/1.1\r\nHost: ", &self.host, "\r\nContent-Type: ", kind, "\r\nX-Amz-Target: ", target]
        {
            put(part.as_bytes());
        }
        put(b"\r\nContent-Length: ");
        put(&digits(body));
        put(b"\r\n");
        if let Some(signer) = &mut self.signer {
            at += signer.headers(&self.host, kind, target, &out[room..room + body], now, &mut text[at..]);
        }
        text[at..at + 2].copy_from_slice(b"\r\n");
        let begin = room - at - 2;
        out[begin..room].copy_from_slice(&text[..at + 2]);
        begin
    }

    /// The same for HTTP/2: a frame of headers, whose stream has no number yet. Between it and the body is room for the head of a frame.
    pub fn head_of_http2(
        &mut self,
        out: &mut [u8],
        room: usize,
        body: usize,
        (operation, secure): (&str, bool),
        now: u64,
    ) -> usize {
        let (mut kind, mut target) = ([0u8; 48], [0u8; 80]);
        let kind = join(&mut kind, &["application/x-amz-", self.encoding, "-1.1"]);
        let target = join(&mut target, &["Kinesis_20131202.", operation]);
        let mut text = [0u8; TEXT_MAX];
        let signed = self
            .signer
            .as_mut()
            .map_or(0, |signer| signer.headers(&self.host, kind, target, &out[room..room + body], now, &mut text));
        let block = &mut self.block;
        block.clear();
        block.extend_from_slice(&[hpack::NO_TABLE, hpack::METHOD_POST, hpack::PATH_ROOT]);
        block.push(if secure { hpack::SCHEME_HTTPS } else { hpack::SCHEME_HTTP });
        hpack::put(block, b":authority", self.host.as_bytes());
        hpack::put(block, b"content-type", kind.as_bytes());
        hpack::put(block, b"x-amz-target", target.as_bytes());
        hpack::put(block, b"content-length", &digits(body));
        let signed = std::str::from_utf8(&text[..signed]).expect("a signature is text");
        for (name, value) in signed.split("\r\n").filter_map(|line| line.split_once(": ")) {
            hpack::put(block, name.as_bytes(), value.as_bytes());
        }
        let begin = room - HEAD - block.len() - HEAD;
        out[begin..begin + HEAD].copy_from_slice(&frame::head(block.len(), Kind::Headers, frame::END_HEADERS, 0));
        out[begin + HEAD..room - HEAD].copy_from_slice(block);
        begin
    }
}

/// Texts one behind the other in `out`.
fn join<'o>(out: &'o mut [u8], parts: &[&str]) -> &'o str {
    let mut at = 0;
    for part in parts {
        out[at..at + part.len()].copy_from_slice(part.as_bytes());
        at += part.len();
    }
    std::str::from_utf8(&out[..at]).expect("texts make a text")
}

/// Always as many, so that a head is as long whatever the body.
fn digits(mut number: usize) -> [u8; LENGTH_DIGITS] {
    let mut digits = [b'0'; LENGTH_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// The answer that `bytes` begin with; `None`: more must come. The text says what cannot be read.
pub fn answer(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let begin = match head.parse(bytes) {
        Ok(httparse::Status::Complete(begin)) => begin,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("what came is no answer of HTTP/1.1"),
    };
    let status = head.code.ok_or("an answer has no status")?;
    let named = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let length = named("content-length").ok_or("an answer does not say how long it is")?;
    let length: usize = length.parse().map_err(|_| "an answer's length is no number")?;
    let closes = named("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let end = begin.checked_add(length).and_then(|end| u32::try_from(end).ok()).ok_or("an answer is too long")?;
    Ok((end as usize <= bytes.len()).then_some(Answer { status, begin: begin as u32, end, closes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_when_it_is_whole_wherever_it_was_cut() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nContent-Type: x\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhelloHTTP/1.1 ";
        let whole = Answer { status: 200, begin: 74, end: 79, closes: true };
        for len in 0..bytes.len() {
            let found = answer(&bytes[..len]).expect("it is HTTP");
            assert_eq!(found, (len >= 79).then_some(whole), "{len}");
        }
        assert!(answer(b"SSH-2.0\r\n\r\n").is_err());
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(answer(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n").is_err());
    }

    #[test]
    fn a_frame_of_headers_lies_before_the_body_with_room_for_the_head_of_a_frame() {
        let signer = Signer::new("AKIAEXAMPLE1".into(), "a-secret".into(), Some("a-token".into()), "us-east-1".into());
        let mut speaker = Speaker::new("localhost:1".to_string(), Some(signer), "cbor");
        let mut out = vec![0; 2000];
        let begin = speaker.head_of_http2(&mut out, 1000, 5, ("PutRecord", true), 1_700_000_000);
        let head = frame::Head::read(&out[begin..]).expect("a head");
        assert_eq!((head.kind, head.flags, begin + HEAD + head.len as usize), (Kind::Headers, 4, 1000 - HEAD));
        let mut found = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let each = |name: &[u8], value: &[u8]| found.push((text(name), text(value)));
        hpack::Decoder::new().read(&out[begin + HEAD..1000 - HEAD], each).expect("a block");
        let value = |name: &str| found.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        for (name, is) in [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "localhost:1"),
            ("content-type", "application/x-amz-cbor-1.1"),
            ("x-amz-target", "Kinesis_20131202.PutRecord"),
            ("content-length", "0000000005"),
            ("x-amz-security-token", "a-token"),
        ] {
            assert_eq!(value(name), Some(is), "{found:?}");
        }
        assert!(
            value("authorization").is_some_and(|text| text.starts_with("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE1/"))
        );
        assert!(found[..4].iter().all(|(name, _)| name.starts_with(':')), "{found:?}");
    }

    #[test]
    fn a_head_goes_right_before_its_body_and_is_read_back() {
        let mut speaker = Speaker::new("localhost:1".to_string(), None, "json");
        let mut out = vec![0; 1000];
        out[500..502].copy_from_slice(b"{}");
        let begin = speaker.head(&mut out, 500, 2, "PutRecords", 0);
        let text = std::str::from_utf8(&out[begin..502]).expect("text");
        assert!(text.starts_with("POST / HTTP/1.1\r\nHost: localhost:1\r\n"), "{text}");
        assert!(text.contains("X-Amz-Target: Kinesis_20131202.PutRecords\r\n"), "{text}");
        assert!(text.ends_with("Content-Length: 0000000002\r\n\r\n{}"), "{text}");
    }
}
