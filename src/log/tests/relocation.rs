//! Emptying segments: what it gives back, and that nothing is lost by it.

use super::*;
use crate::io::op::Op;
use crate::log::FooterState;
use crate::log::format::{CommitHeader, CommitKind};

const KEPT: ShardKey = ShardKey::new(7, 1);

/// Records of shard 0 expire, those of shard 1 are kept.
pub(super) fn fate(shard: ShardKey) -> Fate {
    if shard == KEPT { Fate::ExpiresBefore(0) } else { Fate::ExpiresBefore(u64::MAX) }
}

impl Rig {
    /// Surveys, relocates, reclaims, until nothing changes any more.
    pub(super) fn tidy_up(&mut self, fate: impl Fn(ShardKey) -> Fate) {
        for _ in 0..200 {
            if let Some(reclaim) = self.reclaim(&fate, false) {
                self.reclaimed(reclaim);
            }
            self.now += 200_000_000;
            let (now, mut ops) = (self.now(), Vec::new());
            self.log.relocate(now, false, &mut { &fate }, &mut self.buffers, &mut ops);
            self.log.end_turn(now, &mut self.buffers, &mut ops);
            self.take(ops);
            while !self.pending.is_empty() {
                self.complete(0);
                let (now, mut ops) = (self.now(), Vec::new());
                self.log.end_turn(now, &mut self.buffers, &mut ops);
                self.take(ops);
            }
        }
    }

    pub(super) fn kinds(&self, kind: CommitKind) -> usize {
        let blocks = |bytes: &Vec<u8>| {
            let of = |block: &[u8]| CommitHeader::peek(block[..64].try_into().expect("64 bytes"));
            bytes.chunks(BLOCK as usize).filter(|block| of(block).is_ok_and(|header| header.kind == kind)).count()
        };
        self.disk.files.values().map(|file| blocks(&file.bytes)).sum()
    }
}

/// A log of ten segments: now and then a record that is kept, between others.
pub(super) fn mixed(rig: &mut Rig) {
    let mut round = 0;
    while rig.log.segments.len() < 9 {
        match round % 9 {
            4 => rig.append(1, 1, 200),
            _ => rig.append(0, 1, 3000),
        }
        rig.settle();
        round += 1;
    }
}

#[test]
fn a_few_kept_records_pin_no_segments() {
    let mut rig = Rig::with(false, 16, Disk::default());
    rig.boot();
    mixed(&mut rig);
    let kept = rig.model[&KEPT].clone();
    rig.tidy_up(fate);
    assert!(rig.log.segments.len() <= 2, "{} segments are left", rig.log.segments.len());
    rig.model.retain(|shard, _| *shard == KEPT);
    let numbers = |model: &BTreeMap<u64, Kept>| model.keys().copied().collect::<Vec<_>>();
    assert_eq!(numbers(&rig.model[&KEPT]), numbers(&kept));
    rig.check();
    for from in 0..kept.len() as u64 + 2 {
        let found = rig.read(KEPT, from).expect("nothing is damaged");
        assert_eq!(found.len(), kept.range(from..).count(), "from {from}");
    }
    let disk = rig.disk.clone();
    rig.restart(disk);
    rig.append(1, 1, 200);
    rig.settle();
    rig.check();
}

#[test]
fn the_padding_of_small_commits_is_given_back_and_a_shard_s_records_lie_together() {
    let mut rig = Rig::with(false, 16, Disk::default());
    rig.boot();
    for round in 0..100 {
        rig.append(round % 2, 1, 100);
        rig.settle();
    }
    let before = rig.log.segments.len();
    rig.tidy_up(|_| Fate::ExpiresBefore(0));
    assert!(before > 6 && rig.log.segments.len() <= 2, "{before} before, {} after", rig.log.segments.len());
    rig.check();
    let disk = rig.disk.clone();
    rig.restart(disk);
    rig.check();
    assert!(rig.kinds(CommitKind::Moved) > 0);
}

#[test]
fn a_crash_at_any_operation_of_a_relocation_loses_nothing() {
    for limit in 0.. {
        let mut ended = false;
        for subset in 0..4 {
            let mut random = Random(limit * 8 + subset);
            let mut rig = Rig::with(subset % 2 == 0, 16, Disk::default());
            rig.boot();
            for round in 0..60 {
                rig.append(round % 3, 1, 150);
                rig.settle();
            }
            let mut left = limit;
            ended = true;
            'life: for round in 0..30 {
                rig.now += 200_000_000;
                if let Some(reclaim) = rig.reclaim(|_| Fate::ExpiresBefore(0), false) {
                    rig.reclaimed(reclaim);
                }
                if round % 4 == 3 {
                    rig.append(round % 3, 1, 700);
                }
                rig.end_turn();
                while !rig.pending.is_empty() {
                    if left == 0 {
                        ended = false;
                        break 'life;
                    }
                    left -= 1;
                    let index = random.below(rig.pending.len() as u64) as usize;
                    rig.complete(index);
                    if random.chance(60) {
                        rig.end_turn();
                    }
                }
            }
            let disk = match subset {
                0 => rig.disk.killed(&rig.pending, &mut random),
                _ => rig.disk.crashed(&rig.pending, &mut random),
            };
            rig.restart(disk);
            let damage = rig.events.iter().find(|e| matches!(e, Event::Damaged { .. } | Event::Missing { .. }));
            assert_eq!(damage, None, "limit {limit}, subset {subset}");
            rig.tidy_up(|_| Fate::ExpiresBefore(0));
            rig.check();
            if ended {
                assert!(rig.kinds(CommitKind::Moved) > 0, "something was moved");
            }
        }
        if ended {
            assert!(limit > 20, "a relocation has operations");
            break;
        }
    }
}

#[test]
fn what_was_moved_is_found_in_the_copy_also_where_the_footer_is_missing() {
    let mut rig = Rig::with(false, 16, Disk::default());
    rig.boot();
    mixed(&mut rig);
    rig.tidy_up(fate);
    // The segment with the copies is sealed.
    while rig.log.segments.len() < 4 {
        rig.append(1, 1, 9000);
        rig.settle();
    }
    rig.model.retain(|shard, _| *shard == KEPT);
    rig.check();
    let mut disk = rig.disk.clone();
    for with_footers in [true, false] {
        if !with_footers {
            for file in disk.files.values_mut() {
                let at = file.bytes.len() - BLOCK as usize;
                file.bytes[at..].fill(0);
                file.durable[at..].fill(0);
            }
        }
        rig.restart(disk.clone());
        rig.check();
        let sealed = rig.log.segments.iter().filter(|segment| segment.footer == FooterState::Settled).count();
        assert_eq!(sealed > 0, with_footers, "{sealed}");
    }
}

#[test]
fn a_segment_with_damage_is_told_and_keeps_what_it_has() {
    let mut rig = Rig::with(false, 16, Disk::default());
    rig.boot();
    mixed(&mut rig);
    let read = |rig: &mut Rig| rig.read_with(Reader::new(KEPT, 0), &mut Vec::new()).len();
    let held = read(&mut rig);
    // The second record of the kept shard in the first segment.
    let files: Vec<_> = rig.segment_files();
    let bytes = &mut rig.disk.files.get_mut(&files[0]).expect("it is there").bytes;
    let body = bytes.windows(4).position(|w| w == b"pf\x01\x01").expect("a frame") + 64;
    let kept = (0..bytes.len() / BLOCK as usize).map(|block| block * BLOCK as usize + 64).find(|&at| {
        crate::log::format::header_at(bytes, at)
            .and_then(|head| crate::log::format::FrameHeader::decode(head).ok())
            .is_some_and(|header| header.shard == KEPT)
    });
    let at = kept.expect("one is in the first segment") + 64 + 8;
    assert!(at > body);
    bytes[at] ^= 1;
    rig.tidy_up(fate);
    let told = rig.events.iter().filter(|event| matches!(event, Event::Damaged { .. })).count();
    assert_eq!(told, 1, "{:?}", rig.events);
    assert!(rig.log.segments.iter().any(|segment| segment.unmovable));
    assert_eq!(read(&mut rig), held - 1, "the others are there");
}

#[test]
fn with_two_free_segments_nothing_is_moved() {
    let mut rig = Rig::with(false, 16, Disk::default());
    rig.boot();
    let full = (0..2000).find_map(|round| {
        let refusal = rig.try_append(round % 2, 1, 200).err();
        rig.settle();
        refusal
    });
    assert_eq!((full, rig.log.files.free()), (Some(Refusal::Full), 3));
    rig.tidy_up(|_| Fate::ExpiresBefore(0));
    assert!(rig.log.files.free() > 8, "a full log is emptied of padding");
    rig.check();
    let mut low = rig.log.files.free();
    for round in 0..3000 {
        if rig.try_append(round % 2, 1, 3900).is_err() {
            break;
        }
        rig.settle();
        low = low.min(rig.log.files.free());
        assert!(!rig.pending.iter().any(|s| matches!(s.op, Op::ReadAt { .. })));
    }
    assert_eq!(low, 3);
    rig.check();
}
