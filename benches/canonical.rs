//! The canonical workloads, against a release server on a real file system: `cargo bench --bench canonical [NAME...]`.
//!
//! The client re-sends prebuilt bodies over blocking sockets, one thread a connection, and shares the machine with the server; it looks at
//! the status and at `FailedRecordCount` of every answer. What the records contain is proved elsewhere (the simulator, the crash tests,
//! the flights); this only measures. Each workload makes its stream and deletes it. A line is one figure: median, then minimum and maximum.
//!
//! Peers run in the same rounds when they are there: `redis-server` and `redis-cli` in the PATH (appendfsync always).

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "canonical/client.rs"]
mod client;
#[path = "canonical/peer.rs"]
mod peer;
#[path = "canonical/server.rs"]
mod server;

use client::{Connection, base64, request};
use hdrhistogram::Histogram;
use server::Server;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
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

/// Of 1 µs to a minute: one that grows by itself would clamp what is saved in it before it has grown.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds and digits are valid")
}

/// Sends `requests[i % n]` over `connections` connections for a round; (answers a second, latencies in µs).
fn round(port: u16, connections: usize, requests: &[Vec<u8>]) -> (f64, Histogram<u64>) {
    let began = Instant::now();
    let threads: Vec<_> = (0..connections)
        .map(|c| {
            let request = requests[c % requests.len()].clone();
            std::thread::spawn(move || {
                let mut connection = Connection::open(port);
                let mut seen = latencies();
                let mut answers = 0u64;
                while began.elapsed() < ROUND {
                    let sent = Instant::now();
                    connection.ask(&request);
                    seen.saturating_record(sent.elapsed().as_micros() as u64);
                    answers += 1;
                }
                (answers, seen)
            })
        })
        .collect();
    let mut all = latencies();
    let mut answers = 0;
    for thread in threads {
        let (n, latencies) = thread.join().expect("a connection failed");
        answers += n;
        all.add(latencies).expect("the same digits");
    }
    (answers as f64 / began.elapsed().as_secs_f64(), all)
}

fn bodies(records: usize, bytes: usize, variants: usize) -> Vec<Vec<u8>> {
    let body = |variant: usize| {
        let data = base64(&vec![variant as u8 ^ 0x5a; bytes]);
        let record = |r: usize| format!("{{\"Data\":\"{data}\",\"PartitionKey\":\"key-{variant}-{r}\"}}");
        let records: Vec<String> = (0..records).map(record).collect();
        request("PutRecords", &format!("{{\"StreamName\":\"bench\",\"Records\":[{}]}}", records.join(",")))
    };
    (0..variants).map(body).collect()
}

fn create(server: &Server, shards: usize) {
    let body = format!("{{\"StreamName\":\"bench\",\"ShardCount\":{shards}}}");
    Connection::open(server.port).ask(&request("CreateStream", &body));
}

fn delete(server: &Server) {
    Connection::open(server.port).ask(&request("DeleteStream", "{\"StreamName\":\"bench\"}"));
}

/// 500 records of 256 bytes a call, 8 connections, 8 shards.
fn put_records() {
    let requests = bodies(500, 256, 8);
    let (mut ours, mut redis) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let server = Server::start("4G", &["--when-full", "trim"]);
        create(&server, 8);
        round(server.port, 8, &requests);
        ours.push(round(server.port, 8, &requests).0 * 500.0);
        delete(&server);
        drop(server);
        redis.extend(peer::redis_records(500, 256, 8, ROUND));
    }
    show("PutRecords 500 x 256 B, 8 connections", "rec/s", ours);
    if !redis.is_empty() {
        show("redis XADD 500 x 256 B, appendfsync always", "rec/s", redis);
    }
}

/// One record of 1 KiB a call, 16 connections, 8 shards.
fn put_record() {
    let data = base64(&[0x5a; 1024]);
    let body = |c: usize| format!("{{\"StreamName\":\"bench\",\"Data\":\"{data}\",\"PartitionKey\":\"key-{c}\"}}");
    let requests: Vec<_> = (0..16).map(|c| request("PutRecord", &body(c))).collect();
    let (mut rates, mut p50, mut p99, mut redis) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let server = Server::start("4G", &["--when-full", "trim"]);
        create(&server, 8);
        round(server.port, 16, &requests);
        let (rate, latencies) = round(server.port, 16, &requests);
        rates.push(rate);
        p50.push(latencies.value_at_quantile(0.5) as f64);
        p99.push(latencies.value_at_quantile(0.99) as f64);
        delete(&server);
        drop(server);
        redis.extend(peer::redis_records(1, 1024, 16, ROUND));
    }
    show("PutRecord 1 KiB, 16 connections", "acks/s", rates);
    show("  p50", "us", p50);
    show("  p99", "us", p99);
    if !redis.is_empty() {
        show("redis XADD 1 KiB, 16 clients, always", "acks/s", redis);
    }
}

/// Four readers, each of its own shard, read the newest 30 MB again and again: they still lie in log memory.
fn get_records() {
    let server = Server::start("4G", &[]);
    create(&server, 4);
    let requests = bodies(500, 1024, 4);
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
                std::thread::spawn(move || client::read_again(port, "bench", shard, began, ROUND))
            })
            .collect();
        let bytes: u64 = readers.into_iter().map(|reader| reader.join().expect("a reader failed")).sum();
        figures.push(bytes as f64 / began.elapsed().as_secs_f64() / 1e6);
    }
    delete(&server);
    show("GetRecords at the tail, 4 readers, payload", "MB/s", figures);
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
    let requests = bodies(500, 4096, 8);
    let calls = gigabytes * (1 << 30) / (500 * 4096) / 8;
    let threads: Vec<_> = (0..8)
        .map(|c| {
            let (request, port) = (requests[c].clone(), server.port);
            std::thread::spawn(move || {
                let mut connection = Connection::open(port);
                for _ in 0..calls {
                    connection.ask(&request);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a connection failed"));
}

/// Ready again over 4 GB of log, after SIGKILL and after SIGTERM.
fn restart() {
    // Eight shards lie on one log: twice the space where there are two.
    let mut server = Server::start("12G", &[]);
    create(&server, 8);
    fill(&server, 4);
    let (mut killed, mut stopped) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        killed.push(server.restart("KILL").as_secs_f64() * 1e3);
        stopped.push(server.restart("TERM").as_secs_f64() * 1e3);
    }
    show("ready over 4 GB after SIGKILL", "ms", killed);
    show("ready over 4 GB after SIGTERM", "ms", stopped);
    let began = Instant::now();
    delete(&server);
    show("deleting the stream", "ms", vec![began.elapsed().as_secs_f64() * 1e3]);
    std::thread::sleep(Duration::from_secs(3));
    show("space in use 3 s after the deletion", "MB", vec![server.gauge("log_bytes_used_now") / 1e6]);
}

/// 20 GB through a log of 4 GB that recycles its oldest segments.
fn trim() {
    let server = Server::start("4G", &["--when-full", "trim"]);
    create(&server, 8);
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
    delete(&server);
}
