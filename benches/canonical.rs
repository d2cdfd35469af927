//! The canonical workloads, against a release server on a real file system: `cargo bench --bench canonical -- [NAME...]`.
//!
//! The client re-sends prebuilt bodies over blocking sockets, one pinned thread a connection, and shares the machine with the server; it
//! looks at the status and at `FailedRecordCount` of every answer. What the records contain is proved elsewhere (the simulator, the crash tests,
//! the flights); this only measures. Each workload makes its stream and deletes it. A line is one figure: median, then minimum and maximum.
//!
//! Peers run in the same rounds when they are there: `redis-server` in the PATH, kinesalite's `cli.js` by `PENSTOCK_KINESALITE`, the probes
//! of the machine by `PENSTOCK_LIMITS`.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "canonical/client.rs"]
mod client;
#[path = "canonical/load.rs"]
mod load;
#[path = "canonical/peer.rs"]
mod peer;
#[path = "canonical/server.rs"]
mod server;

use client::{Connection, Consumer, request, shard_name};
use hdrhistogram::Histogram;
use load::{create, delete, put_records as bodies, round};
use server::{DeviceWork, Server};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// The stream of every workload.
const STREAM: &str = "bench";
const ROUND: Duration = Duration::from_secs(3);

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let workloads: &[(&str, fn())] = &[
        ("put_records", put_records),
        ("put_record", put_record),
        ("get_records", get_records),
        ("idle", idle),
        ("restart", restart),
        ("trim", trim),
    ];
    for (name, run) in workloads.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)) {
        println!("{name}");
        run();
    }
}

/// Median, minimum, maximum.
fn show(what: &str, unit: &str, mut figures: Vec<f64>) {
    figures.sort_by(f64::total_cmp);
    let (median, last) = (figures[figures.len() / 2], figures.len() - 1);
    println!("  {what:<44} {median:>12.1} {unit}   ({:.1} .. {:.1})", figures[0], figures[last]);
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
    fn device(&mut self, payload: f64, before: DeviceWork, after: DeviceWork) {
        self.written.push((after.bytes - before.bytes) as f64 / payload);
        self.flushes.push((after.flushes - before.flushes) as f64 / ROUND.as_secs_f64());
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

/// A warm round and a measured one against a new server with 8 shards.
fn puts(records: usize, bytes: usize, connections: usize, requests: &[Vec<u8>], into: &mut Puts) {
    let server = Server::start("4G", &["--when-full", "trim"]);
    create(server.port, STREAM, 8);
    round(server.port, connections, requests, ROUND);
    let (cpu, device, own) = (server.cpu(), server.device(), server.written());
    let measured = round(server.port, connections, requests, ROUND);
    let payload = measured.1.len() as f64 * (records * bytes) as f64;
    into.own.push((server.written() - own) as f64 / payload);
    into.device(payload, device, server.device());
    into.take(records, measured, server.cpu() - cpu);
    delete(server.port, STREAM);
}

/// The same against kinesalite, where it is.
fn kinesalite(records: usize, connections: usize, requests: &[Vec<u8>]) -> Option<f64> {
    let (_peer, port) = peer::kinesalite()?;
    create(port, STREAM, 8);
    std::thread::sleep(Duration::from_millis(100));
    Some(round(port, connections, requests, ROUND).0 * records as f64)
}

fn show_peer(what: &str, figures: Vec<f64>) {
    if !figures.is_empty() {
        show(what, "rec/s", figures);
    }
}

/// 500 records of 256 bytes a call, 8 connections, 8 shards.
fn put_records() {
    let requests = bodies(STREAM, 500, 256, 8);
    let (mut ours, mut redis, mut lite) = (Puts::default(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        puts(500, 256, 8, &requests, &mut ours);
        redis.extend(peer::redis_records(500, 256, 8, ROUND));
        lite.extend(kinesalite(500, 8, &requests));
    }
    ours.show("PutRecords 500 x 256 B, 8 connections");
    show_peer("redis XADD 500 x 256 B, appendfsync always", redis);
    show_peer("kinesalite, the same calls, in memory", lite);
}

/// One record of 1 KiB a call, 16 connections, 8 shards.
fn put_record() {
    let requests = load::put_record(STREAM, 1024, 16);
    let (mut ours, mut redis, mut lite, mut probe) = (Puts::default(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        puts(1, 1024, 16, &requests, &mut ours);
        redis.extend(peer::redis_records(1, 1024, 16, ROUND));
        lite.extend(kinesalite(1, 16, &requests));
        probe.extend(peer::probe(&["rpc", "durable=1", "conns=16", "msg=1024", "space=zero"], "acks"));
    }
    ours.show("PutRecord 1 KiB, 16 connections");
    show_peer("redis XADD 1 KiB, 16 clients, always", redis);
    show_peer("kinesalite, the same calls, in memory", lite);
    show_peer("probe: rpc durable=1 conns=16 msg=1024", probe);
}

/// Four readers, each of its own shard, read the newest 30 MB again and again: they still lie in log memory.
fn get_records() {
    let server = Server::start("4G", &[]);
    create(server.port, STREAM, 4);
    let requests = bodies(STREAM, 500, 1024, 4);
    let mut writer = Connection::open(server.port);
    for n in 0..60 {
        writer.ask(&requests[n % 4]);
    }
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let readers: Vec<_> = (0..4)
            .map(|shard| {
                let port = server.port;
                std::thread::spawn(move || {
                    client::pin(shard);
                    read_again(port, shard, began)
                })
            })
            .collect();
        let bytes: u64 = readers.into_iter().map(|reader| reader.join().expect("a reader failed")).sum();
        figures.push(bytes as f64 / began.elapsed().as_secs_f64() / 1e6);
    }
    delete(server.port, STREAM);
    show("GetRecords at the tail, 4 readers, payload", "MB/s", figures);
}

/// Reads a shard from its beginning again and again for a round; bytes of payload. The first time through, records are counted; later ones
/// are reckoned by the length of the answers, which are the same.
fn read_again(port: u16, shard: usize, began: Instant) -> u64 {
    let (mut payload, mut length, mut counted) = (0, 0, None);
    while began.elapsed() < ROUND {
        let mut consumer = Consumer::open(port, STREAM, &shard_name(shard), "\"TRIM_HORIZON\"");
        while let Some(body) = consumer.next("") {
            length += body.len() as u64;
            if counted.is_none() {
                payload += client::payload_of(body);
            }
        }
        counted.get_or_insert((payload, length));
    }
    let (payload, counted) = counted.expect("a round is longer than a pass");
    (length as u128 * payload as u128 / counted as u128) as u64
}

/// 2,000 connections that have asked once and say nothing more.
fn idle() {
    let server = Server::start("1G", &[]);
    let before = server.resident_mb();
    let list = request("ListStreams", "{}");
    let mut connections: Vec<Connection> = (0..2_000).map(|_| Connection::open(server.port)).collect();
    for connection in &mut connections {
        connection.ask(&list);
    }
    std::thread::sleep(Duration::from_secs(2));
    let (cpu, began) = (server.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let share = (server.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    show("memory before", "MB", vec![before]);
    show("memory with 2,000 idle connections", "MB", vec![server.resident_mb()]);
    show("CPU with 2,000 idle connections", "% of a core", vec![share]);
}

/// Fills the log with `gigabytes` of records.
fn fill(server: &Server, gigabytes: u64) {
    load::repeat(server.port, &bodies(STREAM, 500, 4096, 8), gigabytes * (1 << 30) / (500 * 4096) / 8);
}

/// Ready again over 4 GB of log, after SIGKILL and after SIGTERM.
fn restart() {
    // Eight shards lie on one log: twice the space where there are two.
    let mut server = Server::start("12G", &[]);
    create(server.port, STREAM, 8);
    fill(&server, 4);
    let (mut killed, mut stopped) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        killed.push(server.restart("KILL").as_secs_f64() * 1e3);
        stopped.push(server.restart("TERM").as_secs_f64() * 1e3);
    }
    show("ready over 4 GB after SIGKILL", "ms", killed);
    show("ready over 4 GB after SIGTERM", "ms", stopped);
    let began = Instant::now();
    delete(server.port, STREAM);
    show("deleting the stream", "ms", vec![began.elapsed().as_secs_f64() * 1e3]);
    std::thread::sleep(Duration::from_secs(3));
    show("space in use 3 s after the deletion", "MB", vec![server.gauge("log_bytes_used_now") / 1e6]);
}

/// 20 GB through a log of 4 GB that recycles its oldest segments.
fn trim() {
    let server = Server::start("4G", &["--when-full", "trim"]);
    create(server.port, STREAM, 8);
    fill(&server, 1);
    let first = server.resident_mb();
    let mut memory = vec![first];
    let mut rates = Vec::new();
    for _ in 0..19 {
        let began = Instant::now();
        fill(&server, 1);
        rates.push((1u64 << 30) as f64 / began.elapsed().as_secs_f64() / 1e6);
        memory.push(server.resident_mb());
    }
    show("memory while 20 GB go through 4 GB", "MB", memory.clone());
    println!("  memory after each GB: {memory:.0?}");
    show("payload rate of each GB", "MB/s", rates.clone());
    println!("  rate of each GB: {rates:.0?}");
    delete(server.port, STREAM);
}
