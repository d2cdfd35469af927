//! Crashes: at every operation of a script, and anywhere in random ones.

use super::*;
use crate::log::Fate;

/// A script that touches everything: segments, footers, vouches, a reclaim.
fn script(rig: &mut Rig, step: u32) {
    match step % 12 {
        3 => {
            rig.end_turn();
            rig.append(2, 3, 400);
        }
        7 => rig.now += 60_000,
        11 if rig.log.segments.len() > 3 => reclaim(rig, true),
        _ => rig.append(step % 3, 1 + step % 2, 1500),
    }
}

fn reclaim(rig: &mut Rig, force: bool) {
    let Some(reclaim) = rig.reclaim(|_| Fate::ExpiresBefore(0), force) else { return };
    rig.reclaimed(reclaim);
}

/// Runs the script until `limit` operations have completed; whether it ended before.
fn run(rig: &mut Rig, limit: usize, random: &mut Random) -> bool {
    let mut left = limit;
    for step in 0..48 {
        script(rig, step);
        rig.end_turn();
        // Some completions only: several commits are on their way at once.
        for _ in 0..1 + step % 4 {
            if rig.pending.is_empty() {
                break;
            }
            if left == 0 {
                return false;
            }
            left -= 1;
            let index = random.below(rig.pending.len() as u64) as usize;
            rig.complete(index);
            rig.end_turn();
        }
        while rig.pending.len() > 3 {
            if left == 0 {
                return false;
            }
            left -= 1;
            rig.complete(0);
        }
    }
    true
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    for flush in [false, true] {
        for limit in 0.. {
            let mut ended = false;
            for subset in 0..6 {
                let mut random = Random(limit as u64 * 64 + subset * 2 + flush as u64);
                let mut rig = Rig::new(flush);
                rig.boot();
                ended = run(&mut rig, limit, &mut random);
                let disk = match subset {
                    0 => rig.disk.killed(&rig.pending, &mut random),
                    _ => rig.disk.crashed(&rig.pending, &mut random),
                };
                rig.restart(disk);
                let damage = rig.events.iter().find(|e| matches!(e, Event::Damaged { .. } | Event::Missing { .. }));
                assert_eq!(damage, None, "a crash is no damage: limit {limit}, subset {subset}, flush {flush}");
                // What was read once stays, also through another crash after new writes.
                rig.append(0, 2, 300);
                rig.end_turn();
                rig.append(1, 2, 2300);
                rig.end_turn();
                let again = rig.disk.crashed(&rig.pending, &mut random);
                rig.restart(again);
                rig.append(2, 1, 100);
                rig.settle();
                rig.check();
            }
            if ended {
                assert!(limit > 50, "the script has operations");
                break;
            }
        }
    }
}

#[test]
fn a_crash_during_recovery_changes_nothing() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut rig = Rig::new(seed % 2 == 0);
        rig.boot();
        run(&mut rig, 70 + seed as usize * 3, &mut random);
        let disk = rig.disk.crashed(&rig.pending, &mut random);
        for limit in 0.. {
            rig.again(disk.clone());
            let mut ops = Vec::new();
            rig.log.recover(&rig.live.clone(), rig.log.settings().memory, &mut ops);
            rig.take(ops);
            for _ in 0..limit {
                if !rig.pending.is_empty() {
                    rig.complete(0);
                }
            }
            let ended = rig.pending.is_empty();
            let crashed = rig.disk.crashed(&rig.pending, &mut random);
            let model = rig.model.clone();
            rig.restart(crashed);
            rig.model = model;
            if ended {
                break;
            }
        }
    }
}

#[test]
fn random_lives() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let mut rig = Rig::with(random.chance(50), 6 + random.below(4) as u32, Disk::default());
        rig.boot();
        for _ in 0..6 {
            for _ in 0..40 {
                act(&mut rig, &mut random);
            }
            let disk = match random.below(4) {
                0 => {
                    rig.log.close();
                    rig.settle();
                    assert!(rig.log.closed(), "seed {seed}");
                    rig.disk.clone()
                }
                1 => rig.disk.killed(&rig.pending, &mut random),
                _ => rig.disk.crashed(&rig.pending, &mut random),
            };
            rig.restart(disk);
            let damage = rig.events.iter().find(|e| matches!(e, Event::Damaged { .. } | Event::Missing { .. }));
            assert_eq!(damage, None, "seed {seed}");
        }
        rig.settle();
        rig.check();
    }
}

pub(super) fn act(rig: &mut Rig, random: &mut Random) {
    match random.below(20) {
        0 => rig.now += random.below(100_000),
        1 => {
            let shard = ShardKey::new(7, random.below(4) as u32);
            let from = random.below(20);
            let damage = rig.read(shard, from).err();
            assert_eq!(damage, None);
        }
        2 => reclaim(rig, random.chance(10)),
        3..10 => {
            let len = [10, 300, 2000, 9000][random.below(4) as usize];
            match rig.try_append(random.below(4) as u32, 1 + random.below(3) as u32, len) {
                Ok(()) | Err(Refusal::Busy) => {}
                Err(Refusal::Full) => {
                    rig.settle();
                    reclaim(rig, true);
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        _ => {
            if !rig.pending.is_empty() {
                let index = random.below(rig.pending.len() as u64) as usize;
                rig.complete(index);
            }
        }
    }
    rig.end_turn();
}
