//! Messages between workers: one bounded ring for each ordered pair.
//!
//! A worker keeps at most [`Mailboxes::requests_max`] requests unanswered at each other worker, a quarter of a ring; the answers to the
//! other's requests fill another quarter at most, so an answer always finds room. What is neither (a durable position, a catalog change)
//! is kept by its sender until it finds half of the ring free.

use super::errand::{Errand, Outcome};
use super::fanout;
use super::handover;
use super::latest::Latest;
use super::rebalance;
use super::snapshot::Letter;
use crate::catalog::change::Change;
use crate::catalog::state::State;
use crate::io::buffers::Span;
use crate::io::clock::Wall;
use crate::kinesis::error::Error;
use crate::kinesis::object::Encoding;
use crate::kinesis::request::Mutation;
use crate::log::format::{Position, ShardKey};
use crate::log::producers::Rejection;
use crate::log::superblock::Superblock;
use crate::stdx::spsc::{Receiver, Sender, channel};
use std::sync::Arc;

/// A connection of a worker, told apart from earlier ones in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    pub slot: u16,
    pub generation: u32,
}

/// A slot of a worker's puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutId(pub u16);

/// A native client's place at its worker, told apart from earlier ones in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeId {
    pub place: u16,
    pub generation: u32,
}

/// Who wants a frame to be appended, and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Put { put: PutId, frame: u16 },
    Native(NativeId),
}

/// A whole body that is to become a frame.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub shard: ShardKey,
    pub count: u16,
    pub body: Span,
    /// Of a native client: what its header says, and is stored.
    pub producer: u64,
    pub number: u32,
    pub body_crc: Option<u32>,
    /// It may be written from where it lies, by the worker whose memory that is.
    pub in_place: bool,
}

/// Why a frame was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutRefusal {
    /// The shard is closed, or not here: route again with the catalog as of `change`.
    Moved { change: u64 },
    /// No segment is free.
    Full,
    /// The log has failed, or did not take the frame in time.
    Failed,
    /// The shard is closed, durably so, and has no such batch: only of a producer's.
    Closed,
    /// It cannot be this producer's next batch.
    Producer(Rejection),
}

/// A GetRecords call at the shard's owner.
#[derive(Clone, Copy, Debug)]
pub struct GetCall {
    pub shard: ShardKey,
    /// Number of the log that has it, by the asker's catalog.
    pub log: u32,
    /// First number wanted.
    pub sequence: u64,
    /// Records that arrived earlier (µs) are not wanted.
    pub floor: u64,
    pub limit: u32,
    /// Number of the change that the asker has applied.
    pub seen: u64,
    /// Of the answer.
    pub encoding: Encoding,
}

pub enum Message {
    /// Worker 0: the directory as found, and the catalog in it. Recover your logs.
    Boot(Box<(Superblock, State, Wall)>),
    /// My logs are recovered: records in them, highest epoch met, segments of each, in the order of their numbers.
    Recovered {
        records: u64,
        epoch: u32,
        segments: Vec<u32>,
    },
    /// Worker 0: there are more logs than were found, durably so. Recover those that are yours.
    MoreLogs(Box<Superblock>),
    /// Half `half` of data directory `given` of this start has failed me: leave it behind.
    HalfFailed {
        given: u8,
        half: u8,
    },
    /// Worker 0: the superblock with this epoch is durable. Serve.
    Serve {
        epoch: u32,
        retention: Wall,
    },
    /// Worker 0: apply this change, which is durable.
    Apply(Arc<(u64, Change)>),
    Applied {
        number: u64,
    },
    /// To worker 0: decide and journal.
    Mutate {
        from: ConnectionId,
        mutation: Box<Mutation>,
    },
    /// Its answer: done (and applied by every worker), with the body that the caller is answered with, or refused.
    Mutated {
        to: ConnectionId,
        result: Result<Vec<u8>, Box<Error>>,
    },
    /// To worker 0: what it alone keeps, lease tables among it.
    Errand {
        from: ConnectionId,
        errand: Box<Errand>,
    },
    /// Its answer.
    ErrandDone {
        to: ConnectionId,
        outcome: Box<Outcome>,
    },
    /// To worker 0: journal that a log's live segments change. Answered by `Journaled`.
    Journal {
        log: u32,
        change: Box<Change>,
    },
    /// `done`: it is durable; if not, the catalog has failed.
    Journaled {
        log: u32,
        done: bool,
    },
    /// To worker 0: journal how far the scrubbing of a log has come.
    Scrubbed(Box<Change>),
    /// To worker 0, once for each closing (or move) of a shard: every record is durable, and the last one has this number (0: none) and
    /// arrival; `None`: that cannot come, because the log has failed.
    ShardEnd {
        shard: ShardKey,
        end: Option<(u64, Wall)>,
        /// It was to move, and the log there cannot take it.
        stays: bool,
    },
    /// Append a frame whose body is lent. Answered by `Appended` or `PutRefused`; the loan ends with the answer.
    Put {
        asker: Asker,
        batch: Batch,
        seen: u64,
    },
    /// `log`: where, also if it has moved since it was routed.
    Appended {
        asker: Asker,
        log: u32,
        first: u64,
        arrival: u64,
        position: Position,
    },
    PutRefused {
        asker: Asker,
        why: PutRefusal,
    },
    /// A log is durable below `position`; `failed`: and will never be further.
    Durable {
        log: u32,
        position: Position,
        failed: bool,
    },
    Get {
        from: ConnectionId,
        call: GetCall,
    },
    /// The answer's body, lent until `Return`.
    Got {
        to: ConnectionId,
        result: Result<Span, Box<Error>>,
    },
    Return {
        span: Span,
    },
    /// The first number of a shard that is not durable yet?
    Latest {
        from: ConnectionId,
        shard: ShardKey,
        seen: u64,
    },
    LatestIs {
        to: ConnectionId,
        result: Latest,
    },
    Rebalance(rebalance::Letter),
    Snapshot(Letter),
    Fanout(fanout::Letter),
    Handover(handover::Letter),
    /// A clean stop: no more requests will come from me.
    Stopping,
}

/// A worker's ends of all the rings.
pub struct Mailboxes {
    to: Vec<Option<Sender<Message>>>,
    from: Vec<Option<Receiver<Message>>>,
    /// Workers that have been sent something in this turn.
    pub dirty: Vec<bool>,
    /// Requests at each worker that it has not answered yet.
    unanswered: Vec<usize>,
    requests_max: usize,
}

/// Rings of `capacity` messages between each two of `workers`: one value for each worker, in order.
pub fn connect(workers: u16, capacity: usize) -> Vec<Mailboxes> {
    let n = workers as usize;
    let mut boxes: Vec<Mailboxes> = (0..n)
        .map(|_| Mailboxes {
            to: (0..n).map(|_| None).collect(),
            from: (0..n).map(|_| None).collect(),
            dirty: vec![false; n],
            unanswered: vec![0; n],
            requests_max: capacity / 4,
        })
        .collect();
    for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))).filter(|(a, b)| a != b) {
        let (sender, receiver) = channel(capacity);
        boxes[a].to[b] = Some(sender);
        boxes[b].from[a] = Some(receiver);
    }
    boxes
}

impl Mailboxes {
    /// Whether `count` more requests may be sent to `worker` now.
    pub fn may_ask(&self, worker: u16, count: usize) -> bool {
        self.unanswered[worker as usize] + count <= self.requests_max
    }

    /// Most requests that one worker may have at another.
    pub fn requests_max(&self) -> usize {
        self.requests_max
    }

    /// Sends a request; the caller has asked [`Mailboxes::may_ask`].
    pub fn ask(&mut self, worker: u16, message: Message) {
        assert!(self.may_ask(worker, 1), "a request without room for its answer");
        self.unanswered[worker as usize] += 1;
        self.push(worker, message);
    }

    /// Notes that a request to `worker` has been answered.
    pub fn answered(&mut self, worker: u16) {
        self.unanswered[worker as usize] -= 1;
    }

    /// Sends an answer, for which the asker has reserved room, or a message of the boot.
    pub fn answer(&mut self, worker: u16, message: Message) {
        self.push(worker, message);
    }

    /// Sends what nobody has reserved room for, if half of the ring is free: the other half is for requests and answers.
    pub fn offer(&mut self, worker: u16, message: Message) -> Result<(), Message> {
        let sender = self.to[worker as usize].as_mut().expect("no worker writes to itself");
        if sender.free() <= 2 * self.requests_max {
            return Err(message);
        }
        self.push(worker, message);
        Ok(())
    }

    fn push(&mut self, worker: u16, message: Message) {
        let sender = self.to[worker as usize].as_mut().expect("no worker writes to itself");
        assert!(sender.push(message).is_ok(), "a mailbox overflowed: its bounds are wrong");
        self.dirty[worker as usize] = true;
    }

    /// Whether a message waits to be taken: looked at once more before the worker's thread sleeps.
    pub fn waits(&mut self) -> bool {
        self.from.iter_mut().flatten().any(|receiver| !receiver.is_empty())
    }

    pub fn take(&mut self, from: u16) -> Option<Message> {
        self.from[from as usize].as_mut()?.pop()
    }
}
