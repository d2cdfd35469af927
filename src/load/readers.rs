//! What reads back along with the writing: of a plan whose records go over the native protocol one connection of that, else one connection for each
//! shard that asks the Kinesis API.

use super::ledger::Place;
use super::link::Link;
use super::plan::{Plan, Share, Wire};
use super::reader::{Child, Reader};
use super::shared::Shared;
use super::subscriber::{ROOM, Subscriber};
use crate::io::clock::{Mono, Now};
use crate::io::op::{Completion, Errno, Ops, Socket};
use crate::kinesis::shard_id::ShardId;

/// Shards beyond those that there are at the beginning: for what they split into.
const CHILDREN: usize = 32;

enum Kind {
    Api(Vec<Reader>),
    Native(Box<Subscriber>),
}

pub struct Readers {
    kind: Kind,
    /// The first of their sockets.
    first: u32,
    shards_max: usize,
    /// A shard could not be followed.
    incomplete: bool,
}

impl Readers {
    /// How many sockets those of a share have.
    pub fn sockets(plan: &Plan, share: &Share) -> usize {
        match (plan.is_verified(), plan.wire) {
            (false, _) => 0,
            (true, Wire::Native) => 1,
            (true, Wire::Json | Wire::Cbor) => share.shards.len() + CHILDREN,
        }
    }

    /// Of the shards of `share`, on sockets from `first` on.
    pub fn new(shared: &Shared, share: &Share, first: u32) -> Readers {
        let shards_max = share.shards.len() + CHILDREN;
        let kind = match (shared.plan.is_verified(), shared.plan.wire) {
            (true, Wire::Native) => {
                Kind::Native(Box::new(Subscriber::new(shared, Socket(first), &share.shards, shards_max)))
            }
            _ => Kind::Api(Vec::new()),
        };
        let mut readers = Readers { kind, first, shards_max, incomplete: false };
        if shared.plan.is_verified() {
            share.shards.iter().for_each(|shard| readers.read(shared, ShardId(*shard).to_string(), false));
        }
        readers
    }

    /// Begins to read a shard by the API. False: there are too many.
    fn read(&mut self, shared: &Shared, shard: String, is_child: bool) {
        let Kind::Api(readers) = &mut self.kind else { return };
        if readers.iter().any(|reader| reader.shard() == shard) {
            return;
        }
        self.incomplete |= readers.len() == self.shards_max;
        if readers.len() < self.shards_max {
            let number = readers.len() as u16;
            let socket = Socket(self.first + number as u32);
            readers.push(Reader::new(shared, number, socket, shard, is_child));
        }
    }

    /// A child is read when all of its parents that this thread reads are: what they have comes before.
    fn follow(&mut self, shared: &mut Shared, child: Child) {
        let Kind::Api(readers) = &self.kind else { return };
        let reads = |parent: &String| readers.iter().any(|reader| !reader.ended && parent == reader.shard());
        if !child.parents.iter().any(reads) {
            let was = std::mem::take(&mut self.incomplete);
            let text = format!("{} is not read: more shards have come than a run follows", child.shard);
            self.read(shared, child.shard, true);
            if self.incomplete {
                shared.complain(text);
            }
            self.incomplete |= was;
        }
    }

    /// `ends`: nothing more is written.
    pub fn turn(&mut self, shared: &mut Shared, now: Now, ends: bool, ops: &mut Ops) {
        match &mut self.kind {
            Kind::Api(readers) => readers.iter_mut().for_each(|reader| reader.turn(shared, now, ends, ops)),
            Kind::Native(subscriber) => subscriber.turn(shared, now, ends, ops),
        }
    }

    /// Something of their socket `socket` has completed.
    pub fn complete(&mut self, shared: &mut Shared, now: Now, socket: u32, completion: Completion, ops: &mut Ops) {
        let mut children = Vec::new();
        match &mut self.kind {
            Kind::Api(readers) => {
                let Some(reader) = readers.get_mut((socket - self.first) as usize) else { return };
                match completion {
                    Completion::Connected { result, .. } => reader.on_connected(now, result),
                    Completion::Sent { result, .. } => reader.on_sent(result, ops),
                    Completion::Received { result, .. } => children = reader.on_received(shared, now, result, ops),
                    _ => reader.on_closed(now),
                }
            }
            Kind::Native(subscriber) => match completion {
                Completion::Connected { result, .. } => subscriber.on_connected(shared, now, result),
                Completion::Sent { result, .. } => subscriber.on_sent(result, ops),
                Completion::Received { result, .. } => subscriber.on_received(shared, now, result, ops),
                _ => subscriber.on_closed(now),
            },
        }
        children.into_iter().for_each(|child| self.follow(shared, child));
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        let (api, native) = match &self.kind {
            Kind::Api(readers) => (&readers[..], None),
            Kind::Native(subscriber) => (&[][..], Some(subscriber.link())),
        };
        api.iter().map(Reader::link).chain(native)
    }

    pub fn is_ready(&self) -> bool {
        match &self.kind {
            Kind::Api(readers) => readers.iter().all(Reader::is_ready),
            Kind::Native(subscriber) => subscriber.is_ready(),
        }
    }

    /// Whether everything that was there at `since` has been read.
    pub fn have_all(&self, since: Mono) -> bool {
        match &self.kind {
            Kind::Api(readers) => readers.iter().all(|reader| reader.has_all(since)),
            Kind::Native(subscriber) => subscriber.has_all(since),
        }
    }

    /// Something could not be followed.
    pub fn are_incomplete(&self) -> bool {
        self.incomplete
            || match &self.kind {
                Kind::Api(readers) => readers.iter().any(Reader::is_incomplete),
                Kind::Native(subscriber) => subscriber.is_incomplete(),
            }
    }

    /// Whether it is proved that the record at this place was trimmed before it was read.
    pub fn is_trimmed(&self, place: Place) -> bool {
        match &self.kind {
            Kind::Api(readers) => readers.iter().any(|reader| reader.is_trimmed(place)),
            Kind::Native(subscriber) => subscriber.is_trimmed(place),
        }
    }

    pub fn deadline(&self) -> Option<Mono> {
        match &self.kind {
            Kind::Api(readers) => readers.iter().filter_map(Reader::deadline).min(),
            Kind::Native(subscriber) => subscriber.deadline(),
        }
    }

    pub fn close(&mut self, ops: &mut Ops) {
        match &mut self.kind {
            Kind::Api(readers) => readers.iter_mut().for_each(|reader| reader.close(ops)),
            Kind::Native(subscriber) => subscriber.close(ops),
        }
    }

    pub fn are_down(&self) -> bool {
        self.links().all(Link::is_down)
    }

    /// Why one of them could not be connected the last time.
    pub fn error(&self) -> Option<Errno> {
        self.links().find_map(|link| link.error)
    }
}

const _: () = assert!(super::client::CONTROL >= ROOM);
