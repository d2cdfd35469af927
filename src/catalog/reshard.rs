//! Splitting and merging: which shards close, and which open after them.

use super::change::{Change, ClosedShard};
use super::decide::Decide;
use super::state::{HashRange, Shard, ShardState, Stream, StreamMode};
use crate::io::clock::Wall;
use crate::kinesis::error::{Error, Kind};
use crate::limits::SHARDS_PER_STREAM_MAX;

/// A shard's name in the API.
fn id(number: u32) -> String {
    format!("shardId-{number:012}")
}

impl Stream {
    /// The end of the resharding under way, when the owner of every parent has said how it ends: `word` gives number and arrival of the last
    /// record where all are durable, and `Some(None)` where they never will be in this run, because the log has failed. Then the parents
    /// stay: the log's recovery says where they go on.
    pub fn end_of_resharding(&self, word: impl Fn(u32) -> Option<Option<(u64, Wall)>>, now: Wall) -> Option<Change> {
        let parents: Vec<u32> = self.resharding.as_ref()?.parents.iter().flatten().copied().collect();
        let words = parents.iter().map(|parent| word(*parent)).collect::<Option<Vec<_>>>()?;
        if words.contains(&None) {
            return Some(Change::ParentsStay { stream: self.number, parents });
        }
        let closed = self.ends_of_parents(|parent| word(parent).flatten(), now);
        Some(Change::OpenChildren { stream: self.number, closed })
    }

    /// How the parents of the resharding under way end, of which `drained` gives number and arrival of the last record. They end together,
    /// and not before they were opened or that record arrived: the wall clock may have been set back, yet generations follow each other
    /// and a shard outlives its records.
    pub fn ends_of_parents(&self, drained: impl Fn(u32) -> Option<(u64, Wall)>, now: Wall) -> Vec<ClosedShard> {
        let parents = self.resharding.iter().flat_map(|resharding| resharding.parents.iter().flatten());
        let mut ends = Vec::new();
        let mut at = now;
        for parent in parents {
            let Some((last, arrival)) = drained(*parent) else { continue };
            let opened = self.shards.get(parent).map_or(Wall(0), |shard| self.opened(shard));
            at = at.max(opened).max(arrival);
            ends.push((*parent, last));
        }
        ends.into_iter().map(|(number, last)| ClosedShard { number, last, at }).collect()
    }
}

impl<'a> Decide<'a> {
    /// Splits `shard` so that the upper child begins at `start`. The lower one stays on the parent's log.
    pub fn split(&self, name: &str, shard: u32, start: u128, now: Wall) -> Result<Change, Error> {
        let (stream, [parent, _]) = self.operands(name, [shard, shard])?;
        self.room(stream, 2)?;
        self.eligible(stream, parent)?;
        let HashRange { first, last } = parent.range;
        if !(start > first.saturating_add(1) && start < last) {
            let text = format!(
                "NewStartingHashKey {start} used in SplitShard() on shard {} in stream {name} under account {} is not both greater than \
                 one plus the shard's StartingHashKey {first} and less than the shard's EndingHashKey {last}.",
                id(shard),
                self.identity.account
            );
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        let created = after(now, &[parent]);
        let child = |index: u32, range: HashRange, log: u32| Shard {
            number: stream.next_shard + index,
            range,
            parents: [Some(shard), None],
            created,
            log,
            former: Vec::new(),
            state: ShardState::Open,
        };
        let lower = child(0, HashRange { first, last: start - 1 }, parent.log);
        let upper = child(1, HashRange { first: start, last }, self.state.log_beside(parent.log, self.logs));
        Ok(Change::CloseShards { stream: stream.number, parents: vec![shard], children: vec![lower, upper] })
    }

    /// Merges `shard` with `adjacent`, whose range must begin where the other ends. The child stays on the less loaded of their logs.
    pub fn merge(&self, name: &str, shard: u32, adjacent: u32, now: Wall) -> Result<Change, Error> {
        let (stream, [lower, upper]) = self.operands(name, [shard, adjacent])?;
        self.room(stream, 1)?;
        self.eligible(stream, lower)?;
        self.eligible(stream, upper)?;
        if lower.range.last.checked_add(1) != Some(upper.range.first) {
            let text = format!(
                "Shards {} and {} in stream {name} under account {} are not an adjacent pair of shards eligible for merging",
                id(shard),
                id(adjacent),
                self.identity.account
            );
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        let child = Shard {
            number: stream.next_shard,
            range: HashRange { first: lower.range.first, last: upper.range.last },
            parents: [Some(shard), Some(adjacent)],
            created: after(now, &[lower, upper]),
            log: self.state.less_loaded(lower.log, upper.log, self.logs),
            former: Vec::new(),
            state: ShardState::Open,
        };
        Ok(Change::CloseShards { stream: stream.number, parents: vec![shard, adjacent], children: vec![child] })
    }

    /// The stream, provisioned and active, with the shards named.
    fn operands(&self, name: &str, numbers: [u32; 2]) -> Result<(&'a Stream, [&'a Shard; 2]), Error> {
        let stream = self.stream(name)?;
        if stream.mode == StreamMode::OnDemand {
            let text = format!(
                "Request is invalid. Stream {name} under account {} is in On-Demand mode.",
                self.identity.account
            );
            return Err(Error::new(Kind::Validation, text));
        }
        let shard = |number: u32| {
            stream.shards.get(&number).ok_or_else(|| {
                let text = format!(
                    "Could not find shard {} in stream {name} under account {}.",
                    id(number),
                    self.identity.account
                );
                Error::new(Kind::ResourceNotFound, text)
            })
        };
        let shards = [shard(numbers[0])?, shard(numbers[1])?];
        self.active(name)?;
        Ok((stream, shards))
    }

    /// Room for `additional` shards, and for their numbers.
    fn room(&self, stream: &Stream, additional: u32) -> Result<(), Error> {
        let fits = stream.shards.len() + additional as usize <= SHARDS_PER_STREAM_MAX;
        // The very last number is left unused: the next one must be a number too.
        match stream.next_shard.checked_add(additional) {
            Some(_) if fits => Ok(()),
            _ => Err(self.shard_limit(stream.shards.len(), additional)),
        }
    }

    fn eligible(&self, stream: &Stream, shard: &Shard) -> Result<(), Error> {
        if shard.is_open() {
            return Ok(());
        }
        let text = format!(
            "Shard {} in stream {} under account {} has already been merged or split, and thus is not eligible for merging or splitting.",
            id(shard.number),
            stream.name,
            self.identity.account
        );
        Err(Error::new(Kind::InvalidArgument, text))
    }
}

/// The creation second of a child: sequence numbers must rise from parents to children, also when the clock has stepped back.
fn after(now: Wall, parents: &[&Shard]) -> u64 {
    parents.iter().map(|parent| parent.created.saturating_add(1)).fold(now.seconds(), u64::max)
}
