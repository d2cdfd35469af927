//! The log: one ordered chain of segments.
//!
//! `recovered ≤ durable ≤ written ≤ assigned`; nothing at or above `durable` is shown to a reader. A [`Log`] is pure: ops out,
//! completions in. A turn calls, in this order: `on_done` for each completion; `open_frame`, `close_frame` as requests want; `end_turn`;
//! then `durable` and `event` until it has none.
//!
//! * `appender.rs`: frames into the filling commit, and on to the next segment
//! * `committer.rs`: commits to the device, and what follows when they arrive there
//! * `commits.rs`: the log's memory; `segment.rs`: its files; `index.rs`, `footer.rs`: where a shard's frames lie
//! * `recover.rs`: following the chain at start; `reclaim.rs`: giving segments back; `reader.rs`: a shard's frames in order
//! * `format.rs`: the bytes

mod appender;
pub mod checksum;
mod commits;
mod committer;
mod footer;
pub mod format;
pub mod steps;
pub mod superblock;

#[cfg(test)]
pub(crate) mod memory_disk;
#[cfg(test)]
mod superblock_tests;
