//! How and when a life of the node ends.

use super::clock::SECOND;
use super::random::Random;
use super::scenario::Settings;
use penstock::io::op::{DirName, FileName, Op, Piece};

#[derive(Debug)]
pub struct Plan {
    random: Random,
    /// Draws of cuts in the middle of moves, and whether there are any: harm needs lives that are long enough to find it.
    moves: Random,
    cuts_moves: bool,
    /// Draws of cuts at the end of snapshots.
    snapshots: Random,
    lives: u64,
    duration: u64,
    clean_stops: u32,
    cut: Cut,
    clean: bool,
}

/// When the power goes, beside the end of the life's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Never,
    /// Before this many more operations.
    Operations(u64),
    /// Before the operation of this kind, after so many more of them.
    Kind(Kind, u64),
    /// Before this many more operations, once an identity has been written.
    Identity(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sync,
    Name,
    Superblock,
    Catalog,
    Commit,
    Send,
    Prepare,
    Capture,
    Manifest,
}

const KINDS: [Kind; 9] = [
    Kind::Sync,
    Kind::Name,
    Kind::Superblock,
    Kind::Catalog,
    Kind::Commit,
    Kind::Send,
    Kind::Prepare,
    Kind::Capture,
    Kind::Manifest,
];

impl Kind {
    fn of(op: &Op) -> Option<Kind> {
        Some(match op {
            Op::Open { file: FileName::Captured(Piece::Manifest), .. }
            | Op::WriteAt { file: FileName::Captured(Piece::Manifest), .. }
            | Op::Fsync { file: FileName::Captured(Piece::Manifest), .. }
            | Op::CloseFile { file: FileName::Captured(Piece::Manifest), .. }
            | Op::SyncDir { dir: DirName::Capture(0), .. } => Kind::Manifest,
            Op::Link { .. }
            | Op::Clear { .. }
            | Op::Open { file: FileName::Captured(_), .. }
            | Op::WriteAt { file: FileName::Captured(_), .. }
            | Op::Fsync { file: FileName::Captured(_), .. }
            | Op::CloseFile { file: FileName::Captured(_), .. } => Kind::Capture,
            Op::Fsync { .. } | Op::SyncDir { .. } => Kind::Sync,
            Op::Open { .. } | Op::Rename { .. } | Op::Unlink { .. } | Op::MakeDir { .. } => Kind::Name,
            Op::WriteAt { file: FileName::Superblock(_) | FileName::IdentityDraft { .. }, .. } => Kind::Superblock,
            Op::WriteAt { file: FileName::Segment { .. }, .. } => Kind::Commit,
            Op::WriteAt { .. } => Kind::Catalog,
            Op::Send { .. } => Kind::Send,
            Op::Prepare { .. } => Kind::Prepare,
            _ => return None,
        })
    }
}

impl Plan {
    pub fn new(settings: &Settings, random: Random) -> Plan {
        let (lives, clean_stops) = (settings.lives as u64 + 1, settings.clean_stops);
        let moves = Random::stream(settings.seed, "cuts of moves");
        let snapshots = Random::stream(settings.seed, "cuts of snapshots");
        let (duration, cuts_moves) = (settings.duration, !settings.harm);
        Plan { random, moves, cuts_moves, snapshots, lives, duration, clean_stops, cut: Cut::Never, clean: false }
    }

    /// A life begins: gives when it ends at the latest.
    pub fn begin_life(&mut self, now: u64) -> u64 {
        let r = &mut self.random;
        self.clean = r.chance(self.clean_stops);
        self.cut = match r.below(10) {
            _ if self.clean || self.lives == 1 => Cut::Never,
            0..=2 => Cut::Operations(r.between(1, 60)),
            3 | 4 => Cut::Operations(r.between(60, 4_000)),
            5..=7 => {
                let kind = *r.pick(&KINDS);
                Cut::Kind(
                    kind,
                    if matches!(kind, Kind::Capture | Kind::Manifest) {
                        r.below(20)
                    } else {
                        *r.pick(&[0, 1, 2, 5, 40, 300])
                    },
                )
            }
            _ => Cut::Never,
        };
        now + self.duration / self.lives + r.between(0, SECOND)
    }

    /// A life begins that adds a drive: more often than not it ends near that.
    pub fn adds_drive(&mut self) {
        if self.random.chance(600) {
            self.cut = Cut::Identity(self.random.between(1, 40));
        }
    }

    /// Shards are about to be moved: sometimes the life ends in the middle.
    pub fn moves_shards(&mut self) {
        let may = self.cuts_moves && self.cut == Cut::Never && !self.clean && self.lives > 1;
        if may && self.moves.chance(150) {
            // The second entry of the catalog is the end of the first move, more often than not.
            self.cut = match self.moves.below(3) {
                0 => Cut::Operations(self.moves.between(1, 40)),
                _ => Cut::Kind(Kind::Catalog, 1),
            };
        }
    }

    /// A snapshot is about to be taken: sometimes the life ends as it becomes whole.
    pub fn takes_snapshot(&mut self) {
        let may = self.cut == Cut::Never && !self.clean && self.lives > 1;
        if may && self.snapshots.chance(50) {
            // The fifth operation makes the manifest's name durable.
            self.cut = Cut::Kind(Kind::Manifest, self.snapshots.between(3, 4));
        }
    }

    /// The last life begins, which nothing ends.
    pub fn begin_last_life(&mut self) {
        self.cut = Cut::Never;
    }

    pub fn stops_cleanly(&self) -> bool {
        self.clean
    }

    /// Whether the power goes before this operation.
    pub fn cuts_before(&mut self, op: &Op) -> bool {
        match &mut self.cut {
            Cut::Operations(left) if *left > 0 => *left -= 1,
            Cut::Kind(kind, left) if Kind::of(op) == Some(*kind) && *left > 0 => *left -= 1,
            Cut::Kind(kind, _) if Kind::of(op) != Some(*kind) => {}
            Cut::Identity(left) => {
                if matches!(op, Op::WriteAt { file: FileName::IdentityDraft { .. }, .. }) {
                    self.cut = Cut::Operations(*left);
                }
            }
            Cut::Never => {}
            Cut::Operations(_) | Cut::Kind(..) => {
                self.cut = Cut::Never;
                return true;
            }
        }
        false
    }
}
