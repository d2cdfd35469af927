//! `budget`: what a core of the server makes of PutRecords, beside what the parts of it cost when each is timed alone, in the same rounds.
//!
//! One worker on core 1, the clients on core 0; signatures parsed, and verified. The logs have turned before, so nothing is prepared. Two sums:
//! of the parts that the server does *itself*, and of *all*, with what the kernel does to receive and to send, which every server needs. Writing
//! is in neither: alone it has no processor's time that could be told apart from the device's. The rate of the one worker, its waiting included, is to
//! be at least 60 % of that of the sum.
//!
//! Latencies are counted for all of them. What that costs is the number of times that it was done in a round (`/metrics` has it) by what once costs, timed
//! in the same round at random places of all histograms, against the CPU time of the server: two builds beside each other differ by more than that
//! from round to round.

use crate::client::{Connection, request};
use crate::extent::{Extent, show};
use crate::hot::{Part, parts};
use crate::load::{Load, bodies_of, plain, put_record, put_records};
use crate::server::{Metrics, Server};
use crate::{ROUND, ROUNDS, STREAM, sign};
use std::time::{Duration, Instant};

const RECORDS: usize = 500;
const BYTES: usize = 256;
const CONNECTIONS: usize = 8;
/// Of a part in a round.
const PART: Duration = Duration::from_millis(20);
/// Until a log has turned.
const TURN_MAX: Duration = Duration::from_secs(60);
/// In %.
const SHARE_MIN: f64 = 60.0;

/// Parts of the server's own, of every request; and those of one whose signature is verified.
const OWN: &[&str] = &[
    "head parsed",
    "scan of JSON, keys hashed",
    "frame body: keys, data, index",
    "CRC-32C of the body",
    "answer of PutRecords, JSON",
];
const VERIFIED: &[&str] = &["signature verified, SHA-256 of the body"];
const KERNEL: &[&str] = &["request received: the kernel's copy", "answer sent: the kernel's way, loopback"];
const COUNTING: &str = "counting a latency";

/// What the rounds with one server have shown, a record.
#[derive(Default)]
struct Served {
    rate: Vec<f64>,
    cpu: Vec<f64>,
    /// The sum of the parts of the same round against a record's time, and against its CPU time.
    share: Vec<f64>,
    share_of_cpu: Vec<f64>,
    /// The same with the kernel's parts.
    share_all: Vec<f64>,
    share_all_of_cpu: Vec<f64>,
    /// Latencies counted for each request, and their share of the CPU time in millionths.
    counted: Vec<f64>,
    counting: Vec<f64>,
}

pub fn run(extent: &Extent) {
    let (rounds, round) = extent.rounds(ROUNDS, ROUND);
    let credentials = sign::credentials();
    let flags = ["--when-full", "trim", "--cores", "1"];
    let signed = [&flags[..], &["--credentials", credentials.to_str().expect("ASCII")]].concat();
    let servers = [Server::start("2G", &flags), Server::start("2G", &signed)];
    let bodies = put_records(STREAM, RECORDS, BYTES, CONNECTIONS);
    let sign = |operation: &str, requests: &[Vec<u8>]| -> Vec<Vec<u8>> {
        bodies_of(requests).map(|body| sign::request("json", operation, body)).collect()
    };
    let create = request("CreateStream", &format!("{{\"StreamName\":\"{STREAM}\",\"ShardCount\":8}}"));
    Connection::open(servers[0].port).ask(&create);
    Connection::open(servers[1].port).ask(&sign("CreateStream", std::slice::from_ref(&create))[0]);
    let verified = |number: usize| number == 1;
    for (number, server) in servers.iter().enumerate().filter(|_| !extent.quick) {
        turn(server, || if verified(number) { sign("PutRecords", &bodies) } else { bodies.clone() });
    }
    let mut parts: Vec<Part> = parts();
    let mut alone: Vec<Vec<f64>> = parts.iter().map(|_| Vec::new()).collect();
    let mut served = [Served::default(), Served::default()];
    let part_time = extent.pick(PART, Duration::from_millis(1));
    for _ in 0..rounds {
        for (part, figures) in parts.iter_mut().zip(&mut alone) {
            figures.push(part.round(part_time));
        }
        let last = |wanted: &[&str]| -> f64 { sum(&parts, &alone, wanted, |figures| figures[figures.len() - 1]) };
        for (number, (server, served)) in servers.iter().zip(&mut served).enumerate() {
            // Made anew: a signature is good for five minutes.
            let requests = if verified(number) { sign("PutRecords", &bodies) } else { bodies.clone() };
            let own = last(OWN) + if verified(number) { last(VERIFIED) } else { 0.0 };
            served.take(server, &requests, round, Sums { own, kernel: last(KERNEL), counting: last(&[COUNTING]) });
        }
    }
    println!("  parts, each alone, ns a record:");
    for (part, figures) in parts.iter().zip(alone.iter()) {
        if [OWN, VERIFIED, KERNEL, &[COUNTING]].concat().contains(&part.what) {
            show(&format!("  {}", part.what), "ns/rec", figures.clone());
        }
    }
    let median = |wanted: &[&str]| sum(&parts, &alone, wanted, middle);
    let [parsed, with_signature] = served;
    parsed.show("signatures parsed", median(OWN), median(KERNEL));
    with_signature.show("signatures verified", median(OWN) + median(VERIFIED), median(KERNEL));
    singles(&servers[0], extent, &mut parts);
}

fn sum(parts: &[Part], alone: &[Vec<f64>], wanted: &[&str], of: fn(&[f64]) -> f64) -> f64 {
    let found: Vec<f64> =
        parts.iter().zip(alone).filter(|(part, _)| wanted.contains(&part.what)).map(|(_, f)| of(f)).collect();
    assert_eq!(found.len(), wanted.len(), "every part is there: {wanted:?}");
    found.iter().sum()
}

fn middle(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// How often a latency has been counted.
fn counted(metrics: &Metrics) -> f64 {
    metrics.sum("stage_seconds_count") + metrics.sum("operation_seconds_count")
}

/// Sums of parts of one round, in ns a record; and what counting one latency takes.
struct Sums {
    own: f64,
    kernel: f64,
    counting: f64,
}

impl Served {
    fn take(&mut self, server: &Server, requests: &[Vec<u8>], time: Duration, sums: Sums) {
        let (cpu, times) = (server.cpu(), counted(&server.metrics()));
        let load = Load::on(&plain(server.port), CONNECTIONS, requests, |_| 0);
        std::thread::sleep(time);
        let (calls_a_second, seen) = load.stop();
        let (calls, cpu) = (seen.len() as f64, (server.cpu() - cpu).as_nanos() as f64);
        let times = counted(&server.metrics()) - times;
        assert!(calls > 0.0 && times >= calls, "{calls} calls were answered, {times} latencies counted");
        let rate = calls_a_second * RECORDS as f64;
        let each = cpu / calls / RECORDS as f64;
        self.rate.push(rate);
        self.cpu.push(each);
        // In hundredths: shares are small numbers.
        let percent = |sum: f64, of: f64| sum / of.max(1.0) * 100.0;
        self.share.push(percent(sums.own, 1e9 / rate));
        self.share_of_cpu.push(percent(sums.own, each));
        self.share_all.push(percent(sums.own + sums.kernel, 1e9 / rate));
        self.share_all_of_cpu.push(percent(sums.own + sums.kernel, each));
        self.counted.push(times / calls);
        self.counting.push(times * sums.counting / cpu.max(1.0) * 1e6);
    }

    fn show(self, what: &str, own: f64, kernel: f64) {
        println!("  sum of the server's own parts, {what} {own:.1} ns a record");
        println!("  sum of all parts, {what} {:.1} ns a record", own + kernel);
        show(&format!("one worker, {what}"), "rec/s", self.rate);
        show("  CPU of the server", "ns/rec", self.cpu);
        let own = show("  its rate against that of its own parts", "%", self.share);
        let all = show("  its rate against that of all parts", "%", self.share_all);
        println!("    at least {SHARE_MIN:.0} %: of its own parts {}, of all {}", verdict(own), verdict(all));
        show("  its own parts against the CPU of the server", "%", self.share_of_cpu);
        show("  all parts against the CPU of the server", "%", self.share_all_of_cpu);
        show("  latencies counted for each request", "", self.counted);
        show("  counting them, millionths of the CPU", "", self.counting);
    }
}

fn verdict(share: f64) -> &'static str {
    if share >= SHARE_MIN { "kept" } else { "MISSED" }
}

/// The same of lone puts, where a request carries one record: most latencies a record, and for each CPU time.
fn singles(server: &Server, extent: &Extent, parts: &mut [Part]) {
    let (rounds, round) = extent.rounds(ROUNDS, ROUND);
    let requests = put_record(STREAM, 1024, 16);
    let (mut times, mut shares) = (Vec::new(), Vec::new());
    let counting = parts.iter_mut().find(|part| part.what == COUNTING).expect("it is a part");
    for _ in 0..rounds {
        let once = counting.round(PART);
        let (cpu, before) = (server.cpu(), counted(&server.metrics()));
        let load = Load::on(&plain(server.port), 16, &requests, |_| 0);
        std::thread::sleep(round);
        let calls = load.stop().1.len() as f64;
        let (cpu, counted) = ((server.cpu() - cpu).as_nanos() as f64, counted(&server.metrics()) - before);
        times.push(counted / calls);
        shares.push(counted * once / cpu.max(1.0) * 1e6);
    }
    println!("  PutRecord 1 KiB, 16 connections");
    show("  latencies counted for each request", "", times);
    show("  counting them, millionths of the CPU", "", shares);
}

/// Puts until each log has given a segment back: from then on nothing is prepared.
fn turn(server: &Server, requests: impl Fn() -> Vec<Vec<u8>>) {
    let began = Instant::now();
    while server.gauge("segments_recycled_total") == 0.0 {
        assert!(began.elapsed() < TURN_MAX, "the log has not turned in {TURN_MAX:?}");
        let load = Load::on(&plain(server.port), CONNECTIONS, &requests(), |_| 0);
        std::thread::sleep(Duration::from_secs(1));
        load.stop();
    }
}
