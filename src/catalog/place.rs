//! Which log takes a new shard.

use super::state::State;

/// Shards of a stream that share a log when the stream is created: one PutRecords should not touch every log of a large machine.
const SHARDS_PER_LOG: u32 = 8;

impl State {
    /// Logs for the shards of a new stream, least loaded first: one for every 8 shards, at most all.
    pub(super) fn logs_for(&self, shards: u32, logs: u32) -> Vec<u32> {
        let logs = logs.max(1);
        let mut by_load: Vec<u32> = (0..logs).collect();
        by_load.sort_by_key(|log| (self.load(*log), *log));
        by_load.truncate(shards.div_ceil(SHARDS_PER_LOG).clamp(1, logs) as usize);
        by_load
    }

    /// The least loaded log, `first` before others of the same load.
    pub(super) fn log_beside(&self, first: u32) -> u32 {
        let others = self.placed.keys().copied().filter(|log| *log != first);
        // `min_by_key` gives the first of equals.
        std::iter::once(first).chain(others).min_by_key(|log| self.load(*log)).unwrap_or(first)
    }

    /// The less loaded of two logs, the first of equals.
    pub(super) fn less_loaded(&self, a: u32, b: u32) -> u32 {
        if self.load(b) < self.load(a) { b } else { a }
    }

    fn load(&self, log: u32) -> u32 {
        self.placed.get(&log).copied().unwrap_or(0)
    }
}
