//! Two halves of every data directory: the drive of one of them dies, comes back with what it held, is replaced by an empty one, or is
//! missing at a start. The other one is sound meanwhile, and nothing of all this may be seen from outside.

use super::clock::SECOND;
use super::disk::{Disk, ENOSPC, Faults};
use super::random::Random;
use super::scenario::Canary;
use super::world::{Event, World};
use penstock::io::op::FileName;
use penstock::log::directories::Given;
use penstock::mirror::news::News;
use penstock::mirror::{self, unit};
use std::collections::BTreeSet;

pub struct Halves {
    random: Random,
    /// The half that trouble strikes.
    weak: usize,
    /// Its drive does not answer in this life, or answers falsely.
    troubled: bool,
    /// Its drive is another one, and empty.
    replaced: bool,
    /// The operator has this life go on without it, or rebuild it.
    accepts: bool,
    /// Units that have one whole half only, as far as is known.
    out: BTreeSet<unit::Name>,
    /// A life has served with both halves whole when it began.
    founded: bool,
    /// What it holds has been changed behind the node's back.
    harmed: bool,
    /// This life has told that a half is not whole.
    told: bool,
    /// This life has told that a drive has failed, or could not be read.
    fell: bool,
}

impl Halves {
    pub fn new(mut random: Random) -> Halves {
        Halves {
            weak: random.index(2),
            random,
            troubled: false,
            replaced: false,
            accepts: false,
            out: BTreeSet::new(),
            founded: false,
            harmed: false,
            told: false,
            fell: false,
        }
    }
}

impl World<'_> {
    fn weak_disk(&mut self) -> &mut Disk {
        match (self.halves.weak, &mut self.twin) {
            (1, Some(twin)) => twin,
            _ => &mut self.disk,
        }
    }

    /// A life begins: what is wrong with one half, and what the node is told of the halves.
    pub(super) fn mirror(&mut self, given: &[Given]) -> Option<mirror::Settings> {
        self.twin.as_ref()?;
        let halves = &mut self.halves;
        let random = &mut halves.random;
        (halves.told, halves.troubled, halves.fell) = (false, false, false);
        let (dies, missing, replaced) = (random.chance(300), random.chance(200), random.chance(150));
        halves.accepts = random.chance(700) || self.auditing;
        let founded = std::mem::take(&mut halves.founded);
        let after = random.between(1, 20_000) * SECOND / 1000;
        let (life, now, drives) = (self.life, self.clock.mono(), self.shared.settings.drives_max);
        let faults = self.shared.settings.faults;
        let auditing = self.auditing;
        let seed = random.next();
        let is_known = founded || !self.halves.out.is_empty();
        self.weak_disk().dead = false;
        self.weak_disk().faults = Faults::default();
        if is_known && missing {
            self.halves.troubled = true;
            self.weak_disk().dead = true;
            self.note(format!("half {} is missing", self.halves.weak));
            self.report.alone += u64::from(auditing);
        } else if is_known && replaced && !auditing {
            self.halves.replaced = true;
            if self.halves.weak == 0 {
                // With everything that lay on it.
                self.kept.clear();
                self.shared.snapshot = Default::default();
            }
            let typical = self.disk.second(Random::stream(seed, "replaced"), drives);
            let disk = self.weak_disk();
            let (events, mounts) = (disk.events, std::mem::take(&mut disk.drives));
            *disk = typical;
            (disk.events, disk.drives) = (events, mounts);
            self.note(format!("half {} is replaced by an empty one", self.halves.weak));
            self.halves.troubled = true;
        } else if !auditing && life > 1 {
            self.weak_disk().faults = faults;
            self.halves.troubled = faults != Faults::default();
            if dies {
                self.heap.at(now + after, Event::HalfDies { life });
            }
        }
        self.halves.troubled |= self.halves.replaced;
        Some(mirror::Settings {
            blocks: given.iter().map(|given| given.block).collect(),
            paths: given.iter().map(|given| [given.path.clone(), format!("/second{}", given.path)]).collect(),
            accept_degraded: self.halves.accepts,
            rebuild_rate: 4 << 20,
            random: self.halves.random.next().max(1),
            canary: self.shared.settings.canary == Some(Canary::ForgetLeftBehind),
        })
    }

    /// Bits flip in one half, or a block of another record lies over one. The other half has it whole.
    pub(super) fn harm_half(&mut self) {
        let block = self.halves.random.chance(300);
        let copy = (self.node.is_none() && self.halves.random.chance(300)).then(|| self.halves.random.below(2) as u8);
        let (byte, bit) = (self.halves.random.below(200), self.halves.random.below(8) as u8);
        let disk = self.weak_disk();
        let harmed = match copy {
            Some(copy) => disk.harm(FileName::Superblock(copy), byte, bit),
            None if block => disk.harm_block(),
            None => disk.harm_record(),
        };
        self.halves.harmed |= harmed;
        self.note(format!("half {} is harmed: {harmed}, superblock {copy:?}, block {block}", self.halves.weak));
    }

    pub(super) fn half_dies(&mut self) {
        if self.auditing || self.node.is_none() {
            return;
        }
        self.note(format!("half {} dies", self.halves.weak));
        self.halves.troubled = true;
        self.weak_disk().dead = true;
    }

    /// The node serves. Where it has told nothing, all halves are whole, and another one may get into trouble.
    pub(super) fn halves_ready(&mut self) {
        // By now every unit of an empty half says that it is being rebuilt, unless its drive has failed before.
        self.halves.replaced &= !self.halves.accepts || self.halves.fell;
        if self.twin.is_none() || self.halves.told {
            return;
        }
        self.halves.out.clear();
        self.halves.founded = true;
        if !self.halves.troubled && !self.halves.harmed {
            let faults = std::mem::take(&mut self.weak_disk().faults);
            self.halves.weak = self.halves.random.index(2);
            self.weak_disk().faults = faults;
        }
    }

    pub(super) fn half_told(&mut self, news: &News) {
        let troubled = self.halves.troubled;
        match news {
            News::Degraded { unit, half, .. } => {
                assert!(troubled && *half == self.halves.weak, "a sound half is left behind: {news}");
                self.report.degraded += 1;
                self.halves.out.insert(*unit);
                (self.halves.told, self.halves.fell) = (true, true);
            }
            News::Alone { unit, .. } | News::Rebuilding { unit, .. } => {
                self.halves.out.insert(*unit);
                self.halves.told = true;
                self.halves.fell |= matches!(news, News::Alone { .. });
            }
            News::Rebuilt { .. } => self.report.rebuilt += 1,
            News::RebuildWaits { errno, .. } => {
                assert!(*errno == ENOSPC && self.shared.settings.room_varies, "there is room: {news}");
            }
            News::RebuildFailed { .. } => assert!(troubled, "a rebuild fails on a sound drive: {news}"),
            News::Unread { .. } | News::Dead { .. } => panic!("the whole half is sound: {news}"),
            News::Repaired { .. } => {}
            News::NotRepaired { file, .. } => {
                assert!(troubled || self.halves.harmed, "a sound half is damaged: {news}");
                self.scrubs.is_not_repaired(*file);
            }
            News::Refused { .. } => unreachable!("told as a refusal"),
        }
    }

    /// Whether a start was refused as one half is missing, and may hold what the other has not.
    pub(super) fn is_half_missed(&mut self, why: &str) -> bool {
        let accepted = self.halves.accepts;
        let excused = self.twin.is_some() && self.halves.troubled && !accepted;
        let said = why.contains("--accept-degraded")
            || why.contains("neither")
            || why.contains("is not whole")
            || why.contains("says nothing");
        self.report.refused += u32::from(excused && said);
        excused && said
    }

    /// Whether a record is durable where it must be: on both halves, unless one has been left behind.
    pub(super) fn is_durable(&self, mark: u64, data: &[u8]) -> bool {
        let first = self.disk.holds(mark, data);
        match &self.twin {
            None => first,
            Some(twin) if self.halves.told || self.halves.harmed => first || twin.holds(mark, data),
            Some(twin) => first && twin.holds(mark, data),
        }
    }
}
