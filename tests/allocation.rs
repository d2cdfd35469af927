//! The ack path does not allocate after start: a counting allocator under a worker that is driven by hand. Beside it, when a request gives
//! back the buffer of its body.
//!
//! Device and network are played by this file: every file operation succeeds at once, and what is received is written into the span that
//! the worker asked for. The first rounds may allocate (tables reach their size); after them nothing may.

#[path = "allocation/counting.rs"]
mod counting;
mod hand;

use hand::{Files, request};
use hmac::{Hmac, KeyInit, Mac};
use penstock::auth::credentials::Access;
use penstock::io::buffers::{Pool, Span};
use penstock::io::clock::{Mono, Now, Wall};
use penstock::io::op::{Completion, Completions, Op, Ops, Socket};
use penstock::limits::Limits;
use penstock::log::format::{Entry, ShardKey, body_size, header_at, write_index};
use penstock::native::hello::Hello;
use penstock::native::message::{Header, Kind, blank, seal};
use penstock::native::welcome::{WELCOME_BYTES, Welcome};
use penstock::worker::Worker;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const LIMITS: Limits = Limits { log_bytes: 64 << 20, connections: 16, ..Limits::standard() };

/// One worker, and the outside that this file plays.
struct Bench {
    worker: Worker,
    done: Completions,
    ops: Ops,
    now: Now,
    files: Files,
    /// What the next receive of socket 0 brings.
    request: Vec<u8>,
    /// Where in `request` that receive begins.
    at: usize,
    receives: Option<Span>,
    /// The same of socket 1, a native client's: what it sends, whether it has been, where it is received, and what it has been sent.
    native: Vec<u8>,
    native_sent: bool,
    native_receives: Option<Span>,
    native_told: Vec<u8>,
    /// The status line of the last reply, and how many there were.
    status: [u8; 15],
    replies: u64,
    accepts: bool,
}

impl Bench {
    fn new(flush: bool, limits: Limits) -> Bench {
        let (setup, _) = hand::setup(limits, flush);
        Bench {
            worker: Worker::new(setup),
            done: Vec::with_capacity(1024),
            ops: Vec::with_capacity(1024),
            now: Now { mono: Mono(1_000_000_000), wall: Wall(1_790_000_000_000_000) },
            files: Files::default(),
            request: Vec::with_capacity(1 << 20),
            at: 0,
            receives: None,
            native: Vec::new(),
            native_sent: true,
            native_receives: None,
            native_told: Vec::with_capacity(1 << 20),
            status: [0; 15],
            replies: 0,
            accepts: false,
        }
    }

    /// A turn, and the outside's answers to it.
    fn turn(&mut self) {
        self.now.mono = self.now.mono + 10_000;
        self.now.wall.0 += 10;
        self.worker.step(self.now, &mut self.done, &mut self.ops);
        for op in self.ops.drain(..) {
            match op {
                Op::Accept => self.accepts = true,
                Op::Recv { socket: Socket(1), into } => self.native_receives = Some(into),
                Op::Send { socket: Socket(1), from, .. } => {
                    self.native_told.extend_from_slice(self.worker.buffers().bytes(from));
                    self.done.push(Completion::Sent { socket: Socket(1), result: Ok(()) });
                }
                Op::Recv { into, .. } => self.receives = Some(into),
                Op::Send { socket, from, .. } => {
                    self.status.copy_from_slice(&self.worker.buffers().bytes(from)[..15]);
                    self.replies += 1;
                    self.done.push(Completion::Sent { socket, result: Ok(()) });
                }
                op => self.done.extend(self.files.answer(op)),
            }
        }
        self.receive();
    }

    /// What clients have sent is received.
    fn receive(&mut self) {
        if let Some(into) = self.native_receives.filter(|_| !self.native_sent) {
            self.worker.buffers_mut().bytes_mut(into)[..self.native.len()].copy_from_slice(&self.native);
            (self.native_receives, self.native_sent) = (None, true);
            let result = Ok(self.native.len() as u32);
            self.done.push(Completion::Received { socket: Socket(1), result });
        }
        if let Some(into) = self.receives.filter(|_| self.at < self.request.len()) {
            let len = (self.request.len() - self.at).min(into.len as usize);
            let piece = &self.request[self.at..self.at + len];
            self.worker.buffers_mut().bytes_mut(into)[..len].copy_from_slice(piece);
            self.at += len;
            self.receives = None;
            self.done.push(Completion::Received { socket: Socket(0), result: Ok(len as u32) });
        }
    }

    /// A worker that serves, with a connection.
    fn serving(flush: bool, credentials: bool) -> Bench {
        Bench::with(flush, credentials, LIMITS)
    }

    fn with(flush: bool, credentials: bool, limits: Limits) -> Bench {
        let mut bench = Bench::new(flush, limits);
        if credentials {
            bench.done.push(Completion::Access(Arc::new(Access::parse(CREDENTIALS).expect("a good file"))));
        }
        while !bench.accepts {
            bench.turn();
        }
        bench.done.push(Completion::Accepted(Ok(Socket(0))));
        bench
    }

    /// Some seconds; gives the allocations in them.
    fn pass(&mut self, seconds: u64) -> u64 {
        let before = counting::allocations();
        for _ in 0..seconds {
            self.now.mono = self.now.mono.plus_ms(1000);
            self.now.wall.0 += 1_000_000;
            (0..5).for_each(|_| self.turn());
        }
        counting::allocations() - before
    }

    /// Sends what `write` writes as a native client, and turns until `count` bytes have come back.
    fn ask_natively(&mut self, write: impl FnOnce(&mut [u8]) -> usize, count: usize) {
        self.native.resize(8 << 10, 0);
        let len = write(&mut self.native);
        self.native.truncate(len);
        self.native_told.clear();
        self.native_sent = false;
        for _ in 0..1000 {
            if self.native_told.len() >= count {
                assert_eq!(self.native_told.len(), count);
                return;
            }
            self.turn();
        }
        panic!("{} bytes for an answer instead of {count}", self.native_told.len());
    }

    /// Sends `request` and turns until it has been answered with 200.
    fn ask(&mut self, request: &[u8]) {
        self.request.clear();
        self.request.extend_from_slice(request);
        self.at = 0;
        let before = self.replies;
        for _ in 0..1000 {
            if self.replies > before {
                assert_eq!(&self.status, b"HTTP/1.1 200 OK");
                return;
            }
            self.turn();
        }
        panic!("no answer to {} bytes", request.len());
    }
}

const CREDENTIALS: &str = r#"{"users":[{"name":"app","keys":[{"id":"AKIAAPP1","secret":"0123456789abcdef"}],"policies":[
    {"Version":"2012-10-17","Statement":[
        {"Effect":"Deny","Action":"kinesis:Delete*","Resource":"*"},
        {"Effect":"Allow","Action":"kinesis:*","Resource":"arn:aws:kinesis:*:*:stream/*","Condition":
            {"StringLike":{"aws:username":"a*"},"DateGreaterThan":{"aws:CurrentTime":"2020-01-01"},"Null":{"aws:SourceIp":"true"}}}]}]}]}"#;

fn mac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same request, signed at the second at which the clock of the bench begins.
fn signed(operation: &str, body: &str) -> Vec<u8> {
    let (at, scope) = ("20260921T141320Z", "20260921/us-east-1/kinesis/aws4_request");
    let names = "content-type;host;x-amz-date;x-amz-target";
    let target = format!("Kinesis_20131202.{operation}");
    let hash = hex(&Sha256::digest(body));
    let canonical = format!(
        "POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:localhost:4567\nx-amz-date:{at}\nx-amz-target:{target}\n\n{names}\n{hash}"
    );
    let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let key = scope.split('/').fold(b"AWS40123456789abcdef".to_vec(), |key, part| mac(&key, part).to_vec());
    let signature = hex(&mac(&key, &text));
    format!(
        "POST / HTTP/1.1\r\nHost: localhost:4567\r\nX-Amz-Target: {target}\r\nX-Amz-Date: {at}\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=AKIAAPP1/{scope}, SignedHeaders={names}, Signature={signature}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Allocations of 200 puts of each kind, after 200 that may.
fn check(flush: bool, credentials: bool) {
    let request: fn(&str, &str) -> Vec<u8> = if credentials { signed } else { request };
    let mut bench = Bench::serving(flush, credentials);
    bench.ask(&request("CreateStream", "{\"StreamName\":\"s\",\"ShardCount\":8}"));
    let record = |i: usize| format!("{{\"Data\":\"{}\",\"PartitionKey\":\"key\\/{i}\"}}", "QUJD".repeat(80));
    let records: Vec<String> = (0..500).map(record).collect();
    let many = request("PutRecords", &format!("{{\"StreamName\":\"s\",\"Records\":[{}]}}", records.join(",")));
    let few = request("PutRecords", &format!("{{\"Records\":[{}],\"StreamName\":\"s\"}}", records[..3].join(",")));
    let one = request("PutRecord", "{\"StreamName\":\"s\",\"Data\":\"QUJD\",\"PartitionKey\":\"k\"}");
    for round in [0, 1] {
        let before = counting::allocations();
        for _ in 0..100 {
            bench.ask(&many);
            bench.ask(&few);
            bench.ask(&one);
        }
        let made = counting::allocations() - before;
        assert!(round == 0 || made == 0, "{made} allocations in 300 puts, flush {flush}");
    }
}

/// Lets the native client in; gives the number of its stream, which has eight shards.
fn welcome(bench: &mut Bench) -> u32 {
    bench.ask(&request("CreateStream", "{\"StreamName\":\"s\",\"ShardCount\":8}"));
    bench.done.push(Completion::NativeAccepted { socket: Socket(1), peer: None });
    let (versions, stream) = ((1, 1), "s");
    let hello = Hello { versions, wanted: 0, producer: 0, stream, key_id: "", session_token: "" };
    bench.ask_natively(|out| hello.encode(out), WELCOME_BYTES + 64 + 8 * 48);
    let welcome = Header::decode(header_at(&bench.native_told, 0).expect("a header")).expect("whole");
    Welcome::decode(&welcome, &bench.native_told[64..]).expect("a Welcome").stream
}

/// A message that comes slowly ends, as a body waits for its buffer: what a second takes otherwise, and no allocation more.
fn ends_what_is_slow() {
    let mut limits = LIMITS;
    (limits.medium.0, limits.large.0) = (1, 0);
    let mut bench = Bench::with(false, false, limits);
    let number = welcome(&mut bench);
    bench.pass(5);
    let usual = bench.pass(5);
    let header = Header { shard: ShardKey::new(number, 0), count: 1, ..blank(Kind::Batch) };
    let mut message = vec![0; 201 << 10];
    seal(&mut message, header, 200 << 10);
    bench.native.clear();
    bench.native.extend_from_slice(&message[..5000]);
    (bench.native_sent, bench.native_told) = (false, Vec::with_capacity(1 << 20));
    (0..5).for_each(|_| bench.turn());
    assert_eq!(bench.worker.buffers().available(Pool::Medium), 0);
    bench.at = 0;
    bench.request = request("PutRecord", &"x".repeat(100_000));
    bench.request.truncate(20_000);
    let made = bench.pass(5);
    assert_eq!(bench.native_told.get(3), Some(&(Kind::Goodbye as u8)), "it is told why it ends");
    assert_eq!(made, usual);
}

/// Allocations of native batches, many at once, after as many that may.
fn natively(flush: bool) {
    let mut bench = Bench::serving(flush, false);
    let number = welcome(&mut bench);
    let mut body = b"key and data".to_vec();
    body.resize(body_size(12, 1), 0);
    write_index(&mut body, 12, &[Entry::new(0, Some(3), 9)]);
    let batches = |out: &mut [u8]| {
        let mut at = 0;
        for number_of_batch in 0..24 {
            let shard = ShardKey::new(number, number_of_batch % 8);
            let header = Header { shard, count: 1, number: number_of_batch, ..blank(Kind::Batch) };
            out[at + 64..at + 64 + body.len()].copy_from_slice(&body);
            at += seal(&mut out[at..], header, body.len());
        }
        at
    };
    for round in [0, 1] {
        let before = counting::allocations();
        for _ in 0..100 {
            bench.ask_natively(batches, 24 * 64);
            assert!(bench.native_told.chunks(64).all(|answer| answer[3] == Kind::Ack as u8));
        }
        let made = counting::allocations() - before;
        assert!(round == 0 || made == 0, "{made} allocations in 2400 native batches, flush {flush}");
    }
}

/// The same request with its body in one chunk, which gets the largest buffer as nobody knows how long it is.
fn chunked(request: &[u8], body: &str) -> Vec<u8> {
    let text = String::from_utf8(request.to_vec()).expect("text");
    let head = text.strip_suffix(body).expect("its body");
    let head = head.replace(&format!("Content-Length: {}\r\n", body.len()), "Transfer-Encoding: chunked\r\n");
    format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
}

/// A request that waits for the device has given the buffer of its body back.
fn waits_without_its_body(operation: &str, body: &str) {
    let mut bench = Bench::serving(false, false);
    let free = bench.worker.buffers().available(Pool::Large);
    let request = request(operation, body);
    bench.request.extend_from_slice(&chunked(&request, body));
    let (mut took, mut held, mut waited) = (false, 0, 0);
    while bench.replies == 0 {
        // What has been received is taken in by this turn.
        let whole = bench.at == bench.request.len();
        bench.turn();
        took |= bench.worker.buffers().available(Pool::Large) < free;
        if whole && bench.replies == 0 {
            waited += 1;
            held += free - bench.worker.buffers().available(Pool::Large);
        }
        assert!(waited < 1000, "no answer to {operation}");
    }
    assert_eq!((held, &bench.status), (0, b"HTTP/1.1 200 OK"), "{operation}");
    assert!(waited > 0 && took, "{operation} waits for nothing, or needs no buffer");
}

/// One test, as the counter is one for the process.
#[test]
fn puts_do_not_allocate_after_start() {
    check(false, false);
    check(true, false);
    check(false, true);
    natively(false);
    natively(true);
    ends_what_is_slow();
    // So long that it does not stay where it was received.
    let room = " ".repeat(20_000);
    waits_without_its_body("CreateStream", &format!("{{\"StreamName\":\"s\",{room}\"ShardCount\":8}}"));
}
