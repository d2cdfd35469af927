//! Several drives: which the node is given in a life, and what must then be so.
//!
//! The home comes first, the others in any order. Later lives may get one more, and sometimes one is missing: such a start must be refused
//! without having changed anything. Where only one drive has faults, only its logs may fail, and only their shards refuse puts.

use super::random::Random;
use super::scenario::Settings;
use super::world::World;
use penstock::io::op::Op;
use penstock::log::directories::Given;
use penstock::mirror;
use penstock::worker::notice::{Notice, Share};
use std::collections::BTreeSet;

pub struct Mounting {
    random: Random,
    /// Drives that the node is given in general.
    drives: u8,
    /// The operator gives `--disk` until a drive is added: what is asked for is divided anew then, and must hold what is stored.
    asks: bool,
    /// Drives that a superblock names for sure.
    named: BTreeSet<u8>,
    /// The drive that this life is not given.
    missing: Option<u8>,
}

impl Mounting {
    pub fn new(settings: &Settings, random: Random) -> Mounting {
        Mounting { random, drives: settings.drives, asks: true, named: BTreeSet::new(), missing: None }
    }
}

impl Mounting {
    /// The operator does not say `--disk`: what is stored may need more.
    pub fn keeps_space(&mut self) {
        self.asks = false;
    }
}

impl World<'_> {
    /// A life begins: the directories it is given, and its `--disk`.
    pub(super) fn mount(&mut self, settings: &Settings) -> (Vec<Given>, Option<u64>) {
        let Mounting { random, drives, asks, missing, named } = &mut self.mounting;
        if *drives < settings.drives_max && self.life > 1 && (self.auditing || random.chance(400)) {
            (*drives, *asks) = (*drives + 1, false);
            self.report.added += 1;
        }
        let mut mounts: Vec<u8> = (0..*drives).collect();
        random.shuffle(&mut mounts[1..]);
        *missing = None;
        if *drives > 1 && self.life > 1 && !self.auditing && missing.is_none() && random.chance(200) {
            *missing = mounts.pop();
            // One that no superblock names is not missed: the start divides the space over the others, and a later one adds this one.
            *asks &= missing.is_none_or(|drive| named.contains(&drive));
        }
        let share = settings.disk() / settings.drives_max as u64;
        let given = |drive: &u8| Given {
            path: format!("/drive/{drive}"),
            free: 2 * share,
            used: 0,
            block: settings.block,
            flush: settings.flush ^ drive.is_multiple_of(2),
            node: Some(*drive as u32 % 2),
            id: random.next().max(1),
            has_logs: self.disk.has_logs(*drive) || self.twin.as_ref().is_some_and(|twin| twin.has_logs(*drive)),
            has_superblock: false,
        };
        let given = mounts.iter().map(given).collect();
        let (asks, missing) = (*asks, *missing);
        if let Some(drive) = missing {
            self.note(format!("drive {drive} is missing; the others are {mounts:?}"));
        } else if mounts.len() > 1 {
            self.note(format!("drives {mounts:?}"));
        }
        self.twin.iter_mut().for_each(|twin| twin.drives.mount(mounts.clone()));
        self.disk.drives.mount(mounts);
        (given, asks.then(|| settings.disk()))
    }

    /// Whether this life adds a drive, or goes on with an addition that did not come to its end.
    pub(super) fn adds_drive(&self) -> bool {
        (1..self.mounting.drives).any(|drive| !self.mounting.named.contains(&drive))
    }

    /// The node serves.
    pub(super) fn mounted(&mut self, shares: &[Share]) {
        let drive = |share: &Share| share.path.rsplit('/').next().and_then(|n| n.parse().ok()).expect("as given");
        let named: BTreeSet<u8> = shares.iter().map(drive).collect();
        assert!(named.is_superset(&self.mounting.named), "{named:?} are less than {:?}", self.mounting.named);
        for share in shares {
            let drive = drive(share);
            assert_eq!(self.disk.drives.place(drive), share.given, "drive {drive} is taken for another");
            assert!(share.logs > 0, "drive {drive} has no log");
        }
        self.mounting.named = named;
    }

    /// Whether a start was refused as it should be.
    pub(super) fn is_missed(&mut self, why: &str) -> bool {
        let Some(drive) = self.mounting.missing else { return false };
        let said = why.contains("is missing, and the records in it") && why.contains(&format!("/drive/{drive})"));
        self.report.refused += said as u32;
        said
    }

    /// A life without a drive that the superblock names changes nothing.
    pub(super) fn check_mounted(&self, op: Op) {
        // Halves of what is there are made equal before it is read.
        if self.twin.is_some() && op.token().is_some_and(mirror::is_own) {
            return;
        }
        if self.mounting.missing.is_some_and(|drive| self.mounting.named.contains(&drive)) {
            let reads = matches!(
                op,
                Op::List { .. }
                    | Op::Open { how: penstock::io::op::OpenHow::Existing, .. }
                    | Op::ReadAt { .. }
                    | Op::Fsync { .. }
                    | Op::SyncDir { .. }
                    | Op::CloseFile { .. }
            );
            assert!(reads, "a start without one of its drives changes something: {op:?}");
        }
    }

    /// Where faults strike one drive only, nothing else fails.
    pub(super) fn check_drive_failed(&self, notice: &Notice) {
        let Some(faulty) = self.disk.faulty_drive else { return };
        match notice {
            Notice::LogFailed { log, .. } => {
                assert_eq!(self.disk.drives.of_log(*log), faulty, "the log of a sound drive has failed: {notice}");
            }
            _ => assert_eq!(faulty, 0, "the catalog has failed, whose drive is sound: {notice}"),
        }
    }

    /// A record that could not be stored belongs to a shard on the drive that has faults. Shards that come from others are left out: they
    /// may have waited for a parent there.
    pub(super) fn check_failed_puts(&mut self) {
        let failed = std::mem::take(&mut self.shared.failed_puts);
        let (Some(faulty), Some(node)) = (self.disk.faulty_drive, &self.node) else { return };
        if self.shared.stopping || !node.ready || self.disk.faults_given == 0 {
            return;
        }
        for (stream, hash) in failed {
            let name = &self.shared.oracle.streams[stream].name;
            let Some(shard) = node.seats[0].worker.shard_for(name, hash) else { continue };
            if !shard.is_open() || shard.parents[0].is_some() {
                continue;
            }
            let drive = self.disk.drives.of_log(shard.log);
            assert_eq!(drive, faulty, "a put to shard {} of {name} failed, whose drive is sound", shard.number);
            self.report.spared += (self.mounting.drives > 1) as u32;
        }
    }
}
