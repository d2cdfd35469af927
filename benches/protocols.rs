//! The same records by each way in and out, beside each other: `cargo bench --bench protocols -- [puts] [reads] [fanout] [way=NAME]... [--quick]`.
//! With names of ways, only those ways of putting records: to look at one with a profiler.
//!
//! A server for each set of flags, a stream of 8 shards on each, 8 connections that send prebuilt bodies; the ways take turns, round after
//! round. A line is one way: median of the rate, then minimum and maximum, and how many times the first way's that is; the same of the CPU
//! time of its server.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "canonical/client.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod client;
#[path = "canonical/extent.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod extent;
#[path = "protocols/fanout.rs"]
mod fanout;
#[path = "canonical/load.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod load;
#[path = "canonical/server.rs"]
#[allow(dead_code, reason = "shared with other benchmarks")]
mod server;
#[path = "protocols/sign.rs"]
mod sign;
#[path = "protocols/wire.rs"]
mod wire;

use ciborium::Value;
use client::{Ask, Connection, member, request, request_in, shard_name};
use extent::Extent;
use server::Server;
use std::time::{Duration, Instant};
use wire::Http2;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
const STREAM: &str = "ways";
const CONNECTIONS: usize = 8;
const RECORDS: usize = 500;

type Open = Box<dyn Fn() -> Box<dyn Ask> + Sync>;

/// A way in or out: its name, the server that takes it, how it is connected to, and what is sent.
struct Way<'s> {
    name: &'static str,
    server: &'s Server,
    open: Open,
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
    let (flags, wanted): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
    let known = |word: &&String| ["puts", "reads", "fanout"].contains(&word.as_str()) || word.starts_with("way=");
    if let Some(strange) = wanted.iter().find(|word| !known(word)) {
        eprintln!(
            "{strange} is no part of this benchmark; usage: protocols [puts] [reads] [fanout] [way=NAME]... [--quick]"
        );
        std::process::exit(2);
    }
    let extent = Extent { quick: flags.iter().any(|flag| flag == "--quick") };
    let parts: Vec<&String> = wanted.iter().filter(|word| !word.starts_with("way=")).collect();
    let runs = |part: &str| parts.is_empty() || parts.iter().any(|word| *word == part);
    let ways: Vec<&str> = wanted.iter().filter_map(|word| word.strip_prefix("way=")).collect();
    if runs("puts") {
        extent.pick(&[256, 1024][..], &[256]).iter().for_each(|bytes| puts(*bytes, &ways, &extent));
    }
    if runs("reads") {
        reads(&extent);
    }
    if runs("fanout") {
        println!("SubscribeToShard over HTTP/2, {} records a second", 1000 / fanout::EVERY.as_millis());
        fanout::run(&extent);
    }
}

/// One server as it is, one that asks for signatures, one with TLS, and one with all of it.
struct Servers {
    plain: Server,
    signed: Server,
    tls: Server,
    all: Server,
}

impl Servers {
    fn start() -> Servers {
        let path = sign::credentials();
        let credentials = path.to_str().expect("a path of ASCII");
        let trim = ["--when-full", "trim"];
        let start = |flags: &[&str]| Server::start("2G", &[&trim[..], flags].concat());
        Servers {
            plain: start(&[]),
            signed: start(&["--credentials", credentials]),
            tls: start(&["--tls-self-signed"]),
            all: start(&["--credentials", credentials, "--tls-self-signed"]),
        }
    }

    fn ways(&self, bytes: usize) -> Vec<Way<'_>> {
        let json = || load::put_records(STREAM, RECORDS, bytes, CONNECTIONS);
        let cbor = || put_records_in_cbor(bytes);
        let signed = |encoding: &str, requests: Vec<Vec<u8>>| {
            load::bodies_of(&requests).map(|body| sign::request(encoding, "PutRecords", body)).collect::<Vec<_>>()
        };
        let (plain, guarded) = (self.plain.port, self.signed.port);
        let http1 = |port: u16| -> Open { Box::new(move || Box::new(Connection::open(port))) };
        let http2 = |port: u16| -> Open { Box::new(move || Box::new(Http2::over(client::connect(port)))) };
        let tls = |server: &Server, protocol: &'static str| -> Open {
            let (port, config) = (server.port, wire::trusting(&server.data, protocol));
            match protocol {
                "h2" => Box::new(move || Box::new(Http2::over(wire::tls(port, config.clone())))),
                _ => Box::new(move || Box::new(wire::http1_in_tls(port, config.clone()))),
            }
        };
        let way = |name, server, open, requests| Way { name, server, open, requests };
        vec![
            way("JSON", &self.plain, http1(plain), json()),
            way("CBOR", &self.plain, http1(plain), cbor()),
            way("JSON, HTTP/2", &self.plain, http2(plain), json()),
            way("CBOR, HTTP/2", &self.plain, http2(plain), cbor()),
            way("JSON, signed", &self.signed, http1(guarded), signed("json", json())),
            way("CBOR, signed", &self.signed, http1(guarded), signed("cbor", cbor())),
            way("JSON, TLS", &self.tls, tls(&self.tls, "http/1.1"), json()),
            way("JSON, TLS, HTTP/2", &self.tls, tls(&self.tls, "h2"), json()),
            way("CBOR, TLS, HTTP/2, signed", &self.all, tls(&self.all, "h2"), signed("cbor", cbor())),
        ]
    }

    /// A stream on each, made over its own wire.
    fn create(&self) {
        let body = format!("{{\"StreamName\":\"{STREAM}\",\"ShardCount\":8}}");
        let signed = || sign::request("json", "CreateStream", body.as_bytes());
        let in_tls = |server: &Server| wire::http1_in_tls(server.port, wire::trusting(&server.data, "http/1.1"));
        load::create(self.plain.port, STREAM, 8);
        Connection::open(self.signed.port).ask(&signed());
        in_tls(&self.tls).ask(&request("CreateStream", &body));
        in_tls(&self.all).ask(&signed());
    }
}

/// By all ways, or by those that are named in `only`.
fn puts(bytes: usize, only: &[&str], extent: &Extent) {
    let (rounds, time) = extent.rounds(ROUNDS, ROUND);
    println!("PutRecords, {RECORDS} x {bytes} B");
    let servers = Servers::start();
    servers.create();
    let ways = || servers.ways(bytes).into_iter().filter(|way| only.is_empty() || only.contains(&way.name));
    let names: Vec<&str> = ways().map(|way| way.name).collect();
    let mut figures: Vec<Figures> = names.iter().map(|_| Figures::default()).collect();
    for round in 0..=rounds {
        // Made anew: a signature is good for five minutes.
        for (way, figures) in ways().zip(&mut figures) {
            let cpu = way.server.cpu();
            let (calls, latencies) = load::round_by(&way.open, CONNECTIONS, &way.requests, time);
            let records = latencies.len() as f64 * RECORDS as f64;
            assert!(records > 0.0, "{} has not answered", way.name);
            // The first round warms up.
            if round > 0 {
                figures.rate.push(calls * RECORDS as f64);
                figures.cpu.push((way.server.cpu() - cpu).as_nanos() as f64 / records);
            }
        }
    }
    show(&names, figures);
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
fn reads(extent: &Extent) {
    let (rounds, time) = extent.rounds(ROUNDS, ROUND);
    println!("GetRecords, 1,000 x 1 KiB of log memory");
    let server = Server::start("4G", &[]);
    load::create(server.port, STREAM, 4);
    load::repeat(server.port, &load::put_records(STREAM, RECORDS, 1024, 4), 15);
    let ways: [(&str, &'static str); 2] = [("JSON", "json"), ("CBOR", "cbor")];
    let mut figures: Vec<Figures> = ways.iter().map(|_| Figures::default()).collect();
    for round in 0..=rounds {
        for ((_, encoding), figures) in ways.into_iter().zip(&mut figures) {
            let (cpu, began) = (server.cpu(), Instant::now());
            let readers = (0..4).map(|shard| {
                let port = server.port;
                std::thread::spawn(move || {
                    client::pin(shard);
                    read_again(port, shard, encoding, time)
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
fn read_again(port: u16, shard: usize, encoding: &str, time: Duration) -> u64 {
    let mut connection = Connection::open(port);
    let answer = connection.ask(&client::iterator_request(STREAM, &shard_name(shard), "\"TRIM_HORIZON\""));
    let iterator = member(answer, "ShardIterator").expect("an iterator is given");
    let ask = match encoding {
        "json" => request("GetRecords", &format!("{{\"ShardIterator\":\"{iterator}\",\"Limit\":1000}}")),
        _ => in_cbor("GetRecords", vec![("ShardIterator", text(iterator)), ("Limit", Value::Integer(1000.into()))]),
    };
    let (began, mut calls) = (Instant::now(), 0);
    while began.elapsed() < time {
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
        let (median, last) = (rate[rate.len() / 2], rate.len() - 1);
        let (rate_first, cpu_first) = *first.get_or_insert((median, cpu[cpu.len() / 2]));
        println!(
            "  {name:<26} {median:>12.0} rec/s ({:.0} .. {:.0})  x {:.2}   CPU of the server {:>7.1} ns/rec ({:.1} .. {:.1})  x {:.2}",
            rate[0],
            rate[last],
            median / rate_first,
            cpu[cpu.len() / 2],
            cpu[0],
            cpu[last],
            cpu[cpu.len() / 2] / cpu_first,
        );
    }
}
