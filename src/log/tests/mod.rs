//! The log over a disk in memory.

mod bulk;
mod bytes;
mod damage;
mod disk;
mod footer;
mod kept;
mod policy;
mod producers;
mod random;
mod relocation;
mod rules;
mod snapshot;
mod verify;

use super::format::{Entry, FrameHeader, FrameKind, Position, ShardKey, body_size, records, write_index};
use super::reader::{Reader, Step};
use super::{Canary, Event, Fate, LiveSegment, Log, Reclaim, Refusal, Settings, Stamp};
use crate::io::buffers::{Buffers, Layouts, Pool, Span};
use crate::io::clock::{Mono, Now, Wall};
use crate::io::op::{Completion, FileName};
use crate::observe::counter::Counters;
use disk::{Disk, Random, Submitted};
use std::collections::BTreeMap;

const SEGMENT: u64 = 64 << 10;
const BLOCK: u32 = 4096;

fn layouts() -> Layouts {
    Layouts([
        (1, 4096),
        (1, 4096),
        (2, 4096),
        (2, 8192),
        (4, 64 << 10),
        (1, 128 << 10),
        (0, 4096),
        (4, 4096),
        (0, 4096),
    ])
}

/// A record as the tests remember it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    data: Vec<u8>,
    /// Durable once the log is durable to here.
    durable_at: Position,
    acked: bool,
}

/// A log, its disk, and what was put into it.
struct Rig {
    log: Log,
    buffers: Buffers,
    disk: Disk,
    pending: Vec<Submitted>,
    now: u64,
    run: u32,
    live: Vec<LiveSegment>,
    model: BTreeMap<ShardKey, BTreeMap<u64, Kept>>,
    next: BTreeMap<ShardKey, u64>,
    /// Highest number acknowledged or read, also of records that have been recycled; and what the catalog holds of them.
    acked: BTreeMap<ShardKey, u64>,
    resume: BTreeMap<ShardKey, u64>,
    events: Vec<Event>,
    flush: bool,
    canary: Canary,
    files: u32,
    segment: u64,
    /// Tables of runs that readers did without.
    passed_over: Vec<(FileName, Position)>,
    /// Of a mirror: what recovery is given of a file that it asks for.
    other_half: Option<Disk>,
    /// A shard that has gone, for the next start.
    gone: Option<ShardKey>,
}

impl Rig {
    fn new(flush: bool) -> Rig {
        Rig::with(flush, 8, Disk::default())
    }

    fn with(flush: bool, files: u32, disk: Disk) -> Rig {
        Rig::sized(flush, (files, SEGMENT), disk)
    }

    fn sized(flush: bool, (files, segment): (u32, u64), disk: Disk) -> Rig {
        let buffers = Buffers::new(0, layouts());
        let canary = Canary::default();
        let log = Log::new(Rig::settings(flush, (files, segment), 0, &buffers, canary), Counters::default());
        Rig {
            log,
            buffers,
            disk,
            pending: Vec::new(),
            now: 1_000_000,
            run: 0,
            live: Vec::new(),
            model: BTreeMap::new(),
            next: BTreeMap::new(),
            acked: BTreeMap::new(),
            resume: BTreeMap::new(),
            events: Vec::new(),
            flush,
            canary,
            files,
            segment,
            passed_over: Vec::new(),
            other_half: None,
            gone: None,
        }
    }

    fn settings(flush: bool, (files, segment): (u32, u64), epoch: u32, buffers: &Buffers, canary: Canary) -> Settings {
        Settings {
            number: 3,
            block: BLOCK,
            segment_size: segment,
            files,
            directory: 0xd1ec_7047,
            epoch,
            commit_max: 32 << 10,
            in_flight: 3,
            flush,
            memory: buffers.whole(Pool::Log, 0),
            mirrored: false,
            tokens: 0x0701 << 48,
            canary,
        }
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.now * 1_000), wall: Wall(self.now) }
    }

    fn take(&mut self, ops: Vec<crate::io::op::Op>) {
        for op in ops {
            self.pending.push(self.disk.submit(op, &self.buffers));
        }
    }

    fn complete(&mut self, index: usize) {
        let submitted = self.pending.remove(index);
        let completion = self.disk.complete(&submitted, &mut self.buffers);
        self.deliver(completion);
    }

    fn deliver(&mut self, completion: Completion) {
        let mut ops = Vec::new();
        match completion {
            Completion::Done { token, result } => {
                assert_eq!(token.0 >> 48, 0x0701, "tokens carry the worker's mark");
                self.log.on_done(self.now(), token, result, &mut self.buffers, &mut ops);
            }
            Completion::Listed { token, result } => self.log.on_listed(token, result, &mut ops),
            other => panic!("{other:?}"),
        }
        self.take(ops);
        self.drain_events();
        self.ack();
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.log.event() {
            if let (Event::Doubted { file }, Some(other)) = (&event, &self.other_half) {
                self.disk.files.insert(*file, other.files[file].clone());
                let mut ops = Vec::new();
                self.log.settled(*file, &mut ops);
                self.take(ops);
            }
            self.events.push(event);
        }
    }

    fn ack(&mut self) {
        let durable = self.log.durable();
        for (shard, model) in &mut self.model {
            for (&sequence, kept) in model {
                kept.acked |= kept.durable_at <= durable;
                if kept.acked {
                    let highest = self.acked.entry(*shard).or_default();
                    *highest = (*highest).max(sequence);
                }
            }
        }
    }

    fn end_turn(&mut self) {
        let mut ops = Vec::new();
        let now = self.now();
        self.log.relocate(now, false, &mut |_| Fate::ExpiresBefore(0), &mut self.buffers, &mut ops);
        self.log.end_turn(now, &mut self.buffers, &mut ops);
        self.take(ops);
        self.drain_events();
        self.ack();
    }

    /// Turns until nothing is on its way.
    fn settle(&mut self) {
        self.end_turn();
        while !self.pending.is_empty() {
            self.complete(0);
            self.end_turn();
        }
    }

    fn idle_ms(&mut self, ms: u64) {
        self.now += ms * 1_000;
        self.settle();
    }

    /// Recovers and starts the log; fails when recovery cannot end.
    fn boot(&mut self) {
        self.recover();
        let epoch = self.log.epoch() + 1;
        self.log.start(epoch);
        self.run += 1;
    }

    fn recover(&mut self) {
        let mut ops = Vec::new();
        let gone = self.gone;
        self.log.pass_over_producers(Box::new(move |shard| Some(shard) == gone));
        self.log.recover(&self.live.clone(), self.log.settings().memory, &mut ops);
        self.take(ops);
        while !self.pending.is_empty() {
            self.complete(0);
        }
        assert!(self.events.iter().any(|event| matches!(event, Event::Recovered { .. })), "{:?}", self.events);
    }

    /// Another process over `disk`, not started yet.
    fn again(&mut self, disk: Disk) {
        let epoch = self.log.epoch();
        self.buffers = Buffers::new(0, layouts());
        let settings = Rig::settings(self.flush, (self.files, self.segment), epoch, &self.buffers, self.canary);
        let mirrored = self.other_half.is_some();
        self.log = Log::new(Settings { mirrored, ..settings }, Counters::default());
        self.disk = disk;
        self.pending.clear();
        self.events.clear();
    }

    /// Restart over `disk`; afterwards the model is what is there, checked against what had to be.
    fn restart(&mut self, disk: Disk) {
        self.again(disk);
        self.boot();
        self.check_after_restart();
    }

    fn check_after_restart(&mut self) {
        for shard in self.model.keys().copied().collect::<Vec<_>>() {
            let found = self.read(shard, 0).unwrap_or_else(|why| panic!("{shard:?}: {why}"));
            let model = self.model.get_mut(&shard).expect("its key was listed");
            let found: BTreeMap<u64, Vec<u8>> = found.into_iter().collect();
            for (sequence, data) in &found {
                assert!(
                    model.get(sequence).is_some_and(|kept| kept.data == *data),
                    "{shard:?} {sequence}: never written so"
                );
            }
            for (sequence, kept) in model.iter().filter(|(_, kept)| kept.acked) {
                assert!(
                    found.contains_key(sequence),
                    "{shard:?} {sequence} at {:?} is gone: {:?}",
                    kept.durable_at,
                    self.events
                );
            }
            model.retain(|sequence, _| found.contains_key(sequence));
            model.values_mut().for_each(|kept| kept.acked = true);
            let found = self.log.newest().find(|newest| newest.shard == shard).map_or(1, |newest| newest.next);
            let next = found.max(self.resume.get(&shard).copied().unwrap_or(1));
            let used =
                self.acked.get(&shard).copied().unwrap_or(0).max(model.last_key_value().map_or(0, |(&last, _)| last));
            assert!(next > used, "{shard:?} would use a number twice: {next}, used {used}");
            self.acked.insert(shard, used);
            self.next.insert(shard, next);
        }
    }

    fn try_append(&mut self, shard: u32, count: u32, len: usize) -> Result<(), Refusal> {
        let shard = ShardKey::new(7, shard);
        let first = *self.next.entry(shard).or_insert(1);
        let datas: Vec<Vec<u8>> =
            (first..first + count as u64).map(|sequence| content(self.run, shard, sequence, len)).collect();
        let payload: usize = datas.iter().map(|data| data.len() + 3).sum();
        let frame = self.log.open_frame(body_size(payload, count as usize) as u32, &mut self.buffers)?;
        let body = self.buffers.bytes_mut(self.log.body(&frame));
        let (mut at, mut entries) = (0, Vec::new());
        for data in &datas {
            body[at..at + 3].copy_from_slice(b"key");
            body[at + 3..at + 3 + data.len()].copy_from_slice(data);
            entries.push(Entry::new(at as u32, Some(3), data.len() as u32));
            at += 3 + data.len();
        }
        write_index(body, payload, &entries);
        let stamp = Stamp {
            kind: FrameKind::Batch,
            shard,
            sequence: first,
            arrival: self.now,
            count,
            producer: 0,
            number: 0,
            body_crc: None,
        };
        let durable_at = self.log.close_frame(frame, stamp, &mut self.buffers);
        for (sequence, data) in (first..).zip(datas) {
            self.model.entry(shard).or_default().insert(sequence, Kept { data, durable_at, acked: false });
        }
        self.next.insert(shard, first + count as u64);
        Ok(())
    }

    fn append(&mut self, shard: u32, count: u32, len: usize) {
        self.try_append(shard, count, len).expect("there is room");
    }

    /// All records of a shard from `sequence`, or why one cannot be read.
    fn read(&mut self, shard: ShardKey, sequence: u64) -> Result<Vec<(u64, Vec<u8>)>, String> {
        let mut damage = Vec::new();
        let found = self.read_with(Reader::new(shard, sequence), &mut damage);
        match damage.first() {
            None => Ok(found.into_iter().filter(|(number, _)| *number >= sequence).collect()),
            Some(why) => Err(why.clone()),
        }
    }

    fn read_with(&mut self, mut reader: Reader, damage: &mut Vec<String>) -> Vec<(u64, Vec<u8>)> {
        let span = self.buffers.take(Pool::Large).expect("a slot to read into");
        let found = self.read_frames(&mut reader, usize::MAX, span, damage);
        self.buffers.give(span);
        found
    }

    /// The records of the next `frames` frames, as far as there are so many; reads go to `span`.
    fn read_frames(
        &mut self,
        reader: &mut Reader,
        mut frames: usize,
        span: Span,
        damage: &mut Vec<String>,
    ) -> Vec<(u64, Vec<u8>)> {
        let (mut found, mut steps) = (Vec::new(), 0);
        while frames > 0 {
            steps += 1;
            assert!(steps < 10_000, "a reader gets somewhere: {reader:?}");
            match reader.next(&self.log, &self.buffers) {
                Step::Frame { header, body, .. } => {
                    frames -= 1;
                    let body = self.buffers.bytes(body);
                    for record in records(body, header.count).expect("its CRC was right") {
                        assert_eq!(record.key, Some(&b"key"[..]));
                        found.push((header.sequence + record.ordinal as u64, record.data.to_vec()));
                    }
                }
                Step::Read { file, at, len } => match self.disk.read(file, at, span.first(len), &mut self.buffers) {
                    Ok(bytes) => reader.filled(span, bytes),
                    Err(errno) => assert!(reader.failed(errno), "{file} at {at}: no read of runs"),
                },
                Step::PassedOver { file, position, .. } => self.passed_over.push((file, position)),
                Step::End => break,
                Step::Damaged { why, position, .. } => damage.push(format!("{position:?}: {why}")),
            }
        }
        assert!(found.is_sorted_by(|a, b| a.0 < b.0), "numbers rise");
        found
    }

    /// Everything that was acknowledged is read, with its bytes, and nothing else.
    fn check(&mut self) {
        for (shard, model) in self.model.clone() {
            let expected: Vec<_> = model
                .iter()
                .filter(|(_, kept)| kept.acked)
                .map(|(&sequence, kept)| (sequence, kept.data.clone()))
                .collect();
            let found = self.read(shard, 0).unwrap_or_else(|why| panic!("{shard:?}: {why}"));
            let numbers = |list: &[(u64, Vec<u8>)]| list.iter().map(|(number, _)| *number).collect::<Vec<_>>();
            assert_eq!(numbers(&found), numbers(&expected), "{shard:?}");
            assert!(found == expected, "{shard:?}: other bytes than were written");
        }
    }

    /// What may go, by a survey of all there is.
    fn reclaim(&mut self, mut fate: impl FnMut(ShardKey) -> Fate, force_oldest: bool) -> Option<Reclaim> {
        while !self.log.survey(&mut fate, 2) {}
        self.log.reclaim(force_oldest)
    }

    /// Both steps of a reclaim, the catalog's part between them.
    fn reclaimed(&mut self, reclaim: Reclaim) {
        self.live = reclaim.live.clone();
        for newest in &reclaim.resume {
            let known = self.resume.entry(newest.shard).or_default();
            *known = newest.next.max(*known);
        }
        let log = &self.log;
        let emptied = |incarnation| log.segment_index(incarnation).is_some_and(|index| log.segments[index].emptied);
        let lost: Vec<u32> = reclaim.freed.iter().copied().filter(|incarnation| !emptied(*incarnation)).collect();
        for (shard, model) in &mut self.model {
            let owned = |sequence| lost.iter().any(|lost| log.extents.owner(*shard, sequence, *lost).is_some());
            model.retain(|&sequence, _| !owned(sequence));
        }
        self.log.reclaimed(reclaim);
    }

    fn segment_files(&self) -> Vec<FileName> {
        self.disk.files.keys().copied().filter(|file| matches!(file, FileName::Segment { .. })).collect()
    }
}

/// As the catalog lists a segment before it knows its end.
fn listed(incarnation: u32) -> LiveSegment {
    LiveSegment { incarnation, end: 0 }
}

fn incarnations(live: &[LiveSegment]) -> Vec<u32> {
    live.iter().map(|live| live.incarnation).collect()
}

/// Data of a record, different for each run of the server, so that a number given twice is noticed.
fn content(run: u32, shard: ShardKey, sequence: u64, len: usize) -> Vec<u8> {
    let mut random = Random((run as u64) << 48 ^ shard.0 << 20 ^ sequence);
    (0..len).map(|_| random.next() as u8).collect()
}
