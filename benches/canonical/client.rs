//! A client that costs little: prebuilt requests over a blocking socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Servers of the API want to see one; neither of those measured here checks it.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/kinesis/aws4_request, \
                         SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
                         Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

/// A whole request.
pub fn request(operation: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n\
         Content-Type: application/x-amz-json-1.1\r\nX-Amz-Date: 20260101T000000Z\r\nAuthorization: {SIGNATURE}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub fn base64(data: &[u8]) -> String {
    let mut out = vec![0; data.len().div_ceil(3) * 4];
    let len = penstock::kinesis::base64::encode_into(data, &mut out);
    String::from_utf8(out[..len].to_vec()).expect("ASCII")
}

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(port: u16) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
        Connection { stream, buffer: vec![0; 1 << 16] }
    }

    /// Sends a request and gives the body of its answer, which must be a 200 without refused records.
    pub fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).expect("the server takes the request");
        let (mut filled, mut head) = (0, None);
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(filled * 2, 0);
            }
            let n = self.stream.read(&mut self.buffer[filled..]).expect("the server answers");
            assert!(n > 0, "the server closed the connection");
            filled += n;
            if head.is_none() {
                head = head_of(&self.buffer[..filled]);
            }
            if let Some((start, length)) = head
                && filled >= start + length
            {
                let body = &self.buffer[start..start + length];
                let refused = body.starts_with(b"{\"FailedRecordCount\":") && body[21] != b'0';
                let ok = self.buffer.starts_with(b"HTTP/1.1 200 ");
                assert!(ok && !refused, "{}", String::from_utf8_lossy(&self.buffer[..filled.min(600)]));
                return &self.buffer[start..start + length];
            }
        }
    }
}

/// Where the body starts, and its length.
fn head_of(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head is ASCII").to_ascii_lowercase();
    let at = head.find("content-length: ").expect("an answer says its length") + 16;
    let digits: String = head[at..].chars().take_while(char::is_ascii_digit).collect();
    Some((end, digits.parse().expect("a number")))
}

/// Reads a shard from its beginning again and again; bytes of payload.
pub fn read_again(port: u16, stream: &str, shard: usize, began: Instant, most: Duration) -> u64 {
    let mut connection = Connection::open(port);
    let first = request(
        "GetShardIterator",
        &format!(
            "{{\"StreamName\":\"{stream}\",\"ShardId\":\"shardId-{shard:012}\",\"ShardIteratorType\":\"TRIM_HORIZON\"}}"
        ),
    );
    let text = |body: &[u8], name: &str| {
        let body = String::from_utf8_lossy(body).into_owned();
        let at = body.rfind(&format!("\"{name}\":\"")).expect("the member is there") + name.len() + 4;
        body[at..].split('"').next().expect("split gives one").to_string()
    };
    let mut bytes = 0;
    while began.elapsed() < most {
        let mut iterator = text(connection.ask(&first), "ShardIterator");
        loop {
            let body = connection.ask(&request("GetRecords", &format!("{{\"ShardIterator\":\"{iterator}\"}}")));
            let tail = &body[body.len().saturating_sub(400)..];
            // Data and keys, by what base64 and the JSON around a record of 1 KiB make of them.
            bytes += body.len() as u64 * 1024 / (1368 + 170);
            if body.starts_with(b"{\"Records\":[]") {
                break;
            }
            iterator = text(tail, "NextShardIterator");
        }
    }
    bytes
}
