//! Room for the catalog: what may be asked of it where the file system has none (see `catalog/reserve.rs`). Worker 0.

use super::Worker;
use super::control::Wish;
use super::notice::Notice;
use crate::catalog::decide::SHARDS_DEFAULT;
use crate::catalog::reserve::{Cover, consumer_bytes, policy_bytes, shard_bytes, stream_bytes};
use crate::io::op::Ops;
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::request::Mutation;
use crate::limits::SHARDS_PER_STREAM_MAX;
use crate::observe::counter::Counter;

/// What a request can add to the catalog, as bytes of its reserve.
fn growth(mutation: &Mutation) -> u64 {
    match mutation {
        Mutation::CreateStream { stream, shard_count, tags, .. } => {
            let tags = tags.iter().map(|(key, value)| (key.len(), value.len()));
            // A higher number will be refused.
            let shards = shard_count.unwrap_or(SHARDS_DEFAULT).min(SHARDS_PER_STREAM_MAX as u32);
            stream_bytes(stream.len(), tags) + shard_bytes(shards as u64)
        }
        Mutation::SplitShard { .. } | Mutation::MergeShards { .. } => shard_bytes(2),
        Mutation::PutResourcePolicy { arn, policy } => policy_bytes(arn.len(), policy.len()),
        Mutation::DeleteResourcePolicy { .. } => 0,
        Mutation::RegisterConsumer { name, tags, .. } => {
            consumer_bytes(name.len(), tags.iter().map(|(key, value)| (key.len(), value.len())))
        }
        Mutation::DeleteStream { .. }
        | Mutation::DeregisterConsumer(_)
        | Mutation::IncreaseRetention { .. }
        | Mutation::DecreaseRetention { .. } => 0,
    }
}

impl Worker {
    /// Once a second: room that was missing may be there again.
    pub(super) fn look_for_catalog_room(&mut self, ops: &mut Ops) {
        if let Some(control) = &mut self.control {
            control.catalog.look_for_room(self.now.mono, &mut self.buffers, ops);
        }
    }

    /// The file system has no room for a spare file of the catalog, or has it again.
    pub(super) fn catalog_room(&mut self, back: bool) {
        self.counters.add(if back { Counter::CatalogRoomReturned } else { Counter::CatalogRoomMissed }, 1);
        self.tell_operator(Notice::CatalogRoom { back });
    }

    /// Whether the catalog has room for what is asked for. What takes nothing more is never refused.
    pub(super) fn cover(&mut self, mutation: &Mutation, ops: &mut Ops) -> Cover {
        let control = self.control.as_mut().expect("worker 0");
        match growth(mutation) {
            0 => Cover::Given,
            growth => control.catalog.cover(growth, &mut self.buffers, ops),
        }
    }

    /// Whether the catalog waits for room: requests are refused meanwhile, all else is judged afterwards.
    pub(super) fn refuse_where_the_catalog_waits(&mut self, ops: &mut Ops) -> bool {
        let control = self.control.as_mut().expect("worker 0");
        let waits = control.catalog.waits_for_room();
        if waits {
            for _ in 0..control.wishes.len() {
                let control = self.control.as_mut().expect("worker 0");
                match control.wishes.pop_front() {
                    Some(Wish::Mutate(asker, _)) => self.answer_mutation(asker, Err(Box::new(no_room())), ops),
                    other => control.wishes.extend(other),
                }
            }
        }
        waits
    }
}

/// Said of a change and of a write to a lease table.
pub(super) const NO_ROOM: &str =
    "The file system has no room for the catalog: nothing was changed; try again when there is some.";

pub(super) fn no_room() -> Error {
    Error::new(Kind::LimitExceeded, NO_ROOM)
}
