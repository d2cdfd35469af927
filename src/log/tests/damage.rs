//! Bytes that change under the log: told, never served.

use super::*;
use crate::io::op::{Errno, Op, Sync};
use crate::log::Fate;
use crate::log::format::{CommitHeader, header_at};

/// A log of one shard with `commits` commits of one record each, all acknowledged; the disk is at rest.
fn filled(commits: u32, len: usize) -> Rig {
    let mut rig = Rig::new(false);
    rig.boot();
    for _ in 0..commits {
        rig.append(0, 1, len);
        rig.settle();
    }
    rig
}

pub(super) fn change(disk: &mut Disk, file: FileName, at: usize, with: impl Fn(u8) -> u8, len: usize) {
    let file = disk.files.get_mut(&file).expect("the file is there");
    for byte in at..at + len {
        file.bytes[byte] = with(file.bytes[byte]);
        file.durable[byte] = file.bytes[byte];
    }
}

/// What can be read after a restart over `disk`, what was told of damage, and the next number.
fn after(rig: &mut Rig, disk: Disk) -> (BTreeMap<u64, Vec<u8>>, usize, u64) {
    let shard = ShardKey::new(7, 0);
    rig.again(disk);
    rig.boot();
    let mut told = Vec::new();
    let found = rig.read_with(Reader::new(shard, 0), &mut told).into_iter().collect();
    let at_start = rig.events.iter().filter(|e| matches!(e, Event::Damaged { .. } | Event::Missing { .. })).count();
    let next = rig.log.newest().find(|newest| newest.shard == shard).map_or(1, |newest| newest.next);
    (found, told.len() + at_start, next)
}

#[test]
fn any_sector_of_the_active_segment_may_be_garbled() {
    let rig = filled(7, 5000);
    let model = rig.model[&ShardKey::new(7, 0)].clone();
    let (file, disk) = (rig.segment_files()[0], rig.disk.clone());
    let end = rig.log.durable().0 % SEGMENT;
    let last = model.len() as u64;
    for sector in 0..end as usize / 512 {
        for (kind, with) in [(0, (|_| 0) as fn(u8) -> u8), (1, |b| !b), (2, |b| b ^ 0x10)] {
            let mut damaged = disk.clone();
            change(&mut damaged, file, sector * 512, with, 512);
            let mut rig = filled(0, 0);
            let (found, told, next) = after(&mut rig, damaged);
            for (sequence, kept) in &model {
                match found.get(sequence) {
                    Some(data) => assert!(*data == kept.data, "sector {sector}, {kind}: wrong bytes of {sequence}"),
                    // Nothing vouches for the newest commit: it cannot be told from one that was never acknowledged.
                    None => {
                        assert!(told > 0 || *sequence == last, "sector {sector}, {kind}: {sequence} is gone in silence")
                    }
                }
            }
            assert!(found.len() + 1 >= model.len(), "sector {sector}, {kind}: more than one is lost: {}", found.len());
            assert!(next > last || found.len() as u64 == next - 1, "sector {sector}, {kind}: {next} was used");
        }
    }
}

#[test]
fn what_one_half_has_lost_is_asked_of_the_other_before_it_is_judged() {
    let rig = filled(7, 5000);
    let model = rig.model[&ShardKey::new(7, 0)].clone();
    let (file, disk) = (rig.segment_files()[0], rig.disk.clone());
    let end = rig.log.durable().0 % SEGMENT;
    let all = 0..end as usize;
    let lost = (all.clone().step_by(512).map(|at| (at, 512))).chain([(0, 3 * 8192), (8192, 2 * 8192), (0, all.end)]);
    for (at, len) in lost {
        let mut damaged = disk.clone();
        change(&mut damaged, file, at, |b| !b, len);
        let mut rig = filled(0, 0);
        rig.other_half = Some(disk.clone());
        let (found, told, next) = after(&mut rig, damaged);
        let found: Vec<_> = found.into_values().collect();
        assert!(found == model.values().map(|kept| kept.data.clone()).collect::<Vec<_>>(), "{len} bytes at {at}");
        let is_cut = rig.events.iter().any(|event| matches!(event, Event::TornTail { .. }));
        assert_eq!((told, is_cut, next), (0, false, 8), "{len} bytes at {at}: {:?}", rig.events);
    }
}

#[test]
fn a_sealed_segment_whose_trailer_one_half_has_lost_stays_sealed() {
    let mut rig = filled(3, 5000);
    rig.log.pin();
    rig.settle();
    let (file, disk) = (rig.segment_files()[0], rig.disk.clone());
    let mut damaged = disk.clone();
    change(&mut damaged, file, SEGMENT as usize - 64, |b| !b, 64);
    rig.other_half = Some(disk);
    let (found, told, next) = after(&mut rig, damaged);
    assert_eq!((found.len(), told, next), (3, 0, 4));
    rig.append(0, 1, 5000);
    rig.settle();
    // The footer says where it ends: what went behind that would not be found by a start that reads it.
    let disk = rig.disk.clone();
    rig.other_half = None;
    let (found, told, next) = after(&mut rig, disk);
    assert_eq!((found.len(), told, next), (4, 0, 5));
}

#[test]
fn a_truncated_tail_gives_the_acknowledged_prefix_or_is_told() {
    let rig = filled(7, 5000);
    let model = rig.model[&ShardKey::new(7, 0)].clone();
    let (file, disk) = (rig.segment_files()[0], rig.disk.clone());
    let end = rig.log.durable().0 % SEGMENT;
    for at in (0..end as usize).step_by(512) {
        let mut damaged = disk.clone();
        change(&mut damaged, file, at, |_| 0, SEGMENT as usize - at);
        let mut rig = filled(0, 0);
        let (found, _, next) = after(&mut rig, damaged);
        let whole = model.values().filter(|kept| kept.durable_at.0 % SEGMENT <= at as u64).count();
        assert!(found.len() == whole || found.len() == whole + 1, "cut at {at}");
        assert!(found.iter().all(|(sequence, data)| model[sequence].data == *data), "cut at {at}");
        assert!(next > found.len() as u64);
        rig.append(1, 1, 100);
        rig.settle();
        assert_eq!(rig.read(ShardKey::new(7, 1), 1).unwrap().len(), 1);
    }
}

#[test]
fn damage_of_acknowledged_records_is_copied_and_their_numbers_are_not_used_again() {
    let mut rig = filled(6, 5000);
    let (file, mut disk) = (rig.segment_files()[0], rig.disk.clone());
    // Each record is a commit of two blocks.
    let commit = |sequence: usize| (sequence - 1) * 8192;
    change(&mut disk, file, commit(4), |b| !b, 64);
    let bytes = disk.files[&file].bytes.clone();
    assert!(CommitHeader::peek(header_at(&bytes, commit(5)).unwrap()).is_ok(), "the next one stands");
    let (found, told, next) = after(&mut rig, disk);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
    assert!(told >= 1);
    assert_eq!(next, 7);
    assert!(
        rig.events
            .iter()
            .any(|e| matches!(e, Event::Damaged { position, .. } if position.0 % SEGMENT == commit(4) as u64))
    );
    let copy = rig.disk.files.iter().find(|(name, _)| matches!(name, FileName::Quarantine { .. })).expect("a copy");
    assert_eq!(copy.1.bytes, bytes[commit(4)..commit(5)]);
    // Again: told again, and a copy that a crash has cut short is made whole.
    let (name, mut disk) = (*copy.0, rig.disk.clone());
    change(&mut disk, name, 4096, |_| 0, 4096);
    let (found, told, _) = after(&mut rig, disk);
    assert!(found.len() == 5 && told >= 1);
    assert_eq!(rig.disk.files[&name].bytes, bytes[commit(4)..commit(5)]);
}

#[test]
fn the_numbers_of_a_damaged_end_are_used_up_when_a_later_commit_vouches_for_it() {
    let mut rig = filled(3, 5000);
    rig.idle_ms(60);
    let (file, mut disk) = (rig.segment_files()[0], rig.disk.clone());
    change(&mut disk, file, 2 * 8192, |b| !b, 64);
    let (found, told, next) = after(&mut rig, disk);
    assert_eq!((found.len(), next), (2, 4), "record 3 is lost, its number is not given again");
    assert!(told >= 1);
}

#[test]
fn a_torn_tail_is_cut_after_a_copy() {
    let mut rig = filled(2, 5000);
    rig.append(0, 1, 5000);
    rig.end_turn();
    let (file, mut disk) = (rig.segment_files()[0], rig.disk.clone());
    let torn = &rig.buffers.bytes(rig.log.settings.memory)[2 * 8192..2 * 8192 + 1024].to_vec();
    let target = disk.files.get_mut(&file).unwrap();
    target.bytes[2 * 8192..2 * 8192 + 1024].copy_from_slice(torn);
    target.durable = target.bytes.clone();
    let (found, told, next) = after(&mut rig, disk);
    assert_eq!((found.len(), told, next), (2, 0, 3));
    assert!(rig.events.iter().any(|event| matches!(event, Event::TornTail { bytes: 8192, .. })), "{:?}", rig.events);
    let copy = rig.disk.files.iter().find(|(name, _)| matches!(name, FileName::Quarantine { .. })).expect("a copy");
    assert_eq!(copy.1.bytes[..1024], torn[..]);
}

#[test]
fn single_bits_of_sealed_segments_are_noticed() {
    let rig = filled(40, 3000);
    let model = rig.model[&ShardKey::new(7, 0)].clone();
    let (files, disk) = (rig.segment_files(), rig.disk.clone());
    let mut random = Random(11);
    for round in 0..1500 {
        let file = files[random.below(2) as usize];
        let (at, bit) = (random.below(SEGMENT) as usize, 1 << random.below(8));
        let mut damaged = disk.clone();
        change(&mut damaged, file, at, |b| b ^ bit, 1);
        let mut rig = filled(0, 0);
        let (found, told, next) = after(&mut rig, damaged);
        for (sequence, kept) in &model {
            match found.get(sequence) {
                Some(data) => assert!(*data == kept.data, "round {round}: {file} {at}: wrong bytes of {sequence}"),
                None => assert!(told > 0, "round {round}: {file} {at}: {sequence} is gone in silence"),
            }
        }
        assert!(found.len() + 1 >= model.len(), "round {round}: {file} {at}: {} of {}", found.len(), model.len());
        assert_eq!(next, model.len() as u64 + 1);
        assert!(rig.segment_files().iter().filter(|f| files.contains(f)).count() == files.len(), "no file is removed");
    }
}

#[test]
fn a_segment_that_is_gone_is_told_also_where_the_catalog_does_not_know_it() {
    for known in [true, false] {
        let mut rig = filled(40, 3000);
        if known {
            rig.live = rig.log.segments.iter().map(|segment| listed(segment.incarnation)).collect();
        }
        let mut disk = rig.disk.clone();
        let second = rig.log.files.name(rig.log.segments[1].file);
        disk.files.remove(&second);
        let (found, _, next) = after(&mut rig, disk);
        let gone = rig.log.position(2, 0);
        let told: Vec<_> = rig.events.iter().filter(|event| matches!(event, Event::Missing { .. })).collect();
        assert_eq!(told, [&Event::Missing { position: gone }], "known: {known}");
        assert!(found.len() > 20 && next == 41);
    }
}

/// Boots over `disk`; reads of `file` from byte `at` on fail, but for the first `sound` ones.
fn boot_with_failing_reads(rig: &mut Rig, disk: Disk, file: FileName, from: u64, sound: usize) {
    rig.again(disk);
    let mut ops = Vec::new();
    rig.log.recover(&rig.live.clone(), rig.log.settings().memory, &mut ops);
    rig.take(ops);
    let mut seen = 0;
    while let Some(submitted) = rig.pending.first().cloned() {
        match submitted.op {
            Op::ReadAt { file: read, at, token, .. } if read == file && at >= from && seen >= sound => {
                rig.pending.remove(0);
                rig.deliver(Completion::Done { token, result: Err(Errno(5)) });
            }
            Op::ReadAt { file: read, at, .. } => {
                seen += (read == file && at >= from) as usize;
                rig.complete(0);
            }
            _ => rig.complete(0),
        }
    }
    let epoch = rig.log.epoch() + 1;
    rig.log.start(epoch);
    rig.run += 1;
}

#[test]
fn a_segment_that_was_sealed_takes_nothing_more_though_its_footer_could_not_be_read() {
    let mut rig = filled(12, 3000);
    // It does not fit behind the twelve, but smaller ones would.
    rig.append(0, 1, 14_000);
    assert_eq!(rig.log.segments.len(), 2);
    // The footer of the first arrives, the first commit of the second does not.
    rig.end_turn();
    let second = rig.log.files.name(rig.log.segments[1].file);
    rig.pending.retain(|s| !matches!(s.op, Op::WriteAt { file, .. } if file == second));
    while !rig.pending.is_empty() {
        rig.complete(0);
    }
    let file = rig.log.files.name(rig.log.segments[0].file);
    let disk = rig.disk.killed(&[], &mut Random(1));
    boot_with_failing_reads(&mut rig, disk, file, SEGMENT - BLOCK as u64, 1);
    rig.check_after_restart();
    rig.append(0, 1, 100);
    rig.end_turn();
    while let Some(index) = rig.pending.iter().position(|s| !matches!(s.op, Op::WriteAt { sync: Sync::Later, .. })) {
        rig.complete(index);
        rig.end_turn();
    }
    rig.check();
    let disk = rig.disk.clone();
    rig.restart(disk);
    rig.check();
}

/// Reads all of shard `number`: numbers found, and what was told.
fn read_all(rig: &mut Rig, number: u32) -> (Vec<u64>, Vec<String>) {
    let mut told = Vec::new();
    let found = rig.read_with(Reader::new(ShardKey::new(7, number), 0), &mut told);
    (found.into_iter().map(|(sequence, _)| sequence).collect(), told)
}

#[test]
fn damage_stops_only_the_readers_that_lose_something() {
    let mut rig = Rig::new(false);
    rig.boot();
    for shard in [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] {
        rig.append(shard, 1, 3000);
        rig.settle();
    }
    let (file, mut disk) = (rig.segment_files()[0], rig.disk.clone());
    // The first frame of the other shard; it is in a commit of one block of its own.
    change(&mut disk, file, 2 * BLOCK as usize + 64 + 20, |b| b ^ 1, 1);
    rig.again(disk);
    rig.boot();
    assert!(rig.log.segments.len() > 1, "sealed");
    assert_eq!(read_all(&mut rig, 0), ((1..=17).collect(), vec![]));
    let (found, told) = read_all(&mut rig, 1);
    assert_eq!((found, told.len()), (vec![2], 1), "{told:?}");
    assert!(told[0].contains("record 1") && told[0].contains("checksum"), "{told:?}");
}

#[test]
fn damage_that_a_start_has_told_does_not_stop_readers() {
    let mut rig = filled(6, 3000);
    let (file, mut disk) = (rig.segment_files()[0], rig.disk.clone());
    change(&mut disk, file, 2 * BLOCK as usize, |b| !b, 200);
    rig.again(disk);
    rig.boot();
    assert!(rig.events.iter().any(|event| matches!(event, Event::Damaged { .. })), "{:?}", rig.events);
    assert_eq!(read_all(&mut rig, 0), (vec![1, 2, 4, 5, 6], vec![]));
}

#[test]
fn the_newest_record_of_the_active_segment_is_missed_too() {
    let mut rig = filled(3, 3000);
    let (file, disk) = (rig.segment_files()[0], rig.disk.clone());
    rig.again(disk);
    rig.boot();
    change(&mut rig.disk, file, 2 * BLOCK as usize + 64, |b| !b, 20);
    let (found, told) = read_all(&mut rig, 0);
    assert_eq!((found, told.len()), (vec![1, 2], 1), "{told:?}");
    rig.append(0, 1, 10);
    rig.settle();
    let (found, told) = read_all(&mut rig, 0);
    assert_eq!((found, told.len()), (vec![1, 2, 4], 1), "{told:?}");
}

#[test]
fn a_segment_without_a_whole_commit_is_copied_and_its_numbers_stay_used() {
    let mut rig = filled(4, 3000);
    while rig.log.segments.len() < 2 {
        rig.append(0, 1, 3000);
        rig.settle();
    }
    rig.append(5, 3, 100);
    while rig.log.segments.len() < 4 {
        rig.append(0, 1, 3000);
        rig.settle();
    }
    let (file, at) = (rig.log.files.name(rig.log.segments[1].file), rig.log.position(2, 0));
    let mut disk = rig.disk.clone();
    for block in 0..SEGMENT as usize / BLOCK as usize {
        change(&mut disk, file, block * BLOCK as usize + 60, |b| !b, 4);
    }
    change(&mut disk, file, SEGMENT as usize - BLOCK as usize, |_| 0, BLOCK as usize);
    let damaged = disk.files[&file].bytes[..rig.log.data_end() as usize].to_vec();
    rig.again(disk);
    rig.boot();
    let copy = FileName::Quarantine { log: 3, position: at.0 };
    assert!(rig.disk.files.get(&copy).is_some_and(|copy| copy.bytes == damaged), "{:?}", rig.events);
    let told = |event: &Event| matches!(event, Event::Damaged { position, .. } if *position == at);
    assert!(rig.events.iter().any(told), "{:?}", rig.events);
    let shard = ShardKey::new(7, 5);
    let next = |rig: &Rig| rig.log.newest().find(|newest| newest.shard == shard).map(|newest| newest.next);
    assert_eq!(next(&rig), Some(4), "what is left of its frames says so");
    // The file is not live any more: what it said must be held elsewhere before it is used again.
    let reclaim = rig.reclaim(|_| Fate::ExpiresBefore(0), true).expect("the oldest");
    assert!(reclaim.resume.iter().any(|newest| newest.shard == shard && newest.next == 4), "{reclaim:?}");
}

#[test]
fn a_segment_whose_long_first_commit_lost_its_header_is_found_by_what_follows() {
    let mut rig = Rig::new(false);
    rig.boot();
    for len in [20_000, 3000, 3000] {
        rig.append(0, 1, len);
        rig.settle();
    }
    let (file, mut disk) = (rig.segment_files()[0], rig.disk.clone());
    change(&mut disk, file, 0, |b| b ^ 1, 1);
    rig.again(disk);
    rig.boot();
    assert!(rig.events.iter().any(|event| matches!(event, Event::Damaged { .. })), "{:?}", rig.events);
    assert_eq!(read_all(&mut rig, 0).0, [2, 3]);
}

#[test]
fn what_a_start_has_recovered_is_vouched_for() {
    let mut rig = filled(3, 3000);
    for _ in 0..2 {
        let disk = rig.disk.clone();
        rig.again(disk);
        rig.boot();
        rig.settle();
    }
    let (file, mut disk) = (rig.segment_files()[0], rig.disk.clone());
    let vouches = rig.log.durable().0 % SEGMENT / BLOCK as u64 - 3;
    assert_eq!(vouches, 1, "once");
    change(&mut disk, file, 2 * BLOCK as usize, |b| !b, 64);
    let (found, told, next) = after(&mut rig, disk);
    assert_eq!((found.len(), told, next), (2, 1, 4), "record 3 was acknowledged");
}

#[test]
fn damage_before_a_segment_that_was_recycled_is_told() {
    let mut rig = Rig::new(false);
    rig.boot();
    // A segment of each, and one more record.
    for (shard, count) in [(0, 15), (1, 15), (0, 16)] {
        for _ in 0..count {
            rig.append(shard, 1, 3000);
            rig.settle();
        }
    }
    // The second one goes: the others say nothing of each other any more.
    let only_one = &mut |shard: ShardKey| match shard.shard() {
        0 => Fate::ExpiresBefore(0),
        _ => Fate::Deleted,
    };
    let reclaim = rig.reclaim(only_one, false).expect("one is deleted");
    assert_eq!((reclaim.freed.clone(), incarnations(&reclaim.live)), (vec![2], vec![1, 3, 4]));
    rig.reclaimed(reclaim);
    let held = rig.model[&ShardKey::new(7, 0)].len();
    let (file, mut disk) = (rig.log.files.name(rig.log.segments[0].file), rig.disk.clone());
    change(&mut disk, file, SEGMENT as usize - BLOCK as usize, |_| 0, BLOCK as usize);
    let sound = disk.clone();
    let mut without_end = sound.clone();
    change(&mut disk, file, 3 * BLOCK as usize + 60, |b| !b, 1);
    change(&mut without_end, file, 9 * BLOCK as usize, |_| 0, 7 * BLOCK as usize);
    let told = |event: &&Event| matches!(event, Event::Damaged { .. });
    rig.again(sound);
    rig.boot();
    assert_eq!((read_all(&mut rig, 0).0.len(), rig.events.iter().find(told)), (held, None));
    // The end and the footer are zeros, and the segment that went on from it has gone: where it ended, only the catalog knows.
    for (disk, at, lost) in [(disk, 3 * BLOCK, 0), (without_end, 9 * BLOCK, 6)] {
        rig.again(disk);
        rig.boot();
        let wanted = rig.log.position(1, at);
        let is_it = |event: &Event| matches!(event, Event::Damaged { position, .. } if *position == wanted);
        assert!(rig.events.iter().any(is_it), "{:?}", rig.events);
        assert_eq!(read_all(&mut rig, 0).0.len(), held - lost);
    }
}

/// Changes something in the segment files; what.
fn harm(disk: &mut Disk, files: &[FileName], random: &mut Random) -> String {
    let pick = |random: &mut Random| files[random.below(files.len() as u64) as usize];
    let (file, block) = (pick(random), random.below(SEGMENT / BLOCK as u64) as usize * BLOCK as usize);
    match random.below(5) {
        0 => {
            let (at, bit) = (random.below(SEGMENT) as usize, 1 << random.below(8));
            change(disk, file, at, |b| b ^ bit, 1);
            format!("bit of byte {at} of {file}")
        }
        1 => {
            // A file that begins with an eighth of zeros has not been used.
            let len = if block == 0 { 1 } else { 1 + random.below(6) as usize } * BLOCK as usize;
            change(disk, file, block, |_| 0, len.min(SEGMENT as usize - block));
            format!("{len} zeros at {block} of {file}")
        }
        2 => {
            let (from, at) = (pick(random), random.below(SEGMENT / BLOCK as u64) as usize * BLOCK as usize);
            let bytes = disk.files[&from].bytes[at..at + BLOCK as usize].to_vec();
            let target = disk.files.get_mut(&file).expect("it is there");
            target.bytes[block..block + BLOCK as usize].copy_from_slice(&bytes);
            target.durable = target.bytes.clone();
            format!("block {at} of {from} over {block} of {file}")
        }
        3 => {
            let at = SEGMENT as usize - BLOCK as usize;
            change(disk, file, at, |_| 0, BLOCK as usize);
            let with = harm(disk, files, random);
            format!("footer of {file}, {with}")
        }
        _ => {
            change(disk, file, block, |b| b ^ 4, 64);
            format!("header at {block} of {file}")
        }
    }
}

#[test]
fn whatever_is_harmed_nothing_wrong_is_served_and_nothing_is_lost_in_silence() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut rig = Rig::with(random.chance(50), 9, Disk::default());
        rig.boot();
        for _ in 0..30 + random.below(200) {
            super::random::act(&mut rig, &mut random);
        }
        rig.settle();
        // Vouched for, and that once more: only damage of all that could pass for a torn tail, and is not tried.
        rig.idle_ms(60);
        let _ = rig.try_append(3, 1, 10);
        rig.settle();
        rig.idle_ms(60);
        let (files, sound) = (rig.segment_files(), rig.disk.clone());
        let end = (rig.log.durable().0 % SEGMENT) as usize;
        let active = rig.log.files.name(rig.log.segments.back().expect("something was written").file);
        let tail = |disk: &Disk| disk.files[&active].bytes[end.saturating_sub(3 * BLOCK as usize)..end].to_vec();
        let (disk, what) = loop {
            let mut disk = sound.clone();
            let what = harm(&mut disk, &files, &mut random);
            if tail(&disk) == tail(&sound) {
                break (disk, what);
            }
        };
        rig.again(disk);
        rig.boot();
        let mut told = rig.events.iter().filter(|e| matches!(e, Event::Damaged { .. } | Event::Missing { .. })).count();
        for (shard, model) in rig.model.clone() {
            let mut damage = Vec::new();
            let found: BTreeMap<u64, Vec<u8>> = rig.read_with(Reader::new(shard, 0), &mut damage).into_iter().collect();
            told += damage.len();
            for (sequence, data) in &found {
                assert!(
                    model.get(sequence).is_some_and(|kept| kept.data == *data),
                    "seed {seed}: {what}: {shard:?} {sequence}"
                );
            }
            let lost = model.keys().find(|sequence| !found.contains_key(sequence));
            assert!(lost.is_none() || told > 0, "seed {seed}: {what}: {shard:?} {lost:?} is gone in silence");
            let next = rig.log.newest().find(|newest| newest.shard == shard).map_or(1, |newest| newest.next);
            let used = model.last_key_value().map_or(0, |(last, _)| *last);
            assert!(next > used || told > 0, "seed {seed}: {what}: {shard:?} goes on at {next}, used {used}");
        }
        let _ = rig.try_append(0, 1, 100);
        rig.settle();
    }
}
