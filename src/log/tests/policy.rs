//! When segments are emptied: what moving costs, and what it gives back.

use super::*;
use crate::observe::counter::Counter;

/// Bytes of a record's data here: a commit of one is mostly padding.
const DATA: usize = 700;
/// What its frame takes, as moved.
const FRAME: u64 = 832;
const KEEP: Fate = Fate::ExpiresBefore(0);

impl Rig {
    /// A lone put, then the turns that a worker would make: with a survey, moves, and reclaims.
    fn put_alone(&mut self, trims: bool) -> Result<(), Refusal> {
        self.now += 100_000;
        self.try_append(0, 1, DATA)?;
        self.settle();
        self.look(trims);
        Ok(())
    }

    /// A few turns: nothing is appended.
    fn look(&mut self, trims: bool) {
        if let Some(reclaim) = self.reclaim(|_| KEEP, false) {
            self.reclaimed(reclaim);
        }
        for _ in 0..4 {
            let (now, mut ops) = (self.now(), Vec::new());
            self.log.relocate(now, trims, &mut |_| KEEP, &mut self.buffers, &mut ops);
            self.take(ops);
            self.settle();
        }
    }

    fn moved(&self) -> u64 {
        self.log.counters.get(Counter::MovedBytes)
    }

    fn written(&self) -> u64 {
        self.log.counters.get(Counter::CommitBytes)
    }
}

#[test]
fn while_there_is_space_moves_add_a_tenth_at_most() {
    for trims in [false, true] {
        let mut rig = Rig::with(false, 64, Disk::default());
        rig.boot();
        while rig.log.files.free() > 20 {
            rig.put_alone(trims).expect("there is space");
            assert!(rig.moved() * 10 <= rig.written() + 10 * SEGMENT, "{} of {}", rig.moved(), rig.written());
        }
        assert!(rig.moved() > 0, "nothing was moved at all");
        rig.check();
    }
}

#[test]
fn a_full_log_of_lone_puts_moves_each_record_about_once() {
    let mut rig = Rig::with(false, 64, Disk::default());
    rig.boot();
    // Twice what fits without moves.
    let puts = 2 * 64 * SEGMENT / BLOCK as u64;
    for put in 0..puts {
        rig.put_alone(false).unwrap_or_else(|refusal| panic!("{refusal:?} at put {put} of {puts}"));
    }
    let frames = puts * FRAME;
    assert!(rig.moved() * 10 <= frames * 15, "{} bytes moved for {frames} of frames", rig.moved());
    rig.check();
}

#[test]
fn a_quiet_log_is_packed_and_comes_to_rest() {
    let mut rig = Rig::with(false, 64, Disk::default());
    rig.boot();
    for _ in 0..40 * SEGMENT / BLOCK as u64 {
        rig.put_alone(false).expect("there is space");
    }
    let mut seen = 0;
    for round in 0..400 {
        rig.now += 1_000_000;
        rig.look(false);
        if round == 300 {
            seen = rig.moved();
        }
    }
    assert_eq!(rig.moved(), seen, "it moves for ever");
    let frames = 40 * SEGMENT / BLOCK as u64 * FRAME;
    let segments = frames.div_ceil(SEGMENT) as usize;
    assert!(rig.log.segments.len() <= segments * 13 / 10 + 2, "{} for {segments}", rig.log.segments.len());
    rig.check();
}
