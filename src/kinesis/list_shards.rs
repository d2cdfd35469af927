//! ListShards: a stream's shards, all or by a filter, in pages.

use super::arn::{self, StreamMembers};
use super::constraint::{Constraints, Text};
use super::error::{Error, Kind};
use super::json::Object;
use super::page::Page;
use super::request::Context;
use super::shard_answer::{ShardAnswer, body, is_held};
use super::shard_id::ShardId;
use super::token::Purpose;
use crate::catalog::identity::Identity;
use crate::catalog::state::{Shard, State, Stream, StreamStatus};
use crate::io::clock::Wall;
use serde::Serialize;

/// Shards of one answer, whatever the request's limit.
const SHARDS_MAX: u32 = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListShards {
    start: Start,
    limit: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    Token(String),
    Stream { name: String, after: Option<u32>, created: Option<u64>, filter: Filter },
}

/// Which shards are wanted; times in µs since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    AfterShardId(u32),
    AtTrimHorizon,
    FromTrimHorizon,
    AtLatest,
    AtTimestamp(u64),
    FromTimestamp(u64),
}

#[derive(Clone, Copy)]
enum Type {
    AfterShardId,
    AtTrimHorizon,
    FromTrimHorizon,
    AtLatest,
    AtTimestamp,
    FromTimestamp,
}

const TYPES: [(&str, Type); 6] = [
    ("AFTER_SHARD_ID", Type::AfterShardId),
    ("AT_TRIM_HORIZON", Type::AtTrimHorizon),
    ("FROM_TRIM_HORIZON", Type::FromTrimHorizon),
    ("AT_LATEST", Type::AtLatest),
    ("AT_TIMESTAMP", Type::AtTimestamp),
    ("FROM_TIMESTAMP", Type::FromTimestamp),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    shards: Vec<ShardAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

fn invalid(text: &str) -> Error {
    Error::new(Kind::InvalidArgument, text)
}

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<ListShards, Error> {
    let stream = StreamMembers::take(request)?;
    let (token, limit) = (request.string("NextToken")?, request.integer("MaxResults")?);
    let after = request.string("ExclusiveStartShardId")?;
    let created = request.timestamp("StreamCreationTimestamp")?;
    let filter = request.object("ShardFilter")?;
    let has_filter = filter.is_some();
    let filter = filter.unwrap_or_default();
    let (kind, shard, time) = (filter.string("Type")?, filter.string("ShardId")?, filter.timestamp("Timestamp")?);

    let mut constraints = Constraints::default();
    let token = constraints.text("nextToken", token, &Text::NEXT_TOKEN);
    let after = constraints.text("exclusiveStartShardId", after, &Text::NAME);
    let limit = constraints.integer("maxResults", limit, 1, 10_000).unwrap_or(SHARDS_MAX).min(SHARDS_MAX);
    let kind = match has_filter {
        true => constraints.required_choice("shardFilter.type", kind, &TYPES, Type::FromTrimHorizon),
        false => Type::FromTrimHorizon,
    };
    let shard = constraints.text("shardFilter.shardId", shard, &Text::NAME);
    let stream = stream.constrain(&mut constraints);
    constraints.check()?;

    if let Some(token) = token {
        if stream.given() {
            return Err(invalid("NextToken and StreamName cannot be provided together."));
        }
        if after.is_some() || created.is_some() || has_filter {
            return Err(invalid(
                "NextToken cannot be provided together with ExclusiveStartShardId, StreamCreationTimestamp or ShardFilter.",
            ));
        }
        return Ok(ListShards { start: Start::Token(token), limit });
    }
    if !stream.given() {
        return Err(invalid("Either NextToken or StreamName should be provided."));
    }
    let name = stream.resolve(identity)?;
    let number = |id: Option<String>| id.map(|id| ShardId::resolve(&id, &name, identity)).transpose();
    let (after, shard) = (number(after)?, number(shard)?);
    let filter = read_filter(kind, shard, time)?;
    Ok(ListShards { start: Start::Stream { name, after, created, filter }, limit })
}

fn read_filter(kind: Type, shard: Option<u32>, time: Option<u64>) -> Result<Filter, Error> {
    let time = || time.ok_or_else(|| invalid("Must specify Timestamp in ShardFilter for this type of filter."));
    Ok(match kind {
        Type::AfterShardId => Filter::AfterShardId(
            shard.ok_or_else(|| invalid("Must specify ShardId in ShardFilter for filter of type AFTER_SHARD_ID."))?,
        ),
        Type::AtTrimHorizon => Filter::AtTrimHorizon,
        Type::FromTrimHorizon => Filter::FromTrimHorizon,
        Type::AtLatest => Filter::AtLatest,
        Type::AtTimestamp => Filter::AtTimestamp(time()?),
        Type::FromTimestamp => Filter::FromTimestamp(time()?),
    })
}

/// Whether a client means `stream` by the time of its creation. Some send back what they were shown, seconds with milliseconds; others, like
/// botocore, whole seconds.
fn is_creation(stream: &Stream, created: Wall) -> bool {
    let whole = created.0.is_multiple_of(1_000_000) && created.seconds() == stream.created.seconds();
    whole || created.millis() == stream.created.millis()
}

/// Of a token: stream number u32, last shard listed u32, filter u8, its value u64.
const PAYLOAD: usize = 4 + 4 + 1 + 8;

impl Filter {
    /// As a token carries it.
    fn pack(self) -> (u8, u64) {
        match self {
            Filter::AfterShardId(shard) => (0, shard.into()),
            Filter::AtTrimHorizon => (1, 0),
            Filter::FromTrimHorizon => (2, 0),
            Filter::AtLatest => (3, 0),
            Filter::AtTimestamp(at) => (4, at),
            Filter::FromTimestamp(at) => (5, at),
        }
    }

    fn unpack(kind: u8, value: u64) -> Option<Filter> {
        Some(match kind {
            0 => Filter::AfterShardId(value as u32),
            1 => Filter::AtTrimHorizon,
            2 => Filter::FromTrimHorizon,
            3 => Filter::AtLatest,
            4 => Filter::AtTimestamp(value),
            5 => Filter::FromTimestamp(value),
            _ => return None,
        })
    }

    fn takes(self, stream: &Stream, shard: &Shard, horizon: Wall) -> bool {
        match self {
            Filter::AfterShardId(after) => shard.number > after,
            Filter::AtTrimHorizon => stream.took_at(shard, horizon.max(stream.created)),
            Filter::FromTrimHorizon => true,
            Filter::AtLatest => !shard.is_closed(),
            // Before the stream there was no shard: its first ones cover what was asked for.
            Filter::AtTimestamp(at) => stream.took_at(shard, Wall(at).max(stream.created).max(horizon)),
            Filter::FromTimestamp(at) => is_held(shard, Wall(at).max(horizon)),
        }
    }
}

impl ListShards {
    pub(super) fn answer(&self, state: &State, context: &Context<'_>) -> Result<Vec<u8>, Error> {
        let (stream, after, filter) = self.place(state, context)?;
        let horizon = context.horizon(stream.retention_hours);
        let first = after.map_or(0, |after| after.saturating_add(1));
        let held = stream.shards.range(first..).map(|(_, shard)| shard).filter(|shard| is_held(shard, horizon));
        let mut listed = held.filter(|shard| filter.takes(stream, shard, horizon)).peekable();
        let mut shards = Vec::new();
        let mut last = 0;
        for shard in listed.by_ref().take(self.limit as usize) {
            shards.push(ShardAnswer::new(shard));
            last = shard.number;
        }
        let next_token = listed.peek().is_some().then(|| {
            let (kind, value) = filter.pack();
            let mut payload = [0; PAYLOAD];
            payload[..4].copy_from_slice(&stream.number.to_le_bytes());
            payload[4..8].copy_from_slice(&last.to_le_bytes());
            payload[8] = kind;
            payload[9..].copy_from_slice(&value.to_le_bytes());
            Page::seal(&payload, Purpose::ListShards, context)
        });
        body(&Answer { shards, next_token })
    }

    /// Stream, shard to go on behind, filter.
    fn place<'s>(&self, state: &'s State, context: &Context<'_>) -> Result<(&'s Stream, Option<u32>, Filter), Error> {
        let (stream, after, filter) = match &self.start {
            Start::Stream { name, after, created, filter } => {
                let stream = arn::find_stream(state, name, context.identity)?;
                if created.is_some_and(|created| !is_creation(stream, Wall(created))) {
                    return Err(arn::stream_not_found(name, context.identity));
                }
                (stream, *after, *filter)
            }
            Start::Token(token) => {
                let page = Page::open(token, Purpose::ListShards, context)?;
                let payload: &[u8; PAYLOAD] = page.payload().try_into().map_err(|_| Page::invalid())?;
                let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| payload[at + i]));
                let value = u64::from_le_bytes(std::array::from_fn(|i| payload[9 + i]));
                let filter = Filter::unpack(payload[8], value).ok_or_else(Page::invalid)?;
                let stream = state.stream_by_number(word(0)).ok_or_else(Page::invalid)?;
                (stream, Some(word(4)), filter)
            }
        };
        match stream.status {
            StreamStatus::Active | StreamStatus::Updating => Ok((stream, after, filter)),
            StreamStatus::Deleting => {
                let account = &context.identity.account;
                let text =
                    format!("Stream {} under account {account} not ACTIVE, instead in state DELETING", stream.name);
                Err(Error::new(Kind::ResourceInUse, text))
            }
        }
    }
}
