//! One rule each.

use super::*;
use crate::io::op::{Errno, Op, OpenHow, Sync};
use crate::log::{Fate, Newest};

#[test]
fn what_is_appended_is_read_back_when_durable_and_not_before() {
    for flush in [false, true] {
        let mut rig = Rig::new(flush);
        rig.boot();
        rig.append(0, 3, 100);
        rig.append(1, 1, 5000);
        rig.append(0, 2, 10);
        rig.end_turn();
        assert_eq!(rig.read(ShardKey::new(7, 0), 1), Ok(vec![]), "nothing is durable yet");
        rig.settle();
        assert!(rig.model.values().flat_map(|m| m.values()).all(|kept| kept.acked));
        rig.check();
        assert_eq!(rig.read(ShardKey::new(7, 0), 4).unwrap().len(), 2, "from a number in the middle");
        assert_eq!(rig.read(ShardKey::new(7, 9), 1), Ok(vec![]), "a shard that is not there");
    }
}

#[test]
fn the_memory_wraps_segments_follow_each_other_and_all_stays_readable() {
    for flush in [false, true] {
        let mut rig = Rig::new(flush);
        rig.boot();
        for round in 0..60 {
            rig.append(round % 3, 1 + round % 4, 700);
            if round % 5 == 4 {
                rig.settle();
            }
        }
        rig.settle();
        assert!(rig.log.segments.len() > 2, "several segments");
        assert!(rig.log.commits.holding(rig.log.position(1, 0)).is_none(), "the oldest has left the memory");
        rig.check();
        let sealed: Vec<_> = rig.log.segments.iter().map(|segment| segment.footer).collect();
        assert!(sealed.iter().rev().skip(1).all(|footer| *footer == crate::log::FooterState::Settled), "{sealed:?}");
        let disk = rig.disk.clone();
        rig.restart(disk);
        rig.check();
        rig.append(0, 1, 10);
        rig.settle();
        rig.check();
    }
}

#[test]
fn footers_and_frames_give_the_same_index() {
    let mut rig = Rig::new(false);
    rig.boot();
    for round in 0..80 {
        rig.append(round % 5, 1 + round % 3, 900);
        rig.settle();
    }
    let with_footers = rig.disk.clone();
    let mut without = rig.disk.clone();
    for file in without.files.values_mut() {
        let at = file.bytes.len() - BLOCK as usize;
        file.bytes[at..].fill(0);
        file.durable[at..].fill(0);
    }
    let mut indexes = Vec::new();
    for disk in [with_footers, without] {
        rig.restart(disk);
        rig.check();
        let sealed = rig.log.segments.iter().take(rig.log.segments.len() - 1);
        let summaries: Vec<_> = sealed.map(|segment| rig.log.summary(segment)).collect();
        let slots = (0..rig.log.extents.shards()).map(|slot| rig.log.extents.slot(slot));
        let extents: BTreeMap<_, _> = slots.map(|(shard, extents)| (shard, extents.to_vec())).collect();
        indexes.push((summaries, extents));
    }
    assert!(indexes[0].0.len() > 3);
    assert_eq!(indexes[0], indexes[1]);
}

#[test]
fn a_later_commit_that_lands_first_releases_nothing() {
    let mut rig = Rig::new(false);
    rig.boot();
    rig.append(0, 1, 100);
    rig.settle();
    let before = rig.log.durable();
    for shard in 1..4 {
        rig.append(shard, 1, 100);
        rig.end_turn();
    }
    let writes = |rig: &Rig| rig.pending.iter().filter(|s| matches!(s.op, Op::WriteAt { .. })).count();
    assert_eq!(writes(&rig), 3, "three commits in flight");
    while rig.pending.len() > 1 {
        rig.complete(rig.pending.len() - 1);
        assert_eq!(rig.log.durable(), before);
    }
    rig.complete(0);
    assert!(rig.log.durable() > before);
    rig.check();
}

#[test]
fn a_flush_covers_only_writes_that_were_seen_before_it() {
    let mut rig = Rig::new(true);
    rig.boot();
    rig.append(0, 1, 100);
    rig.settle();
    rig.append(1, 1, 100);
    rig.end_turn();
    rig.append(2, 1, 100);
    rig.end_turn();
    rig.complete(0);
    rig.end_turn();
    assert!(matches!(rig.pending[1].op, Op::Fsync { .. }), "the first write is flushed");
    rig.complete(0);
    let second = rig.log.commits.get(rig.log.commits.end() - 1).position;
    rig.complete(0);
    assert_eq!(rig.log.durable(), second, "the second write arrived after the flush was submitted");
    rig.settle();
    assert!(rig.log.durable() > second);
}

#[test]
fn an_error_is_final_and_reads_go_on() {
    let outcomes = [Err(Errno(5)), Ok(512)];
    for result in outcomes {
        let mut rig = Rig::new(false);
        rig.boot();
        rig.append(0, 2, 100);
        rig.settle();
        rig.append(0, 1, 100);
        rig.append(1, 1, 100);
        rig.end_turn();
        let failed = rig.pending.remove(0);
        let Op::WriteAt { token, sync: Sync::Durable, .. } = failed.op else { panic!("{:?}", failed.op) };
        rig.deliver(Completion::Done { token, result });
        assert!(rig.log.failed().is_some());
        assert_eq!(rig.try_append(0, 1, 10), Err(Refusal::Failed));
        rig.settle();
        rig.idle_ms(100);
        rig.check();
        assert_eq!(rig.read(ShardKey::new(7, 0), 1).unwrap().len(), 2);
        assert!(rig.log.closed());
    }
}

#[test]
fn an_idle_log_vouches_once_and_a_clean_stop_is_said() {
    let mut rig = Rig::new(false);
    rig.boot();
    rig.idle_ms(100);
    assert_eq!(rig.log.durable(), Position(0), "an empty log has nothing to vouch for");
    rig.append(0, 1, 100);
    rig.settle();
    let written = rig.log.durable();
    assert_eq!(rig.log.deadline(), Some(Mono(rig.now * 1_000).plus_ms(50)));
    rig.idle_ms(50);
    assert_eq!(rig.log.durable().0, written.0 + BLOCK as u64);
    rig.idle_ms(5000);
    assert_eq!(rig.log.durable().0, written.0 + BLOCK as u64, "once");
    rig.log.close();
    assert!(!rig.log.closed());
    rig.settle();
    assert!(rig.log.closed());
    assert_eq!(rig.log.durable().0, written.0 + 2 * BLOCK as u64);
    let disk = rig.disk.clone();
    rig.restart(disk);
    assert!(rig.events.contains(&Event::Recovered { records: 1, torn: 0 }), "{:?}", rig.events);
}

#[test]
fn a_full_log_refuses_until_a_segment_is_given_back() {
    let mut rig = Rig::with(false, 4, Disk::default());
    rig.boot();
    let full = (0..200).find_map(|_| {
        let refusal = rig.try_append(0, 1, 7000).err();
        rig.settle();
        refusal
    });
    assert_eq!(full, Some(Refusal::Full));
    rig.idle_ms(60);
    rig.check();
    let reclaim = rig.reclaim(|_| Fate::ExpiresBefore(0), true).expect("the oldest one goes");
    assert!(reclaim.trimmed_until > 0 && reclaim.freed.len() == 1 && reclaim.resume.is_empty());
    assert_eq!(rig.try_append(0, 1, 7000), Err(Refusal::Full), "not before the catalog has it");
    rig.reclaimed(reclaim);
    rig.append(0, 1, 7000);
    rig.settle();
    rig.check();
    let disk = rig.disk.clone();
    rig.restart(disk);
    rig.check();
}

#[test]
fn a_deleted_stream_s_segments_go_and_others_tell_where_their_shards_go_on() {
    let mut rig = Rig::new(false);
    rig.boot();
    rig.append(9, 4, 100);
    while rig.log.segments.len() < 4 {
        rig.append(0, 1, 9000);
        rig.settle();
    }
    let expired = ShardKey::new(7, 9);
    let fate = |shard: ShardKey| if shard == expired { Fate::ExpiresBefore(u64::MAX) } else { Fate::Deleted };
    let reclaim = rig.reclaim(fate, false).expect("all sealed segments");
    assert_eq!(reclaim.freed, [1, 2, 3]);
    assert_eq!(incarnations(&reclaim.live), [4]);
    assert!(reclaim.resume.contains(&Newest { shard: expired, next: 5, arrival: 1_000_000 }), "{:?}", reclaim.resume);
    assert!(rig.reclaim(fate, true).is_none(), "one at a time");
    rig.reclaimed(reclaim);
    assert_eq!(rig.log.usage().free_segments, 8 - 1 - 2);
    rig.append(0, 1, 9000);
    rig.settle();
    let disk = rig.disk.clone();
    rig.restart(disk);
    assert_eq!(rig.read(expired, 1), Ok(vec![]), "a recycled file gives nothing");
}

#[test]
fn several_frames_may_be_open_and_any_of_them_cancelled() {
    let mut rig = Rig::new(false);
    rig.boot();
    rig.append(0, 1, 10);
    let middle = rig.log.open_frame(1000, &mut rig.buffers).unwrap();
    let newest = rig.log.open_frame(500, &mut rig.buffers).unwrap();
    rig.log.cancel_frame(newest, &mut rig.buffers);
    rig.append(1, 2, 300);
    rig.log.cancel_frame(middle, &mut rig.buffers);
    rig.settle();
    rig.check();
    let only = rig.log.open_frame(100, &mut rig.buffers).unwrap();
    rig.log.cancel_frame(only, &mut rig.buffers);
    rig.end_turn();
    assert!(rig.pending.is_empty(), "a commit without frames is not written");
    // Frames that stay open over a segment's end.
    for round in 0..12 {
        let frames: Vec<_> = (0..3).map(|_| rig.log.open_frame(9000, &mut rig.buffers).unwrap()).collect();
        for (shard, frame) in frames.into_iter().enumerate() {
            if (round + shard) % 3 == 0 {
                rig.log.cancel_frame(frame, &mut rig.buffers);
                continue;
            }
            let shard = ShardKey::new(8, shard as u32);
            let next = rig.next.entry(shard).or_insert(1);
            let sequence = *next;
            *next += 1;
            rig.buffers.bytes_mut(frame.body).fill(7);
            let stamp = Stamp {
                kind: FrameKind::Batch,
                shard,
                sequence,
                arrival: 1,
                count: 1,
                producer: 0,
                number: 0,
                body_crc: None,
            };
            let _ = rig.log.close_frame(frame, stamp, &mut rig.buffers);
        }
        rig.settle();
    }
    for shard in 0..3 {
        let mut reader = Reader::new(ShardKey::new(8, shard), 0);
        let span = rig.buffers.take(Pool::Large).unwrap();
        let mut frames = 0;
        loop {
            match reader.next(&rig.log, &rig.buffers) {
                Step::Frame { .. } => frames += 1,
                Step::Read { file, at, len } => {
                    let bytes = rig.disk.read(file, at, span.first(len), &mut rig.buffers).expect("it can be read");
                    reader.filled(span, bytes);
                }
                Step::End => break,
                other => panic!("{other:?}"),
            }
        }
        rig.buffers.give(span);
        assert_eq!(frames, 8, "shard {shard}");
    }
    let disk = rig.disk.clone();
    rig.restart(disk);
    rig.check();
}

#[test]
fn refusals_name_their_reason() {
    let mut rig = Rig::new(false);
    assert_eq!(rig.try_append(0, 1, 10), Err(Refusal::Failed), "not started");
    rig.boot();
    assert_eq!(rig.try_append(0, 1, 40_000), Err(Refusal::TooLarge));
    let busy = (0..50).find_map(|_| rig.try_append(0, 1, 20_000).err());
    assert_eq!(busy, Some(Refusal::Busy), "the memory is full of commits on their way");
    rig.settle();
    rig.append(0, 1, 20_000);
    rig.settle();
    rig.check();
}

#[test]
fn reading_by_arrival_starts_at_or_before_it() {
    let mut rig = Rig::new(false);
    rig.boot();
    let mut arrivals = Vec::new();
    for _ in 0..40 {
        rig.now += 10;
        arrivals.push(rig.now);
        rig.append(0, 1, 6000);
        rig.settle();
    }
    let shard = ShardKey::new(7, 0);
    for (index, &arrival) in arrivals.iter().enumerate() {
        for at in [arrival - 5, arrival] {
            let found = rig.read_with(Reader::at_arrival(shard, at), &mut Vec::new());
            let first = found.first().expect("one arrived later").0;
            assert!(first <= index as u64 + 1, "record {} is not missed", index + 1);
            assert!(first + 16 > index as u64, "nor is all before it read: from {first} for {index}");
        }
    }
    assert!(rig.read_with(Reader::at_arrival(shard, rig.now + 64), &mut Vec::new()).is_empty());
}

#[test]
fn a_segment_that_the_companion_cannot_prepare_is_made_by_the_log() {
    let mut rig = Rig::new(false);
    rig.boot();
    rig.end_turn();
    for submitted in std::mem::take(&mut rig.pending) {
        let Op::Prepare { token, .. } = submitted.op else { panic!("{:?}", submitted.op) };
        rig.deliver(Completion::Done { token, result: Err(Errno(5)) });
    }
    rig.append(0, 1, 100);
    rig.settle();
    rig.check();
    assert_eq!(rig.segment_files().len(), 3, "one made, two more prepared");
}

#[test]
fn a_file_system_without_room_makes_the_log_full_not_failed() {
    let mut rig = Rig::new(false);
    rig.boot();
    rig.append(0, 1, 100);
    let full = (0..200).find_map(|_| {
        rig.end_turn();
        while let Some(submitted) = rig.pending.first().cloned() {
            match submitted.op {
                Op::Prepare { token, .. } => {
                    rig.pending.remove(0);
                    rig.deliver(Completion::Done { token, result: Err(Errno(28)) });
                }
                _ => rig.complete(0),
            }
            rig.end_turn();
        }
        rig.try_append(0, 1, 7000).err()
    });
    assert_eq!((full, rig.log.failed()), (Some(Refusal::Full), None));
    rig.check();
}

#[test]
fn no_segment_is_made_where_one_could_not_be_prepared_for_want_of_room() {
    let mut rig = Rig::new(false);
    rig.boot();
    rig.append(0, 1, 100);
    rig.settle();
    // The file system is full from now on. The companion finds out once; what else it was asked for it has not come to.
    let mut found_out = false;
    let refusal = (0..200).find_map(|_| {
        rig.end_turn();
        while let Some(at) = rig.pending.iter().position(|s| !found_out || !matches!(s.op, Op::Prepare { .. })) {
            match rig.pending[at].op {
                Op::Prepare { token, .. } | Op::Open { how: OpenHow::Create { .. }, token, .. } => {
                    found_out = true;
                    rig.pending.remove(at);
                    rig.deliver(Completion::Done { token, result: Err(Errno(28)) });
                }
                _ => rig.complete(at),
            }
            rig.end_turn();
        }
        rig.try_append(0, 1, 7000).err()
    });
    assert!(found_out && rig.log.failed().is_none(), "{refusal:?}");
    assert!(matches!(refusal, Some(Refusal::Busy | Refusal::Full)), "{refusal:?}");
}

#[test]
fn the_newest_durable_segment_is_never_given_back() {
    let mut rig = Rig::new(false);
    rig.boot();
    while rig.log.segments.len() < 3 {
        rig.append(0, 1, 9000);
        if rig.log.segments.len() < 3 {
            rig.settle();
        }
    }
    // The third one holds nothing durable: a crash may leave no trace of it.
    let reclaim = rig.reclaim(|_| Fate::Deleted, false).expect("the first one");
    assert_eq!((reclaim.freed.clone(), incarnations(&reclaim.live)), (vec![1], vec![2]));
    rig.reclaimed(reclaim);
    let mut random = Random(1);
    let disk = rig.disk.crashed(&[], &mut random);
    rig.restart(disk);
    assert!(rig.log.segments.iter().map(|segment| segment.incarnation).eq([2]));
}

#[test]
fn a_commit_joins_the_chain_only_behind_its_own_predecessor_and_in_a_later_epoch() {
    let forge = |change: fn(&mut crate::log::format::CommitHeader)| {
        let mut rig = Rig::new(false);
        rig.boot();
        rig.append(0, 1, 100);
        rig.settle();
        let disk = rig.disk.clone();
        rig.restart(disk);
        rig.append(0, 1, 100);
        rig.settle();
        // The next commit, as it would be written, in the place where it would be.
        rig.append(0, 1, 100);
        rig.end_turn();
        let write = rig.pending.iter().find(|s| matches!(s.op, Op::WriteAt { .. })).expect("on its way").op;
        let Op::WriteAt { file, at, from, .. } = write else { unreachable!("found as one") };
        let mut commit = rig.buffers.bytes(from).to_vec();
        let (mut header, _) = crate::log::format::CommitHeader::decode(&commit).expect("whole");
        change(&mut header);
        header.seal(&mut commit);
        let mut disk = rig.disk.clone();
        disk.files.get_mut(&file).expect("there").bytes[at as usize..at as usize + commit.len()]
            .copy_from_slice(&commit);
        rig.again(disk);
        rig.boot();
        rig.read(ShardKey::new(7, 0), 1).expect("nothing is damaged").len()
    };
    assert_eq!(forge(|_| ()), 3);
    assert_eq!(forge(|header| header.previous ^= 1), 2);
    assert_eq!(forge(|header| header.epoch -= 1), 2);
    assert_eq!(forge(|header| header.directory ^= 1), 2);
    assert_eq!(forge(|header| header.incarnation += 1), 2);
}

#[test]
fn each_canary_breaks_its_rule() {
    let shard = ShardKey::new(7, 0);
    let mut rig = Rig::new(false);
    rig.canary.read_undurable = true;
    rig.again(Disk::default());
    rig.boot();
    rig.append(0, 1, 10);
    rig.end_turn();
    assert_eq!(rig.read(shard, 1).unwrap().len(), 1);
    let mut rig = Rig::new(false);
    rig.canary.ack_before_durable = true;
    rig.again(Disk::default());
    rig.boot();
    rig.settle();
    rig.append(0, 1, 10);
    rig.end_turn();
    assert!(rig.model[&shard][&1].acked && !rig.pending.is_empty());
}
