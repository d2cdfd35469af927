//! Snapshots: what was known when one was asked for, and the audit of a node that is restored from it after everything else.

use super::call::Kind;
use super::client::{Shared, Wish};
use super::clock::Clock;
use super::oracle::{Fate, Life, Oracle, Stream};
use super::random::Random;
use super::scenario::Settings;
use super::trace::{Entry, Trace};
use super::world::World;
use penstock::io::op::Piece;
use serde_json::Value;
use std::collections::BTreeMap;

/// Snapshots of a run that are restored: each is a run of its own.
const RESTORED_MAX: usize = 3;

/// The snapshot under way.
#[derive(Default)]
pub struct Asked {
    /// What was known when it was asked for; the first time, if an answer was lost.
    before: Option<Box<Oracle>>,
    is_taken: bool,
}

/// The role that asks for them.
pub struct Keeper;

impl Keeper {
    pub fn next(&mut self, shared: &mut Shared) -> Option<Wish> {
        let known = &shared.oracle;
        shared.snapshot.before.get_or_insert_with(|| Box::new(known.clone()));
        Some(("Snapshot", String::new(), Kind::Snapshot))
    }

    pub fn reply(&mut self, status: u16, value: &Value, shared: &mut Shared) {
        shared.snapshot.is_taken = status == 200;
        match status {
            200 => assert!(value["segments"].is_u64(), "{value}"),
            503 => assert!(value["message"].is_string(), "{value}"),
            _ => panic!("a snapshot was answered with {status}: {value}"),
        }
    }
}

/// A snapshot that was taken away.
pub struct Kept {
    pieces: BTreeMap<Piece, usize>,
    expected: Oracle,
    clock: Clock,
    workers: u16,
}

impl World<'_> {
    /// The answer to the last request has come: whoever asked takes the snapshot away.
    pub(super) fn take_snapshot(&mut self) {
        if !std::mem::take(&mut self.shared.snapshot.is_taken) {
            return;
        }
        // A power cut has come between, and the next life has begun another one.
        if !self.disk.has_capture() {
            return;
        }
        let Some(before) = self.shared.snapshot.before.take() else { return };
        let pieces = self.disk.take_capture();
        self.note(format!("a snapshot of {} files is taken away", pieces.len()));
        self.report.snapshots += 1;
        self.report.snapshots_several += (self.disk.superblock_of(&pieces).directories.len() > 1) as u32;
        if self.kept.len() < RESTORED_MAX {
            let expected = before.of_snapshot(&self.shared.oracle);
            self.kept.push(Kept { pieces, expected, clock: self.clock.clone(), workers: self.workers });
        }
    }

    /// The node is gone: one that was being taken is whole, or is none.
    pub(super) fn snapshot_after_cut(&mut self) {
        self.shared.snapshot.is_taken = self.shared.snapshot.before.is_some() && self.disk.has_capture();
        if self.shared.snapshot.is_taken {
            self.report.snapshots_cut += 1;
            self.take_snapshot();
        }
        (self.shared.snapshot.before, self.shared.snapshot.is_taken) = (None, false);
    }

    /// At the end of all lives: what each snapshot then holds, on a node that is restored from it.
    pub(super) fn audit_snapshots(&mut self) {
        for (number, kept) in std::mem::take(&mut self.kept).into_iter().enumerate() {
            if self.shared.oracle.damaged {
                // Where files are shared, what harmed one has harmed the other.
                continue;
            }
            let settings = Settings {
                seed: self.shared.settings.seed ^ (number as u64 + 1) << 48,
                workers: self.shared.settings.workers,
                writers: 0,
                readers: 0,
                natives: (0, 0),
                drives: self.disk.superblock_of(&kept.pieces).directories.len() as u8,
                mirrored: false,
                clock_steps: self.shared.settings.clock_steps,
                ..self.shared.settings.clone()
            };
            self.note(format!("snapshot {number} is restored"));
            let disk = self.disk.restored(&kept.pieces, settings.drives_max, Random::stream(settings.seed, "restored"));
            let acked = kept.expected.acked;
            let mut trace = Trace::default();
            let mut world = World::new(settings, &mut trace);
            (world.disk, world.clock, world.workers) = (disk, kept.clock, kept.workers);
            world.shared.oracle = kept.expected;
            if world.shared.settings.drives > 1 {
                world.mounting.keeps_space();
            }
            world.run_restored();
            let (reads, hash) = (world.shared.oracle.reads, trace.hash());
            self.trace.push(self.clock.mono(), Entry::Note(format!("{acked} acked, {reads} read, trace {hash:016x}")));
            self.report.restored += 1;
        }
    }
}

impl Oracle {
    /// What is to be expected of a snapshot that was asked for when `self` was known, and taken by the time of `later`: all that was acked or
    /// read before; of what came since, each record and change may be in it or not, but where it is, it is as it is there.
    fn of_snapshot(mut self, later: &Oracle) -> Oracle {
        for (mark, now) in later.attempts.iter().enumerate() {
            match self.attempts.get_mut(mark) {
                Some(before) if before.fate != Fate::Sent || before.place.is_some() => {}
                Some(before) => {
                    before.fate = if now.fate == Fate::Refused { Fate::Refused } else { Fate::Unknown };
                    before.place = now.place.clone();
                }
                None => {
                    let fate = if now.fate == Fate::Refused { Fate::Refused } else { Fate::Unknown };
                    let mut unsure = now.clone();
                    unsure.fate = fate;
                    self.attempts.push(unsure);
                }
            }
        }
        for (number, now) in later.streams.iter().enumerate() {
            match self.streams.get_mut(number) {
                Some(before) => {
                    before.life = if now.life == Life::Going { Life::Going } else { before.life };
                    before.retention = before.retention.min(now.retention);
                    before.retention_most = before.retention_most.max(now.retention_most);
                }
                None => {
                    let mut coming = Stream::new(&now.name, now.retention);
                    (coming.life, coming.retention_most) = (now.life, now.retention_most);
                    if coming.life == Life::Live {
                        coming.life = Life::Coming;
                    }
                    self.streams.push(coming);
                }
            }
        }
        self.trimmed_until = later.trimmed_until;
        self.damaged |= later.damaged;
        self
    }
}
