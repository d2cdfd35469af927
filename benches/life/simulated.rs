//! A disk with the sealed segments of a large log, of which nothing is kept: what is read is made from a formula when it is read.
//!
//! ```text
//! segment i (incarnation i + 1) has the shards (i mod groups) · SHARDS_EACH ..: one group takes part at a time
//! run k of the shard at slot s is the commit at byte (k · SHARDS_EACH + s) · SPAN, of FRAMES frames of RECORDS records
//! a shard has in each of its segments RUNS · FRAMES · RECORDS numbers, the first of all is 1
//! ```

use penstock::io::buffers::Buffers;
use penstock::io::op::{Completion, Errno, FileName, Op, Token};
use penstock::log::checksum::crc;
use penstock::log::footer::{Summary, footer_size, write_footer};
use penstock::log::format::{
    CommitHeader, CommitKind, Entry as RecordEntry, FrameHeader, FrameKind, HEADER, Position, ShardKey, body_size,
    stride, write_index,
};
use penstock::log::index::{Entry, Run, Sealed};

pub const LOG: u32 = 0;
pub const BLOCK: u32 = 4096;
pub const SEGMENT: u64 = 256 << 20;
pub const DIRECTORY: u64 = 0x51_de_ca_fe;
const SHARDS_EACH: u32 = 200;
/// Bytes of the log from one run to the next: about what a run holds.
const SPAN: u32 = 64 << 10;
const RUNS: u32 = 20;
const FRAMES: u32 = 8;
const RECORDS: u32 = 8;
const KEY: &[u8] = b"key";
const DATA: usize = 900;
/// Behind the last commit of a segment.
const END: u32 = RUNS * SHARDS_EACH * SPAN;
/// Numbers that a shard has in one of its segments.
const NUMBERS: u64 = (RUNS * FRAMES * RECORDS) as u64;
const STREAM: u32 = 1;
/// Arrivals in µs: of the first segment, and from one segment, run and frame to the next.
const BEGAN: u64 = 1_800_000_000_000_000;
const A_SEGMENT: u64 = 1_000_000;
const A_RUN: u64 = 10_000;
const A_FRAME: u64 = 100;

const _: () = assert!(END as u64 + SEGMENT / 512 <= SEGMENT);
const _: () = assert!(HEADER as u64 + FRAMES as u64 * stride(frame_body()) <= SPAN as u64);

const fn frame_body() -> u32 {
    body_size((KEY.len() + DATA) * RECORDS as usize, RECORDS as usize) as u32
}

/// How large the log is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub shards: u32,
    pub segments: u32,
}

/// Reads, and bytes of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reads {
    pub count: u64,
    pub bytes: u64,
}

impl Reads {
    fn add(&mut self, bytes: u32) {
        self.count += 1;
        self.bytes += bytes as u64;
    }
}

/// The disk, and what was asked of it.
pub struct Disk {
    pub shape: Shape,
    pub heads: Reads,
    pub tails: Reads,
    /// Of the index in footers.
    pub footers: Reads,
    /// Of commits, but for the first of a file.
    pub data: Reads,
    pub opens: u64,
    pub others: u64,
}

/// A record of the formula.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub shard: ShardKey,
    pub number: u64,
    /// Of its frame (µs).
    pub arrival: u64,
}

impl Shape {
    fn groups(self) -> u32 {
        self.shards / SHARDS_EACH
    }

    fn shard(self, segment: u32, slot: u32) -> ShardKey {
        ShardKey::new(STREAM, segment % self.groups() * SHARDS_EACH + slot)
    }

    fn first(self, segment: u32, run: u32) -> u64 {
        1 + (segment / self.groups()) as u64 * NUMBERS + (run * FRAMES * RECORDS) as u64
    }

    fn arrival(self, segment: u32, run: u32) -> u64 {
        BEGAN + segment as u64 * A_SEGMENT + run as u64 * A_RUN
    }

    pub fn records(self) -> u64 {
        self.segments as u64 * SHARDS_EACH as u64 * NUMBERS
    }

    pub fn extents(self) -> u64 {
        self.segments as u64 * SHARDS_EACH as u64
    }

    /// Record `which` of all.
    pub fn record(self, which: u64) -> Record {
        let (segment, rest) = ((which / (SHARDS_EACH as u64 * NUMBERS)) as u32, which % (SHARDS_EACH as u64 * NUMBERS));
        let (slot, within) = ((rest / NUMBERS) as u32, (rest % NUMBERS) as u32);
        let run = within / (FRAMES * RECORDS);
        let arrival = self.arrival(segment, run) + (within / RECORDS % FRAMES) as u64 * A_FRAME;
        Record { shard: self.shard(segment, slot), number: self.first(segment, 0) + within as u64, arrival }
    }

    fn last_crc(segment: u32) -> u32 {
        crc(&segment.to_le_bytes())
    }

    fn run(self, segment: u32, slot: u32, run: u32) -> Run {
        let at = (run * SHARDS_EACH + slot) * SPAN + HEADER as u32;
        let bytes = FRAMES * stride(frame_body()) as u32;
        let arrival = self.arrival(segment, run);
        Run {
            shard: self.shard(segment, slot),
            first: self.first(segment, run),
            arrival,
            last_arrival: arrival + (FRAMES - 1) as u64 * A_FRAME,
            at,
            end: at + bytes,
            count: FRAMES * RECORDS,
            bytes,
        }
    }

    fn index(self, segment: u32) -> Sealed {
        let mut runs = Vec::with_capacity((SHARDS_EACH * RUNS) as usize);
        let mut entries = Vec::with_capacity(SHARDS_EACH as usize);
        for slot in 0..SHARDS_EACH {
            let first = self.run(segment, slot, 0);
            for run in 0..RUNS {
                runs.push(self.run_after(&first, run));
            }
            entries.push(Entry {
                shard: first.shard,
                first: first.first,
                count: NUMBERS as u32,
                at: first.at,
                bytes: RUNS * first.bytes,
                last_arrival: first.last_arrival + (RUNS - 1) as u64 * A_RUN,
                runs: (slot * RUNS, RUNS),
                moved: false,
            });
        }
        Sealed { entries, runs, fits: true }
    }

    /// Run number `run` of a shard in a segment, by the first one.
    fn run_after(self, first: &Run, run: u32) -> Run {
        let (later, further) = (run as u64 * A_RUN, run * SHARDS_EACH * SPAN);
        Run {
            first: first.first + (run * FRAMES * RECORDS) as u64,
            arrival: first.arrival + later,
            last_arrival: first.last_arrival + later,
            at: first.at + further,
            end: first.end + further,
            ..*first
        }
    }

    /// The footer, which ends the file.
    fn footer(self, segment: u32) -> Vec<u8> {
        let index = self.index(segment);
        let summary = Summary {
            incarnation: segment + 1,
            log: LOG,
            epoch: 1,
            first_previous: segment.checked_sub(1).map_or(0, Shape::last_crc),
            last_crc: Shape::last_crc(segment),
            end: END,
            ..Summary::default()
        };
        let mut bytes = vec![0; footer_size(&index, BLOCK) as usize];
        write_footer(&mut bytes, summary, &index, (DIRECTORY, SEGMENT, BLOCK));
        bytes
    }

    /// Byte of a file where its footer begins: the same in all.
    pub fn footer_from(self) -> u64 {
        SEGMENT - footer_size(&self.index(0), BLOCK)
    }

    /// The commit that holds a run.
    fn commit(self, segment: u32, slot: u32, run: u32) -> Vec<u8> {
        let mut commit = vec![0; SPAN as usize];
        let (payload, body) = ((KEY.len() + DATA) * RECORDS as usize, frame_body() as usize);
        for frame in 0..FRAMES {
            let at = HEADER + frame as usize * stride(body as u32) as usize;
            let bytes = &mut commit[at + HEADER..at + HEADER + body];
            let entries: Vec<RecordEntry> = (0..RECORDS as usize)
                .map(|r| RecordEntry::new((r * (KEY.len() + DATA)) as u32, Some(KEY.len() as u16), DATA as u32))
                .collect();
            for record in bytes[..payload].chunks_exact_mut(KEY.len() + DATA) {
                record[..KEY.len()].copy_from_slice(KEY);
            }
            write_index(bytes, payload, &entries);
            let header = FrameHeader {
                kind: FrameKind::Batch,
                stride: stride(body as u32) as u32,
                body: body as u32,
                count: RECORDS,
                shard: self.shard(segment, slot),
                sequence: self.first(segment, run) + (frame * RECORDS) as u64,
                arrival: self.arrival(segment, run) + frame as u64 * A_FRAME,
                producer: 0,
                number: 0,
                incarnation: segment + 1,
                body_crc: crc(bytes),
            };
            header.encode((&mut commit[at..at + HEADER]).try_into().expect("64 bytes"));
        }
        let position = Position((segment + 1) as u64 * SEGMENT + ((run * SHARDS_EACH + slot) * SPAN) as u64);
        let header = CommitHeader {
            kind: CommitKind::Data,
            bytes: SPAN,
            position,
            durable: position,
            epoch: 1,
            incarnation: segment + 1,
            log: LOG,
            frames: FRAMES,
            previous: 0,
            directory: DIRECTORY,
        };
        header.seal(&mut commit);
        commit
    }
}

impl Disk {
    pub fn new(shape: Shape) -> Disk {
        assert!(shape.shards.is_multiple_of(SHARDS_EACH) && shape.shards > 0, "groups are whole");
        let none = Reads::default();
        Disk { shape, heads: none, tails: none, footers: none, data: none, opens: 0, others: 0 }
    }

    /// Carries an operation of a start out.
    pub fn complete(&mut self, op: &Op, buffers: &mut Buffers) -> Completion {
        let done = |token: Token, result: Result<u32, Errno>| Completion::Done { token, result };
        match *op {
            Op::List { token, .. } => {
                let file = |index| (FileName::Segment { log: LOG, index }, SEGMENT);
                Completion::Listed { token, result: Ok((0..self.shape.segments).map(file).collect()) }
            }
            Op::Open { token, .. } => {
                self.opens += 1;
                done(token, Ok(0))
            }
            Op::ReadAt { file, at, into, token } => {
                self.read(file, at, buffers.bytes_mut(into));
                done(token, Ok(into.len))
            }
            Op::SyncDir { token, .. } | Op::Fsync { token, .. } => {
                self.others += 1;
                done(token, Ok(0))
            }
            ref other => panic!("a log that was stopped cleanly starts without {other:?}"),
        }
    }

    /// Fills `into` from byte `at` of a file on.
    pub fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) {
        let FileName::Segment { index: segment, .. } = file else { panic!("{file} is no segment") };
        let len = into.len() as u32;
        match at {
            0 => self.heads.add(len),
            at if at + len as u64 == SEGMENT => self.tails.add(len),
            at if at >= self.shape.footer_from() => self.footers.add(len),
            _ => self.data.add(len),
        }
        into.fill(0);
        let mut lay = |from: u64, bytes: &[u8]| {
            let (begin, end) = (from.max(at), (from + bytes.len() as u64).min(at + len as u64));
            if begin < end {
                let part = &bytes[(begin - from) as usize..(end - from) as usize];
                into[(begin - at) as usize..(end - at) as usize].copy_from_slice(part);
            }
        };
        let behind = (at + len as u64).min(END as u64);
        for place in at / SPAN as u64..behind.div_ceil(SPAN as u64) {
            let (run, slot) = (place as u32 / SHARDS_EACH, place as u32 % SHARDS_EACH);
            lay(place * SPAN as u64, &self.shape.commit(segment, slot, run));
        }
        if at + len as u64 > self.shape.footer_from() {
            let footer = self.shape.footer(segment);
            lay(SEGMENT - footer.len() as u64, &footer);
        }
    }
}
