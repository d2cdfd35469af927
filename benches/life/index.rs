//! `index`: one log of 10,000 shards in 40,000 segments of 256 MiB, 200 shards in each, in this process, over a disk that makes up what is read
//! ([`crate::simulated`]). Memory that says where records are; the time that a start takes beside the device, which answers at once here, with
//! the reads it makes, so that they can be multiplied by what a read takes elsewhere; and the reads of an index on the way to a record.

use crate::Extent;
use crate::simulated::{BLOCK, DIRECTORY, Disk, LOG, Reads, Record, SEGMENT, Shape};
use crate::table::{Bound, Table};
use penstock::io::buffers::{Buffers, Layouts, Pool, Span};
use penstock::io::clock::{Mono, Now, Wall};
use penstock::io::op::Completion;
use penstock::log::reader::{Reader, Step};
use penstock::log::{Canary, Event, LiveSegment, Log, Settings};
use penstock::observe::counter::Counters;
use std::time::{Duration, Instant};

const SHAPE: Shape = Shape { shards: 10_000, segments: 40_000 };
const SHAPE_QUICK: Shape = Shape { shards: 10_000, segments: 1_000 };
const MIB: f64 = (1 << 20) as f64;

pub fn run(table: &mut Table, extent: &Extent) {
    let shape = extent.pick(SHAPE, SHAPE_QUICK);
    let (mut memory, mut resident, mut peak, mut start) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..extent.pick(3, 1) {
        drop(last.take());
        let before = resident_mib("VmRSS");
        reset_peak();
        let (rig, took) = Rig::start(shape);
        memory.push(rig.log.index_memory() as f64 / MIB);
        // Later rounds use again what the first one has left with the allocator.
        if start.is_empty() {
            resident.push(resident_mib("VmRSS") - before);
            peak.push(resident_mib("VmHWM") - before);
        }
        start.push(took.as_secs_f64());
        last = Some(rig);
    }
    let mut rig = last.expect("a round was made");
    table.say(&format!("{} extents, {:.2} billion records", shape.extents(), shape.records() as f64 / 1e9));
    table.bounded("memory of the index", "MiB", memory, Bound::AtMost(256.0));
    table.row("memory of the process added, all of the log", "MiB", resident);
    table.row("  at most, during the start", "MiB", peak);
    table.bounded("start, the device's time left out", "s", start, Bound::AtMost(4.0));
    let Disk { heads, tails, footers, data, opens, others, .. } = rig.disk;
    let each = |reads: Reads| {
        format!("{} reads of {:.1} KiB", reads.count, reads.bytes as f64 / reads.count.max(1) as f64 / 1024.0)
    };
    table.say(&format!(
        "device at start: {opens} opens, {others} flushes; heads: {}; tails: {}",
        each(heads),
        each(tails)
    ));
    table.say(&format!("  footers: {}; data: {}; one after the other", each(footers), each(data)));
    let reads = heads.count + tails.count + footers.count + data.count;
    table.row("reads of a start for each segment", "", vec![reads as f64 / shape.segments as f64]);
    let bytes = heads.bytes + tails.bytes + footers.bytes + data.bytes;
    table.row("  bytes of them", "KiB", vec![bytes as f64 / shape.segments as f64 / 1024.0]);
    let lookups = extent.pick(20_000, 500);
    find(table, &mut rig, "to a number", lookups, false);
    find(table, &mut rig, "to a time", lookups, true);
}

/// Random records, each found by a reader of its own.
fn find(table: &mut Table, rig: &mut Rig, what: &str, lookups: u64, by_time: bool) {
    let shape = rig.disk.shape;
    let (mut index, mut data, mut bytes, mut state) = (Vec::new(), Vec::new(), Vec::new(), 0x5eed_u64);
    for _ in 0..lookups {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let record = shape.record((state >> 16) % shape.records());
        rig.disk = Disk::new(shape);
        rig.find(&record, by_time);
        index.push((rig.disk.footers.count + rig.disk.tails.count) as f64);
        data.push((rig.disk.data.count + rig.disk.heads.count) as f64);
        bytes.push(
            (rig.disk.data.bytes + rig.disk.heads.bytes + rig.disk.footers.bytes + rig.disk.tails.bytes) as f64
                / 1024.0,
        );
    }
    table.bounded(&format!("{what}: reads of an index"), "", index, Bound::NeverAbove(2.0));
    table.row(&format!("{what}: reads of records"), "", data);
    table.row(&format!("{what}: bytes read"), "KiB", bytes);
}

/// A log that has started.
struct Rig {
    log: Log,
    disk: Disk,
    buffers: Buffers,
    /// To read into.
    span: Span,
}

impl Rig {
    /// The log, and the time that its start took, the making up of the disk's bytes left out.
    fn start(shape: Shape) -> (Rig, Duration) {
        let mut buffers = Buffers::new(
            0,
            Layouts([
                (1, BLOCK),
                (1, BLOCK),
                (1, BLOCK),
                (2, 1 << 20),
                (1, BLOCK),
                (1, 128 << 20),
                (0, BLOCK),
                (1, BLOCK),
                (0, BLOCK),
            ]),
        );
        let settings = Settings {
            number: LOG,
            block: BLOCK,
            segment_size: SEGMENT,
            files: shape.segments + 8,
            directory: DIRECTORY,
            epoch: 1,
            commit_max: 12 << 20,
            in_flight: 4,
            flush: true,
            memory: buffers.whole(Pool::Log, 0),
            tokens: 0,
            mirrored: false,
            canary: Canary::default(),
        };
        let listed = |incarnation| LiveSegment { incarnation, end: 0 };
        let live: Vec<LiveSegment> = (1..=shape.segments).map(listed).collect();
        let now = Now { mono: Mono(1), wall: Wall(1) };
        let (mut disk, mut ops, mut recovered) = (Disk::new(shape), Vec::new(), None);
        let (began, mut device) = (Instant::now(), Duration::ZERO);
        let mut log = Log::new(settings, Counters::default());
        log.recover(&live, log.settings().memory, &mut ops);
        while let Some(op) = ops.pop() {
            let asked = Instant::now();
            let completion = disk.complete(&op, &mut buffers);
            device += asked.elapsed();
            match completion {
                Completion::Done { token, result } => log.on_done(now, token, result, &mut buffers, &mut ops),
                Completion::Listed { token, result } => log.on_listed(token, result, &mut ops),
                other => panic!("{other:?} answers no operation of a log"),
            }
            while let Some(event) = log.event() {
                match event {
                    Event::Recovered { records, .. } => recovered = Some(records),
                    other => panic!("the log is whole, but: {other:?}"),
                }
            }
        }
        let took = began.elapsed() - device;
        assert_eq!(recovered, Some(shape.records()), "records that were found");
        let span = buffers.take(Pool::Medium).expect("it is free");
        (Rig { log, disk, buffers, span }, took)
    }

    /// Reads on to the frame of a record.
    fn find(&mut self, record: &Record, by_time: bool) {
        let mut reader = match by_time {
            true => Reader::at_arrival(record.shard, record.arrival),
            false => Reader::new(record.shard, record.number),
        };
        loop {
            match reader.next(&self.log, &self.buffers) {
                Step::Read { file, at, len } => {
                    self.disk.read(file, at, self.buffers.bytes_mut(self.span.first(len)));
                    reader.filled(self.span, len);
                }
                // By time a reader begins at or before what is wanted, and nothing says which record was.
                Step::Frame { header, .. } if by_time && header.arrival < record.arrival => {}
                Step::Frame { header, .. } => {
                    let met = header.sequence <= record.number && record.number < header.next();
                    assert!(met && header.shard == record.shard, "{header:?} is not where {record:?} is");
                    return;
                }
                other => panic!("{record:?} is there, but: {other:?}"),
            }
        }
    }
}

/// A figure of this process in MiB.
fn resident_mib(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find(|line| line.starts_with(name)).expect("it has the line");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("a number") / 1024.0
}

/// The highest so far is what it is now: other parts have run before.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("the process may reset its own mark");
}
