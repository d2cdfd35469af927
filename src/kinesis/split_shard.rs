//! SplitShard.

use super::arn::StreamMembers;
use super::constraint::{Constraints, Text};
use super::error::Error;
use super::object::Object;
use super::request::Mutation;
use super::shard_id::ShardId;
use crate::catalog::identity::Identity;

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<Mutation, Error> {
    let stream = StreamMembers::take(request)?;
    let (shard, new_start) = (request.string("ShardToSplit")?, request.string("NewStartingHashKey")?);
    let mut constraints = Constraints::default();
    let new_start = constraints.required_text("newStartingHashKey", new_start, &Text::HASH_KEY);
    let stream = stream.constrain(&mut constraints);
    let shard = constraints.required_text("shardToSplit", shard, &Text::NAME);
    constraints.check()?;

    let stream = stream.resolve(identity)?;
    let shard = ShardId::resolve(&shard, &stream, identity)?;
    // The pattern allows numbers above 2^128 - 1; like that one they are inside no shard.
    let new_start = new_start.parse().unwrap_or(u128::MAX);
    Ok(Mutation::SplitShard { stream, shard, new_start })
}
