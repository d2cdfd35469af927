//! GetShardIterator: where a reader wants to start.

use super::arn::{self, StreamMembers};
use super::constraint::{Constraints, Text};
use super::error::{Error, Kind};
use super::object::Object;
use super::request::Context;
use super::sequence::SequenceNumber;
use super::shard_id::{self, ShardId};
use crate::catalog::identity::Identity;
use crate::catalog::state::{Shard, State, Stream};

/// How far a client's clock may be ahead, or its milliseconds be rounded up, before a time is one to come. Flink begins at its own now.
const AHEAD_MS: u64 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    AtSequenceNumber,
    AfterSequenceNumber,
    TrimHorizon,
    Latest,
    AtTimestamp,
}

const TYPES: [(&str, Type); 5] = [
    ("AFTER_SEQUENCE_NUMBER", Type::AfterSequenceNumber),
    ("LATEST", Type::Latest),
    ("AT_TIMESTAMP", Type::AtTimestamp),
    ("AT_SEQUENCE_NUMBER", Type::AtSequenceNumber),
    ("TRIM_HORIZON", Type::TrimHorizon),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetShardIterator {
    stream: String,
    shard: u32,
    from: StartingPoint,
    dry_run: bool,
}

/// Where in a shard a request wants to start, in the words of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StartingPoint {
    kind: Type,
    sequence: Option<String>,
    /// µs since 1970.
    timestamp: Option<u64>,
    /// The operation that wants it.
    operation: &'static str,
}

/// The first record that a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The record with this number in its shard, or the next one there is.
    At(u64),
    /// The one behind it.
    After(u64),
    TrimHorizon,
    Latest,
    /// The first that arrived then (µs since 1970) or later.
    AtTimestamp(u64),
}

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<GetShardIterator, Error> {
    let stream = StreamMembers::take(request)?;
    let (shard, kind) = (request.string("ShardId")?, request.string("ShardIteratorType")?);
    let (sequence, timestamp) = (request.string("StartingSequenceNumber")?, request.timestamp("Timestamp")?);
    let dry_run = request.boolean("DryRun")?.unwrap_or(false);
    let mut constraints = Constraints::default();
    let kind = constraints.required_choice("shardIteratorType", kind, &TYPES, Type::Latest);
    let shard = constraints.required_text("shardId", shard, &Text::NAME);
    let sequence = constraints.text("startingSequenceNumber", sequence, &Text::SEQUENCE_NUMBER);
    let stream = stream.constrain(&mut constraints);
    constraints.check()?;

    let stream = stream.resolve(identity)?;
    let shard = ShardId::resolve(&shard, &stream, identity)?;
    let from = StartingPoint { kind, sequence, timestamp, operation: "GetShardIterator" };
    Ok(GetShardIterator { stream, shard, from, dry_run })
}

impl StartingPoint {
    /// `StartingPosition` of SubscribeToShard.
    pub(super) fn take(position: &Object<'_>, constraints: &mut Constraints) -> Result<StartingPoint, Error> {
        let (kind, sequence) = (position.string("Type")?, position.string("SequenceNumber")?);
        let timestamp = position.timestamp("Timestamp")?;
        Ok(StartingPoint {
            kind: constraints.required_choice("startingPosition.type", kind, &TYPES, Type::Latest),
            sequence: constraints.text("startingPosition.sequenceNumber", sequence, &Text::SEQUENCE_NUMBER),
            timestamp,
            operation: "SubscribeToShard",
        })
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, text)
}

impl GetShardIterator {
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The stream and the shard that are meant.
    pub fn resolve<'s>(&self, state: &'s State, identity: &Identity) -> Result<(&'s Stream, &'s Shard), Error> {
        let missing = || shard_id::does_not_exist(ShardId(self.shard), &self.stream, identity);
        let stream = arn::find_stream(state, &self.stream, identity).map_err(|_| missing())?;
        Ok((stream, stream.shards.get(&self.shard).ok_or_else(missing)?))
    }

    /// Where to start in it.
    pub fn start(&self, stream: &Stream, shard: &Shard, context: &Context<'_>) -> Result<Start, Error> {
        let start = self.from.start(stream, shard, context)?;
        match self.dry_run {
            true => Err(would_succeed()),
            false => Ok(start),
        }
    }
}

/// Said of a dry run that found nothing wrong.
pub(super) fn would_succeed() -> Error {
    Error::new(Kind::DryRunOperation, "Request would have succeeded, but DryRun flag is set.")
}

impl StartingPoint {
    /// What it means in this shard.
    pub(super) fn start(&self, stream: &Stream, shard: &Shard, context: &Context<'_>) -> Result<Start, Error> {
        Ok(match self.kind {
            Type::AtSequenceNumber => Start::At(self.number(stream, shard, context)?),
            Type::AfterSequenceNumber => Start::After(self.number(stream, shard, context)?),
            Type::TrimHorizon | Type::Latest if self.sequence.is_some() => return Err(self.wrong("and also a")),
            Type::TrimHorizon => Start::TrimHorizon,
            Type::Latest => Start::Latest,
            Type::AtTimestamp => Start::AtTimestamp(self.time(context)?),
        })
    }

    fn wrong(&self, what: &str) -> Error {
        let kind = TYPES.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name);
        invalid(format!(
            "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or \
             LATEST and no StartingSequenceNumber. Request specified {kind} {what} StartingSequenceNumber."
        ))
    }

    /// The number in its shard that `StartingSequenceNumber` stands for.
    fn number(&self, stream: &Stream, shard: &Shard, context: &Context<'_>) -> Result<u64, Error> {
        let Some(text) = &self.sequence else { return Err(self.wrong("and no")) };
        let (id, account) = (ShardId(shard.number), &context.identity.account);
        let rejected = |why: &str| {
            let (stream, operation) = (&stream.name, self.operation);
            invalid(format!(
                "StartingSequenceNumber {text} used in {operation} on shard {id} in stream {stream} under account {account} is \
                 invalid{why}."
            ))
        };
        let Some(number) = SequenceNumber::parse(text.as_bytes()) else { return Err(rejected("")) };
        if number.shard != shard.number {
            return Err(invalid(format!(
                "Invalid StartingSequenceNumber. It encodes {}, while it was used in a call to a shard with {id}",
                ShardId(number.shard)
            )));
        }
        if number.created != shard.created {
            return Err(rejected(" because it did not come from this stream"));
        }
        Ok(number.number)
    }

    fn time(&self, context: &Context<'_>) -> Result<u64, Error> {
        let Some(at) = self.timestamp else {
            return Err(invalid(
                "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.",
            ));
        };
        let (at_ms, now_ms) = (at / 1000, context.now.wall.millis());
        if at_ms > now_ms + AHEAD_MS {
            return Err(invalid(format!(
                "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: {at_ms}, \
                 currentTimestampInMillis: {now_ms}"
            )));
        }
        // A client whose clock is ahead means its own now by it: from here on.
        Ok(at.min(context.now.wall.0))
    }
}
