//! The head of a response, written into memory that the caller has.

use crate::io::clock::Wall;
use crate::stdx::calendar::Civil;

/// Sent when a client waits for it before its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// No head written by [`write_head`] is longer.
pub const HEAD_BYTES_MAX: usize = 512;

/// What the body of a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// Answers of the API to the SDKs.
    AmzJson,
    /// Of the services with the older JSON protocol.
    AmzJsonOld,
    AmzCbor,
    /// The same with an error of a service that was asked by forms once: a header has the error's name of then.
    QueryError(&'static str),
    /// The newer protocol in CBOR, which a header names as well; and such a name.
    SmithyCbor(Option<&'static str>),
    /// What AWS answers to `application/json`.
    Json,
    Xml,
    /// Answers of the services that are asked by forms.
    XmlText,
    Text,
    /// The text format of Prometheus.
    Metrics,
    /// Frames of SubscribeToShard.
    EventStream,
}

impl ContentType {
    pub const fn name(self) -> &'static str {
        match self {
            ContentType::AmzJson => "application/x-amz-json-1.1",
            ContentType::AmzJsonOld | ContentType::QueryError(_) => "application/x-amz-json-1.0",
            ContentType::AmzCbor => "application/x-amz-cbor-1.1",
            ContentType::SmithyCbor(_) => "application/cbor",
            ContentType::Json => "application/json",
            ContentType::Xml => "application/xml",
            ContentType::XmlText => "text/xml",
            ContentType::Text => "text/plain; charset=utf-8",
            ContentType::EventStream => "application/vnd.amazon.eventstream",
            ContentType::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The `Date` header's text, good for one second. SDKs correct their clocks by it, so every response has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    second: u64,
    text: [u8; 29],
}

impl Date {
    pub fn new(wall: Wall) -> Date {
        let second = wall.seconds();
        let civil = Civil::from_seconds(second);
        let mut text = *b"Sun, 06 Nov 1994 08:49:37 GMT";
        text[..3].copy_from_slice(civil.weekday_name().as_bytes());
        text[8..11].copy_from_slice(civil.month_name().as_bytes());
        let year = civil.year % 10_000;
        let pairs = [(5, civil.day), (17, civil.hour), (20, civil.minute), (23, civil.second)];
        for (at, value) in pairs.into_iter().chain([(12, (year / 100) as u8), (14, (year % 100) as u8)]) {
            text[at] = b'0' + value / 10;
            text[at + 1] = b'0' + value % 10;
        }
        Date { second, text }
    }

    /// Written anew when the second has changed: once a turn, before responses.
    pub fn refresh(&mut self, wall: Wall) {
        if self.second != wall.seconds() {
            *self = Date::new(wall);
        }
    }

    pub fn as_bytes(&self) -> &[u8; 29] {
        &self.text
    }
}

/// All that a head says.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub status: u16,
    /// `None` for an empty body.
    pub content_type: Option<ContentType>,
    /// Bytes of the body; `None`: it comes in chunks.
    pub content_length: Option<usize>,
    /// Random; shown as a UUID.
    pub request_id: u128,
    pub date: &'a Date,
    /// The connection ends after this response.
    pub close: bool,
}

/// Writes the head and returns its length. `out` holds at least [`HEAD_BYTES_MAX`] bytes.
pub fn write_head(out: &mut [u8], head: &Head<'_>) -> usize {
    let mut w = Writer { out, at: 0 };
    w.put(b"HTTP/1.1 ");
    w.number(head.status as usize);
    w.put(b" ");
    w.put(reason(head.status).as_bytes());
    w.put(b"\r\nx-amzn-RequestId: ");
    w.put(&uuid(head.request_id));
    w.put(b"\r\nx-amz-id-2: ");
    w.put(&extended_id(head.request_id));
    w.put(b"\r\nDate: ");
    w.put(head.date.as_bytes());
    if let Some(content_type) = head.content_type {
        w.put(b"\r\nContent-Type: ");
        w.put(content_type.name().as_bytes());
        if let ContentType::SmithyCbor(_) = content_type {
            w.put(b"\r\nsmithy-protocol: rpc-v2-cbor");
        }
        if let ContentType::SmithyCbor(Some(code)) | ContentType::QueryError(code) = content_type {
            w.put(b"\r\nx-amzn-query-error: ");
            w.put(code.as_bytes());
            w.put(b";Sender");
        }
    }
    match head.content_length {
        Some(bytes) => {
            w.put(b"\r\nContent-Length: ");
            w.number(bytes);
        }
        None => w.put(b"\r\nTransfer-Encoding: chunked"),
    }
    if head.close {
        w.put(b"\r\nConnection: close");
    }
    w.put(b"\r\n\r\n");
    w.at
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn number(&mut self, mut n: usize) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        self.put(&digits[first..]);
    }
}

/// The phrases of the statuses used here.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// `xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx`: a random UUID, version and variant set.
fn uuid(id: u128) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let id = id & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let mut out = [b'-'; 36];
    let mut nibble = 0;
    for (at, byte) in out.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            *byte = DIGITS[(id >> (124 - 4 * nibble)) as usize & 0xf];
            nibble += 1;
        }
    }
    out
}

/// The second, longer id that AWS sends: 72 opaque bytes in base64. Clients only log it, so the first id is stretched.
fn extended_id(id: u128) -> [u8; 96] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = [0; 96];
    let mut state = id as u64 ^ (id >> 64) as u64;
    for letters in out.chunks_mut(8) {
        // A step of SplitMix64: an odd increment, then a mix of all bits.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        for letter in letters {
            *letter = ALPHABET[mixed as usize & 0x3f];
            mixed >>= 6;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(head: &Head<'_>) -> String {
        let mut out = [0; HEAD_BYTES_MAX];
        let n = write_head(&mut out, head);
        String::from_utf8(out[..n].to_vec()).expect("a head is ASCII")
    }

    #[test]
    fn a_head_says_everything_once() {
        let date = Date::new(Wall(784_111_777_999_999));
        let id = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;
        let ok = Head {
            status: 200,
            content_type: Some(ContentType::AmzJson),
            content_length: Some(1205),
            request_id: id,
            date: &date,
            close: false,
        };
        let text = head(&ok);
        let (id2, rest) = text
            .strip_prefix("HTTP/1.1 200 OK\r\nx-amzn-RequestId: 00112233-4455-4677-8899-aabbccddeeff\r\nx-amz-id-2: ")
            .and_then(|rest| rest.split_once("\r\n"))
            .expect(&text);
        assert_eq!(id2.len(), 96);
        let expect = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 1205\r\n\r\n";
        assert_eq!(rest, expect);
        let other = head(&Head { request_id: id + 1, ..ok });
        assert!(!other.contains(id2), "two requests share no id");
        let closing = head(&Head { status: 400, content_type: None, content_length: Some(0), close: true, ..ok });
        assert!(closing.starts_with("HTTP/1.1 400 Bad Request\r\n"));
        assert!(
            closing.ends_with("Content-Length: 0\r\nConnection: close\r\n\r\n") && !closing.contains("Content-Type")
        );
        let chunked = head(&Head { content_type: Some(ContentType::EventStream), content_length: None, ..ok });
        let end = "Content-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(chunked.ends_with(end) && !chunked.contains("Content-Length"));
    }

    #[test]
    fn the_longest_head_fits_its_bound() {
        let date = Date::new(Wall(u64::MAX));
        for content_type in
            [ContentType::Metrics, ContentType::AmzJson, ContentType::SmithyCbor(Some("InvalidParameterCombination"))]
        {
            let longest = Head {
                status: 431,
                content_type: Some(content_type),
                content_length: Some(usize::MAX),
                request_id: u128::MAX,
                date: &date,
                close: true,
            };
            assert!(head(&longest).len() <= HEAD_BYTES_MAX);
        }
    }

    #[test]
    fn a_date_changes_with_the_second() {
        let mut date = Date::new(Wall(999_999));
        date.refresh(Wall(999_999));
        assert_eq!(date.as_bytes(), b"Thu, 01 Jan 1970 00:00:00 GMT");
        date.refresh(Wall(1_000_000));
        assert_eq!(date.as_bytes(), b"Thu, 01 Jan 1970 00:00:01 GMT");
    }
}
