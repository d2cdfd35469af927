//! Changes of the catalog, and what each does to a state.
//!
//! Applying is deterministic and total: a change that does not fit the state (a stream that is gone, a number in use) alters nothing but
//! `applied`, so that every copy, and every recovery, arrives at the same state. What may be asked for is settled before, in `decide`.

use super::moving::{self, Moved};
use super::routes::Routes;
use super::state::{HashRange, Resharding, Resume, Scrubs, Shard, ShardState, State, Stream, StreamMode, StreamStatus};
use crate::io::clock::Wall;
use crate::limits::SHARDS_PER_STREAM_MAX;
use crate::log::LiveSegment;
use crate::log::format::ShardKey;
use crate::tables::state::TableChange;
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::BTreeMap;

/// Logs that a catalog can know: far above the cores of a machine; bounds what a damaged entry can ask for.
pub const LOGS_MAX: u32 = 4096;

/// One numbered step of the catalog (version 1 of what the journal stores; see `state`).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A stream with `shards` equal shards, numbered from 0; shard i lies on log `logs[i % logs.len()]`.
    CreateStream {
        number: u32,
        name: String,
        created: Wall,
        mode: StreamMode,
        retention_hours: u32,
        max_record_kib: u32,
        tags: BTreeMap<String, String>,
        shards: u32,
        logs: Vec<u32>,
    },
    /// The stream takes and gives no records any more; owners free what they hold. A resharding or move under way ends.
    DeleteStream {
        stream: u32,
    },
    /// Every owner has let go of a deleted stream. Its number is never used again.
    StreamGone {
        stream: u32,
    },
    Retention {
        stream: u32,
        hours: u32,
    },
    /// A split (one parent, two children) or a merge (two parents, one child) begins: puts to the parents wait.
    CloseShards {
        stream: u32,
        parents: Vec<u32>,
        children: Vec<Shard>,
    },
    /// The resharding ends: parents are closed for ever, children take records.
    OpenChildren {
        stream: u32,
        closed: Vec<ClosedShard>,
    },
    /// The last records of these closed shards have expired.
    ShardsExpired {
        stream: u32,
        shards: Vec<u32>,
    },
    /// Before segments of `log` are recycled: what stays live, rising, and where shards go on whose newest records were in the others.
    LiveSegments {
        log: u32,
        live: Vec<LiveSegment>,
        resume: Vec<(ShardKey, Resume)>,
    },
    /// There are logs 0 .. `logs` now; their number never falls.
    Logs {
        logs: u32,
    },
    /// Retention time, as of now.
    RetentionClock {
        wall: Wall,
    },
    /// A shard is to go to log `to`: puts to it wait.
    MoveShard {
        stream: u32,
        shard: u32,
        to: u32,
    },
    /// The move ends: the shard takes records at its next log.
    MovedShard {
        stream: u32,
        moved: Moved,
    },
    /// Records of the stream that arrived before `horizon` (µs) have expired: former logs with nothing newer are forgotten.
    FormersExpired {
        stream: u32,
        horizon: u64,
    },
    /// The resharding of these parents ends where it began, because the log of one has failed meanwhile: they stay open, and the numbers of
    /// the children are not used again.
    ParentsStay {
        stream: u32,
        parents: Vec<u32>,
    },
    /// How far the scrubbing of a log has come, all of it.
    Scrubbed {
        log: u32,
        scrubs: Scrubs,
    },
    /// The stream has a consumer more, which may subscribe to its shards.
    RegisterConsumer {
        stream: u32,
        name: String,
        created: Wall,
        tags: BTreeMap<String, String>,
    },
    DeregisterConsumer {
        stream: u32,
        consumer: u32,
    },
    /// The policy of a stream or consumer, by what follows the account in its ARN; `None`: it has none any more.
    Policy {
        resource: String,
        document: Option<String>,
    },
    /// What one request does to lease tables. Workers other than 0 are given an empty one: they have no tables.
    Tables(Vec<TableChange>),
}

/// How a parent ended.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedShard {
    pub number: u32,
    /// Number of its last record; 0 when it never had one.
    pub last: u64,
    pub at: Wall,
}

impl State {
    /// Applies change `number`. One that has been applied already is passed over: a copy may be given a snapshot and changes that overlap.
    pub fn apply(&mut self, number: u64, change: &Change) {
        if number <= self.applied {
            return;
        }
        self.applied = number;
        match change {
            Change::CreateStream { .. } => self.create(change),
            Change::DeleteStream { stream } => {
                self.drop_policies(*stream);
                self.alter(*stream, |stream| {
                    stream.status = StreamStatus::Deleting;
                    (stream.resharding, stream.moving) = (None, None);
                    stream.consumers.clear();
                });
            }
            Change::Policy { resource, document } => self.set_policy(resource, document.as_deref()),
            Change::StreamGone { stream } => self.gone(*stream),
            Change::Retention { stream, hours } => self.alter(*stream, |stream| stream.retention_hours = *hours),
            Change::CloseShards { stream, parents, children } => self.alter(*stream, |s| close(s, parents, children)),
            Change::OpenChildren { stream, closed } => self.alter(*stream, |stream| open(stream, closed)),
            Change::MoveShard { stream, shard, to } => self.alter(*stream, |stream| moving::begin(stream, *shard, *to)),
            Change::MovedShard { stream, moved } => self.moved_shard(*stream, moved),
            Change::FormersExpired { stream, horizon } => {
                self.alter(*stream, |stream| moving::forget(stream, *horizon))
            }
            Change::ParentsStay { stream, parents } => self.alter(*stream, |stream| stay(stream, parents)),
            Change::ShardsExpired { stream, shards } => self.expired(*stream, shards),
            Change::LiveSegments { log, live, resume } => self.live_segments(*log, live, resume),
            Change::Logs { logs } => {
                for log in 0..(*logs).min(LOGS_MAX) {
                    self.placed.entry(log).or_default();
                    self.live.entry(log).or_default();
                }
            }
            // It goes back only where the operator has accepted a clock that does.
            Change::RetentionClock { wall } => self.retention_wall = *wall,
            Change::RegisterConsumer { stream, name, created, tags } => {
                self.alter(*stream, |stream| stream.register(name, *created, tags))
            }
            Change::DeregisterConsumer { stream, consumer } => {
                self.drop_consumer_policy(*stream, *consumer);
                self.alter(*stream, |stream| stream.deregister(*consumer))
            }
            Change::Scrubbed { log, scrubs } => {
                if *log < LOGS_MAX {
                    self.scrubs.insert(*log, scrubs.clone());
                }
            }
            Change::Tables(changes) => changes.iter().for_each(|change| self.tables.apply(change)),
        }
    }

    fn create(&mut self, change: &Change) {
        let Change::CreateStream { number, name, created, mode, retention_hours, max_record_kib, tags, shards, logs } =
            change
        else {
            return;
        };
        let Some(next) = number.checked_add(1) else { return };
        if *number < self.next_stream || self.streams.contains_key(name) {
            return;
        }
        self.next_stream = next;
        let count = (*shards).clamp(1, SHARDS_PER_STREAM_MAX as u32);
        let shard = |i: u32| Shard {
            number: i,
            range: HashRange::of(i, count),
            parents: [None, None],
            created: created.seconds(),
            log: logs.get(i as usize % logs.len().max(1)).copied().unwrap_or(0),
            former: Vec::new(),
            state: ShardState::Open,
        };
        let stream = Stream {
            number: *number,
            name: name.clone(),
            created: *created,
            status: StreamStatus::Active,
            mode: *mode,
            retention_hours: *retention_hours,
            max_record_kib: *max_record_kib,
            tags: tags.clone(),
            shards: (0..count).map(|i| (i, shard(i))).collect(),
            next_shard: count,
            consumers: BTreeMap::new(),
            next_consumer: 0,
            resharding: None,
            moving: None,
            routes: Routes::default(),
        };
        self.names.insert(*number, name.clone());
        self.streams.insert(name.clone(), stream);
        self.alter(*number, |_| {});
    }

    /// Alters a stream, then what is derived from it. The load of its logs is counted out before and in after.
    pub(super) fn alter(&mut self, number: u32, how: impl FnOnce(&mut Stream)) {
        let Some(stream) = self.names.get(&number).and_then(|name| self.streams.get_mut(name)) else { return };
        // A stream that was just created has no routes: it has not been counted in.
        if !stream.routes.is_empty() {
            for log in loads(stream) {
                let placed = self.placed.entry(log).or_default();
                *placed = placed.saturating_sub(1);
            }
        }
        how(stream);
        stream.routes = Routes::of(stream.shards.values());
        for log in loads(stream) {
            let placed = self.placed.entry(log).or_default();
            *placed = placed.saturating_add(1);
        }
    }

    fn gone(&mut self, number: u32) {
        // Only a deleted stream goes, and a deleted one counts on no log any more.
        let is_deleted = self.stream_by_number(number).is_some_and(|s| s.status == StreamStatus::Deleting);
        if !is_deleted {
            return;
        }
        if let Some(name) = self.names.remove(&number) {
            self.streams.remove(&name);
        }
        self.resume.retain(|key, _| key.stream() != number);
    }

    fn expired(&mut self, number: u32, shards: &[u32]) {
        let mut gone = Vec::new();
        self.alter(number, |stream| {
            for shard in shards {
                if stream.shards.get(shard).is_some_and(Shard::is_closed) {
                    stream.shards.remove(shard);
                    gone.push(ShardKey::new(number, *shard));
                }
            }
        });
        for key in gone {
            self.resume.remove(&key);
        }
    }

    fn live_segments(&mut self, log: u32, live: &[LiveSegment], resume: &[(ShardKey, Resume)]) {
        if log >= LOGS_MAX {
            return;
        }
        self.live.insert(log, live.to_vec());
        for (key, resume) in resume {
            if self.shard(*key).is_some() {
                self.raise_resume(*key, *resume);
            }
        }
    }

    pub(super) fn raise_resume(&mut self, key: ShardKey, resume: Resume) {
        let held = self.resume.entry(key).or_insert(resume);
        *held = Resume { next: held.next.max(resume.next), arrival: held.arrival.max(resume.arrival) };
    }
}

/// The log of each shard that takes records, and of each that will when a resharding ends.
fn loads(stream: &Stream) -> impl Iterator<Item = u32> {
    let counts = stream.status != StreamStatus::Deleting;
    let children = stream.resharding.iter().flat_map(|r| r.children.iter());
    stream.open().chain(children).filter(move |_| counts).map(|shard| shard.log)
}

fn close(stream: &mut Stream, parents: &[u32], children: &[Shard]) {
    let open = |number: &u32| stream.shards.get(number).is_some_and(Shard::is_open);
    let is_new = |child: &Shard| child.number >= stream.next_shard && child.number < u32::MAX;
    let two = match parents {
        [one] => [Some(*one), None],
        [one, two] if one != two => [Some(*one), Some(*two)],
        _ => return,
    };
    let fits = stream.status == StreamStatus::Active
        && !children.is_empty()
        && parents.iter().all(open)
        && children.iter().all(is_new);
    if !fits {
        return;
    }
    for parent in parents {
        if let Some(shard) = stream.shards.get_mut(parent) {
            shard.state = ShardState::Closing;
        }
    }
    stream.next_shard = children.iter().map(|child| child.number + 1).max().unwrap_or(stream.next_shard);
    stream.resharding = Some(Resharding { parents: two, children: children.to_vec() });
    stream.status = StreamStatus::Updating;
}

fn open(stream: &mut Stream, closed: &[ClosedShard]) {
    let Some(resharding) = stream.resharding.take() else { return };
    let is_told = |parent: &u32| closed.iter().any(|end| end.number == *parent);
    if !resharding.parents.iter().flatten().all(is_told) {
        stream.resharding = Some(resharding);
        return;
    }
    for end in closed {
        if let Some(shard) = stream.shards.get_mut(&end.number).filter(|shard| shard.state == ShardState::Closing) {
            shard.state = ShardState::Closed { last: end.last, at: end.at };
        }
    }
    let open = |mut child: Shard| {
        child.state = ShardState::Open;
        (child.number, child)
    };
    stream.shards.extend(resharding.children.into_iter().map(open));
    stream.status = StreamStatus::Active;
}

fn stay(stream: &mut Stream, parents: &[u32]) {
    let is_it = |resharding: &mut Resharding| resharding.parents.iter().flatten().eq(parents);
    if stream.resharding.take_if(is_it).is_none() {
        return;
    }
    for parent in parents {
        if let Some(shard) = stream.shards.get_mut(parent) {
            shard.state = ShardState::Open;
        }
    }
    stream.status = StreamStatus::Active;
}
