//! What an ack waits for while the log is being looked after, or read: 2,000 PutRecord calls a second over 64 connections, without other work
//! and with it, in turn. Four parts:
//!
//! * *preparing*: 16 KiB records on a new log with one worker. Every segment that is begun has the next one prepared; a file
//!   of the log that is being written full tells when.
//! * *moving*: 16 KiB records. Before each round the log gets segments in which one record of five is kept; then the others' stream is
//!   deleted. The moved bytes in `/metrics` tell when something is being moved.
//! * *scrubbing*: the same puts on a server that verifies 1 GB over and over (`--scrub-days`), and on one that does not.
//! * *reading*: two consumers, each at 20 MB/s, catch up with 1 GB that lies in no memory.

use crate::Extent;
use crate::client::{Consumer, shard_name};
use crate::load::{create, delete, put_record, put_records, repeat};
use crate::paced::{Doing, Latencies, Paced};
use crate::server::Server;
use crate::table::{Bound, Table};
use hdrhistogram::Histogram;
use std::path::Path;
use std::time::{Duration, Instant};

const RATE: usize = 2_000;
/// So many that one that waits for a slow ack does not hold back what is due on the others.
const CONNECTIONS: usize = 64;
/// Of a record while nothing but the puts is to fill the log, and while it is to turn segments over.
const SMALL: usize = 3_000;
const LARGE: usize = 16 << 10;
/// A preparation is over for so long before puts count as undisturbed: the directory is still synced then.
const AFTER: Duration = Duration::from_millis(50);
/// Nothing has been moved for so long: relocation rests for half of it at most.
const STILL: Duration = Duration::from_secs(1);
/// Days in which a server verifies all it has: as fast as it can.
const SCRUB_DAYS: &str = "0.0001";

fn rounds(extent: &Extent) -> usize {
    extent.pick(5, 1)
}

pub fn preparing(table: &mut Table, extent: &Extent) {
    let measured = (0..rounds(extent)).map(|_| prepared(extent.pick(40, 2))).collect();
    show(table, "preparing", measured);
}

pub fn moving(table: &mut Table, extent: &Extent) {
    show(table, "moving", moved(extent.pick(3, 1), extent));
}

pub fn scrubbing(table: &mut Table, extent: &Extent) {
    match scrubbed(rounds(extent), extent) {
        Some(measured) => show(table, "scrubbing", measured),
        None => table.say("this build does not scrub"),
    }
}

pub fn reading(table: &mut Table, extent: &Extent) {
    show(table, "reading", read(rounds(extent), extent));
}

fn show(table: &mut Table, what: &str, rounds: Vec<Latencies>) {
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let of = |histogram: &Histogram<u64>| histogram.value_at_quantile(quantile) as f64;
        table.row(&format!("{what}: {name} quiet"), "us", rounds.iter().map(|round| of(&round.quiet)).collect());
        table.row(&format!("{what}: {name} busy"), "us", rounds.iter().map(|round| of(&round.busy)).collect());
        if quantile > 0.99 {
            let times = rounds.iter().map(|round| of(&round.busy) / of(&round.quiet).max(1.0)).collect();
            table.bounded(&format!("{what}: {name} busy, times quiet"), "", times, Bound::AtMost(2.0));
        }
    }
    let most = |histogram: &Histogram<u64>| histogram.max() as f64;
    table.row(&format!("{what}: longest quiet"), "us", rounds.iter().map(|round| most(&round.quiet)).collect());
    table.row(&format!("{what}: longest busy"), "us", rounds.iter().map(|round| most(&round.busy)).collect());
    table.row(&format!("{what}: puts while quiet"), "", rounds.iter().map(|round| round.quiet.len() as f64).collect());
    table.row(&format!("{what}: puts while busy"), "", rounds.iter().map(|round| round.busy.len() as f64).collect());
    let held = rounds.iter().map(|round| round.held * 100.0).collect();
    table.bounded(&format!("{what}: of the puts that were due"), "%", held, Bound::AtLeast(99.0));
}

/// A round on a log whose segments are prepared as the puts come to them.
fn prepared(seconds: u64) -> Latencies {
    let server = Server::start("8G", &["--cores", "0"]);
    create(server.port, "busy", 1);
    let (began, log) = (Instant::now(), server.data.join("log-000"));
    // The first segments are prepared at once.
    while began.elapsed() < Duration::from_secs(2) || is_preparing(&log) {
        std::thread::sleep(AFTER);
    }
    let mut load = Paced::start(server.port, &put_record("busy", LARGE, CONNECTIONS), RATE);
    std::thread::sleep(Duration::from_secs(1));
    let (began, mut seen) = (Instant::now(), None);
    while began.elapsed() < Duration::from_secs(seconds) {
        if is_preparing(&log) {
            seen = Some(Instant::now());
            load.now(Doing::Work);
        } else if seen.is_none_or(|seen| seen.elapsed() > AFTER) {
            load.now(Doing::Nothing);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    load.stop()
}

/// Whether a segment of the log is being written full.
fn is_preparing(log: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(log) else { return false };
    files.flatten().any(|file| file.path().extension().is_some_and(|name| name == "preparing"))
}

/// Rounds of puts beside a log that is at rest, then moves what is left of its segments.
fn moved(rounds: usize, extent: &Extent) -> Vec<Latencies> {
    let server = Server::start("6G", &["--cores", "0"]);
    let calls = extent.pick(1 << 30, 200 << 20) / (500 * 1024) / 5;
    let moved_bytes = || server.gauge("moved_bytes_total");
    let round = |_| {
        ["busy", "gone", "kept"].iter().for_each(|stream| create(server.port, stream, 1));
        let mut requests = put_records("gone", 500, 1024, 4);
        requests.extend(put_records("kept", 500, 1024, 1));
        repeat(server.port, &requests, calls);
        let mut load = Paced::start(server.port, &put_record("busy", LARGE, CONNECTIONS), RATE);
        std::thread::sleep(Duration::from_secs(1));
        load.now(Doing::Nothing);
        std::thread::sleep(Duration::from_secs(extent.pick(10, 1)));
        load.now(Doing::Other);
        delete(server.port, "gone");
        let before = moved_bytes();
        let (mut known, mut last, began) = (before, Instant::now(), Instant::now());
        // Moves begin with a segment, when what was written has earned them: a tenth of it.
        while (known == before || last.elapsed() < STILL * 4)
            && began.elapsed() < Duration::from_secs(extent.pick(90, 60))
        {
            std::thread::sleep(Duration::from_millis(50));
            let now = moved_bytes();
            if now > known {
                (known, last) = (now, Instant::now());
                load.now(Doing::Work);
            } else if last.elapsed() > STILL {
                load.now(Doing::Other);
            }
        }
        assert!(known > before, "nothing was moved");
        let latencies = load.stop();
        ["busy", "kept"].iter().for_each(|stream| delete(server.port, stream));
        std::thread::sleep(Duration::from_secs(2));
        latencies
    };
    (0..rounds).map(round).collect()
}

/// Rounds on a server that does not verify and on one that does; `None`: the server cannot.
fn scrubbed(rounds: usize, extent: &Extent) -> Option<Vec<Latencies>> {
    let seconds = Duration::from_secs(extent.pick(20, 2));
    let half = |flags: &[&str], doing: Doing| {
        let server = Server::start("4G", &[&["--cores", "0"], flags].concat());
        let verified = || server.metrics().each("scrubbed_bytes_total").iter().sum::<f64>();
        create(server.port, "full", 8);
        repeat(server.port, &put_records("full", 500, 4096, 4), extent.pick(1 << 30, 192 << 20) / (500 * 4096) / 4);
        create(server.port, "busy", 1);
        let mut load = Paced::start(server.port, &put_record("busy", SMALL, CONNECTIONS), RATE);
        std::thread::sleep(Duration::from_secs(2));
        load.now(doing);
        let before = verified();
        std::thread::sleep(seconds);
        let worked = verified() > before;
        assert_eq!(worked, doing == Doing::Work, "whether it has verified anything");
        load.stop()
    };
    let probe = Server::start("1G", &["--cores", "0"]);
    let has = !probe.metrics().each("scrubbed_bytes_total").is_empty();
    drop(probe);
    has.then(|| {
        let pair = |_| {
            let quiet = half(&["--scrub-days", "0"], Doing::Nothing);
            let busy = half(&["--scrub-days", SCRUB_DAYS], Doing::Work);
            Latencies { quiet: quiet.quiet, busy: busy.busy, held: quiet.held.min(busy.held) }
        };
        (0..rounds).map(pair).collect()
    })
}

/// Rounds beside consumers that have begun anew, and without.
fn read(rounds: usize, extent: &Extent) -> Vec<Latencies> {
    const CONSUMERS: usize = 2;
    let mut server = Server::start("4G", &["--cores", "0"]);
    create(server.port, "cold", CONSUMERS);
    repeat(server.port, &put_records("cold", 500, 1024, 4), extent.pick(1 << 30, 32 << 20) / (500 << 10) / 4);
    server.restart("TERM");
    create(server.port, "busy", 1);
    let seconds = Duration::from_secs(extent.pick(10, 1));
    let round = |_| {
        let mut load = Paced::start(server.port, &put_record("busy", SMALL, CONNECTIONS), RATE);
        std::thread::sleep(Duration::from_secs(2));
        load.now(Doing::Nothing);
        std::thread::sleep(seconds);
        let until = Instant::now() + seconds;
        load.now(Doing::Work);
        std::thread::scope(|scope| {
            for shard in 0..CONSUMERS {
                let port = server.port;
                scope.spawn(move || consume(port, shard, until));
            }
        });
        load.now(Doing::Other);
        load.stop()
    };
    (0..rounds).map(round).collect()
}

/// Ten calls a second of 2,000 records each.
fn consume(port: u16, shard: usize, until: Instant) {
    let mut consumer = Consumer::open(port, "cold", &shard_name(shard), "\"TRIM_HORIZON\"");
    let began = Instant::now();
    for call in 1.. {
        if consumer.next(",\"Limit\":2000").is_none() {
            consumer = Consumer::open(port, "cold", &shard_name(shard), "\"TRIM_HORIZON\"");
        }
        let next = began + Duration::from_millis(100 * call);
        if next >= until {
            return;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
