//! Producers over restarts, crashes and recycled segments: what is stored is known as stored, and nothing else is.

use super::*;
use crate::log::checksum::crc;
use crate::log::producers::{Claim, KEPT, Rejection, Verdict};

/// A batch as its producer remembers it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    claim: Claim,
    first: u64,
    arrival: u64,
    durable_at: Position,
    acked: bool,
}

/// Producer `id` in one shard.
struct Source {
    shard: u32,
    id: u64,
    epoch: u64,
    sent: Vec<Sent>,
}

impl Source {
    fn next(&self) -> Claim {
        let number = self.sent.last().map_or(0, |sent| sent.claim.number + 1);
        Claim {
            shard: ShardKey::new(7, self.shard),
            producer: self.id << 16 | self.epoch,
            number,
            count: 1,
            body_crc: crc(&body(self.id, number)),
        }
    }

    /// Sends the next batch, as long as there is room, and as the credit allows.
    fn append(&mut self, rig: &mut Rig) -> bool {
        if self.sent.iter().filter(|sent| !sent.acked).count() == KEPT {
            return false;
        }
        let claim = self.next();
        assert_eq!(rig.log.judge(&claim, Wall(rig.now)), Verdict::Next, "{claim:?}");
        let bytes = body(self.id, claim.number);
        let Ok(frame) = rig.log.open_frame(bytes.len() as u32, &mut rig.buffers) else { return false };
        rig.buffers.bytes_mut(rig.log.body(&frame)).copy_from_slice(&bytes);
        let next = rig.next.entry(claim.shard).or_insert(1);
        let first = *next;
        *next += 1;
        let stamp = Stamp {
            kind: FrameKind::Batch,
            shard: claim.shard,
            sequence: first,
            arrival: rig.now,
            count: 1,
            producer: claim.producer,
            number: claim.number,
            body_crc: Some(claim.body_crc),
        };
        let durable_at = rig.log.close_frame(frame, stamp, &mut rig.buffers);
        self.sent.push(Sent { claim, first, arrival: rig.now, durable_at, acked: false });
        true
    }

    fn ack(&mut self, durable: Position) {
        self.sent.iter_mut().for_each(|sent| sent.acked |= sent.durable_at <= durable);
    }

    /// After a restart: what was acked is known; of the rest, a prefix is. What is not is forgotten, as it would be sent again.
    fn check(&mut self, log: &Log, now: u64) {
        let mut known = self.sent.len();
        for (at, sent) in self.sent.iter().enumerate().rev().take(KEPT) {
            match log.judge(&sent.claim, Wall(now)) {
                Verdict::Stored { first, arrival, position } => {
                    assert_eq!((first, arrival), (sent.first, sent.arrival), "{sent:?}");
                    assert!(position <= log.durable());
                }
                other => {
                    assert!(!sent.acked, "{other:?} for what is stored: {sent:?}");
                    assert_eq!(known, at + 1, "{other:?} behind one that is stored: {sent:?}");
                    known = at;
                }
            }
        }
        self.sent.truncate(known);
        self.sent.iter_mut().for_each(|sent| sent.acked = true);
    }
}

/// The body of a batch with one record.
fn body(id: u64, number: u32) -> Vec<u8> {
    let data = vec![number as u8 ^ id as u8; 40 + (number as usize * 131 + id as usize * 37) % 3000];
    let mut body = vec![0; body_size(3 + data.len(), 1)];
    body[..3].copy_from_slice(b"key");
    body[3..3 + data.len()].copy_from_slice(&data);
    write_index(&mut body, 3 + data.len(), &[Entry::new(0, Some(3), data.len() as u32)]);
    body
}

/// All frames that can be read: none is there twice, and none would be stored again.
fn check_frames(rig: &mut Rig, shards: u32) {
    let span = rig.buffers.take(Pool::Large).expect("a slot to read into");
    let mut found = std::collections::BTreeSet::new();
    for shard in 0..shards {
        let mut reader = Reader::new(ShardKey::new(7, shard), 0);
        loop {
            match reader.next(&rig.log, &rig.buffers) {
                Step::Frame { header, .. } if header.producer == 0 => {}
                Step::Frame { header, .. } => {
                    let FrameHeader { shard, producer, number, count, body_crc, .. } = header;
                    assert!(found.insert((shard, producer, number)), "stored twice: {header:?}");
                    let verdict = rig.log.judge(&Claim { shard, producer, number, count, body_crc }, Wall(rig.now));
                    let right = matches!(
                        verdict,
                        Verdict::Stored { .. } | Verdict::Rejected(Rejection::OutOfOrder | Rejection::Fenced)
                    );
                    assert!(right, "{verdict:?} for {header:?}");
                }
                Step::Read { file, at, len } => match rig.disk.read(file, at, span.first(len), &mut rig.buffers) {
                    Ok(bytes) => reader.filled(span, bytes),
                    Err(errno) => assert!(reader.failed(errno), "{file} at {at}"),
                },
                Step::PassedOver { .. } => {}
                Step::End => break,
                Step::Damaged { why, .. } => panic!("{why}"),
            }
        }
    }
    rig.buffers.give(span);
}

/// Random steps; every crash is checked.
fn run(seed: u64, steps: u32, crash_in: u64) {
    let mut random = Random(seed);
    let mut rig = Rig::new(seed.is_multiple_of(2));
    rig.boot();
    let source = |(shard, id)| Source { shard, id, epoch: 1, sent: Vec::new() };
    let mut sources: Vec<Source> = [(0, 5), (0, 6), (1, 5)].map(source).into();
    for _ in 0..steps {
        rig.now += random.below(50_000);
        match random.below(14) {
            0..6 => {
                let at = random.below(3) as usize;
                sources[at].append(&mut rig);
            }
            6 => drop(rig.try_append(2, 1, 700)),
            7 if random.below(30) == 0 => {
                let source = &mut sources[random.below(3) as usize];
                (source.epoch, source.sent) = (source.epoch + 1, Vec::new());
            }
            8 if rig.log.segments.len() > 4 => {
                if let Some(reclaim) = rig.reclaim(|_| Fate::ExpiresBefore(0), true) {
                    rig.reclaimed(reclaim);
                }
            }
            9 if random.below(crash_in) == 0 => {
                let disk = match random.below(2) {
                    0 => rig.disk.killed(&rig.pending, &mut random),
                    _ => rig.disk.crashed(&rig.pending, &mut random),
                };
                rig.restart(disk);
                sources.iter_mut().for_each(|source| source.check(&rig.log, rig.now));
                // Numbers of records that this run did not make are the log's to say.
                for newest in rig.log.newest().collect::<Vec<_>>() {
                    rig.next.insert(newest.shard, newest.next.max(rig.resume.get(&newest.shard).copied().unwrap_or(1)));
                }
                check_frames(&mut rig, 2);
            }
            10 => rig.end_turn(),
            _ if !rig.pending.is_empty() => {
                let index = random.below(rig.pending.len() as u64) as usize;
                rig.complete(index);
            }
            _ => rig.end_turn(),
        }
        let durable = rig.log.durable();
        sources.iter_mut().for_each(|source| source.ack(durable));
    }
    rig.settle();
    rig.restart(rig.disk.clone());
    sources.iter_mut().for_each(|source| source.check(&rig.log, rig.now));
    check_frames(&mut rig, 2);
    assert!(sources.iter().any(|source| source.sent.len() > 20), "something was sent");
}

#[test]
fn what_is_stored_is_known_after_crashes_and_recycling() {
    for seed in 0..60 {
        run(seed, 1_500, 8 + seed % 60);
    }
}

#[test]
fn a_table_outlives_the_segments_that_it_was_made_in_and_a_clean_stop_and_a_lost_footer() {
    let mut rig = Rig::new(false);
    rig.boot();
    let mut early = Source { shard: 0, id: 9, epoch: 4, sent: Vec::new() };
    for _ in 0..10 {
        early.append(&mut rig);
        rig.settle();
        early.ack(rig.log.durable());
    }
    let begun = rig.log.segments.back().expect("active").incarnation;
    while rig.log.segments.front().expect("active").incarnation <= begun {
        if rig.try_append(1, 1, 9_000).is_err() {
            let reclaim = rig.reclaim(|_| Fate::ExpiresBefore(0), true).expect("there is something to give");
            rig.reclaimed(reclaim);
        }
        rig.settle();
    }
    assert_eq!(rig.read(ShardKey::new(7, 0), 0), Ok(vec![]), "its records have gone");
    let fenced = Claim { producer: 9 << 16 | 3, ..early.next() };
    for _ in 0..2 {
        rig.restart(rig.disk.clone());
        early.check(&rig.log, rig.now);
        assert_eq!(early.sent.len(), 10, "all are known");
        assert_eq!(rig.log.judge(&early.next(), Wall(rig.now)), Verdict::Next);
        assert_eq!(rig.log.judge(&fenced, Wall(rig.now)), Verdict::Rejected(Rejection::Fenced));
        rig.log.close();
        rig.settle();
    }
    // The newest segment is sealed, as a crash between two segments leaves it.
    rig.restart(rig.disk.clone());
    early.append(&mut rig);
    rig.log.seal_segment();
    rig.settle();
    early.ack(rig.log.durable());
    assert!(early.sent[10].acked && !rig.log.active);
    rig.restart(rig.disk.clone());
    early.check(&rig.log, rig.now);
    assert_eq!(early.sent.len(), 11);
}

#[test]
fn a_damaged_table_is_told_and_no_batch_is_taken_for_the_next_one() {
    let mut rig = Rig::new(false);
    rig.boot();
    let mut source = Source { shard: 0, id: 9, epoch: 4, sent: Vec::new() };
    source.append(&mut rig);
    rig.settle();
    let before = rig.log.segments.len();
    while rig.log.segments.len() == before {
        rig.append(1, 1, 9_000);
        rig.settle();
    }
    rig.idle_ms(100);
    let file = rig.log.files.name(rig.log.segments.back().expect("active").file);
    let mut disk = rig.disk.clone();
    super::damage::change(&mut disk, file, 64 + 64 + 20, |byte| byte ^ 1, 1);
    rig.restart(disk);
    assert!(rig.events.iter().any(|event| matches!(event, Event::Damaged { .. })), "{:?}", rig.events);
    let unknown = Verdict::Rejected(Rejection::Unknown);
    assert_eq!(rig.log.judge(&source.next(), Wall(rig.now)), unknown);
}

#[test]
fn what_was_forgotten_with_its_stream_takes_no_place_from_others_after_a_restart() {
    for table_knows in [false, true] {
        let mut rig = Rig::new(false);
        rig.boot();
        let half = rig.log.producers.most() as u64 / 2;
        let append = |shard, rig: &mut Rig| -> Vec<Source> {
            let sources = (0..half).map(|id| Source { shard, id, epoch: 1, sent: Vec::new() });
            let sent = sources.map(|mut source| {
                assert!(source.append(rig));
                rig.settle();
                source.ack(rig.log.durable());
                source
            });
            sent.collect()
        };
        let mut early = append(0, &mut rig);
        append(1, &mut rig);
        if table_knows {
            // The next segment begins with the table.
            rig.log.seal_segment();
            assert!(early[0].append(&mut rig));
            rig.settle();
            early[0].ack(rig.log.durable());
        }
        let gone = ShardKey::new(7, 1);
        rig.log.forget_producers(|shard| shard == gone);
        let mut late = append(2, &mut rig);
        rig.gone = Some(gone);
        rig.restart(rig.disk.clone());
        for source in early.iter_mut().chain(&mut late) {
            assert!(source.sent.iter().all(|sent| sent.acked));
            source.check(&rig.log, rig.now);
        }
        assert_eq!(rig.log.producers.len() as u64, half * 2);
    }
}
