//! The canonical workloads, against a release server on a real file system: `cargo bench --bench canonical -- [NAME...] [--quick]`.
//!
//! The client re-sends prebuilt bodies over blocking sockets, one pinned thread a connection, and shares the machine with the server; it
//! looks at the status and at `FailedRecordCount` of every answer. What the records contain is proved elsewhere (the simulator, the crash tests,
//! the flights); this only measures. Each workload makes its stream and deletes it. A line is one figure: median, then minimum and maximum.
//!
//! Peers run in the same rounds when they are there: `redis-server` in the PATH, kinesalite's `cli.js` by `PENSTOCK_KINESALITE`, the probes
//! of the machine by `PENSTOCK_LIMITS`.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "canonical/budget.rs"]
mod budget;
#[path = "canonical/client.rs"]
mod client;
#[path = "canonical/extent.rs"]
mod extent;
#[path = "hot/parts.rs"]
#[allow(dead_code, reason = "shared with another benchmark")]
mod hot;
#[path = "hot/input.rs"]
#[allow(dead_code, reason = "shared with another benchmark")]
mod input;
#[path = "hot/kernel.rs"]
#[allow(dead_code, reason = "shared with another benchmark")]
mod kernel;
#[path = "canonical/load.rs"]
mod load;
#[path = "canonical/memory.rs"]
mod memory;
#[path = "canonical/peer.rs"]
mod peer;
#[path = "canonical/server.rs"]
mod server;
#[path = "protocols/sign.rs"]
mod sign;

use client::{Connection, Consumer, request, shard_name};
use extent::{Extent, show};
use hdrhistogram::Histogram;
use load::{bodies_of, create, delete, put_records as bodies, round};
use server::{DeviceWork, Server};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// The stream of every workload.
const STREAM: &str = "bench";
const ROUND: Duration = Duration::from_secs(3);

/// A workload, by the name that stands for it on the command line.
type Workload = (&'static str, fn(&Extent));

const WORKLOADS: &[Workload] = &[
    ("put_records", put_records),
    ("budget", budget::run),
    ("put_record", put_record),
    ("get_records", get_records),
    ("idle", idle),
    ("memory", memory::run),
    ("restart", restart),
    ("trim", trim),
];

fn main() {
    let known: Vec<&str> = WORKLOADS.iter().map(|(name, _)| *name).collect();
    let (names, extent) = extent::arguments("canonical", &known);
    for (name, run) in WORKLOADS.iter().filter(|(name, _)| names.contains(name)) {
        println!("{name}");
        run(&extent);
    }
}

/// What a round of puts has shown.
#[derive(Default)]
struct Puts {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// CPU time of the server, companions included, ns a record.
    cpu: Vec<f64>,
    /// Bytes that the device wrote for each byte of data.
    written: Vec<f64>,
    /// Those that the server sent there: the rest is the file system's, or others'.
    own: Vec<f64>,
    /// Flushes of its cache a second.
    flushes: Vec<f64>,
}

impl Puts {
    fn device(&mut self, payload: f64, time: Duration, before: DeviceWork, after: DeviceWork) {
        self.written.push((after.bytes - before.bytes) as f64 / payload);
        self.flushes.push((after.flushes - before.flushes) as f64 / time.as_secs_f64());
    }

    fn take(&mut self, records: usize, (rate, latencies): (f64, Histogram<u64>), cpu: Duration) {
        let answers = latencies.len() as f64;
        self.rate.push(rate * records as f64);
        self.p50.push(latencies.value_at_quantile(0.5) as f64);
        self.p99.push(latencies.value_at_quantile(0.99) as f64);
        self.cpu.push(cpu.as_nanos() as f64 / answers / records as f64);
    }

    fn show(self, what: &str) {
        show(what, "rec/s", self.rate);
        show("  latency, median", "us", self.p50);
        show("  latency, 99th of 100", "us", self.p99);
        show("  CPU of the server", "ns/rec", self.cpu);
        show("  written to the device for each byte of data", "", self.written);
        show("  written by the server for each byte of data", "", self.own);
        show("  flushes of the device", "/s", self.flushes);
    }
}

/// What is put: so many records a call, of so many bytes, over so many connections.
#[derive(Clone, Copy)]
struct Shape {
    operation: &'static str,
    records: usize,
    bytes: usize,
    connections: usize,
}

/// A warm round and a measured one against a new server with 8 shards; `credentials`: it verifies signatures, and the requests have them.
fn puts(shape: Shape, time: Duration, requests: &[Vec<u8>], credentials: Option<&str>, into: &mut Puts) {
    let signed = credentials.map_or(Vec::new(), |path| vec!["--credentials", path]);
    let server = Server::start("4G", &[&["--when-full", "trim"], &signed[..]].concat());
    let create = request("CreateStream", &format!("{{\"StreamName\":\"{STREAM}\",\"ShardCount\":8}}"));
    let sign = |operation: &str, requests: &[Vec<u8>]| -> Vec<Vec<u8>> {
        bodies_of(requests).map(|body| sign::request("json", operation, body)).collect()
    };
    let (create, requests) = match credentials {
        None => (create, requests.to_vec()),
        Some(_) => (sign("CreateStream", &[create]).swap_remove(0), sign(shape.operation, requests)),
    };
    Connection::open(server.port).ask(&create);
    round(server.port, shape.connections, &requests, time);
    let (cpu, device, own) = (server.cpu(), server.device(), server.written());
    let acked = server.gauge("records_acked_total");
    let measured = round(server.port, shape.connections, &requests, time);
    let records = measured.1.len() as f64 * shape.records as f64;
    assert!(records > 0.0, "no call was answered");
    assert_eq!(server.gauge("records_acked_total") - acked, records, "records acknowledged, as the server counts them");
    let payload = records * shape.bytes as f64;
    into.own.push((server.written() - own) as f64 / payload);
    into.device(payload, time, device, server.device());
    into.take(shape.records, measured, server.cpu() - cpu);
}

/// The same against kinesalite, where it is.
fn kinesalite(shape: Shape, time: Duration, requests: &[Vec<u8>]) -> Option<f64> {
    let (_peer, port) = peer::kinesalite()?;
    create(port, STREAM, 8);
    std::thread::sleep(Duration::from_millis(100));
    Some(round(port, shape.connections, requests, time).0 * shape.records as f64)
}

fn show_peer(what: &str, figures: Vec<f64>) {
    if !figures.is_empty() {
        show(what, "rec/s", figures);
    }
}

/// 500 records of 256 bytes a call, 8 connections, 8 shards; signatures parsed, and verified.
fn put_records(extent: &Extent) {
    let shape = Shape { operation: "PutRecords", records: 500, bytes: 256, connections: 8 };
    let requests = bodies(STREAM, shape.records, shape.bytes, shape.connections);
    let credentials = sign::credentials();
    let (mut ours, mut signed, mut redis, mut lite) = (Puts::default(), Puts::default(), Vec::new(), Vec::new());
    let (rounds, time) = extent.rounds(ROUNDS, ROUND);
    for _ in 0..rounds {
        puts(shape, time, &requests, None, &mut ours);
        puts(shape, time, &requests, credentials.to_str(), &mut signed);
        redis.extend(peer::redis_records(500, 256, 8, time));
        lite.extend(kinesalite(shape, time, &requests));
    }
    ours.show("PutRecords 500 x 256 B, 8 connections");
    signed.show("PutRecords 500 x 256 B, signatures verified");
    show_peer("redis XADD 500 x 256 B, appendfsync always", redis);
    show_peer("kinesalite, the same calls, in memory", lite);
}

/// One record of 1 KiB a call, 16 connections, 8 shards.
fn put_record(extent: &Extent) {
    let shape = Shape { operation: "PutRecord", records: 1, bytes: 1024, connections: 16 };
    let requests = load::put_record(STREAM, shape.bytes, shape.connections);
    let (mut ours, mut redis, mut lite, mut probe) = (Puts::default(), Vec::new(), Vec::new(), Vec::new());
    let (rounds, time) = extent.rounds(ROUNDS, ROUND);
    for _ in 0..rounds {
        puts(shape, time, &requests, None, &mut ours);
        redis.extend(peer::redis_records(1, 1024, 16, time));
        lite.extend(kinesalite(shape, time, &requests));
        probe.extend(peer::probe(&["rpc", "durable=1", "conns=16", "msg=1024", "space=zero"], "acks"));
    }
    ours.show("PutRecord 1 KiB, 16 connections");
    show_peer("redis XADD 1 KiB, 16 clients, always", redis);
    show_peer("kinesalite, the same calls, in memory", lite);
    show_peer("probe: rpc durable=1 conns=16 msg=1024", probe);
}

/// Four readers, each of its own shard, read the newest 30 MB again and again: they still lie in log memory.
fn get_records(extent: &Extent) {
    let server = Server::start("4G", &[]);
    create(server.port, STREAM, 4);
    let requests = bodies(STREAM, 500, 1024, 4);
    let mut writer = Connection::open(server.port);
    for n in 0..extent.pick(60, 8) {
        writer.ask(&requests[n % 4]);
    }
    let (mut figures, mut probe) = (Vec::new(), Vec::new());
    let (rounds, time) = extent.rounds(ROUNDS, ROUND);
    for _ in 0..rounds {
        let began = Instant::now();
        let readers: Vec<_> = (0..4)
            .map(|shard| {
                let port = server.port;
                std::thread::spawn(move || {
                    client::pin(shard);
                    read_again(port, shard, began, time)
                })
            })
            .collect();
        let bytes: u64 = readers.into_iter().map(|reader| reader.join().expect("a reader failed")).sum();
        assert!(bytes > 0, "nothing was read");
        figures.push(bytes as f64 / began.elapsed().as_secs_f64() / 1e6);
        probe.extend(peer::probe(&["tcp", "conns=4", "secs=2"], "rate").map(|rate| rate * 1e3));
    }
    delete(server.port, STREAM);
    show("GetRecords at the tail, 4 readers, payload", "MB/s", figures);
    show("probe: tcp conns=4", "MB/s", probe);
}

/// Reads a shard from its beginning again and again for a round; bytes of payload. The first time through, records are counted; later ones
/// are reckoned by the length of the answers, which are the same.
fn read_again(port: u16, shard: usize, began: Instant, time: Duration) -> u64 {
    let (mut payload, mut length, mut counted) = (0, 0, None);
    while counted.is_none() || began.elapsed() < time {
        let mut consumer = Consumer::open(port, STREAM, &shard_name(shard), "\"TRIM_HORIZON\"");
        while let Some(body) = consumer.next("") {
            length += body.len() as u64;
            if counted.is_none() {
                payload += client::payload_of(body);
            }
        }
        counted.get_or_insert((payload, length));
    }
    let (payload, counted) = counted.expect("a pass has been made");
    (length as u128 * payload as u128 / counted as u128) as u64
}

/// 1,000 connections that have asked once and say nothing more.
fn idle(extent: &Extent) {
    let server = Server::start("1G", &[]);
    let (count, rest) = extent.pick((1_000, Duration::from_secs(10)), (100, Duration::from_millis(500)));
    let before = server.resident_mb();
    let list = request("ListStreams", "{}");
    let mut connections: Vec<Connection> = (0..count).map(|_| Connection::open(server.port)).collect();
    for connection in &mut connections {
        connection.ask(&list);
    }
    assert!(server.gauge("connections_now") >= count as f64, "the connections are open");
    std::thread::sleep(rest / 5);
    let (cpu, began) = (server.cpu(), Instant::now());
    std::thread::sleep(rest);
    let share = (server.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    show("memory before", "MB", vec![before]);
    show(&format!("memory with {count} idle connections"), "MB", vec![server.resident_mb()]);
    show(&format!("CPU with {count} idle connections"), "% of a core", vec![share]);
}

/// Fills the log with `bytes` of records.
fn fill(server: &Server, bytes: u64) {
    load::repeat(server.port, &bodies(STREAM, 500, 4096, 8), bytes / (500 * 4096) / 8);
}

/// Ready again over 4 GB of log, after SIGKILL and after SIGTERM.
fn restart(extent: &Extent) {
    // Eight shards lie on one log: twice the space where there are two.
    let (disk, bytes, filled) = extent.pick(("12G", 4 << 30, "4 GB"), ("2G", 64 << 20, "64 MB"));
    let mut server = Server::start(disk, &[]);
    create(server.port, STREAM, 8);
    fill(&server, bytes);
    let (mut killed, mut stopped) = (Vec::new(), Vec::new());
    for _ in 0..extent.pick(3, 1) {
        killed.push(server.restart("KILL").as_secs_f64() * 1e3);
        stopped.push(server.restart("TERM").as_secs_f64() * 1e3);
    }
    show(&format!("ready over {filled} after SIGKILL"), "ms", killed);
    show(&format!("ready over {filled} after SIGTERM"), "ms", stopped);
    let began = Instant::now();
    delete(server.port, STREAM);
    show("deleting the stream", "ms", vec![began.elapsed().as_secs_f64() * 1e3]);
    std::thread::sleep(extent.pick(Duration::from_secs(3), Duration::from_millis(500)));
    show("space in use soon after the deletion", "MB", vec![server.gauge("log_bytes_used_now") / 1e6]);
}

/// 20 GB through a log of 4 GB that recycles its oldest segments.
fn trim(extent: &Extent) {
    let (disk, step, steps) = extent.pick(("4G", 1 << 30, 19), ("1G", 256 << 20, 5));
    let server = Server::start(disk, &["--when-full", "trim"]);
    create(server.port, STREAM, 8);
    fill(&server, step);
    let mut memory = vec![server.resident_mb()];
    let mut rates = Vec::new();
    for _ in 0..steps {
        let began = Instant::now();
        fill(&server, step);
        rates.push(step as f64 / began.elapsed().as_secs_f64() / 1e6);
        memory.push(server.resident_mb());
    }
    assert!(server.gauge("segments_recycled_total") > 0.0, "the log has turned");
    show("memory while the log turns", "MB", memory.clone());
    println!("  memory after each step: {memory:.0?}");
    show("payload rate of each step", "MB/s", rates.clone());
    println!("  rate of each step: {rates:.0?}");
    delete(server.port, STREAM);
}
