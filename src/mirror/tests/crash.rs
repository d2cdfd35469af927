//! The power fails, and operations fail, at every place that there is.

use super::*;

/// No life has so many operations.
const OPERATIONS_MAX: u32 = 1_000;

/// A life without trouble: it must come to its end, and so must the one after it. A half that is empty since it failed at the very first
/// start is one that may not be mounted.
fn recovers(rig: &mut Rig, model: &mut Model, what: &str) {
    for _ in 0..2 {
        rig.again(Trouble::default());
        let mut ended = rig.live(model);
        let is_empty = |news: &News| matches!(news, News::Refused { why } if why.contains("is empty"));
        if rig.has_told(is_empty) {
            rig.again(Trouble { is_accepted: true, ..Trouble::default() });
            ended = rig.live(model);
        }
        assert_eq!(ended, Ok(()), "{what}: {:?}", rig.news);
        assert_eq!(rig.mirror.degraded(), 0, "{what}: both halves are whole again");
    }
}

/// Runs lives with each trouble that `next` makes of a number, until one has come to its end before its trouble did.
fn everywhere(mut one: impl FnMut(u32) -> bool) {
    let ends = (0..OPERATIONS_MAX).find(|at| one(*at)).expect("a life comes to its end");
    assert!(ends > 20, "a life of {ends} operations is none");
}

#[test]
fn a_crash_after_any_operation_loses_nothing_that_was_answered() {
    everywhere(|at| {
        let mut ended = false;
        for seed in 0..4 {
            let mut rig = Rig::new((seed << 32) + at as u64);
            let mut model = Model::default();
            rig.trouble.crash_at = Some(at);
            ended = rig.live(&mut model).is_ok();
            // So does the start that makes the halves equal.
            let crash_at = Some(rig.random.below(60) as u32);
            rig.again(Trouble { crash_at, ..Trouble::default() });
            assert_ne!(rig.live(&mut model), Err(Stop::Refused), "{at}, {seed}: {:?}", rig.news);
            recovers(&mut rig, &mut model, &format!("crash at {at}, seed {seed}"));
        }
        ended
    });
}

#[test]
fn an_operation_that_fails_on_one_half_costs_nothing_that_was_answered() {
    for half in [0, 1] {
        everywhere(|number| {
            let mut met = false;
            for seed in 0..3 {
                let what = format!("operation {number} of half {half} fails, seed {seed}");
                let mut rig = Rig::new((seed << 32) + number as u64);
                let mut model = Model::default();
                // With a history, or as the first life.
                if seed != 1 {
                    assert_eq!(rig.live(&mut model), Ok(()), "{what}: {:?}", rig.news);
                }
                let crash_at = (seed > 0).then(|| 2 * number + rig.random.below(60) as u32);
                rig.again(Trouble { crash_at, fails: Some((half, number)), ..Trouble::default() });
                let _ = rig.live(&mut model);
                met |= rig.carried_by[half] > number;
                left_behind(&mut rig, &model, &what);
                recovers(&mut rig, &mut model, &what);
            }
            !met
        });
    }
}

/// Each half alone is refused, or has all that was answered.
fn left_behind(rig: &mut Rig, model: &Model, what: &str) {
    for gone in [0, 1] {
        let disks = rig.disks.clone();
        let mut alone = Rig { disks, ..Rig::new(rig.random.next()) };
        alone.trouble.gone = Some(gone);
        let mut model = model.clone();
        match alone.live(&mut model) {
            Ok(()) | Err(Stop::Refused) => {}
            Err(Stop::Crash) => panic!("{what}: the power did not fail"),
        }
    }
}

#[test]
fn a_crash_in_a_rebuild_leaves_a_half_that_is_rebuilt() {
    everywhere(|at| {
        let mut ended = false;
        for seed in 0..3 {
            let half = (seed % 2) as usize;
            let mut rig = Rig::new((seed << 32) + at as u64);
            let mut model = Model::default();
            assert_eq!(rig.live(&mut model), Ok(()));
            // An operation of which the other half cannot make up.
            let fails = (10..).find(|number| {
                rig.again(Trouble { fails: Some((half, *number)), ..Trouble::default() });
                assert_eq!(rig.live(&mut model), Ok(()), "{:?}", rig.news);
                rig.has_told(|news| matches!(news, News::Degraded { .. }))
            });
            assert!(fails.is_some());
            rig.again(Trouble { crash_at: Some(at), ..Trouble::default() });
            ended = rig.live(&mut model).is_ok();
            assert!(!ended || rig.has_told(|news| matches!(news, News::Rebuilt { .. })), "{:?}", rig.news);
            left_behind(&mut rig, &model, &format!("crash at {at}"));
            recovers(&mut rig, &mut model, &format!("crash at {at}, seed {seed}"));
        }
        ended
    });
}

#[test]
fn a_rebuild_without_room_goes_on_when_there_is_some() {
    for half in [0, 1] {
        // For what is copied, and for what is made meanwhile.
        for makes in [false, true] {
            let what = format!("half {half}, makes {makes}");
            let mut rig = Rig::new(half as u64);
            let mut model = Model::default();
            let before = if makes { rig.open(&model).and_then(|()| rig.make(0)) } else { rig.live(&mut model) };
            assert_eq!(before.and_then(|()| rig.settle()), Ok(()), "{what}");
            rig.disks[half] = MemoryDisk::default();
            let no_room = Some((half, rig.now.plus_ms(150_000)));
            rig.again(Trouble { no_room, is_accepted: true, ..Trouble::default() });
            assert_eq!(rig.live(&mut model), Ok(()), "{what}: {:?}", rig.news);
            let waits = rig.news.iter().filter(|news| matches!(news, News::RebuildWaits { .. })).count();
            assert_eq!((waits, rig.mirror.degraded()), (1, 0), "{what}: {:?}", rig.news);
            assert!(rig.has_told(|news| matches!(news, News::Rebuilt { .. })), "{what}: {:?}", rig.news);
            rig.check_equal(&what);
        }
    }
}

#[test]
fn a_file_that_one_half_has_lost_or_cut_short_comes_back_at_the_next_start() {
    for half in [0, 1] {
        for cut in [false, true] {
            let mut rig = Rig::new(half as u64);
            let mut model = Model::default();
            assert_eq!(rig.live(&mut model), Ok(()));
            match cut {
                true => rig.disks[half].overwrite(segment(0), |bytes| bytes.truncate(BLOCK as usize)),
                false => rig.disks[half].remove(segment(0)),
            }
            rig.again(Trouble::default());
            assert_eq!(rig.live(&mut model), Ok(()), "half {half}, cut {cut}: {:?}", rig.news);
            assert_eq!(rig.disks[half].files()[&segment(0)].len() as u64, SEGMENT);
            rig.check_equal("after the start");
        }
    }
}
