//! ListShards: a stream's shards, all or by a filter, in pages.

use super::arn::{self, StreamMembers};
use super::constraint::{Constraints, Text};
use super::error::{Error, Kind};
use super::object::Object;
use super::page::Page;
use super::request::Context;
use super::shard_answer::{ShardAnswer, body, is_held};
use super::shard_id::ShardId;
use super::token::Purpose;
use crate::catalog::identity::Identity;
use crate::catalog::state::{Shard, State, Stream, StreamStatus};
use crate::io::clock::Wall;
use serde::Serialize;
use std::collections::BTreeSet;

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
pub(super) fn is_creation(stream: &Stream, created: Wall) -> bool {
    let whole = created.0.is_multiple_of(1_000_000) && created.seconds() == stream.created.seconds();
    whole || created.millis() == stream.created.millis()
}

/// Of a token: stream number u32, last shard listed u32, shards of the listing's time u32, filter u8, its value u64, horizon u64.
const PAYLOAD: usize = 4 + 4 + 4 + 1 + 8 + 8;

/// The time that a listing is of: that of its first page. A shard that closes behind a page is open on the next one too, and its children
/// are not there yet; else the pages together would leave a key out, or have it twice.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// Shards from this number on have been opened since.
    next_shard: u32,
    horizon: Wall,
}

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

    /// `closed_since`: the shard was open at the listing's time.
    fn takes(self, stream: &Stream, shard: &Shard, horizon: Wall, closed_since: bool) -> bool {
        let took_at = |time| match closed_since {
            true => stream.opened(shard) <= time,
            false => stream.took_at(shard, time),
        };
        match self {
            Filter::AfterShardId(after) => shard.number > after,
            Filter::AtTrimHorizon => took_at(horizon.max(stream.created)),
            Filter::FromTrimHorizon => true,
            Filter::AtLatest => closed_since || !shard.is_closed(),
            // Before the stream there was no shard: its first ones cover what was asked for.
            Filter::AtTimestamp(at) => took_at(Wall(at).max(stream.created).max(horizon)),
            Filter::FromTimestamp(at) => is_held(shard, Wall(at).max(horizon)),
        }
    }
}

/// What a page lists: the shards of `stream` behind number `after`.
struct Place<'s> {
    stream: &'s Stream,
    after: Option<u32>,
    filter: Filter,
    moment: Moment,
}

impl ListShards {
    /// The stream that is meant, also by a token; `None`: the token is not good.
    pub fn stream<'s>(&'s self, state: &'s State, context: &Context<'_>) -> Option<&'s str> {
        match &self.start {
            Start::Stream { name, .. } => Some(name),
            Start::Token(token) => {
                let page = Page::open(token, Purpose::ListShards, context).ok()?;
                let number = page.payload().first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
                state.stream_by_number(number).map(|stream| stream.name.as_str())
            }
        }
    }

    pub(super) fn answer(&self, state: &State, context: &Context<'_>) -> Result<Vec<u8>, Error> {
        let Place { stream, after, filter, moment } = self.place(state, context)?;
        let Moment { next_shard, horizon } = moment;
        let since = stream.shards.range(next_shard..).flat_map(|(_, shard)| shard.parents).flatten();
        let closed_since: BTreeSet<u32> = since.collect();
        let first = after.map_or(0, |after| after.saturating_add(1)).min(next_shard);
        let held = stream.shards.range(first..next_shard).map(|(_, shard)| shard);
        let held = held.filter(|shard| is_held(shard, horizon));
        let mut listed =
            held.filter(|shard| filter.takes(stream, shard, horizon, closed_since.contains(&shard.number))).peekable();
        let mut shards = Vec::new();
        let mut last = 0;
        for shard in listed.by_ref().take(self.limit as usize) {
            shards.push(ShardAnswer::new(shard));
            last = shard.number;
        }
        let next_token = listed.peek().is_some().then(|| {
            let (kind, value) = filter.pack();
            let mut payload = [0; PAYLOAD];
            for (slot, word) in payload.chunks_exact_mut(4).zip([stream.number, last, next_shard]) {
                slot.copy_from_slice(&word.to_le_bytes());
            }
            payload[12] = kind;
            payload[13..21].copy_from_slice(&value.to_le_bytes());
            payload[21..].copy_from_slice(&horizon.0.to_le_bytes());
            Page::seal(&payload, Purpose::ListShards, context)
        });
        body(&Answer { shards, next_token })
    }

    fn place<'s>(&self, state: &'s State, context: &Context<'_>) -> Result<Place<'s>, Error> {
        let place = match &self.start {
            Start::Stream { name, after, created, filter } => {
                let stream = arn::find_stream(state, name, context.identity)?;
                if created.is_some_and(|created| !is_creation(stream, Wall(created))) {
                    return Err(arn::stream_not_found(name, context.identity));
                }
                let horizon = context.horizon(stream.retention_hours);
                // Not the stream's next number: children that are to open have theirs already.
                let next_shard = stream.shards.last_key_value().map_or(0, |(number, _)| number + 1);
                let moment = Moment { next_shard, horizon };
                Place { stream, after: *after, filter: *filter, moment }
            }
            Start::Token(token) => {
                let page = Page::open(token, Purpose::ListShards, context)?;
                let payload: &[u8; PAYLOAD] = page.payload().try_into().map_err(|_| Page::invalid())?;
                let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| payload[at + i]));
                let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| payload[at + i]));
                let filter = Filter::unpack(payload[12], long(13)).ok_or_else(Page::invalid)?;
                let stream = state.stream_by_number(word(0)).ok_or_else(Page::invalid)?;
                let moment = Moment { next_shard: word(8), horizon: Wall(long(21)) };
                Place { stream, after: Some(word(4)), filter, moment }
            }
        };
        match place.stream.status {
            StreamStatus::Active | StreamStatus::Updating => Ok(place),
            StreamStatus::Deleting => {
                let (name, account) = (&place.stream.name, &context.identity.account);
                let text = format!("Stream {name} under account {account} not ACTIVE, instead in state DELETING");
                Err(Error::new(Kind::ResourceInUse, text))
            }
        }
    }
}
