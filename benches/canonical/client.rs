//! A client that costs little: prebuilt requests over a blocking socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Servers of the API want to see one; neither of those measured here checks it.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/kinesis/aws4_request, \
                         SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
                         Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

/// A whole request.
pub fn request(operation: &str, body: &str) -> Vec<u8> {
    request_in("json", operation, body.as_bytes())
}

/// `encoding`: `json` or `cbor`.
pub fn request_in(encoding: &str, operation: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n\
         Content-Type: application/x-amz-{encoding}-1.1\r\nX-Amz-Date: 20260101T000000Z\r\nAuthorization: {SIGNATURE}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

pub fn base64(data: &[u8]) -> String {
    let mut out = vec![0; data.len().div_ceil(3) * 4];
    let len = penstock::kinesis::base64::encode_into(data, &mut out);
    String::from_utf8(out[..len].to_vec()).expect("ASCII")
}

/// Asks one request after the other.
pub trait Ask: Send {
    /// Sends a request and gives the body of its answer, which must be a 200 without refused records.
    fn ask(&mut self, request: &[u8]) -> &[u8];
}

/// HTTP/1.1 over a socket, or what stands for one.
pub struct Connection<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.set_nodelay(true).expect("a socket option");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
    stream
}

/// Whether an answer of PutRecords says that records were refused.
pub fn has_refused(body: &[u8]) -> bool {
    body.starts_with(b"{\"FailedRecordCount\":") && body[21] != b'0'
        || body.starts_with(b"\xbf\x71FailedRecordCount") && body[19] != 0
}

impl Connection {
    pub fn open(port: u16) -> Connection {
        Connection::over(connect(port))
    }
}

impl<S: Read + Write + Send> Ask for Connection<S> {
    fn ask(&mut self, request: &[u8]) -> &[u8] {
        Connection::ask(self, request)
    }
}

impl<S: Read + Write> Connection<S> {
    pub fn over(stream: S) -> Connection<S> {
        Connection { stream, buffer: vec![0; 1 << 16] }
    }

    /// Sends a request and gives the body of its answer, which must be a 200 without refused records.
    pub fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).and_then(|()| self.stream.flush()).expect("the server takes the request");
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
                let refused = has_refused(body);
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

/// Keeps this thread on one core, thread `number` of several on each in turn: so do the server's workers.
pub fn pin(number: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.get(number % cores.len().max(1)) {
        core_affinity::set_for_current(*core);
    }
}

/// Of GetShardIterator: `kind` is the type, with what else it needs, as JSON members.
pub fn iterator_request(stream: &str, shard: &str, kind: &str) -> Vec<u8> {
    let body = format!("{{\"StreamName\":\"{stream}\",\"ShardId\":\"{shard}\",\"ShardIteratorType\":{kind}}}");
    request("GetShardIterator", &body)
}

/// The last member `name` of an answer, if it is a string.
pub fn member(body: &[u8], name: &str) -> Option<String> {
    let wanted = format!("\"{name}\":\"");
    let at = memchr::memmem::rfind(body, wanted.as_bytes())? + wanted.len();
    let len = memchr::memchr(b'"', &body[at..])?;
    Some(String::from_utf8_lossy(&body[at..at + len]).into_owned())
}

/// Name of a shard that was made with its stream.
pub fn shard_name(number: usize) -> String {
    format!("shardId-{number:012}")
}

/// Bytes of data and keys in an answer of GetRecords whose strings have no escapes.
pub fn payload_of(body: &[u8]) -> u64 {
    let text = std::str::from_utf8(body).expect("JSON is UTF-8");
    let values = |name: &str| -> Vec<&str> {
        text.split(&format!("\"{name}\":\"")).skip(1).map(|part| part.split('"').next().unwrap_or_default()).collect()
    };
    let decoded = |data: &&str| data.trim_end_matches('=').len() * 3 / 4;
    let (data, keys) = (values("Data"), values("PartitionKey"));
    data.iter().map(decoded).sum::<usize>() as u64 + keys.iter().map(|key| key.len()).sum::<usize>() as u64
}

/// A shard read call by call.
pub struct Consumer {
    connection: Connection,
    iterator: String,
}

impl Consumer {
    /// From where `kind` says ([`iterator_request`]).
    pub fn open(port: u16, stream: &str, shard: &str, kind: &str) -> Consumer {
        let mut connection = Connection::open(port);
        let answer = connection.ask(&iterator_request(stream, shard, kind));
        let iterator = member(answer, "ShardIterator").expect("an iterator is given");
        Consumer { connection, iterator }
    }

    /// The body of the next answer; `None`: it has caught up. `limit`: as JSON member, or empty.
    pub fn next(&mut self, limit: &str) -> Option<&[u8]> {
        let body = format!("{{\"ShardIterator\":\"{}\"{limit}}}", self.iterator);
        let body = self.connection.ask(&request("GetRecords", &body));
        self.iterator =
            member(&body[body.len().saturating_sub(400)..], "NextShardIterator").expect("the shard is open");
        let caught_up = body.starts_with(b"{\"Records\":[]") && body.ends_with(b"\"MillisBehindLatest\":0}");
        (!caught_up).then_some(body)
    }
}
