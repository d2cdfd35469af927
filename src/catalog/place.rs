//! Which log takes a new shard: the least loaded one of the least loaded directory, as each directory is a drive.

use super::state::State;
use std::collections::BTreeMap;

/// Shards of a stream that share a log when the stream is created: one PutRecords should not touch every log of a large machine.
const SHARDS_PER_LOG: u32 = 8;

/// Where a log lies, and whether it takes records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPlace {
    /// Number of its data directory.
    pub directory: u32,
    /// Its device has failed: it takes none until a restart.
    pub failed: bool,
}

impl State {
    /// Logs for the shards of a new stream, least loaded first: one for every 8 shards, at most all. `logs`: all that there are, by number.
    pub(super) fn logs_for(&self, shards: u32, logs: &[LogPlace]) -> Vec<u32> {
        let mut left = usable(logs);
        let mut drives = self.drives(logs);
        let count = shards.div_ceil(SHARDS_PER_LOG).clamp(1, left.len().max(1) as u32);
        let mut chosen = Vec::new();
        for _ in 0..count {
            let load = |log: &u32| (drives[&directory(logs, *log)], self.load(*log), *log);
            let Some(log) = left.iter().copied().min_by_key(load) else { break };
            left.retain(|other| *other != log);
            *drives.entry(directory(logs, log)).or_default() += shards.div_ceil(count);
            chosen.push(log);
        }
        chosen
    }

    /// The least loaded log of the least loaded directory; `first`, and those beside it in its directory, before others of the same load.
    pub(super) fn log_beside(&self, first: u32, logs: &[LogPlace]) -> u32 {
        let drives = self.drives(logs);
        let home = directory(logs, first);
        let rank = |log: &u32| {
            let drive = directory(logs, *log);
            (drives[&drive], drive != home, self.load(*log), *log != first, *log)
        };
        usable(logs).into_iter().min_by_key(rank).unwrap_or(first)
    }

    /// The one of two logs whose directory is less loaded, else the less loaded one, the first of equals.
    pub(super) fn less_loaded(&self, a: u32, b: u32, logs: &[LogPlace]) -> u32 {
        let drives = self.drives(logs);
        let rank = |log: u32| {
            let place = logs.get(log as usize).copied().unwrap_or_default();
            (place.failed, drives.get(&place.directory), self.load(log))
        };
        if rank(b) < rank(a) { b } else { a }
    }

    /// Shards that take records in each directory.
    fn drives(&self, logs: &[LogPlace]) -> BTreeMap<u32, u32> {
        let mut drives = BTreeMap::from([(0, 0)]);
        for (log, place) in (0..).zip(logs) {
            *drives.entry(place.directory).or_default() += self.load(log);
        }
        drives
    }

    fn load(&self, log: u32) -> u32 {
        self.placed.get(&log).copied().unwrap_or(0)
    }
}

/// Logs that take records; all of them when none does.
fn usable(logs: &[LogPlace]) -> Vec<u32> {
    let sound: Vec<u32> = (0..).zip(logs).filter(|(_, place)| !place.failed).map(|(log, _)| log).collect();
    if sound.is_empty() { (0..logs.len() as u32).collect() } else { sound }
}

fn directory(logs: &[LogPlace], log: u32) -> u32 {
    logs.get(log as usize).map_or(0, |place| place.directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs 0 and 1 on drive 0, log 2 on drive 1; so many shards on each.
    fn three(loads: [u32; 3]) -> (State, Vec<LogPlace>) {
        let placed = (0..).zip(loads).collect();
        let logs = [0, 0, 1].map(|directory| LogPlace { directory, failed: false });
        (State { placed, ..State::default() }, logs.to_vec())
    }

    #[test]
    fn drives_are_balanced_before_logs_are() {
        let (state, logs) = three([3, 0, 2]);
        assert_eq!(state.logs_for(1, &logs), [2], "drive 1 has less, though log 1 has least");
        assert_eq!(state.logs_for(16, &logs), [2, 1], "eight on one drive, then eight on the other");
        assert_eq!(state.log_beside(0, &logs), 2);
        assert_eq!(state.less_loaded(1, 2, &logs), 2);
        let (state, logs) = three([1, 1, 2]);
        assert_eq!(state.log_beside(2, &logs), 2, "equal drives: it stays");
        assert_eq!(state.log_beside(1, &logs), 1);
        assert_eq!(three([2, 1, 4]).0.log_beside(0, &logs), 1);
    }

    #[test]
    fn a_failed_drive_gets_no_new_shards_while_another_takes_them() {
        let (state, mut logs) = three([5, 4, 0]);
        logs[2].failed = true;
        assert_eq!(state.logs_for(1, &logs), [1]);
        assert_eq!(state.logs_for(1000, &logs), [1, 0]);
        assert_eq!(state.log_beside(2, &logs), 1);
        assert_eq!((state.less_loaded(0, 2, &logs), state.less_loaded(2, 0, &logs)), (0, 0));
        logs.iter_mut().for_each(|place| place.failed = true);
        assert_eq!(state.logs_for(1, &logs), [2]);
    }
}
