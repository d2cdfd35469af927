//! The clients' own HTTP and JSON: written here, so that an error in the server's is not an error in both.

use super::random::Random;
use std::fmt::Write;

/// A JSON object whose members are put into a drawn order.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<String>);

impl Object {
    pub fn text(mut self, name: &str, value: &str) -> Object {
        self.0.push(format!("\"{name}\":{}", quoted(value)));
        self
    }

    pub fn raw(mut self, name: &str, value: impl std::fmt::Display) -> Object {
        self.0.push(format!("\"{name}\":{value}"));
        self
    }

    pub fn list(self, name: &str, items: &[String]) -> Object {
        let items = items.join(",");
        self.raw(name, format_args!("[{items}]"))
    }

    /// The object, with white space here and there.
    pub fn shuffled(mut self, random: &mut Random) -> String {
        random.shuffle(&mut self.0);
        let comma = *random.pick(&[",", ",", ", ", " ,\n\t"]);
        format!("{{{}}}", self.0.join(comma))
    }
}

fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            c if (c as u32) < 0x20 || c == 'é' => write!(text, "\\u{:04x}", c as u32).expect("a string takes all"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | *byte as u32) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

/// `None` when it is not base64 with its padding.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for quad in text.chunks(4) {
        let digits = quad.iter().take_while(|c| **c != b'=').count();
        if digits < 2 || quad[digits..].iter().any(|c| *c != b'=') {
            return None;
        }
        let mut group = 0u32;
        for c in &quad[..digits] {
            group = group << 6 | DIGITS.iter().position(|d| d == c)? as u32;
        }
        group <<= 6 * (4 - digits);
        bytes.extend_from_slice(&group.to_be_bytes()[1..digits]);
    }
    Some(bytes)
}

/// A request as a client of a drawn taste would send it; `chunked`: its body in pieces.
pub fn request(operation: &str, body: &str, chunked: bool, random: &mut Random) -> Vec<u8> {
    // Of another service it is named as a whole.
    let service = if operation.contains('.') { "" } else { "Kinesis_20131202." };
    let mut headers = vec![
        format!("{}: 127.0.0.1:4567", random.pick(&["Host", "host"])),
        format!("{}: {service}{operation}", random.pick(&["X-Amz-Target", "x-amz-target"])),
        format!("{}: application/x-amz-json-1.1", random.pick(&["Content-Type", "content-type"])),
        "User-Agent: simulated".to_string(),
    ];
    if random.chance(300) {
        headers.push(
            "Authorization: AWS4-HMAC-SHA256 Credential=AKID/20261124/us-east-1/kinesis/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=0123456789abcdef"
                .into(),
        );
        headers.push("X-Amz-Date: 20261124T000000Z".into());
    }
    headers.push(if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {}", body.len()) });
    random.shuffle(&mut headers);
    let mut bytes = format!("POST / HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n")).into_bytes();
    if !chunked {
        bytes.extend_from_slice(body.as_bytes());
        return bytes;
    }
    let mut rest = body.as_bytes();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((random.between(1, 3000) as usize).min(rest.len()));
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
        rest = behind;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

pub const ADMIN_KEY: u128 = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;

/// A request for a snapshot.
pub fn snapshot_request() -> Vec<u8> {
    format!(
        "POST /admin/snapshot HTTP/1.1\r\nHost: 127.0.0.1:4567\r\nAuthorization: Penstock {ADMIN_KEY:032x}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// A request to move shards.
pub fn rebalance_request(body: &str) -> Vec<u8> {
    format!(
        "POST /admin/rebalance HTTP/1.1\r\nHost: 127.0.0.1:4567\r\nAuthorization: Penstock {ADMIN_KEY:032x}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
    /// It is a chunk of an answer that goes on.
    pub more: bool,
}

/// Replies of one connection, taken from its bytes as they come.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// In an answer that comes in chunks.
    chunked: bool,
}

impl Replies {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole reply; an error when these bytes are none.
    pub fn next(&mut self) -> Result<Option<Reply>, String> {
        if self.chunked {
            return self.chunk();
        }
        let Some(head) = memchr::memmem::find(&self.bytes, b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&self.bytes[..head]).map_err(|_| "a head that is not text".to_string())?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status: Option<u16> = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| format!("no status line: {first:?}"))?;
        if lines.clone().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked")) {
            self.bytes.drain(..head + 4);
            self.chunked = true;
            return self.chunk();
        }
        let length = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        };
        let length = match (lines.find_map(length), status) {
            (Some(length), _) => length,
            (None, 100 | 204) => 0,
            (None, _) => return Err(format!("no length: {text:?}")),
        };
        let end = head + 4 + length;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let body = self.bytes[head + 4..end].to_vec();
        self.bytes.drain(..end);
        if status == 100 {
            return self.next();
        }
        Ok(Some(Reply { status, body, more: false }))
    }

    /// The next chunk; the last one has nothing in it.
    fn chunk(&mut self) -> Result<Option<Reply>, String> {
        let Some(line) = memchr::memmem::find(&self.bytes, b"\r\n") else { return Ok(None) };
        let digits = std::str::from_utf8(&self.bytes[..line]).ok();
        let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let size = size.ok_or_else(|| format!("no size of a chunk: {digits:?}"))?;
        let end = line + 2 + size + 2;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let body = self.bytes[line + 2..end - 2].to_vec();
        if self.bytes[end - 2..end] != *b"\r\n" {
            return Err("a chunk does not end where it says".into());
        }
        self.bytes.drain(..end);
        self.chunked = size > 0;
        Ok(Some(Reply { status: 200, body, more: size > 0 }))
    }

    /// Bytes of a reply that is not whole.
    pub fn rest(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard_and_comes_back() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(from_base64("Zg="), None);
        assert_eq!(from_base64("Z==="), None);
        assert_eq!(from_base64("Zm9*"), None);
    }

    fn reply(status: u16, body: &[u8], more: bool) -> Reply {
        Reply { status, body: body.to_vec(), more }
    }

    /// All that comes of bytes that come one by one.
    fn byte_by_byte(bytes: &[u8]) -> Vec<Reply> {
        let (mut replies, mut seen) = (Replies::default(), Vec::new());
        for byte in bytes {
            replies.push(&[*byte]);
            seen.extend(replies.next().expect("well formed"));
        }
        assert_eq!(replies.rest(), 0);
        seen
    }

    #[test]
    fn replies_are_taken_from_any_pieces() {
        let bytes =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: y\r\n\r\n{}HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(byte_by_byte(bytes), [reply(200, b"{}", false), reply(400, b"", false)]);
    }

    #[test]
    fn chunks_are_taken_one_by_one() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n";
        let all =
            [reply(200, b"abc", true), reply(200, b"0123456789", true), reply(200, b"", false), reply(400, b"", false)];
        assert_eq!(byte_by_byte(bytes), all);
    }

    #[test]
    fn a_reply_without_length_is_an_error() {
        let mut replies = Replies::default();
        replies.push(b"HTTP/1.1 200 OK\r\n\r\n");
        assert!(replies.next().is_err());
    }
}
