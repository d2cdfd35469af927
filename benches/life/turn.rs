//! `turn`: a log that has been full once goes on as fast as it began, and writes little more than it is given.
//!
//! 500 records of 1 KiB a PutRecords call, 8 connections, 8 shards for each worker (so that each log gets some), `--when-full trim`. The beginning
//! is the first minute, or the first turn where that is shorter and was faster: what is compared with it is harder to keep. A turn has ended
//! when every log has written as much as it may hold, and has recycled a segment. From then on nothing is prepared any more, so what the
//! device writes is records, their surroundings, what was moved, and the journals of the catalog and of the file system.

use crate::Extent;
use crate::load::{Load, create, plain, put_records};
use crate::server::{Metrics, Server};
use crate::table::{Bound, Table};
use std::time::{Duration, Instant};

/// For each worker, so that every one gets some.
pub const SHARDS: usize = 8;
const SECOND: Duration = Duration::from_secs(1);
/// What a turn may take before something must be wrong.
const TURN_MAX: Duration = Duration::from_secs(900);

/// What had happened at one moment. Bytes.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    /// Data and keys of acknowledged records.
    payload: f64,
    committed: f64,
    moved: f64,
    /// That the device has written for anybody, and for the server.
    device: f64,
    own: f64,
}

impl Moment {
    fn of(server: &Server) -> Moment {
        let metrics = server.metrics();
        Moment {
            at: Instant::now(),
            payload: metrics.sum("bytes_acked_total"),
            committed: metrics.sum("commit_bytes_total"),
            moved: metrics.sum("moved_bytes_total"),
            device: server.device().bytes as f64,
            own: server.written() as f64,
        }
    }

    /// MB of payload a second since `before`.
    fn rate(&self, before: &Moment) -> f64 {
        (self.payload - before.payload) / (self.at - before.at).as_secs_f64() / 1e6
    }
}

pub fn run(table: &mut Table, extent: &Extent) {
    let (flag, disk) = extent.pick(("8G", 8u64 << 30), ("1G", 1 << 30));
    let server = Server::start(flag, &["--when-full", "trim"]);
    create(server.port, "turn", SHARDS * server.metrics().each("turns_total").len());
    let load = Load::by(&plain(server.port), 8, &put_records("turn", 500, 1024, 8));
    // Connections and memory are touched for the first time.
    std::thread::sleep(SECOND);
    let began = Moment::of(&server);
    let first = extent.pick(SECOND * 60, SECOND);
    let (mut seconds, mut last, mut turn) = (Vec::new(), began, None);
    while turn.is_none() || began.at.elapsed() < first {
        assert!(began.at.elapsed() < TURN_MAX, "the log has not turned in {TURN_MAX:?}");
        std::thread::sleep(SECOND);
        let now = Moment::of(&server);
        if began.at.elapsed() < first + SECOND {
            seconds.push(now.rate(&last));
            last = now;
        }
        if turn.is_none() && has_turned(&server, disk) {
            turn = Some(now);
        }
    }
    let turned = turn.filter(|turn| turn.at < last.at).map_or(0.0, |turn| turn.rate(&began));
    let beginning = turned.max(last.rate(&began));
    let (mut moments, cpu) = (vec![Moment::of(&server)], server.cpu());
    let time = Duration::from_secs_f64(extent.minutes * 60.0);
    let slice = extent.pick(SECOND * 10, SECOND).min(time);
    while moments[0].at.elapsed() + slice / 2 < time {
        std::thread::sleep(slice);
        moments.push(Moment::of(&server));
    }
    let (from, to) = (moments[0], moments[moments.len() - 1]);
    let cpu = (server.cpu() - cpu).as_secs_f64() / (to.at - from.at).as_secs_f64() * 100.0;
    load.stop();
    let slices: Vec<f64> = moments.windows(2).map(|pair| pair[1].rate(&pair[0])).collect();
    let shares = slices.iter().map(|rate| rate / beginning).collect();
    let payload = to.payload - from.payload;
    table.row("payload, first minute, each second", "MB/s", seconds);
    table.row(&format!("payload after the turn, each {} s", slice.as_secs()), "MB/s", slices);
    table.row("  each of these against the beginning", "", shares);
    let share = to.rate(&from) / beginning;
    table.bounded("  all of it against the beginning", "", vec![share], Bound::AtLeast(0.9));
    let device = (to.device - from.device) / payload;
    table.bounded("written to the device for each byte of payload", "", vec![device], Bound::AtMost(1.2));
    table.row("  of it by the server", "", vec![(to.own - from.own) / payload]);
    table.row("  of it commits", "", vec![(to.committed - from.committed) / payload]);
    let (committed, moved) = (to.committed - from.committed, to.moved - from.moved);
    table.bounded(
        "commits and moved ones for each byte of commits",
        "",
        vec![1.0 + moved / committed],
        Bound::AtMost(1.1),
    );
    table.row("memory of the server", "MB", vec![server.resident_mb()]);
    table.row("CPU of the server, companions included", "% of one", vec![cpu]);
}

/// Whether every log has been through all of its space.
fn has_turned(server: &Server, disk: u64) -> bool {
    let metrics = server.metrics();
    let (committed, moved) = (of_logs(&metrics, "commit_bytes_total"), of_logs(&metrics, "moved_bytes_total"));
    let share = disk as f64 / committed.len() as f64;
    let written = committed.iter().zip(moved).all(|(committed, moved)| committed + moved >= share);
    written && has_recycled(&metrics)
}

/// Whether every log has given a segment back.
pub fn has_recycled(metrics: &Metrics) -> bool {
    let recycled = of_logs(metrics, "segments_recycled_total");
    !recycled.is_empty() && recycled.iter().all(|recycled| *recycled >= 1.0)
}

/// Figures of the workers that have logs: a small directory has fewer than there are cores on a large machine.
fn of_logs(metrics: &Metrics, name: &str) -> Vec<f64> {
    let has_log = metrics.each("log_bytes_now");
    metrics.each(name).into_iter().zip(has_log).filter(|(_, space)| *space > 0.0).map(|(figure, _)| figure).collect()
}
