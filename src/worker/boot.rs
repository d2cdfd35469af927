//! The start of a data directory, in the order of the design: superblock, further directories, catalog, logs, superblock with the next
//! epoch, then service.
//!
//! Worker 0 leads. It reads the superblock (a new directory gets one, with epoch 0 and no logs), tells the directories apart
//! (`directories.rs`), recovers the catalog, and tells every worker; each recovers its logs and says so; when all have, worker 0 makes the
//! superblock with epoch + 1 durable and tells them to serve. Where logs are wanted that are not there, the superblock names them before
//! they are made. Whatever cannot go on ends in one `Refused` notice.

use super::ack::{Acks, Tell};
use super::control::Control;
use super::mailbox::Message;
use super::notice::Notice;
use super::space::Space;
use super::{CATALOG_TOKEN, IDENTITY_TOKEN, SUPERBLOCK_TOKEN, Worker, log_tokens, owner};
use crate::catalog::change::Change;
use crate::catalog::identity::Identity;
use crate::catalog::journal::{self, Catalog, JOURNAL_BYTES};
use crate::catalog::place::LogPlace;
use crate::catalog::state::{State, StreamStatus};
use crate::io::buffers::Pool;
use crate::io::clock::Wall;
use crate::io::op::{Errno, FileName, Op, Ops, Token};
pub use crate::log::directories::SEGMENTS_MIN;
use crate::log::directories::{Recognised, SEGMENT_MIN, divide, logs_wanted};
use crate::log::format::ShardKey;
use crate::log::identity::Identities;
use crate::log::producers::Gone;
use crate::log::steps::Staged;
use crate::log::superblock::{self, Directory, Superblock, Superblocks};
use crate::log::{self, Log};
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes of a segment that is not chosen by hand, and the segments of a log that are aimed at.
const SEGMENT_MAX: u64 = 1 << 30;
const SEGMENTS_AIM: u64 = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing has been done.
    #[default]
    Begin,
    /// Waiting for the superblock, or for worker 0.
    Superblock,
    /// The directories given are being told apart.
    Directories,
    /// The first superblock of a new directory is being written.
    Create,
    /// Identities of directories that are added are being written.
    Identify,
    Catalog,
    /// Logs recover, this worker's or others'.
    Logs,
    /// The superblock with more logs is being written.
    Grow,
    /// The superblock with the next epoch is being written.
    Raise,
    Over,
}

/// How far the start has come.
#[derive(Default)]
pub struct Boot {
    pub(super) stage: Stage,
    superblocks: Option<Superblocks>,
    pub(super) superblock: Option<Superblock>,
    pub(super) identities: Option<Identities>,
    pub(super) is_new: bool,
    /// Worker 0: directories that this start adds, by their places in it; and segment files of each log before it did.
    pub(super) recognised: Option<Recognised>,
    pub(super) files_before: Vec<u32>,
    /// Logs of this worker that have recovered, and the records in them.
    recovered: usize,
    records: u64,
    told: bool,
    /// Worker 0: workers whose logs have recovered, and their records.
    workers: u16,
    all_records: u64,
    epoch: u32,
    /// Segments of each log, by its number.
    pub(super) segments: BTreeMap<u32, u32>,
}

impl Boot {
    /// Every worker is to say again that its logs have recovered.
    pub(super) fn start_growing(&mut self) {
        (self.stage, self.workers) = (Stage::Grow, 0);
    }
}

impl Worker {
    pub(super) fn boot_begin(&mut self, ops: &mut Ops) {
        let Some(boot) = self.boot.as_mut().filter(|boot| boot.stage == Stage::Begin) else { return };
        boot.stage = Stage::Superblock;
        if self.id == 0 {
            let mut superblocks =
                Superblocks::new(SUPERBLOCK_TOKEN, &mut self.buffers).expect("every block slot is free at start");
            superblocks.open(&mut self.buffers, ops);
            boot.superblocks = Some(superblocks);
        }
    }

    pub(super) fn boot_done(&mut self, token: Token, result: Result<u32, Errno>, ops: &mut Ops) {
        match (owner(token), &mut self.boot, &mut self.control) {
            (SUPERBLOCK_TOKEN, Some(Boot { superblocks: Some(s), .. }), _) => {
                s.on_done(token, result, &mut self.buffers, ops)
            }
            (IDENTITY_TOKEN, Some(Boot { identities: Some(i), .. }), _) => {
                i.on_done(token, result, &mut self.buffers, ops)
            }
            (CATALOG_TOKEN, _, Some(control)) => control.catalog.on_done(token, result, &mut self.buffers, ops),
            _ => {}
        }
    }

    pub(super) fn boot_listed(&mut self, token: Token, result: Result<Vec<(FileName, u64)>, Errno>, ops: &mut Ops) {
        match (owner(token), &mut self.boot, &mut self.control) {
            (SUPERBLOCK_TOKEN, Some(Boot { superblocks: Some(s), .. }), _) => {
                s.on_listed(token, result, &mut self.buffers, ops)
            }
            (IDENTITY_TOKEN, Some(Boot { identities: Some(i), .. }), _) => {
                i.on_listed(token, result, &mut self.buffers, ops)
            }
            (CATALOG_TOKEN, _, Some(control)) => control.catalog.on_listed(token, result, &mut self.buffers, ops),
            _ => {}
        }
    }

    /// Whether the boot has something to do that no completion will wake it for.
    pub(super) fn boot_waits(&self) -> bool {
        let ready = |boot: &Boot| boot.stage == Stage::Logs && boot.recovered == self.logs.len() && !boot.told;
        self.boot.as_ref().is_some_and(ready)
    }

    pub(super) fn refuse_start(&mut self, why: String) {
        if let Some(boot) = &mut self.boot {
            boot.stage = Stage::Over;
        }
        self.tell_operator(Notice::Refused { why });
    }

    /// Follows the superblock's events, and reports recovered logs.
    pub(super) fn boot_go_on(&mut self, ops: &mut Ops) {
        while let Some(event) = self.boot.as_mut().and_then(|b| b.superblocks.as_mut()).and_then(Superblocks::event) {
            self.superblock_event(event, ops);
        }
        while let Some(event) = self.boot.as_mut().and_then(|b| b.identities.as_mut()).and_then(Identities::event) {
            self.identity_event(event, ops);
        }
        let Some(boot) = &mut self.boot else { return };
        if boot.stage != Stage::Logs || boot.recovered < self.logs.len() || boot.told {
            return;
        }
        boot.told = true;
        let records = std::mem::take(&mut boot.records);
        let epoch = self.logs.iter().map(Log::epoch).max().unwrap_or(0);
        let segments: Vec<u32> = self.logs.iter().map(Log::segments).collect();
        match self.id {
            0 => self.worker_recovered(0, records, epoch, &segments, ops),
            _ => self.mail.answer(0, Message::Recovered { records, epoch, segments }),
        }
    }

    fn superblock_event(&mut self, event: superblock::Event, ops: &mut Ops) {
        let boot = self.boot.as_mut().expect("the superblock is used during the boot");
        if let Some(why) = event.refusal() {
            return self.refuse_start(why);
        }
        match event {
            superblock::Event::Empty => match self.new_superblock() {
                Ok(made) => self.tell_directories_apart(made, true, ops),
                Err(why) => self.refuse_start(why),
            },
            superblock::Event::Found { superblock, other } => {
                if let Some((file, why)) = other {
                    self.tell_operator(Notice::SuperblockCopy { file, why });
                }
                match self.settle_superblock(superblock) {
                    Ok(settled) => self.tell_directories_apart(settled, false, ops),
                    Err(why) => self.refuse_start(why),
                }
            }
            superblock::Event::Written if boot.stage == Stage::Create => self.add_directories(ops),
            superblock::Event::Written if boot.stage == Stage::Grow => self.everyone_makes_logs(ops),
            superblock::Event::Written => self.everyone_serves(ops),
            _ => unreachable!("every other event is a refusal"),
        }
    }

    pub(super) fn write_superblock(&mut self, ops: &mut Ops) {
        let boot = self.boot.as_mut().expect("the superblock is written during the boot");
        let superblock = boot.superblock.as_ref().expect("there is one to write");
        boot.superblocks.as_mut().expect("worker 0 has them").write(superblock, &mut self.buffers, ops);
    }

    /// The superblock of a new home, with no logs yet and no other directory, or why there cannot be one. What is laid down for good, the
    /// size of a segment, is chosen for all directories given.
    fn new_superblock(&self) -> Result<Superblock, String> {
        let o = &self.options;
        let rooms: Vec<u64> = o.given.iter().map(|given| given.free).collect();
        let disk = o.disk.unwrap_or(rooms.iter().map(|free| free / 2).sum());
        let spaces = divide(disk, &rooms);
        let least = spaces.iter().copied().min().unwrap_or(disk);
        let logs = (self.workers as u64).div_ceil(spaces.len() as u64);
        let aim = least / (SEGMENTS_AIM * logs);
        let segment = o.segment.unwrap_or((aim.clamp(SEGMENT_MIN, SEGMENT_MAX)) >> 20 << 20);
        let half = |at: usize| u64::from_le_bytes(o.random[at..at + 8].try_into().expect("8 of 32 bytes"));
        let id = half(0).max(1);
        Ok(Superblock {
            directory: id,
            epoch: 0,
            generation: 0,
            block: o.given.iter().map(|given| given.block).max().expect("there is a home"),
            segment_size: segment,
            disk: spaces[0],
            directories: vec![Directory { id, path: o.given[0].path.clone(), space: spaces[0], given: 0 }],
            logs: Vec::new(),
            iterator_key: o.random[8..24].try_into().expect("16 of 32 bytes"),
            next_ids: 0,
            region: o.region.clone().unwrap_or_else(|| "us-east-1".to_string()),
            account: o.account.clone().unwrap_or_else(|| "000000000000".to_string()),
            retention_hour: o.retention_hour.unwrap_or(3600),
            retention_wall: self.now.wall.0,
        })
    }

    /// An existing superblock with what the operator wants changed, or why that cannot be.
    fn settle_superblock(&self, mut found: Superblock) -> Result<Superblock, String> {
        let o = &self.options;
        if let Some(hour) = o.retention_hour.filter(|hour| *hour != found.retention_hour) {
            return Err(format!(
                "--retention-hour is fixed when a directory is made: it is {} s here, not {hour} s",
                found.retention_hour
            ));
        }
        if let Some(given) = o.given.iter().find(|given| !found.block.is_multiple_of(given.block)) {
            return Err(format!(
                "the data was laid out in blocks of {} bytes, but the device of {} writes {} at once: use another device, or copy the data \
                 to a new home there",
                found.block, given.path, given.block
            ));
        }
        found.region = o.region.clone().unwrap_or(found.region);
        found.account = o.account.clone().unwrap_or(found.account);
        Ok(found)
    }

    pub(super) fn open_catalog(&mut self, superblock: Superblock, ops: &mut Ops) {
        let settings = journal::Settings {
            owner: CATALOG_TOKEN,
            block: superblock.block,
            directory: superblock.directory,
            journal_bytes: JOURNAL_BYTES.min(superblock.segment_size).next_multiple_of(superblock.block as u64),
        };
        let mut catalog = Catalog::new(settings, &mut self.buffers).expect("block slots are free at start");
        let is_new = superblock.epoch == 0;
        self.notice_places(&superblock);
        catalog.recover(is_new, &mut self.buffers, ops);
        self.control = Some(Control::new(catalog, self.workers));
        let boot = self.boot.as_mut().expect("the boot goes on");
        (boot.stage, boot.superblock, boot.is_new) = (Stage::Catalog, Some(superblock), is_new);
    }

    /// Events of the catalog that belong to the start.
    pub(super) fn boot_event(&mut self, event: journal::Event, ops: &mut Ops) {
        match event {
            journal::Event::Refused { why } => self.refuse_start(why),
            journal::Event::Recovered { torn } => {
                if let Some(file) = torn {
                    self.tell_operator(Notice::TornJournal { file });
                }
                let control = self.control.as_mut().expect("worker 0 has the catalog");
                let state = control.catalog.state().without_tables();
                let superblock =
                    self.boot.as_ref().and_then(|b| b.superblock.clone()).expect("read before the catalog");
                let persisted = Wall(superblock.retention_wall.max(state.retention_wall.0));
                for worker in 1..self.workers {
                    let news = Box::new((superblock.clone(), state.clone(), persisted));
                    self.mail.answer(worker, Message::Boot(news));
                }
                self.recover_logs(superblock, state, ops);
            }
            journal::Event::Durable(..) | journal::Event::Room { .. } | journal::Event::Failed { .. } => {
                unreachable!("handled by the caller")
            }
        }
    }

    /// Every worker: makes its logs and recovers them.
    pub(super) fn recover_logs(&mut self, superblock: Superblock, state: State, ops: &mut Ops) {
        self.identity = Identity { region: superblock.region.clone(), account: superblock.account.clone() };
        self.iterator_key = superblock.iterator_key;
        self.retention_hour = superblock.retention_hour;
        self.view = state;
        self.make_logs(superblock, ops);
    }

    /// Where the logs lie, for what is asked of it later.
    fn notice_places(&mut self, superblock: &Superblock) {
        let place = |number: &u32| LogPlace { directory: *number, failed: false };
        self.places = superblock.logs.iter().map(place).collect();
        self.paths = superblock.directories.iter().map(|directory| directory.path.clone()).collect();
    }

    /// Every worker: makes those of its logs that it has not, and recovers them.
    pub(super) fn make_logs(&mut self, superblock: Superblock, ops: &mut Ops) {
        let known = self.log_count;
        self.log_count = superblock.log_count();
        if let Some(mirror) = &mut self.mirror {
            mirror.learn(superblock.directory, superblock.segment_size);
        }
        self.notice_places(&superblock);
        self.acks = Acks::new(self.log_count as usize, self.limits.puts);
        self.logs.iter_mut().for_each(|log| log.allow(superblock.files_of(log.settings().number)));
        // Memory is laid out for what this start may add too: it adds logs when those that there are have recovered.
        let wanted = logs_wanted(&superblock.logs, superblock.directories.len() as u32, self.workers as u32);
        let most = (0..wanted.max(self.log_count)).filter(|log| self.owner_of(*log) == self.id).count();
        let memory = self.buffers.whole(Pool::Log, 0);
        let part = memory.len / most.max(1) as u32 / superblock.block * superblock.block;
        if part / 2 < self.limits.commit_bytes {
            return self.refuse_start(format!(
                "{wanted} logs are too many for {} workers: their parts of the memory would not hold the largest commit; give it more --cores",
                self.workers
            ));
        }
        let first = self.logs.len();
        for number in (known..self.log_count).filter(|log| self.owner_of(*log) == self.id).collect::<Vec<_>>() {
            let slot = self.logs.len();
            let given = superblock.directory_of(number).given;
            ops.push(Op::Locate { log: number, given });
            let settings = log::Settings {
                number,
                block: superblock.block,
                segment_size: superblock.segment_size,
                files: superblock.files_of(number),
                directory: superblock.directory,
                epoch: superblock.epoch,
                commit_max: self.limits.commit_bytes,
                in_flight: self.limits.commits_in_flight,
                flush: self.options.given[given as usize].flush,
                memory: memory.part(slot as u32 * part, part),
                mirrored: self.mirror.is_some(),
                tokens: log_tokens(slot),
                canary: self.options.canary,
            };
            self.logs.push(Log::new(settings, self.counters.clone()));
            self.space.push(Space::default());
            self.tell.push(Tell::new(self.workers));
        }
        let boot = self.boot.as_mut().expect("logs recover during the boot");
        (boot.stage, boot.superblock, boot.told) = (Stage::Logs, Some(superblock), false);
        self.recover_log(first, ops);
    }

    /// One after another, each with the memory of all: a log may hold commits of a time when it had a worker of its own.
    fn recover_log(&mut self, at: usize, ops: &mut Ops) {
        let memory = self.buffers.whole(Pool::Log, 0);
        if let Some(log) = self.logs.get_mut(at) {
            log.pass_over_producers(gone(&self.view));
            let live = self.view.live.get(&log.settings().number);
            log.recover(live.map_or(&[][..], Vec::as_slice), memory, ops);
        }
    }

    /// One of this worker's logs has recovered.
    pub(super) fn log_recovered(&mut self, log: usize, records: u64, ops: &mut Ops) {
        for newest in self.logs[log].newest() {
            // A shard that was moved may be on several.
            let found = self.found.entry(newest.shard).or_default();
            *found = (found.0.max(newest.next), found.1.max(newest.arrival));
        }
        if let Some(boot) = &mut self.boot {
            boot.recovered += 1;
            boot.records += records;
        }
        self.recover_log(log + 1, ops);
    }

    pub(super) fn refuse_log(&mut self, why: String) {
        self.refuse_start(why);
    }

    /// Worker 0: the logs of worker `from` have recovered; `epoch` is the highest that they have met, `segments` what each of them has, in
    /// the order of their numbers.
    pub(super) fn worker_recovered(&mut self, from: u16, records: u64, epoch: u32, segments: &[u32], ops: &mut Ops) {
        let Some(boot) = &mut self.boot else { return };
        boot.epoch = boot.epoch.max(epoch);
        boot.segments.extend((from as u32..).step_by(self.workers as usize).zip(segments.iter().copied()));
        boot.workers += 1;
        boot.all_records += records;
        if boot.workers < self.workers || boot.stage == Stage::Over {
            return;
        }
        match self.logs_to_add() {
            Err(why) => return self.refuse_start(why),
            Ok(added) if !added.is_empty() => return self.add_logs(&added, ops),
            Ok(_) => {}
        }
        let boot = self.boot.as_mut().expect("as above");
        boot.stage = Stage::Raise;
        let superblock = boot.superblock.as_mut().expect("read long ago");
        if !self.options.no_epoch_bump {
            superblock.epoch = superblock.epoch.max(boot.epoch) + 1;
        }
        let persisted = Wall(superblock.retention_wall.max(self.view.retention_wall.0));
        let wall = self.settle_clock(persisted);
        self.boot.as_mut().and_then(|b| b.superblock.as_mut()).expect("as above").retention_wall = wall;
        self.write_superblock(ops);
    }

    /// Worker 0: that there are more logs is durable. They are made as in a new directory; a crash before that leaves it to the next start.
    fn everyone_makes_logs(&mut self, ops: &mut Ops) {
        let superblock = self.boot.as_ref().and_then(|b| b.superblock.clone()).expect("just written");
        for worker in 1..self.workers {
            self.mail.answer(worker, Message::MoreLogs(Box::new(superblock.clone())));
        }
        self.make_logs(superblock, ops);
    }

    /// Worker 0: the epoch is durable.
    fn everyone_serves(&mut self, ops: &mut Ops) {
        let boot = self.boot.as_ref().expect("the boot ends here");
        let superblock = boot.superblock.clone().expect("just written");
        let (records, is_new) = (boot.all_records, boot.is_new);
        let retention = self.retention.now();
        for worker in 1..self.workers {
            self.mail.answer(worker, Message::Serve { epoch: superblock.epoch, retention });
        }
        self.control.as_mut().expect("worker 0 has the catalog").begin();
        self.snapshots.superblock = Some(superblock.clone());
        self.serve(superblock.epoch, ops);
        self.keep_accepted_clock(ops);
        let placed = self.state().placed.len() as u32;
        if placed < superblock.log_count() {
            let control = self.control.as_mut().expect("as above");
            control.catalog.propose(Change::Logs { logs: superblock.log_count() }, &mut self.buffers, ops);
        }
        self.tell_operator(Notice::Ready {
            new: is_new,
            streams: self.state().streams.len(),
            records,
            disk: superblock.disk,
            logs: superblock.log_count(),
            segment: superblock.segment_size,
            directories: self.shares(&superblock),
            region: superblock.region,
            account: superblock.account,
        });
    }

    /// Takes requests from now on.
    pub(super) fn serve(&mut self, epoch: u32, ops: &mut Ops) {
        self.logs.iter_mut().for_each(|log| log.start(epoch));
        self.serving = true;
        self.boot = None;
        let streams: Vec<u32> = self.state().streams.values().map(|stream| stream.number).collect();
        streams.into_iter().for_each(|stream| self.follow_stream(stream));
        self.tick = self.now.mono;
        ops.push(Op::Accept);
    }
}

/// Which shards have gone, with their streams or as the last of their records has expired. One of a stream whose number the catalog never gave out is
/// damage of the catalog, and is kept.
fn gone(state: &State) -> Box<Gone> {
    let next = state.next_stream;
    let streams = state.streams.values().filter(|stream| stream.status != StreamStatus::Deleting);
    let there: BTreeSet<ShardKey> =
        streams.flat_map(|stream| stream.shards.keys().map(|shard| ShardKey::new(stream.number, *shard))).collect();
    Box::new(move |shard| shard.stream() < next && !there.contains(&shard))
}
