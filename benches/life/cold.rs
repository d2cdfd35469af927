//! `cold`: GetRecords over what lies in no memory: 8 shards, by size of the record, after a restart.
//!
//! * *from the beginning*: every shard is read to its end; what was read from segments for each call, and then, with four readers at once,
//!   the rate.
//! * *at a time*: one call for each shard at the moment at which half had been written.
//! * *at a number*: one call at each of many records whose numbers were noted; with `Limit` 1, and without.
//! * *catching up*: consumers far behind, which follow their iterators through 1 GB of 1 KB records: one through four shards, then four at
//!   once.
//!
//! A call may read twice what it returns and 1 MiB. `share` is what it has read of that.

use crate::Extent;
use crate::client::{Connection, Consumer, member, shard_name};
use crate::load::{create, put_records};
use crate::server::Server;
use crate::table::{Bound, Table};
use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const SIZES: [(usize, &str); 5] =
    [(100, "100 B"), (1 << 10, "1 KB"), (4 << 10, "4 KB"), (16 << 10, "16 KB"), (64 << 10, "64 KB")];
const SHARDS: usize = 8;
const WRITERS: usize = 4;
const READERS: usize = 4;
const AHEAD: f64 = (1 << 20) as f64;
const BEGINNING: &str = "\"TRIM_HORIZON\"";
/// Bytes of data of a PutRecords call, at most.
const CALL_BYTES: usize = 4 << 20;

/// A record that was written.
#[derive(Clone)]
struct Noted {
    shard: String,
    number: String,
}

/// What has been written, and when half of it was there (seconds since 1970).
struct Written {
    noted: Vec<Noted>,
    half: f64,
}

/// What a call has returned, and what was read from segments for it.
struct Call {
    returned: f64,
    read: f64,
    reads: f64,
}

impl Call {
    fn share(&self) -> f64 {
        self.read / (2.0 * self.returned + AHEAD)
    }
}

pub fn run(table: &mut Table, extent: &Extent) {
    for &(bytes, size) in extent.pick(&SIZES[..], &SIZES[1..2]) {
        let mut server = Server::start("4G", &[]);
        create(server.port, "cold", SHARDS);
        let written = write(&server, bytes, extent.pick(512 << 20, 160 << 20), extent.pick(200, 10));
        server.restart("TERM");
        from_the_beginning(table, &server, size);
        at_a_time(table, &server, size, written.half);
        at_a_number(table, &server, size, &written.noted);
    }
    catching_up(table, extent);
}

/// Fills the stream with about `total` bytes of data, and notes about `notes` of the records.
fn write(server: &Server, bytes: usize, total: usize, notes: usize) -> Written {
    let records = (CALL_BYTES / bytes).clamp(1, 500);
    let calls = total / (records * bytes) / WRITERS;
    let (noted, half) = (Mutex::new(Vec::new()), Mutex::new(0.0));
    let every = (calls * WRITERS / notes).max(1);
    std::thread::scope(|scope| {
        for (writer, request) in put_records("cold", records, bytes, WRITERS).into_iter().enumerate() {
            let (noted, half) = (&noted, &half);
            scope.spawn(move || {
                let mut connection = Connection::open(server.port);
                for call in 0..calls {
                    let answer = connection.ask(&request);
                    if call % every == writer % every {
                        let entry = note(answer, call * 7919 + writer);
                        noted.lock().expect("no writer panics").push(entry);
                    }
                    if writer == 0 && call == calls / 2 {
                        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
                        *half.lock().expect("no writer panics") = now.as_secs_f64();
                    }
                }
            });
        }
    });
    let taken = "no writer has panicked";
    Written { noted: noted.into_inner().expect(taken), half: half.into_inner().expect(taken) }
}

/// One of the records of an answer of PutRecords.
fn note(answer: &[u8], which: usize) -> Noted {
    let entries: Vec<usize> = memchr::memmem::find_iter(answer, b"{\"").skip(1).collect();
    let from = entries[which % entries.len()];
    let entry = &answer[from..from + memchr::memchr(b'}', &answer[from..]).expect("an entry ends") + 1];
    let text = |name: &str| member(entry, name).expect("a record that was taken has it");
    Noted { shard: text("ShardId"), number: text("SequenceNumber") }
}

/// Carries a call out, with nobody else reading, and says what it took.
fn measured<T>(server: &Server, call: impl FnOnce() -> T) -> (T, Call) {
    let before = server.metrics();
    let result = call();
    let after = server.metrics();
    let risen = |name: &str| after.sum(name) - before.sum(name);
    let read = risen("cold_read_bytes_total");
    (result, Call { returned: risen("bytes_read_total"), read, reads: risen("cold_reads_total") })
}

fn from_the_beginning(table: &mut Table, server: &Server, size: &str) {
    let mut calls = Vec::new();
    for shard in 0..SHARDS {
        let mut consumer = Consumer::open(server.port, "cold", &shard_name(shard), BEGINNING);
        loop {
            let (more, call) = measured(server, || consumer.next("").is_some());
            calls.push(call);
            if !more {
                break;
            }
        }
    }
    show(table, &format!("{size}, from the beginning"), &calls);
    let (read, returned) =
        (calls.iter().map(|call| call.read).sum::<f64>(), calls.iter().map(|call| call.returned).sum::<f64>());
    table.row("  all calls: read for each byte returned", "", vec![read / returned]);
    let all = rate(server, || {
        std::thread::scope(|scope| {
            for reader in 0..READERS {
                scope.spawn(move || (reader..SHARDS).step_by(READERS).for_each(|shard| follow(server, shard)));
            }
        });
    });
    table.row("  payload, 4 readers", "MB/s", vec![all.rate]);
}

fn at_a_time(table: &mut Table, server: &Server, size: &str, half: f64) {
    let one = |shard: usize| {
        let kind = format!("\"AT_TIMESTAMP\",\"Timestamp\":{half:.3}");
        let mut consumer = Consumer::open(server.port, "cold", &shard_name(shard), &kind);
        let (arrival, call) = measured(server, || first_arrival(consumer.next("").unwrap_or_default()));
        // The milliseconds of an answer are cut off, those of the question were rounded.
        assert!(arrival.is_some_and(|arrival| arrival > half - 0.002), "asked for {half}, got {arrival:?}");
        call
    };
    show(table, &format!("{size}, at a time"), &(0..SHARDS).map(one).collect::<Vec<_>>());
}

/// How fast consumers get through what they have missed, each by its own iterators.
fn catching_up(table: &mut Table, extent: &Extent) {
    let mut server = Server::start("4G", &[]);
    create(server.port, "cold", READERS);
    write(&server, 1 << 10, extent.pick(1 << 30, 160 << 20), 1);
    server.restart("TERM");
    let server = &server;
    let one = rate(server, || (0..READERS).for_each(|shard| follow(server, shard)));
    table.row("1 KB, catching up: payload, one consumer", "MB/s", vec![one.rate]);
    table.row("  read for each byte returned", "", vec![one.read_for_each]);
    table.row("  the server's processor time for each GB", "ms", vec![one.processor]);
    let four = rate(server, || {
        std::thread::scope(|scope| {
            for shard in 0..READERS {
                scope.spawn(move || follow(server, shard));
            }
        });
    });
    table.row("  payload, four consumers at once", "MB/s", vec![four.rate]);
    table.row("  read for each byte returned", "", vec![four.read_for_each]);
    table.row("  the server's processor time for each GB", "ms", vec![four.processor]);
}

/// Reads a shard to its end, call by call.
fn follow(server: &Server, shard: usize) {
    let mut consumer = Consumer::open(server.port, "cold", &shard_name(shard), BEGINNING);
    while consumer.next("").is_some() {}
}

/// What was returned in a second (MB), what was read from segments for each byte of it, and the server's processor time for each GB (ms).
struct Rate {
    rate: f64,
    read_for_each: f64,
    processor: f64,
}

fn rate(server: &Server, work: impl FnOnce()) -> Rate {
    let (began, busy) = (Instant::now(), server.cpu());
    let ((), call) = measured(server, work);
    let (seconds, busy) = (began.elapsed().as_secs_f64(), server.cpu() - busy);
    Rate {
        rate: call.returned / seconds / 1e6,
        read_for_each: call.read / call.returned,
        processor: busy.as_secs_f64() * 1e3 / (call.returned / 1e9),
    }
}

/// When the first record of an answer arrived, in seconds since 1970.
fn first_arrival(body: &[u8]) -> Option<f64> {
    let name = b"\"ApproximateArrivalTimestamp\":";
    let from = memchr::memmem::find(body, name)? + name.len();
    let len = body[from..].iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'.'))?;
    std::str::from_utf8(&body[from..from + len]).ok()?.parse().ok()
}

fn at_a_number(table: &mut Table, server: &Server, size: &str, noted: &[Noted]) {
    for (limit, name) in [(",\"Limit\":1", "at a number, one record"), ("", "at a number")] {
        let one = |record: &Noted| {
            let kind = format!("\"AT_SEQUENCE_NUMBER\",\"StartingSequenceNumber\":\"{}\"", record.number);
            let mut consumer = Consumer::open(server.port, "cold", &record.shard, &kind);
            let (found, call) = measured(server, || {
                let body = consumer.next(limit).unwrap_or_default();
                memchr::memmem::find(&body[..body.len().min(400)], record.number.as_bytes()).is_some()
            });
            assert!(found, "record {} of {} is the first of its answer", record.number, record.shard);
            call
        };
        show(table, &format!("{size}, {name}"), &noted.iter().map(one).collect::<Vec<_>>());
    }
}

fn show(table: &mut Table, what: &str, calls: &[Call]) {
    let each = |figure: fn(&Call) -> f64| calls.iter().map(figure).collect::<Vec<f64>>();
    table.bounded(&format!("{what}: share of each call"), "", each(Call::share), Bound::NeverAbove(1.0));
    table.row("  returned by a call", "KB", each(|call| call.returned / 1e3));
    table.row("  read by a call", "KB", each(|call| call.read / 1e3));
    table.row("  reads of a call", "", each(|call| call.reads));
}
