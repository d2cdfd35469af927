//! `space`: what records take up on the disk for each byte that can still be read, when relocation has done what it does.
//!
//! Lone small puts on one log (four connections, so most commits hold one record) to two streams; then one of them goes: it is *deleted* (every
//! second put was its), or *expires* (three of four were its; it is kept for 24 hours, the other for 365 days, an hour lasting a second). When
//! nothing moves any more, what is left is read to its end, which gives the payload and shows that none of it is missing; that is compared with
//! the live segments, and, as a small log is quantised, with those of them that are sealed. `frames alone` is what the record's frame takes:
//! no layout of commits comes below it.

use crate::Extent;
use crate::client::{self, Connection, Consumer, request, shard_name};
use crate::load::{create, delete, put_record};
use crate::server::Server;
use crate::table::{Bound, Table};
use penstock::log::format::{CommitHeader, body_size, header_at, stride};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SEGMENT: f64 = (64 << 20) as f64;
const CONNECTIONS: usize = 4;
/// Nothing has changed for so long: the log is settled. Some ten seconds go by until one that was written at full rate counts as quiet.
const STILL: Duration = Duration::from_secs(20);
const SETTLE_MAX: Duration = Duration::from_secs(180);
/// 24 hours of a second.
const DAY: Duration = Duration::from_secs(24);

/// How the records of a stream go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Deleted,
    Expired,
}

pub fn run(table: &mut Table, extent: &Extent) {
    let sizes: &[(usize, &str)] =
        extent.pick(&[(100, "100 B"), (1 << 10, "1 KB"), (4 << 10, "4 KB")], &[(1 << 10, "1 KB")]);
    for &(bytes, size) in sizes {
        // A day of an hour's second is longer than a look at whether it works may take.
        let ends = [(End::Deleted, "half deleted"), (End::Expired, "three of four expired")];
        for &(end, name) in extent.pick(&ends[..], &ends[..1]) {
            scenario(table, extent, &format!("{size}, {name}"), bytes, end);
        }
    }
}

fn scenario(table: &mut Table, extent: &Extent, what: &str, bytes: usize, end: End) {
    let hour = if end == End::Expired { &["--retention-hour", "1"][..] } else { &[] };
    let server = Server::start("4G", &[&["--cores", "0"], hour].concat());
    create(server.port, "gone", 1);
    create(server.port, "kept", 1);
    if end == End::Expired {
        let year = "{\"StreamName\":\"kept\",\"RetentionPeriodHours\":8760}";
        Connection::open(server.port).ask(&request("IncreaseStreamRetentionPeriod", year));
    }
    let one_in = if end == End::Expired { 4 } else { 2 };
    let most = Duration::from_secs(extent.pick(180, 3));
    let acked = put(&server, bytes, one_in, extent.pick(48.0, 2.5) * SEGMENT, most);
    let (written, put_payload) = (server.gauge("commit_bytes_total"), server.gauge("bytes_acked_total"));
    if end == End::Deleted {
        delete(server.port, "gone");
    }
    let least = if end == End::Expired { DAY + Duration::from_secs(2) } else { Duration::ZERO };
    let settled = settle(&server, least, extent.pick(STILL, Duration::from_secs(1)));
    let (records, payload) = read_all(&server, "kept");
    assert_eq!(records, acked, "records of the kept stream that can be read");
    let used = server.gauge("log_bytes_used_now");
    // The active segment counts as far as it is filled, others whole.
    let sealed = (used / SEGMENT).floor() * SEGMENT;
    let rest = payload - payload_in_active(&server);
    let frames = stride(body_size(bytes + 5, 1) as u32) as f64 / (bytes + 5) as f64;
    table.row(&format!("{what}: segments written"), "", vec![written / SEGMENT]);
    table.row("  frames alone, for each byte that can be read", "", vec![frames]);
    // What is less than two segments says more of the segment than of the log.
    for (name, bytes, readable) in [("live segments", used, payload), ("sealed ones", sealed, rest)] {
        let figures = if readable > 0.0 { vec![bytes / readable] } else { Vec::new() };
        match readable > 2.0 * SEGMENT {
            true => {
                table.bounded(&format!("  {name}, for each byte that can be read"), "", figures, Bound::AtMost(1.3))
            }
            false => table.row(&format!("  {name}, for each such byte (too few to judge)"), "", figures),
        }
    }
    let moved = server.gauge("moved_bytes_total");
    table.row("  moved, for each byte that was put", "", vec![moved / put_payload]);
    table.row("  moved, for each byte of commits", "", vec![moved / written]);
    table.row("  segments emptied", "", vec![server.gauge("segments_emptied_total")]);
    table.row("  settled after", "s", vec![settled.as_secs_f64()]);
}

/// Puts until the log has written `least` bytes, or for the time `most`; records of the kept stream, which gets one put of `one_in`.
fn put(server: &Server, bytes: usize, one_in: usize, least: f64, most: Duration) -> u64 {
    let (began, kept, done) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for c in 0..CONNECTIONS {
            let (kept, done) = (&kept, &done);
            scope.spawn(move || {
                let of = |stream: &str| put_record(stream, bytes, CONNECTIONS).swap_remove(c);
                let (gone_put, kept_put, mut connection) = (of("gone"), of("kept"), Connection::open(server.port));
                for number in c.. {
                    if done.load(Relaxed) == 1 {
                        break;
                    }
                    let keep = number.is_multiple_of(one_in);
                    connection.ask(if keep { &kept_put } else { &gone_put });
                    kept.fetch_add(keep as u64, Relaxed);
                }
            });
        }
        while began.elapsed() < most && server.gauge("commit_bytes_total") < least {
            std::thread::sleep(Duration::from_millis(100));
        }
        done.store(1, Relaxed);
    });
    kept.into_inner()
}

/// Waits for `least`, and then until nothing has changed for `still`.
fn settle(server: &Server, least: Duration, still: Duration) -> Duration {
    let (began, mut known, mut since) = (Instant::now(), Vec::new(), Instant::now());
    loop {
        let metrics = server.metrics();
        let names = ["log_bytes_used_now", "segments_emptied_total", "segments_recycled_total", "moved_bytes_total"];
        let now: Vec<f64> = names.iter().map(|name| metrics.sum(name)).collect();
        if now != known {
            (known, since) = (now, Instant::now());
        }
        if began.elapsed() > least && since.elapsed() > still {
            return since - began;
        }
        assert!(began.elapsed() < least + SETTLE_MAX, "the log does not come to rest: {known:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Records of a stream of one shard, and their bytes of data and keys.
fn read_all(server: &Server, stream: &str) -> (u64, f64) {
    let (mut records, mut payload) = (0, 0);
    let mut consumer = Consumer::open(server.port, stream, &shard_name(0), "\"TRIM_HORIZON\"");
    while let Some(body) = consumer.next("") {
        records += memchr::memmem::find_iter(body, b"\"SequenceNumber\"").count() as u64;
        payload += client::payload_of(body);
    }
    (records, payload as f64)
}

/// Payload of the stream that was made last in the active segment: what stands there is owned there.
fn payload_in_active(server: &Server) -> f64 {
    let files = std::fs::read_dir(server.data.join("log-000")).expect("the log has a directory").flatten();
    let mut payloads = BTreeMap::<(u32, u32), u64>::new();
    for file in files {
        let bytes = std::fs::read(file.path()).expect("a segment is there while the server runs");
        let (mut at, mut incarnation) = (0, None);
        while let Some(header) = header_at(&bytes, at).and_then(|head| CommitHeader::peek(head).ok()) {
            // Behind the end of the chain stands what an earlier use of the file has left.
            let Some(commit) = bytes.get(at..at + header.bytes as usize).filter(|commit| !commit.is_empty()) else {
                break;
            };
            if *incarnation.get_or_insert(header.incarnation) != header.incarnation {
                break;
            }
            for (_, frame) in header.frames(commit).flatten() {
                let index = body_size(0, frame.count as usize) as u64;
                *payloads.entry((header.incarnation, frame.shard.stream())).or_default() += frame.body as u64 - index;
            }
            at += commit.len();
        }
    }
    let active = payloads.keys().map(|(incarnation, _)| *incarnation).max().unwrap_or(0);
    let stream = payloads.keys().map(|(_, stream)| *stream).max().unwrap_or(0);
    payloads.get(&(active, stream)).copied().unwrap_or(0) as f64
}
