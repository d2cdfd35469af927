//! The native protocol at line rate, against a release server on a real file system: `cargo bench --bench line -- [NAME...] [--quick]`.
//!
//! `penstock load` sends prebuilt batches from a thread on one core; the server's only worker is on another. Every answer is looked at: it
//! is an Ack, or the run ends. What is stored is proved elsewhere. The probes of the machine, where `PENSTOCK_LIMITS` names
//! their program, run in the same rounds: what is to be shown is the ratio to them. A line is one figure: median, then minimum and maximum.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "canonical/client.rs"]
#[allow(dead_code, reason = "shared with another benchmark")]
mod client;
#[path = "canonical/extent.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod extent;
#[path = "line/generator.rs"]
mod generator;
#[path = "canonical/peer.rs"]
#[allow(dead_code, reason = "shared with another benchmark")]
mod peer;
#[path = "canonical/server.rs"]
#[allow(dead_code, reason = "shared with another benchmark")]
mod server;

use client::request;
use extent::{Extent, show};
use generator::{Shape, run};
use server::Server;
use std::time::Duration;

const ROUNDS: usize = 5;
/// Seconds.
const ROUND: u64 = 3;
const STREAM: &str = "bench";

/// A row: what is sent, and the probe that tells what the machine can do of it.
struct Row {
    name: &'static str,
    shape: Shape,
    probe: &'static [&'static str],
    /// Figures of the probe.
    rate: &'static str,
    median: &'static str,
}

const PIPE: (&str, &str) = ("rate", "ack_p50");
const RPC: (&str, &str) = ("acks", "ack_p50");

/// Singles of 256 bytes.
const fn single(connections: usize, outstanding: usize) -> Shape {
    Shape { records: 1, bytes: 256, connections, outstanding, bulk: false }
}

const ROWS: &[Row] = &[
    Row {
        name: "bulk",
        shape: Shape { records: 256, bytes: 1024, connections: 16, outstanding: 4, bulk: true },
        probe: &["pipe", "framed=1", "crc=1", "space=zero", "conns=16", "frame=256k", "window=1m"],
        rate: PIPE.0,
        median: PIPE.1,
    },
    Row {
        name: "copied",
        shape: Shape { records: 256, bytes: 1024, connections: 16, outstanding: 4, bulk: false },
        probe: &["pipe", "framed=1", "crc=1", "copy=1", "space=zero", "conns=16", "frame=256k", "window=1m"],
        rate: PIPE.0,
        median: PIPE.1,
    },
    Row {
        name: "small-records",
        shape: Shape { records: 1000, bytes: 256, connections: 8, outstanding: 4, bulk: true },
        probe: &["pipe", "framed=1", "crc=1", "space=zero", "conns=8", "frame=260k", "window=1m"],
        rate: PIPE.0,
        median: PIPE.1,
    },
    Row { name: "single-1", shape: single(1, 1), probe: &["conns=1", "outstanding=1"], rate: RPC.0, median: RPC.1 },
    Row { name: "single-8", shape: single(8, 1), probe: &["conns=8", "outstanding=1"], rate: RPC.0, median: RPC.1 },
    Row { name: "single-64", shape: single(64, 1), probe: &["conns=64", "outstanding=1"], rate: RPC.0, median: RPC.1 },
    Row { name: "eight-8", shape: single(8, 8), probe: &["conns=8", "outstanding=8"], rate: RPC.0, median: RPC.1 },
];

fn main() {
    let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    let (names, extent) = extent::arguments("line", &known);
    for row in ROWS.iter().filter(|row| names.contains(&row.name)) {
        measure(row, &extent);
    }
}

fn measure(row: &Row, extent: &Extent) {
    let (rounds, seconds) = extent.pick((ROUNDS, ROUND), (1, 1));
    let Shape { records, bytes, connections, outstanding, bulk } = row.shape;
    println!(
        "{}: {records} x {bytes} B a batch, {connections} connections, {outstanding} outstanding{}",
        row.name,
        if bulk { ", bulk" } else { "" }
    );
    let probe: Vec<&str> = match row.rate {
        rate if rate == RPC.0 => {
            ["rpc", "durable=1", "msg=256", "space=zero"].iter().chain(row.probe).copied().collect()
        }
        _ => row.probe.to_vec(),
    };
    let (mut batches, mut cpu, mut written, mut in_place) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut median, mut p99, mut p999) = (Vec::new(), Vec::new(), Vec::new());
    let (mut floor, mut floor_median, mut floor_core) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let server = Server::start_native("2G", &["--when-full", "trim", "--cores", "1"]);
        client::Connection::open(server.port)
            .ask(&request("CreateStream", &format!("{{\"StreamName\":\"{STREAM}\",\"ShardCount\":4}}")));
        std::thread::sleep(Duration::from_millis(200));
        // Until the log has turned: space that was never written is slower, and the probe writes into none.
        run(&server, STREAM, &row.shape, seconds);
        let taken = || (server.gauge("native_batches_total"), server.gauge("native_batches_in_place_total"));
        let (used, own, (before, placed_before)) = (server.cpu(), server.written(), taken());
        let figures = run(&server, STREAM, &row.shape, seconds);
        let (after, placed) = taken();
        let all = after - before;
        assert!(all > 0.0, "no batch was acknowledged");
        cpu.push((server.cpu() - used).as_nanos() as f64 / all / records as f64);
        written.push((server.written() - own) as f64 / all / (records * bytes) as f64);
        in_place.push((placed - placed_before) / all * 100.0);
        batches.push(figures.rate);
        median.push(figures.median);
        p99.push(figures.p99);
        p999.push(figures.p999);
        drop(server);
        let core = if row.rate == RPC.0 { "server_cpu" } else { "rx_per_core" };
        if let Some(figures) = peer::probes(&probe, &[row.rate, row.median, core]) {
            floor.push(figures[0]);
            floor_median.push(figures[1]);
            floor_core.push(figures[2]);
        }
    }
    let bytes_of_batch = (records * bytes) as f64;
    let rate = show("acknowledged batches", "/s", batches.clone());
    show("  records", "k/s", batches.iter().map(|rate| rate * records as f64 / 1e3).collect());
    let mbs = show("  payload", "MB/s", batches.iter().map(|rate| rate * bytes_of_batch / 1e6).collect());
    let mid = show("  latency of the ack, median", "us", median);
    show("  latency, 99th of 100", "us", p99);
    show("  latency, 999th of 1,000", "us", p999);
    let ns = show("  CPU of the server", "ns/rec", cpu);
    show("  written by the server for each byte of data", "", written);
    show("  batches written from where they came", "%", in_place);
    let pipe = row.rate != RPC.0;
    let floor = show("  probe", if pipe { "GB/s" } else { "acks/s" }, floor);
    let floor_mid = show("  probe, median of the ack", "us", floor_median);
    let floor_core = if pipe { show("  probe, a core of the receiver", "GB/s", floor_core) } else { 0.0 };
    if floor > 0.0 {
        let ratio = if pipe { mbs / 1e3 / floor } else { rate / floor };
        println!("  rate against the probe {ratio:.2}, median latency {:.2}", mid / floor_mid);
    }
    if floor_core > 0.0 {
        println!("  rate of a core of the server against the probe's {:.2}", bytes as f64 / ns / floor_core);
    }
}
