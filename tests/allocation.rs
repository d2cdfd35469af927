//! The ack path does not allocate after start: a counting allocator under a worker that is driven by hand. Beside it, when a request gives
//! back the buffer of its body.
//!
//! Device and network are played by this file: every file operation succeeds at once, and what is received is written into the span that
//! the worker asked for. The first rounds may allocate (tables reach their size); after them nothing may.

#[path = "allocation/counting.rs"]
mod counting;

use hmac::{Hmac, KeyInit, Mac};
use penstock::auth::credentials::Access;
use penstock::io::buffers::{Buffers, Pool, Span};
use penstock::io::clock::{Mono, Now, Wall};
use penstock::io::op::{Completion, Completions, DirName, Errno, FileName, Op, Ops, Socket};
use penstock::limits::Limits;
use penstock::log::Canary;
use penstock::log::directories::Given;
use penstock::log::format::{Entry, ShardKey, body_size, header_at, write_index};
use penstock::native::hello::Hello;
use penstock::native::message::{Header, Kind, blank, seal};
use penstock::native::welcome::{WELCOME_BYTES, Welcome};
use penstock::observe::counter::Counters;
use penstock::worker::mailbox::connect;
use penstock::worker::{Options, Setup, WhenFull, Worker};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One worker, and the outside that this file plays.
struct Bench {
    worker: Worker,
    done: Completions,
    ops: Ops,
    now: Now,
    files: BTreeSet<FileName>,
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
    fn new(flush: bool) -> Bench {
        let limits = Limits { log_bytes: 64 << 20, connections: 16, ..Limits::standard() };
        let buffers = Buffers::new(0, limits.layouts());
        let loans = vec![buffers.loans()];
        let options = Options {
            mirror: None,
            disk: Some(1 << 30),
            given: vec![Given { path: "/data".into(), free: 2 << 30, block: 4096, flush, ..Given::default() }],
            nodes: vec![None],
            when_full: WhenFull::Reject,
            region: None,
            account: None,
            retention_hour: None,
            segment: Some(64 << 20),
            random: [7; 32],
            admin_key: [7; 16],
            verify_keys: false,
            clock_synchronised: true,
            accept_clock: false,
            scrub: Some(14 * 86_400 * 1_000_000_000),
            canary: Canary::default(),
            no_epoch_bump: false,
        };
        let setup = Setup {
            worker: 0,
            workers: 1,
            limits,
            options,
            buffers,
            loans,
            counters: vec![Counters::default()],
            mailboxes: connect(1, limits.mailbox).remove(0),
        };
        Bench {
            worker: Worker::new(setup),
            done: Vec::with_capacity(1024),
            ops: Vec::with_capacity(1024),
            now: Now { mono: Mono(1_000_000_000), wall: Wall(1_790_000_000_000_000) },
            files: BTreeSet::new(),
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
            let (token, result) = match op {
                Op::Accept => {
                    self.accepts = true;
                    continue;
                }
                Op::Recv { socket: Socket(1), into } => {
                    self.native_receives = Some(into);
                    continue;
                }
                Op::Send { socket: Socket(1), from, .. } => {
                    self.native_told.extend_from_slice(self.worker.buffers().bytes(from));
                    self.done.push(Completion::Sent { socket: Socket(1), result: Ok(()) });
                    continue;
                }
                Op::Recv { into, .. } => {
                    self.receives = Some(into);
                    continue;
                }
                Op::Send { socket, from, .. } => {
                    self.status.copy_from_slice(&self.worker.buffers().bytes(from)[..15]);
                    self.replies += 1;
                    self.done.push(Completion::Sent { socket, result: Ok(()) });
                    continue;
                }
                Op::Connect { .. } | Op::Scrub { .. } | Op::Close { .. } | Op::Locate { .. } | Op::Wake { .. } => {
                    continue;
                }
                Op::List { dir: DirName::Given(_), token } => {
                    self.done.push(Completion::Listed { token, result: Ok(Vec::new()) });
                    continue;
                }
                Op::List { token, .. } => {
                    self.done.push(Completion::Listed { token, result: Err(Errno(2)) });
                    continue;
                }
                Op::Open { file, how: penstock::io::op::OpenHow::Existing, token } => {
                    (token, if self.files.contains(&file) { Ok(0) } else { Err(Errno(2)) })
                }
                Op::Open { file, token, .. } => {
                    self.files.insert(file);
                    (token, Ok(0))
                }
                Op::Prepare { log, index, token, .. } => {
                    self.files.insert(FileName::Segment { log, index });
                    (token, Ok(0))
                }
                Op::WriteAt { token, from, .. } => (token, Ok(from.len)),
                Op::ReadAt { token, into, .. } => (token, Ok(into.len)),
                Op::Rename { from, to, token } => {
                    self.files.remove(&from);
                    self.files.insert(to);
                    (token, Ok(0))
                }
                Op::Fsync { token, .. }
                | Op::Unlink { token, .. }
                | Op::CloseFile { token, .. }
                | Op::MakeDir { token, .. }
                | Op::SyncDir { token, .. }
                | Op::Link { token, .. }
                | Op::Clear { token, .. } => (token, Ok(0)),
            };
            self.done.push(Completion::Done { token, result });
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
        let mut bench = Bench::new(flush);
        if credentials {
            bench.done.push(Completion::Access(Arc::new(Access::parse(CREDENTIALS).expect("a good file"))));
        }
        while !bench.accepts {
            bench.turn();
        }
        bench.done.push(Completion::Accepted(Ok(Socket(0))));
        bench
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

fn request(operation: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: localhost:4567\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\nContent-Type: application/x-amz-json-1.1\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
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

/// Allocations of native batches, many at once, after as many that may.
fn natively(flush: bool) {
    let mut bench = Bench::serving(flush, false);
    bench.ask(&request("CreateStream", "{\"StreamName\":\"s\",\"ShardCount\":8}"));
    bench.done.push(Completion::NativeAccepted { socket: Socket(1), peer: None });
    let (versions, stream) = ((1, 1), "s");
    let hello = Hello { versions, wanted: 0, producer: 0, stream, key_id: "", session_token: "" };
    bench.ask_natively(|out| hello.encode(out), WELCOME_BYTES + 64 + 8 * 48);
    let welcome = Header::decode(header_at(&bench.native_told, 0).expect("a header")).expect("whole");
    let number = Welcome::decode(&welcome, &bench.native_told[64..]).expect("a Welcome").stream;
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
    let (mut held, mut waited) = (0, 0);
    while bench.replies == 0 {
        // What has been received is taken in by this turn.
        let whole = bench.at == bench.request.len();
        bench.turn();
        if whole && bench.replies == 0 {
            waited += 1;
            held += free - bench.worker.buffers().available(Pool::Large);
        }
        assert!(waited < 1000, "no answer to {operation}");
    }
    assert_eq!((held, &bench.status), (0, b"HTTP/1.1 200 OK"), "{operation}");
    assert!(waited > 0, "{operation} waits for nothing");
}

/// One test, as the counter is one for the process.
#[test]
fn puts_do_not_allocate_after_start() {
    check(false, false);
    check(true, false);
    check(false, true);
    natively(false);
    natively(true);
    waits_without_its_body("CreateStream", "{\"StreamName\":\"s\",\"ShardCount\":8}");
}
