//! The same records by each way in and out, beside each other: `cargo bench --bench protocols`.
//!
//! One server, one stream of 8 shards, 8 connections that send prebuilt bodies; the ways take turns, round after round. A line is one figure:
//! median, then minimum and maximum, and how many times the first way's that is.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "canonical/client.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod client;
#[path = "canonical/load.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod load;
#[path = "canonical/server.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod server;

use ciborium::Value;
use client::{Connection, member, request, request_in, shard_name};
use server::Server;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
const STREAM: &str = "ways";
const CONNECTIONS: usize = 8;
const RECORDS: usize = 500;

/// A way in or out: its name, and what is sent.
struct Way {
    name: &'static str,
    requests: Vec<Vec<u8>>,
}

/// What a round of a way has shown.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    /// CPU time of the server, companions included, ns a record.
    cpu: Vec<f64>,
}

fn main() {
    for bytes in [256, 1024] {
        puts(bytes);
    }
    reads();
}

fn puts(bytes: usize) {
    println!("PutRecords, {RECORDS} x {bytes} B");
    let ways = [
        Way { name: "JSON", requests: load::put_records(STREAM, RECORDS, bytes, CONNECTIONS) },
        Way { name: "CBOR", requests: put_records_in_cbor(bytes) },
    ];
    let server = Server::start("4G", &["--when-full", "trim"]);
    load::create(server.port, STREAM, 8);
    let mut figures: Vec<Figures> = ways.iter().map(|_| Figures::default()).collect();
    for round in 0..=ROUNDS {
        for (way, figures) in ways.iter().zip(&mut figures) {
            let cpu = server.cpu();
            let (calls, latencies) = load::round(server.port, CONNECTIONS, &way.requests, ROUND);
            let records = latencies.len() as f64 * RECORDS as f64;
            // The first round warms up.
            if round > 0 {
                figures.rate.push(calls * RECORDS as f64);
                figures.cpu.push((server.cpu() - cpu).as_nanos() as f64 / records);
            }
        }
    }
    show(&ways.map(|way| way.name), figures);
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn in_cbor(operation: &str, members: Vec<(&str, Value)>) -> Vec<u8> {
    let members = members.into_iter().map(|(name, value)| (text(name), value)).collect();
    let mut body = Vec::new();
    ciborium::into_writer(&Value::Map(members), &mut body).expect("memory takes it");
    request_in("cbor", operation, &body)
}

fn put_records_in_cbor(bytes: usize) -> Vec<Vec<u8>> {
    let record = |variant: usize, r: usize| {
        let data = Value::Bytes(vec![variant as u8 ^ 0x5a; bytes]);
        Value::Map(vec![(text("Data"), data), (text("PartitionKey"), text(format!("key-{variant}-{r}")))])
    };
    let request = |variant: usize| {
        let records = Value::Array((0..RECORDS).map(|r| record(variant, r)).collect());
        in_cbor("PutRecords", vec![("StreamName", text(STREAM)), ("Records", records)])
    };
    (0..CONNECTIONS).map(request).collect()
}

/// Four readers of a shard each ask for the same 1,000 records of 1 KiB at the tail, in log memory, again and again.
fn reads() {
    println!("GetRecords, 1,000 x 1 KiB of log memory");
    let server = Server::start("4G", &[]);
    load::create(server.port, STREAM, 4);
    load::repeat(server.port, &load::put_records(STREAM, RECORDS, 1024, 4), 15);
    let ways: [(&str, &'static str); 2] = [("JSON", "json"), ("CBOR", "cbor")];
    let mut figures: Vec<Figures> = ways.iter().map(|_| Figures::default()).collect();
    for round in 0..=ROUNDS {
        for ((_, encoding), figures) in ways.into_iter().zip(&mut figures) {
            let (cpu, began) = (server.cpu(), Instant::now());
            let readers = (0..4).map(|shard| {
                let port = server.port;
                std::thread::spawn(move || {
                    client::pin(shard);
                    read_again(port, shard, encoding)
                })
            });
            let readers: Vec<_> = readers.collect();
            let calls: u64 = readers.into_iter().map(|reader| reader.join().expect("a reader failed")).sum();
            if round > 0 {
                figures.rate.push(calls as f64 * 1000.0 / began.elapsed().as_secs_f64());
                figures.cpu.push((server.cpu() - cpu).as_nanos() as f64 / calls as f64 / 1000.0);
            }
        }
    }
    show(&ways.map(|(name, _)| name), figures);
}

/// Calls in a round.
fn read_again(port: u16, shard: usize, encoding: &str) -> u64 {
    let mut connection = Connection::open(port);
    let answer = connection.ask(&client::iterator_request(STREAM, &shard_name(shard), "\"TRIM_HORIZON\""));
    let iterator = member(answer, "ShardIterator").expect("an iterator is given");
    let ask = match encoding {
        "json" => request("GetRecords", &format!("{{\"ShardIterator\":\"{iterator}\",\"Limit\":1000}}")),
        _ => in_cbor("GetRecords", vec![("ShardIterator", text(iterator)), ("Limit", Value::Integer(1000.into()))]),
    };
    let (began, mut calls) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        let body = connection.ask(&ask);
        assert!(body.len() > 1_000_000, "an answer of {} bytes", body.len());
        calls += 1;
    }
    calls
}

fn show(names: &[&str], figures: Vec<Figures>) {
    let mut first = None;
    for (name, Figures { mut rate, mut cpu }) in names.iter().zip(figures) {
        rate.sort_by(f64::total_cmp);
        cpu.sort_by(f64::total_cmp);
        let (median, last) = (rate[ROUNDS / 2], ROUNDS - 1);
        let (rate_first, cpu_first) = *first.get_or_insert((median, cpu[ROUNDS / 2]));
        println!(
            "  {name:<8} {median:>12.0} rec/s ({:.0} .. {:.0})  x {:.2}   CPU of the server {:>7.1} ns/rec ({:.1} .. {:.1})  x {:.2}",
            rate[0],
            rate[last],
            median / rate_first,
            cpu[ROUNDS / 2],
            cpu[0],
            cpu[last],
            cpu[ROUNDS / 2] / cpu_first,
        );
    }
}
