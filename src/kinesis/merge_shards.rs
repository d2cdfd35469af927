//! MergeShards.

use super::arn::StreamMembers;
use super::constraint::{Constraints, Text};
use super::error::Error;
use super::object::Object;
use super::request::Mutation;
use super::shard_id::ShardId;
use crate::catalog::identity::Identity;

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<Mutation, Error> {
    let stream = StreamMembers::take(request)?;
    let (shard, adjacent) = (request.string("ShardToMerge")?, request.string("AdjacentShardToMerge")?);
    let mut constraints = Constraints::default();
    let stream = stream.constrain(&mut constraints);
    let shard = constraints.required_text("shardToMerge", shard, &Text::NAME);
    let adjacent = constraints.required_text("adjacentShardToMerge", adjacent, &Text::NAME);
    constraints.check()?;

    let stream = stream.resolve(identity)?;
    let shard = ShardId::resolve(&shard, &stream, identity)?;
    let adjacent = ShardId::resolve(&adjacent, &stream, identity)?;
    Ok(Mutation::MergeShards { stream, shard, adjacent })
}
