//! Frames of `application/vnd.amazon.eventstream`, in which SubscribeToShard answers.
//!
//! ```text
//! 0 total u32 | 4 headers u32 | 8 CRC-32 u32 of bytes 0..8 | 12 headers | payload | CRC-32 u32 of all before      (big-endian)
//! header: length of the name u8 | name | type u8, 7: a string | length of the value u16 | value
//! ```
//!
//! Each frame is a chunk of HTTP/1.1 here, and the line end behind a chunk stands behind the frame: clients wait for it.

use super::error::Error;
use super::operation::error_body;
use crc_fast::crc32_iso_hdlc as crc;

/// Total, headers and their checksum.
const PRELUDE: usize = 12;
const CRC: usize = 4;
/// Behind a chunk.
const LINE_END: &[u8] = b"\r\n";
/// The chunk behind the last one.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Headers of a frame: names and values.
type Headers<'a> = &'a [(&'a str, &'a str)];

const INITIAL: Headers<'_> =
    &[(":message-type", "event"), (":event-type", "initial-response"), (":content-type", "application/json")];
const EVENT: Headers<'_> =
    &[(":message-type", "event"), (":event-type", "SubscribeToShardEvent"), (":content-type", "application/json")];

const fn len_of(headers: Headers<'_>) -> usize {
    let (mut len, mut at) = (0, 0);
    while at < headers.len() {
        len += 1 + headers[at].0.len() + 1 + 2 + headers[at].1.len();
        at += 1;
    }
    len
}

/// Where the payload of an event begins in its buffer.
pub const EVENT_PAYLOAD_AT: usize = PRELUDE + len_of(EVENT);
/// What stands behind the payload, with the line end of the chunk.
pub const EVENT_TAIL: usize = CRC + LINE_END.len();

/// Writes all of an event's frame but the payload, which ends at `end` of `out`; gives the length with the line end behind it.
pub fn close_event(out: &mut [u8], end: usize) -> usize {
    write_headers(out, EVENT);
    seal(out, len_of(EVENT), end)
}

fn write_headers(out: &mut [u8], headers: Headers<'_>) {
    let mut at = PRELUDE;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    for (name, value) in headers {
        put(&[name.len() as u8]);
        put(name.as_bytes());
        put(&[7]);
        put(&(value.len() as u16).to_be_bytes());
        put(value.as_bytes());
    }
}

/// Prelude, checksum, line end.
fn seal(out: &mut [u8], headers: usize, end: usize) -> usize {
    let total = end + CRC;
    out[..4].copy_from_slice(&(total as u32).to_be_bytes());
    out[4..8].copy_from_slice(&(headers as u32).to_be_bytes());
    let prelude = crc(&out[..8]);
    out[8..PRELUDE].copy_from_slice(&prelude.to_be_bytes());
    let all = crc(&out[..end]);
    out[end..total].copy_from_slice(&all.to_be_bytes());
    out[total..total + LINE_END.len()].copy_from_slice(LINE_END);
    total + LINE_END.len()
}

/// Hexadecimal digits of a chunk's length, and the line end behind them: how many bytes of `out` they are.
pub fn write_chunk_size(out: &mut [u8], len: usize) -> usize {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1) as usize;
    for (at, out) in out[..digits].iter_mut().enumerate() {
        *out = DIGITS[len >> (4 * (digits - 1 - at)) & 0xf];
    }
    out[digits..digits + 2].copy_from_slice(LINE_END);
    digits + 2
}

/// A small frame as a whole chunk.
fn chunk(headers: Headers<'_>, payload: &[u8]) -> Vec<u8> {
    let len = len_of(headers);
    let end = PRELUDE + len + payload.len();
    let mut frame = vec![0; end + EVENT_TAIL];
    write_headers(&mut frame, headers);
    frame[PRELUDE + len..end].copy_from_slice(payload);
    seal(&mut frame, len, end);
    let mut size = [0; 18];
    let digits = write_chunk_size(&mut size, frame.len() - LINE_END.len());
    [&size[..digits], &frame].concat()
}

/// What a stream begins with: some clients give nothing to the application before they have it.
pub fn initial_chunk() -> Vec<u8> {
    chunk(INITIAL, b"{}")
}

/// An error that ends a stream. Where the model has no exception for it, it is one of the protocol.
pub fn exception_chunk(error: &Error) -> Vec<u8> {
    use super::error::Kind;
    let modelled = matches!(error.kind, Kind::ResourceNotFound | Kind::ResourceInUse);
    if modelled {
        let headers = [
            (":message-type", "exception"),
            (":exception-type", error.kind.name()),
            (":content-type", "application/json"),
        ];
        return chunk(&headers, &error_body(error));
    }
    let headers =
        [(":message-type", "error"), (":error-code", error.kind.name()), (":error-message", error.message.as_str())];
    chunk(&headers, b"")
}

#[cfg(test)]
mod tests {
    use super::super::error::Kind;
    use super::*;

    /// Takes a chunk apart by the rules of botocore: its frame's headers and payload.
    fn read(chunk: &[u8]) -> (Vec<(String, String)>, Vec<u8>) {
        let line = chunk.windows(2).position(|two| two == LINE_END).expect("a size and its line end");
        let size = usize::from_str_radix(std::str::from_utf8(&chunk[..line]).expect("digits"), 16).expect("a size");
        let frame = &chunk[line + 2..line + 2 + size];
        assert_eq!(&chunk[line + 2 + size..], LINE_END);
        let four = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| frame[at + i]));
        assert_eq!(four(0) as usize, frame.len());
        assert_eq!(four(8), crc(&frame[..8]));
        assert_eq!(four(frame.len() - 4), crc(&frame[..frame.len() - 4]));
        let payload = 12 + four(4) as usize;
        let (mut headers, mut at) = (Vec::new(), 12);
        let text = |from: usize, len: usize| String::from_utf8(frame[from..from + len].to_vec()).expect("text");
        while at < payload {
            let name = frame[at] as usize;
            assert_eq!(frame[at + 1 + name], 7, "a string");
            let value = u16::from_be_bytes([frame[at + 2 + name], frame[at + 3 + name]]) as usize;
            headers.push((text(at + 1, name), text(at + 4 + name, value)));
            at += 4 + name + value;
        }
        assert_eq!(at, payload);
        (headers, frame[payload..frame.len() - 4].to_vec())
    }

    #[test]
    fn the_checksum_is_the_one_of_zlib() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_frame_is_these_bytes() {
        // An empty message of the public test vectors of this format: no headers, no payload.
        let mut out = [0; 18];
        assert_eq!(seal(&mut out, 0, PRELUDE), 18);
        assert_eq!(
            out[..16],
            [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff],
            "prelude and checksums"
        );
    }

    #[test]
    fn a_stream_begins_with_its_initial_response() {
        let (headers, payload) = read(&initial_chunk());
        assert_eq!(headers[0], (":message-type".into(), "event".into()));
        assert_eq!(headers[1], (":event-type".into(), "initial-response".into()));
        assert_eq!(payload, b"{}");
    }

    #[test]
    fn an_event_has_its_payload_where_it_was_written() {
        let mut out = vec![0; 400];
        out[EVENT_PAYLOAD_AT..EVENT_PAYLOAD_AT + 5].copy_from_slice(b"{1:2}");
        let len = close_event(&mut out, EVENT_PAYLOAD_AT + 5);
        let mut size = [0; 18];
        let digits = write_chunk_size(&mut size, len - 2);
        let (headers, payload) = read(&[&size[..digits], &out[..len]].concat());
        assert_eq!(headers[1], (":event-type".into(), "SubscribeToShardEvent".into()));
        assert_eq!(headers[2], (":content-type".into(), "application/json".into()));
        assert_eq!(payload, b"{1:2}");
    }

    #[test]
    fn an_error_is_an_exception_where_the_model_has_one() {
        let (headers, payload) = read(&exception_chunk(&Error::new(Kind::ResourceInUse, "taken")));
        assert_eq!(headers[0].1, "exception");
        assert_eq!(headers[1], (":exception-type".into(), "ResourceInUseException".into()));
        assert_eq!(payload, br#"{"__type":"ResourceInUseException","message":"taken"}"#);
        let (headers, payload) = read(&exception_chunk(&Error::new(Kind::InternalFailure, "why")));
        assert_eq!(headers[0].1, "error");
        assert_eq!(
            headers[1..],
            [(":error-code".into(), "InternalFailure".into()), (":error-message".into(), "why".into())]
        );
        assert!(payload.is_empty());
    }

    #[test]
    fn sizes_of_chunks_are_hexadecimal() {
        for (len, text) in [(0, "0\r\n"), (9, "9\r\n"), (16, "10\r\n"), (0xfffff, "fffff\r\n"), (1 << 20, "100000\r\n")]
        {
            let mut out = [0; 18];
            let n = write_chunk_size(&mut out, len);
            assert_eq!(std::str::from_utf8(&out[..n]), Ok(text));
        }
    }
}
