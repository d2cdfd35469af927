//! The data directories of a start: told apart, added, and filled with logs. Worker 0 does it, as part of the boot.

use super::boot::Stage;
use super::notice::{Notice, Share};
use super::{IDENTITY_TOKEN, Worker};
use crate::catalog::state::Shard;
use crate::io::op::Ops;
use crate::log::directories::{add, recognise, settle_space, spread};
use crate::log::identity::{Event, Found, Identities};
use crate::log::superblock::Superblock;

impl Worker {
    /// Reads what the directories say of themselves, before anything is written. `superblock`: as found, or of a home that is to be made.
    pub(super) fn tell_directories_apart(&mut self, superblock: Superblock, is_new: bool, ops: &mut Ops) {
        let mut identities = Identities::new(IDENTITY_TOKEN, &mut self.buffers).expect("block slots are free at start");
        identities.read(self.options.given.len() as u8, &mut self.buffers, ops);
        let boot = self.boot.as_mut().expect("part of the boot");
        (boot.stage, boot.superblock, boot.is_new) = (Stage::Directories, Some(superblock), is_new);
        boot.identities = Some(identities);
    }

    pub(super) fn identity_event(&mut self, event: Event, ops: &mut Ops) {
        match event {
            Event::Read(found) => self.directories_found(&found, ops),
            Event::Written => self.directories_ready(ops),
            Event::Failed { given, what, errno } => {
                let path = &self.options.given[given as usize].path;
                self.refuse_start(format!("{path}: {what}: {errno}"));
            }
        }
    }

    fn directories_found(&mut self, found: &[Found], ops: &mut Ops) {
        let boot = self.boot.as_ref().expect("part of the boot");
        let superblock = boot.superblock.as_ref().expect("it comes before the directories");
        let recognised = match recognise(superblock, found, &self.options.given) {
            Ok(recognised) => recognised,
            Err(why) => return self.refuse_start(why),
        };
        let home = &self.options.given[0];
        if boot.is_new && home.has_logs {
            return self.refuse_start(format!(
                "{} holds logs but no superblock: nothing was touched; restore one from a copy, or name an empty directory",
                home.path
            ));
        }
        // What cannot be divided is refused before anything is written.
        let mut tried = superblock.clone();
        let added = !add(&mut tried, &recognised, &self.options.given).is_empty();
        if let Err(why) = settle_space(&mut tried, self.options.disk, added, &self.options.given) {
            return self.refuse_start(why);
        }
        let boot = self.boot.as_mut().expect("part of the boot");
        boot.recognised = Some(recognised);
        match boot.is_new {
            true => {
                boot.stage = Stage::Create;
                self.write_superblock(ops);
            }
            false => self.add_directories(ops),
        }
    }

    /// The superblock is there: the directories that it does not name get their identities; it names them when it names their logs.
    pub(super) fn add_directories(&mut self, ops: &mut Ops) {
        let boot = self.boot.as_mut().expect("part of the boot");
        let superblock = boot.superblock.as_mut().expect("it comes before the directories");
        let recognised = boot.recognised.as_ref().expect("they have been told apart");
        boot.files_before = (0..superblock.log_count()).map(|log| superblock.files_of(log)).collect();
        let identities = add(superblock, recognised, &self.options.given);
        settle_space(superblock, self.options.disk, !identities.is_empty(), &self.options.given)
            .expect("the same has been tried");
        if identities.is_empty() {
            return self.directories_ready(ops);
        }
        boot.stage = Stage::Identify;
        let block = superblock.block;
        let machine = boot.identities.as_mut().expect("it has read them");
        machine.write(identities, block, &mut self.buffers, ops);
    }

    fn directories_ready(&mut self, ops: &mut Ops) {
        let boot = self.boot.as_mut().expect("part of the boot");
        if let Some(machine) = boot.identities.take() {
            machine.release(&mut self.buffers);
        }
        let superblock = boot.superblock.clone().expect("it comes before the directories");
        self.open_catalog(superblock, ops);
    }

    /// Every log has recovered: the directories of those that are to be made. The error: the operator asks for less space than what is
    /// stored bears.
    pub(super) fn logs_to_add(&mut self) -> Result<Vec<u32>, String> {
        let boot = self.boot.as_ref().expect("part of the boot");
        let superblock = boot.superblock.as_ref().expect("read long ago");
        let segments: Vec<u32> = (0..superblock.log_count()).map(|log| boot.segments[&log]).collect();
        let nodes: Vec<_> = superblock.directories.iter().map(|d| self.options.given[d.given as usize].node).collect();
        let added = spread(superblock, &self.options.nodes, &nodes, &segments);
        let adds = boot.recognised.as_ref().is_some_and(|recognised| !recognised.new.is_empty());
        for (log, (before, segments)) in (0..).zip(boot.files_before.iter().zip(&segments)) {
            let files = superblock.files_of(log);
            if adds && files < *before && *segments as u64 * 4 > files as u64 * 3 {
                let directory = superblock.directory_of(log);
                return Err(format!(
                    "divided over {} directories, --disk leaves {} {} segments a log, but log {log} holds {segments}: give more, or leave \
                     --disk out, and each directory keeps what it has while a new one brings half of its free space",
                    superblock.directories.len(),
                    directory.path,
                    files
                ));
            }
        }
        let logs = superblock.log_count() + added.len() as u32;
        if logs < self.workers as u32 {
            self.tell_operator(Notice::NoMoreLogs { workers: self.workers, logs });
        }
        Ok(added)
    }

    /// The superblock first names the logs, and the directories that are new; then their owners make them.
    pub(super) fn add_logs(&mut self, added: &[u32], ops: &mut Ops) {
        let boot = self.boot.as_mut().expect("part of the boot");
        boot.start_growing();
        let superblock = boot.superblock.as_mut().expect("read long ago");
        let before = superblock.log_count();
        superblock.logs.extend(added);
        if before > 0 {
            let notice = Notice::MoreLogs { before, now: superblock.log_count() };
            self.tell_operator(notice);
        }
        self.write_superblock(ops);
    }

    /// What each directory has, for the operator.
    pub(super) fn shares(&self, superblock: &Superblock) -> Vec<Share> {
        let share = |(number, directory): (u32, &crate::log::superblock::Directory)| Share {
            path: directory.path.clone(),
            given: directory.given,
            logs: superblock.logs_in(number),
            space: directory.space,
        };
        (0..).zip(&superblock.directories).map(share).collect()
    }

    /// The shard that takes records of stream `stream` with this hash key, as this worker knows it: for whoever checks what it does.
    pub fn shard_for(&self, stream: &str, hash: u128) -> Option<&Shard> {
        self.state().stream(stream)?.route(hash)
    }

    /// Where log `log` lies, when that is not plain.
    pub(super) fn path_of(&self, log: u32) -> Option<String> {
        let directory = self.places.get(log as usize)?.directory;
        (self.paths.len() > 1).then(|| self.paths.get(directory as usize).cloned()).flatten()
    }
}
