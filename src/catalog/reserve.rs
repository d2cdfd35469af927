//! Room that the catalog keeps for itself on the file system: two spare files, one for the next snapshot and one for the next journal.
//!
//! A spare is written with zeros and durable before it is relied on. A rotation renames it to what it becomes, and the files that it
//! replaces are the next spares: no room is given back and taken again, so a rotation needs none. Room is asked for only where a spare is
//! missing or too small, and where there is none, that is tried again after a rest.

use super::state::{State, Stream};
use crate::io::clock::Mono;
use crate::io::op::Spare;

/// How often a spare is tried again for which the file system had no room.
const ROOM_AGAIN_MS: u64 = 10_000;
/// What the lists of a small state may grow by without being asked, in bytes.
const SLACK: u64 = 16 << 10;
/// Bytes of a snapshot that these take at most, nodes of maps that are partly empty among them. A shard may be on nine logs, with a
/// resume beside; a stream may be resharding.
const STREAM: u64 = 1536;
const SHARD: u64 = 384;
const CONSUMER: u64 = 512;
const TAG: u64 = 64;
const LOG: u64 = 256;
const RESUME: u64 = 48;
/// Twice what one takes, in the list of those that are live and in that of those that have been verified: a log may get more before its lists
/// are looked at again.
const LIVE_SEGMENT: u64 = 64;

/// Bytes of a snapshot, and of any single change, that this state can lead to without another stream or shard.
pub fn need(state: &State) -> u64 {
    let of_stream = |stream: &Stream| {
        let tags = stream.tags.iter().map(|(key, value)| (key.len(), value.len()));
        let consumers = stream.consumers.iter().map(|(name, consumer)| {
            consumer_bytes(name.len(), consumer.tags.iter().map(|(key, value)| (key.len(), value.len())))
        });
        let consumers: u64 = consumers.sum();
        stream_bytes(stream.name.len(), tags) + shard_bytes(stream.shards.len() as u64) + consumers
    };
    let streams: u64 = state.streams.values().map(of_stream).sum();
    let live: u64 = state.live.values().map(|live| live.len() as u64).sum();
    let logs = state.live.len() + state.placed.len();
    let policies = state.policies.iter().map(|(key, policy)| policy_bytes(key.len(), policy.document.len()));
    SLACK
        + streams
        + policies.sum::<u64>()
        + logs as u64 * LOG
        + live * LIVE_SEGMENT
        + state.resume.len() as u64 * RESUME
        + state.tables.need()
}

/// What a stream without shards adds to [`need`]; `tags`: the lengths of keys and values.
pub fn stream_bytes(name: usize, tags: impl Iterator<Item = (usize, usize)>) -> u64 {
    // The name is also the key of its map.
    STREAM + 2 * name as u64 + tags.map(|(key, value)| TAG + key as u64 + value as u64).sum::<u64>()
}

/// What a consumer adds to [`need`].
pub fn consumer_bytes(name: usize, tags: impl Iterator<Item = (usize, usize)>) -> u64 {
    CONSUMER + name as u64 + tags.map(|(key, value)| TAG + key as u64 + value as u64).sum::<u64>()
}

/// What a policy adds to [`need`].
pub fn policy_bytes(key: usize, document: usize) -> u64 {
    TAG + key as u64 + document as u64
}

/// What shards add to [`need`].
pub fn shard_bytes(shards: u64) -> u64 {
    shards * SHARD
}

/// Whether the reserve covers something more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    Given,
    /// It is being made larger.
    Soon,
    /// The file system has no room for a larger one.
    Missing,
}

/// Bytes that the files of the catalog must have at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub snapshot: u64,
    pub journal: u64,
}

impl Sizes {
    /// For a state of this [`need`].
    pub fn of(need: u64, journal_bytes: u64) -> Sizes {
        Sizes { snapshot: need, journal: need.max(journal_bytes) }
    }

    pub fn cover(&self, least: Sizes) -> bool {
        self.snapshot >= least.snapshot && self.journal >= least.journal
    }
}

/// What is to be done for the spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The journal's is written with zeros: it was a journal before.
    Clean { size: u64 },
    /// Another one is made, of `size` bytes, and takes the place of the one that is there, if any.
    Make { spare: Spare, size: u64 },
}

/// The spares that there are.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// 0: the file is not there, or is not to be relied on.
    pub sizes: Sizes,
    /// The journal's holds zeros, durably.
    pub is_clean: bool,
    /// The file system had no room for one.
    pub lacks_room: bool,
    /// When it is tried again; `None`: to be said when the time is known.
    again: Option<Mono>,
    /// It is tried now.
    tries: bool,
}

impl Spares {
    /// What is next, so that the spares have `least` bytes.
    pub fn work(&self, least: Sizes, journal_bytes: u64, block: u64) -> Option<Work> {
        let Sizes { snapshot, journal } = self.sizes;
        if journal >= least.journal && !self.is_clean {
            return Some(Work::Clean { size: journal });
        }
        if self.lacks_room && !self.tries {
            // One that is smaller than it should be serves all the same.
            return (journal > 0 && !self.is_clean).then_some(Work::Clean { size: journal });
        }
        // Twice as large, so that it is not soon too small again.
        let room = |least: u64| (2 * least).next_multiple_of(block);
        if snapshot < least.snapshot {
            return Some(Work::Make { spare: Spare::Snapshot, size: room(least.snapshot) });
        }
        let size = if least.journal > journal_bytes { room(least.journal) } else { journal_bytes };
        (journal < least.journal).then_some(Work::Make { spare: Spare::Journal, size })
    }

    /// Whether a snapshot of `snapshot` bytes and a journal with a first entry of `entry` bytes can be written into them.
    pub fn hold(&self, snapshot: u64, entry: u64) -> bool {
        self.is_clean && self.sizes.snapshot >= snapshot && self.sizes.journal >= entry
    }

    /// A spare has been made or cleaned.
    pub fn is_made(&mut self, spare: Spare, size: u64) {
        match spare {
            Spare::Snapshot => self.sizes.snapshot = size,
            Spare::Journal => (self.sizes.journal, self.is_clean) = (size, true),
        }
    }

    /// A spare is not what it seemed.
    pub fn is_lost(&mut self, spare: Spare) {
        match spare {
            Spare::Snapshot => self.sizes.snapshot = 0,
            Spare::Journal => self.sizes.journal = 0,
        }
    }

    /// The file system had no room; whether that is news.
    pub fn room_is_missing(&mut self) -> bool {
        (self.tries, self.again) = (false, None);
        !std::mem::replace(&mut self.lacks_room, true)
    }

    /// The file system had room; whether that is news.
    pub fn room_is_given(&mut self) -> bool {
        self.tries = false;
        std::mem::replace(&mut self.lacks_room, false)
    }

    /// Whether it is time to try, where room was missing.
    pub fn retries(&self) -> bool {
        self.lacks_room && self.tries
    }

    /// Where room was missing: whether it is time to try again.
    pub fn look(&mut self, now: Mono) {
        if self.lacks_room && !self.tries {
            let again = *self.again.get_or_insert(now.plus_ms(ROOM_AGAIN_MS));
            self.tries = now >= again;
        }
    }
}
