//! SubscribeToShard: which consumer wants which shard, and from where.

use super::constraint::{Constraints, Text};
use super::consumer::NamedConsumer;
use super::error::{Error, Kind};
use super::get_shard_iterator::{Start, StartingPoint, would_succeed};
use super::object::Object;
use super::request::Context;
use super::shard_id::{self, ShardId};
use crate::catalog::identity::Identity;
use crate::catalog::state::{Shard, State, Stream};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeToShard {
    consumer: NamedConsumer,
    shard: u32,
    from: StartingPoint,
    dry_run: bool,
}

/// A request that fits the catalog.
#[derive(Clone, Copy)]
pub struct Resolved<'s> {
    pub stream: &'s Stream,
    pub shard: &'s Shard,
    /// Number of the consumer.
    pub consumer: u32,
    pub start: Start,
}

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<SubscribeToShard, Error> {
    let (arn, shard) = (request.string("ConsumerARN")?, request.string("ShardId")?);
    let position = request.object("StartingPosition")?;
    let dry_run = request.boolean("DryRun")?.unwrap_or(false);
    let mut constraints = Constraints::default();
    let arn = constraints.required_text("consumerARN", arn, &Text::CONSUMER_ARN);
    let shard = constraints.required_text("shardId", shard, &Text::NAME);
    let from = match &position {
        Some(position) => Some(StartingPoint::take(position, &mut constraints)?),
        None => {
            constraints.missing("startingPosition");
            None
        }
    };
    constraints.check()?;
    let consumer = NamedConsumer::of_arn(&arn, identity)?;
    let shard = ShardId::resolve(&shard, &consumer.stream, identity)?;
    // Without one the check above has failed.
    let from = from.ok_or_else(|| Error::new(Kind::Validation, "StartingPosition is missing."))?;
    Ok(SubscribeToShard { consumer, shard, from, dry_run })
}

impl SubscribeToShard {
    pub(super) fn consumer(&self) -> &NamedConsumer {
        &self.consumer
    }

    pub fn resolve<'s>(&self, state: &'s State, context: &Context<'_>) -> Result<Resolved<'s>, Error> {
        let (stream, consumer) = self.consumer.find(state, context.identity)?;
        let missing = || shard_id::does_not_exist(ShardId(self.shard), &stream.name, context.identity);
        let shard = stream.shards.get(&self.shard).ok_or_else(missing)?;
        let start = self.from.start(stream, shard, context)?;
        match self.dry_run {
            true => Err(would_succeed()),
            false => Ok(Resolved { stream, shard, consumer: consumer.number, start }),
        }
    }

    /// What is said where the consumer has another subscription to the shard.
    pub fn taken(&self, identity: &Identity) -> Error {
        let (stream, name) = (&self.consumer.stream, &self.consumer.name);
        let text = format!(
            "Another active subscription exists for this consumer: {}:{stream}:{}:{name}",
            identity.account,
            ShardId(self.shard)
        );
        Error::new(Kind::ResourceInUse, text)
    }

    /// What is said where the consumer has subscribed to the shard within the last second.
    pub fn too_often(&self, identity: &Identity) -> Error {
        let (stream, name) = (&self.consumer.stream, &self.consumer.name);
        let text = format!(
            "Rate exceeded for consumer {name} and shard {} in stream {stream} under account {}.",
            ShardId(self.shard),
            identity.account
        );
        Error::new(Kind::LimitExceeded, text)
    }

    /// What ends a stream whose consumer, shard or stream has gone.
    pub fn gone(&self, identity: &Identity) -> Error {
        let (stream, name) = (&self.consumer.stream, &self.consumer.name);
        let text = format!(
            "Consumer {name} or shard {} in stream {stream} under account {} does not exist any more.",
            ShardId(self.shard),
            identity.account
        );
        Error::new(Kind::ResourceNotFound, text)
    }
}
