//! A client of the native protocol that sends one prebuilt batch again and again.

use crate::client::pin;
use hdrhistogram::Histogram;
use penstock::log::checksum::crc;
use penstock::log::format::{Entry, HEADER, Header, ShardKey, body_size, header_at, write_index};
use penstock::native::hello::{Hello, feature};
use penstock::native::message::{BLOCK, Kind, blank, seal};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What is sent.
#[derive(Clone, Copy)]
pub struct Shape {
    pub records: usize,
    /// Data of each.
    pub bytes: usize,
    pub connections: usize,
    /// Batches of a connection that may be without an answer.
    pub outstanding: usize,
    pub bulk: bool,
}

const KEY: &[u8] = b"key-0000";
/// The client's core; the server has the other one.
const CORE: usize = 0;
const SHARDS: u32 = 4;

struct Connection {
    stream: TcpStream,
    held: Vec<u8>,
    number: u32,
}

impl Connection {
    fn open(port: u16, stream: &str, bulk: bool) -> Connection {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        socket.set_nodelay(true).expect("a socket option");
        let mut connection = Connection { stream: socket, held: Vec::new(), number: 0 };
        let mut out = [0; 512];
        let wanted = if bulk { feature::BULK } else { 0 };
        let hello = Hello { versions: (1, 1), wanted, producer: 0, stream, key_id: "", session_token: "" };
        let len = hello.encode(&mut out);
        connection.stream.write_all(&out[..len]).expect("sent");
        loop {
            let (header, body) = connection.message();
            match header.kind {
                Kind::Welcome => {
                    connection.number = u32::from_le_bytes(body[36..40].try_into().expect("four bytes"));
                    assert_eq!(
                        u32::from_le_bytes(body[4..8].try_into().expect("four bytes")),
                        wanted,
                        "bulk is served"
                    );
                }
                Kind::Shards if header.number == 0 => return connection,
                Kind::Shards => {}
                other => panic!("{other:?}: {}", String::from_utf8_lossy(&body)),
            }
        }
    }

    /// The next message from the server.
    fn message(&mut self) -> (Header<Kind>, Vec<u8>) {
        self.fill(HEADER);
        let header = Header::<Kind>::decode(header_at(&self.held, 0).expect("it is there")).expect("a header");
        let whole = (HEADER + header.body as usize).next_multiple_of(HEADER);
        self.fill(whole);
        let body = self.held[HEADER..HEADER + header.body as usize].to_vec();
        self.held.drain(..whole);
        (header, body)
    }

    fn fill(&mut self, wanted: usize) {
        let mut chunk = [0; 16 << 10];
        while self.held.len() < wanted {
            let read = self.stream.read(&mut chunk).expect("the server answers");
            assert!(read > 0, "the server has closed the connection");
            self.held.extend_from_slice(&chunk[..read]);
        }
    }

    /// Takes the acks that are there, one at least; gives how many.
    fn acks(&mut self) -> usize {
        self.fill(HEADER);
        let whole = self.held.len() / HEADER;
        for header in self.held.chunks_exact(HEADER) {
            assert_eq!(header[3], Kind::Ack as u8, "a batch was not stored");
        }
        self.held.drain(..whole * HEADER);
        whole
    }
}

/// The bytes of a batch for `shard`.
fn batch(shape: &Shape, shard: ShardKey) -> Vec<u8> {
    let payload = shape.records * (KEY.len() + shape.bytes);
    let body = body_size(payload, shape.records);
    let before = if shape.bulk { HEADER } else { 0 };
    let mut bytes = vec![0; before + (HEADER + body).next_multiple_of(HEADER)];
    let into = &mut bytes[before + HEADER..before + HEADER + body];
    let mut entries = Vec::new();
    for record in 0..shape.records {
        let at = record * (KEY.len() + shape.bytes);
        into[at..at + KEY.len()].copy_from_slice(KEY);
        into[at + KEY.len()..at + KEY.len() + shape.bytes].fill(record as u8 ^ 0x5a);
        entries.push(Entry::new(at as u32, Some(KEY.len() as u16), shape.bytes as u32));
    }
    write_index(into, payload, &entries);
    let header = Header { shard, count: shape.records as u32, ..blank(Kind::Batch) };
    if !shape.bulk {
        seal(&mut bytes, header, body);
        return bytes;
    }
    bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    let body_crc = crc(&bytes[2 * HEADER..2 * HEADER + body]);
    let header = Header { stride: bytes.len() as u32, body: body as u32, body_crc, ..header };
    header.encode(bytes[HEADER..].first_chunk_mut().expect("room for a header"));
    bytes
}

/// Batches a second, and the latency of each from its first byte sent to its ack (µs).
pub fn run(port: u16, stream: &str, shape: &Shape, time: Duration) -> (f64, Histogram<u64>) {
    let began = Instant::now();
    let threads: Vec<_> = (0..shape.connections)
        .map(|number| {
            let (shape, stream) = (*shape, stream.to_string());
            std::thread::spawn(move || {
                pin(CORE);
                client(port, &stream, &shape, number as u32, time)
            })
        })
        .collect();
    let mut all = crate::latencies();
    let mut end = began;
    for thread in threads {
        let (seen, ended) = thread.join().expect("a client failed");
        all += seen;
        end = end.max(ended);
    }
    (all.len() as f64 / (end - began).as_secs_f64(), all)
}

fn client(port: u16, stream: &str, shape: &Shape, number: u32, time: Duration) -> (Histogram<u64>, Instant) {
    let mut connection = Connection::open(port, stream, shape.bulk);
    let bytes = batch(shape, ShardKey::new(connection.number, number % SHARDS));
    let (mut seen, mut waiting) = (crate::latencies(), VecDeque::with_capacity(shape.outstanding));
    let until = Instant::now() + time;
    loop {
        let sends = Instant::now() < until;
        while sends && waiting.len() < shape.outstanding {
            waiting.push_back(Instant::now());
            connection.stream.write_all(&bytes).expect("sent");
        }
        if waiting.is_empty() {
            return (seen, Instant::now());
        }
        for _ in 0..connection.acks() {
            let sent: Instant = waiting.pop_front().expect("an ack for each batch");
            seen.record(sent.elapsed().as_micros() as u64).expect("within bounds");
        }
    }
}
