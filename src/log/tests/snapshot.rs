//! What a snapshot holds of a log, and what becomes of files with two names.

use super::relocation::{fate, mixed};
use super::*;
use crate::io::op::{Errno, Op};
use crate::log::format::CommitKind;
use crate::log::{Fate, Held};

fn all_gone(_: ShardKey) -> Fate {
    Fate::Deleted
}

/// A log with records in three segments, all of them durable, and a fourth that is active.
fn three_segments() -> Rig {
    let mut rig = Rig::new(false);
    rig.boot();
    while rig.log.segments() < 4 {
        rig.append(0, 1, 20_000);
        rig.settle();
    }
    rig
}

fn pinned(rig: &mut Rig) -> Vec<Held> {
    rig.log.pin();
    assert_eq!(rig.log.held(), None, "the active segment is sealed when the turn ends");
    rig.end_turn();
    rig.settle();
    rig.log.held().expect("all is durable")
}

/// Gives the segment a second name.
fn link(rig: &mut Rig, held: &Held) {
    let file = rig.log.link(held);
    rig.disk.linked.insert(file);
    rig.log.linked(held, false);
}

#[test]
fn a_pinned_log_is_sealed_goes_on_in_another_segment_and_gives_nothing_back_until_it_is_linked() {
    let mut rig = three_segments();
    let held = pinned(&mut rig);
    assert_eq!(held.iter().map(|held| held.incarnation).collect::<Vec<_>>(), [1, 2, 3, 4]);
    // Two newer segments, the first of which could go.
    while rig.log.segments() < 6 {
        rig.append(1, 1, 20_000);
        rig.settle();
    }
    assert_eq!(rig.reclaim(all_gone, true), None, "the catalog is being written down");
    let name = rig.log.link(&held[0]);
    assert_eq!(rig.reclaim(all_gone, true).map(|reclaim| reclaim.freed), Some(vec![5]), "held are 1 to 4");
    rig.disk.linked.insert(name);
    rig.log.linked(&held[0], false);
    held[1..].iter().for_each(|held| link(&mut rig, held));
    rig.log.unpin();
    rig.check();
}

#[test]
fn what_is_held_waits_for_durability_and_for_a_reclaim_under_way() {
    let mut rig = three_segments();
    let reclaim = rig.reclaim(all_gone, false).expect("all but the newest");
    rig.append(0, 1, 100);
    rig.log.pin();
    rig.end_turn();
    assert_eq!(rig.log.held(), None, "a commit is on its way");
    rig.settle();
    assert_eq!(rig.log.held(), None, "the catalog is being told of a reclaim");
    rig.reclaimed(reclaim);
    let held = rig.log.held().expect("what stays is durable");
    assert_eq!(held.iter().map(|held| held.incarnation).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_file_with_two_names_is_replaced_also_after_a_restart() {
    let mut rig = three_segments();
    let held = pinned(&mut rig);
    held.iter().for_each(|held| link(&mut rig, held));
    rig.log.unpin();
    // The disk fails the test at any write into one of them.
    for turn in 0..40 {
        if turn == 20 {
            let disk = rig.disk.clone();
            rig.restart(disk);
        }
        if rig.log.usage().free_segments < 2 {
            let reclaim = rig.reclaim(|_| Fate::ExpiresBefore(0), true).expect("the oldest");
            rig.reclaimed(reclaim);
        }
        rig.append(0, 1, 20_000);
        rig.settle();
    }
    assert!(rig.disk.linked.is_empty(), "all have been replaced: {:?}", rig.disk.linked);
    rig.check();
}

#[test]
fn nothing_is_appended_to_a_segment_with_two_names_though_its_footer_is_lost() {
    let mut rig = three_segments();
    let held = pinned(&mut rig);
    held.iter().for_each(|held| link(&mut rig, held));
    let mut disk = rig.disk.clone();
    for file in disk.linked.clone() {
        let file = disk.files.get_mut(&file).expect("it is there");
        let trailer = file.bytes.len() - BLOCK as usize;
        file.bytes[trailer..].fill(0);
        file.durable[trailer..].fill(0);
    }
    rig.restart(disk);
    rig.append(0, 1, 100);
    rig.idle_ms(100);
    rig.check();
}

#[test]
fn where_the_file_system_is_full_what_a_snapshot_holds_is_not_trimmed_for_nothing() {
    let mut rig = three_segments();
    let held = pinned(&mut rig);
    link(&mut rig, &held[0]);
    for held in &held[1..] {
        rig.log.link(held);
        rig.log.linked(held, true);
    }
    rig.log.unpin();
    let mut failed = false;
    while !failed {
        rig.append(0, 1, 20_000);
        rig.end_turn();
        while let Some(submitted) = rig.pending.first() {
            match submitted.op {
                Op::Prepare { token, .. } => {
                    rig.pending.remove(0);
                    failed = true;
                    rig.deliver(Completion::Done { token, result: Err(Errno(28)) });
                }
                _ => rig.complete(0),
            }
            rig.end_turn();
        }
    }
    assert!(rig.events.contains(&Event::Room { back: false }), "{:?}", rig.events);
    let freed = rig.reclaim(|_| Fate::ExpiresBefore(0), true).map(|reclaim| reclaim.freed);
    assert_eq!(freed, Some(vec![2]), "the oldest would only be unlinked here");
}

fn incarnations(held: &[Held]) -> Vec<u32> {
    held.iter().map(|held| held.incarnation).collect()
}

#[test]
fn a_pinned_log_empties_no_segment_until_it_is_let_go() {
    let mut rig = Rig::with(false, 16, Disk::default());
    rig.boot();
    mixed(&mut rig);
    let held = pinned(&mut rig);
    rig.tidy_up(fate);
    assert_eq!(rig.kinds(CommitKind::Moved), 0, "its segments are worth emptying, but held");
    assert_eq!(rig.log.held().map(|held| incarnations(&held)), Some(incarnations(&held)));
    held.iter().for_each(|held| link(&mut rig, held));
    rig.log.unpin();
    rig.tidy_up(fate);
    assert!(rig.kinds(CommitKind::Moved) > 0 && rig.log.segments() <= 2, "{} segments are left", rig.log.segments());
    rig.model.retain(|shard, _| fate(*shard) == Fate::ExpiresBefore(0));
    rig.check();
}

#[test]
fn a_segment_that_is_being_emptied_when_its_log_is_pinned_is_in_the_snapshot_whole() {
    for goes_on in [false, true] {
        let mut rig = Rig::with(false, 16, Disk::default());
        rig.boot();
        mixed(&mut rig);
        while !rig.log.survey(&mut { fate }, 8) {}
        // Until a moved commit is on its way.
        while rig.log.moving_from().is_none() {
            rig.now += 1_000_000;
            let (now, mut ops) = (rig.now(), Vec::new());
            rig.log.relocate(now, false, &mut { fate }, &mut rig.buffers, &mut ops);
            rig.take(ops);
            (0..rig.pending.len()).for_each(|_| rig.complete(0));
        }
        let source = rig.log.moving_from().expect("it was just asked");
        rig.log.pin();
        rig.end_turn();
        assert_eq!(rig.log.held(), None, "the moved commit is on its way");
        rig.settle();
        let held = rig.log.held().expect("all is durable");
        assert!(incarnations(&held).contains(&source) && rig.kinds(CommitKind::Moved) > 0, "{held:?}");
        if goes_on {
            // It is emptied to its end, but not given back.
            rig.tidy_up(fate);
            assert!(rig.log.segments.iter().any(|segment| segment.incarnation == source && segment.emptied));
        }
        let mut disk = rig.disk.clone();
        let files: Vec<_> = held.iter().map(|held| rig.log.files.name(held.file)).collect();
        disk.files.retain(|name, _| files.contains(name));
        rig.live = held.iter().map(|held| listed(held.incarnation)).collect();
        rig.restart(disk);
        rig.tidy_up(fate);
        assert!(rig.log.segments() <= 2, "{} segments are left", rig.log.segments());
        rig.model.retain(|shard, _| fate(*shard) == Fate::ExpiresBefore(0));
        rig.check();
    }
}
