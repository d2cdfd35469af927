//! `lone`: what the device writes for each byte of small puts, by size of the record. A commit is one block at least, and a log that is idle
//! for 50 ms vouches for its end with one more.
//!
//! PutRecord over one connection with a rest after each put (so each has its vouch), over one connection without a rest, and over 64. The log
//! has turned before, so nothing is prepared. There is no bound: the figures are stated.

use crate::Extent;
use crate::client::Connection;
use crate::load::{create, delete, put_record, put_records, repeat, round};
use crate::server::Server;
use crate::table::Table;
use crate::turn::{SHARDS, has_recycled};
use std::time::{Duration, Instant};

const SIZES: [(usize, &str); 5] =
    [(100, "100 B"), (1 << 10, "1 KB"), (4 << 10, "4 KB"), (16 << 10, "16 KB"), (64 << 10, "64 KB")];
const BLOCK: f64 = 4096.0;
/// Longer than a log waits before it vouches.
const REST: Duration = Duration::from_millis(100);
/// For what was deleted to go, so that it is not moved while the next is measured.
const SETTLE: Duration = Duration::from_millis(1500);

/// How the puts come.
#[derive(Clone, Copy)]
enum Puts {
    Rested,
    Connections(usize),
}

pub fn run(table: &mut Table, extent: &Extent) {
    let server = Server::start("1G", &["--when-full", "trim"]);
    turn(&server);
    let time = extent.pick(Duration::from_secs(3), Duration::from_millis(300));
    let ways = [
        (Puts::Rested, "a put, then a rest"),
        (Puts::Connections(1), "1 connection"),
        (Puts::Connections(64), "64 connections"),
    ];
    for &(bytes, size) in extent.pick(&SIZES[..], &SIZES[1..2]) {
        for (puts, how) in ways {
            let mut rounds = Vec::new();
            for _ in 0..extent.pick(5, 1) {
                rounds.push(measure(&server, bytes, puts, time));
            }
            let each = |figure: fn(&Shares) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
            table.row(&format!("{size}, {how}: commits and vouches for each byte"), "", each(|shares| shares.log));
            table.row("  written by the server", "", each(|shares| shares.own));
            table.row("  written to the device, for anybody", "", each(|shares| shares.device));
            if rounds.iter().any(|shares| shares.moved > 0.0) {
                table.row("  of it moved", "", each(|shares| shares.moved));
            }
            table.row("  flushes of the device for each put, anybody's", "", each(|shares| shares.flushes));
            table.row("  puts", "/s", each(|shares| shares.rate));
        }
    }
}

/// Bytes for each byte of payload, flushes for each put, and puts a second.
struct Shares {
    log: f64,
    own: f64,
    device: f64,
    moved: f64,
    flushes: f64,
    rate: f64,
}

fn measure(server: &Server, bytes: usize, puts: Puts, time: Duration) -> Shares {
    create(server.port, "lone", 8);
    let (before, device, own) = (server.metrics(), server.device(), server.written());
    let began = Instant::now();
    match puts {
        Puts::Connections(count) => {
            round(server.port, count, &put_record("lone", bytes, count), time);
        }
        Puts::Rested => {
            let (requests, mut connection) = (put_record("lone", bytes, 8), Connection::open(server.port));
            for request in requests.iter().cycle().take_while(|_| began.elapsed() < time) {
                connection.ask(request);
                std::thread::sleep(REST);
            }
        }
    }
    let took = began.elapsed().as_secs_f64();
    let (after, device_after) = (server.metrics(), server.device());
    let risen = |name: &str| after.sum(name) - before.sum(name);
    let payload = risen("bytes_acked_total");
    let shares = Shares {
        log: (risen("commit_bytes_total") + risen("vouches_total") * BLOCK) / payload,
        own: (server.written() - own) as f64 / payload,
        device: (device_after.bytes - device.bytes) as f64 / payload,
        moved: risen("moved_bytes_total") / payload,
        flushes: (device_after.flushes - device.flushes) as f64 / risen("records_acked_total"),
        rate: risen("records_acked_total") / took,
    };
    delete(server.port, "lone");
    std::thread::sleep(SETTLE);
    shares
}

/// Writes until every log has recycled a segment: from then on none is prepared.
fn turn(server: &Server) {
    create(server.port, "turn", SHARDS * server.metrics().each("turns_total").len());
    let requests = put_records("turn", 500, 4096, 8);
    let turned = || has_recycled(&server.metrics());
    (0..64).take_while(|_| !turned()).for_each(|_| repeat(server.port, &requests, 8));
    assert!(turned(), "the log has not turned by what fills it twice");
    delete(server.port, "turn");
    std::thread::sleep(SETTLE);
}
