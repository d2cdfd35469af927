//! One stream's PutRecords where there are many workers: `cargo bench --bench scatter -- [WORKERS...] [--quick]`.
//!
//! A server with 1, 2, 4 .. 64 workers, which share the machine's cores; 8 connections send 500 records of 256 bytes a call, and land on any of
//! the workers. A stream of 8 shards (*narrow*) must touch two logs at most, however many there are; one of 8 shards for each worker (*wide*) touches
//! them all, which is what scattering costs: more writes, each with less in it. Device writes are the commits of the logs (a commit is one write)
//! and what the kernel says of the device, for anybody. Where the workers share cores rate and latency say nothing of a machine that has the
//! cores; writes and bytes do, as far as slower workers gather more into a commit.
//!
//! Every worker takes 128 MiB of log memory, and its log 512 MiB of `--disk`, of which three segments are written: 64 workers need 8 GiB of memory and
//! 12 GiB of room.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "canonical/client.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod client;
#[path = "canonical/extent.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod extent;
#[path = "canonical/load.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod load;
#[path = "canonical/server.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod server;

use extent::{Extent, arguments, show};
use server::{Metrics, Server};
use std::time::{Duration, Instant};

const WORKERS: &[&str] = &["1", "2", "4", "8", "16", "32", "64"];
/// Of those: a debug build of the server starts few workers quickly.
const WORKERS_QUICK: &[&str] = &["1", "4"];
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 8;
const RECORDS: usize = 500;
const BYTES: usize = 256;
const NARROW: usize = 8;
/// Shards that a worker's log has of a wide stream.
const WIDE_EACH: usize = 8;
/// Logs that a stream of [`NARROW`] shards may touch.
const TOUCHED_MAX: f64 = 2.0;
/// Until every log is there: they are prepared meanwhile.
const LOGS_MAX: Duration = Duration::from_secs(30);
/// Of a log; a segment more than the least, so that it never waits for one.
const LOG_MIB: usize = 9 * 64;

fn main() {
    let (named, extent) = arguments("scatter", WORKERS);
    let all = named.len() == WORKERS.len();
    for name in named.into_iter().filter(|name| !(all && extent.quick) || WORKERS_QUICK.contains(name)) {
        let workers: usize = name.parse().expect("a number of the list");
        println!("{workers} workers: PutRecords {RECORDS} x {BYTES} B, {CONNECTIONS} connections");
        measure(workers, &extent);
    }
}

fn measure(workers: usize, extent: &Extent) {
    let disk = format!("{}M", (workers * LOG_MIB).max(2048));
    let count = workers.to_string();
    let server = Server::start(&disk, &["--when-full", "trim", "--workers", &count]);
    // Each worker has a log, and says so in a turn of its own.
    let logs = || server.metrics().each("log_bytes_now").iter().filter(|bytes| **bytes > 0.0).count();
    let began = Instant::now();
    while logs() < workers {
        assert!(began.elapsed() < LOGS_MAX, "{} logs of {workers} are there after {LOGS_MAX:?}", logs());
        std::thread::sleep(Duration::from_millis(20));
    }
    for (name, shards) in [("narrow", NARROW), ("wide", WIDE_EACH * workers)] {
        load::create(server.port, name, shards);
        let touched = stream(&server, name, shards, extent);
        if shards == NARROW {
            assert!(touched <= TOUCHED_MAX, "a stream of {NARROW} shards touches {touched} logs");
        }
        load::delete(server.port, name);
        // The next stream finds the logs as this one has.
        std::thread::sleep(extent.pick(Duration::from_secs(1), Duration::from_millis(100)));
    }
}

/// What the rounds of one stream have shown.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
    commits: Vec<f64>,
    commit_bytes: Vec<f64>,
    own_bytes: Vec<f64>,
    device_writes: Vec<f64>,
    device_flushes: Vec<f64>,
    device_bytes: Vec<f64>,
    touched: Vec<f64>,
}

/// A warm round, and the measured ones; gives the most logs that one of them has written commits to.
fn stream(server: &Server, name: &str, shards: usize, extent: &Extent) -> f64 {
    let requests = load::put_records(name, RECORDS, BYTES, CONNECTIONS);
    let (rounds, round) = extent.rounds(ROUNDS, ROUND);
    let mut figures = Figures::default();
    load::round(server.port, CONNECTIONS, &requests, round);
    for _ in 0..rounds {
        let (before, device, own, cpu) = (server.metrics(), server.device(), server.written(), server.cpu());
        let (rate, latencies) = load::round(server.port, CONNECTIONS, &requests, round);
        let calls = latencies.len() as f64;
        assert!(calls > 0.0, "no call was answered");
        let (after, device_after) = (server.metrics(), server.device());
        let risen = |name: &str| after.sum(name) - before.sum(name);
        assert!(risen("records_acked_total") >= calls * RECORDS as f64, "what was acknowledged was stored");
        figures.rate.push(rate * RECORDS as f64);
        figures.p50.push(latencies.value_at_quantile(0.5) as f64);
        figures.p99.push(latencies.value_at_quantile(0.99) as f64);
        figures.cpu.push((server.cpu() - cpu).as_nanos() as f64 / calls / RECORDS as f64);
        figures.commits.push(risen("commits_total") / calls);
        figures.commit_bytes.push(risen("commit_bytes_total") / calls);
        figures.own_bytes.push((server.written() - own) as f64 / calls);
        figures.device_writes.push((device_after.writes - device.writes) as f64 / calls);
        figures.device_flushes.push((device_after.flushes - device.flushes) as f64 / calls);
        figures.device_bytes.push((device_after.bytes - device.bytes) as f64 / calls);
        figures.touched.push(touched(&before, &after));
    }
    let most = figures.touched.iter().copied().fold(0.0, f64::max);
    println!("  {name}: {shards} shards; a call carries {} bytes of data", RECORDS * BYTES);
    show("records", "rec/s", figures.rate);
    show("  latency, median", "us", figures.p50);
    show("  latency, 99th of 100", "us", figures.p99);
    show("  CPU of the server", "ns/rec", figures.cpu);
    show("  logs touched", "", figures.touched);
    show("  commits for each call", "", figures.commits);
    show("  bytes of commits for each call", "B", figures.commit_bytes);
    show("  written by the server for each call", "B", figures.own_bytes);
    show("  writes of the device for each call, anybody's", "", figures.device_writes);
    show("  flushes of the device for each call, anybody's", "", figures.device_flushes);
    show("  written to the device for each call, anybody's", "B", figures.device_bytes);
    most
}

/// Logs that have got commits: each worker has one.
fn touched(before: &Metrics, after: &Metrics) -> f64 {
    let commits = |metrics: &Metrics| metrics.each("commits_total");
    commits(before).into_iter().zip(commits(after)).filter(|(before, after)| after > before).count() as f64
}
