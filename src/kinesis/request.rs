//! A request of the control plane, decoded, validated, with its stream resolved.

use super::consumer::NamedConsumer;
use super::describe_stream::DescribeStream;
use super::describe_stream_consumer::DescribeStreamConsumer;
use super::describe_stream_summary::DescribeStreamSummary;
use super::error::{Error, Kind};
use super::get_shard_iterator::GetShardIterator;
use super::list_shards::ListShards;
use super::list_stream_consumers::ListStreamConsumers;
use super::list_streams::ListStreams;
use super::list_tags_for_stream::ListTagsForStream;
use super::object::{self, Encoding};
use super::operation::Cold;
use super::resource_policy::GetResourcePolicy;
use super::subscribe_to_shard::SubscribeToShard;
use super::{
    create_stream, decrease_retention, delete_stream, deregister_stream_consumer, describe_stream,
    describe_stream_consumer, describe_stream_summary, get_shard_iterator, increase_retention, list_shards,
    list_stream_consumers, list_streams, list_tags_for_stream, merge_shards, register_stream_consumer, resource_policy,
    split_shard, subscribe_to_shard,
};
use crate::catalog::identity::Identity;
use crate::catalog::state::{State, StreamMode};
use crate::io::clock::{Now, Wall};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Answered by any worker from its copy of the catalog.
    Query(Query),
    /// Decided by worker 0, answered when its change is durable (and, where it opens shards, applied).
    Mutation(Mutation),
    /// Answered by any worker, but for LATEST, which the shard's owner knows.
    GetShardIterator(GetShardIterator),
    /// Answered by a stream.
    SubscribeToShard(SubscribeToShard),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    DescribeStream(DescribeStream),
    DescribeStreamSummary(DescribeStreamSummary),
    DescribeStreamConsumer(DescribeStreamConsumer),
    ListStreamConsumers(ListStreamConsumers),
    ListShards(ListShards),
    ListStreams(ListStreams),
    ListTagsForStream(ListTagsForStream),
    GetResourcePolicy(GetResourcePolicy),
}

/// A change that a client asks for. Streams are names, shards numbers; neither need exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    CreateStream {
        stream: String,
        shard_count: Option<u32>,
        mode: Option<StreamMode>,
        tags: BTreeMap<String, String>,
        max_record_kib: Option<u32>,
    },
    /// `enforce`: its consumers go with it.
    DeleteStream {
        stream: String,
        enforce: bool,
    },
    SplitShard {
        stream: String,
        shard: u32,
        new_start: u128,
    },
    MergeShards {
        stream: String,
        shard: u32,
        adjacent: u32,
    },
    IncreaseRetention {
        stream: String,
        hours: u32,
    },
    DecreaseRetention {
        stream: String,
        hours: u32,
    },
    RegisterConsumer {
        stream: String,
        name: String,
        tags: BTreeMap<String, String>,
    },
    DeregisterConsumer(NamedConsumer),
    /// Of the resource with this ARN, which is of this endpoint; the policy is well-formed.
    PutResourcePolicy {
        arn: String,
        policy: String,
    },
    DeleteResourcePolicy {
        arn: String,
    },
}

/// What an answer depends on beside the catalog.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub identity: &'a Identity,
    pub now: Now,
    /// The clock of retention, which no step of the wall clock moves.
    pub retention_now: Wall,
    /// Seconds that an hour of retention lasts: 3600 but in tests.
    pub retention_hour: u32,
    /// Iterator key of the data directory.
    pub key: &'a [u8; 16],
}

impl Context<'_> {
    /// Records that arrived before this have expired.
    pub fn horizon(&self, retention_hours: u32) -> Wall {
        let span = retention_hours as u64 * self.retention_hour as u64 * 1_000_000;
        Wall(self.retention_now.0.saturating_sub(span))
    }
}

/// Reads a body: types first, then constraints, then what can be said without the catalog, as AWS does.
pub fn decode(operation: Cold, encoding: Encoding, body: &[u8], identity: &Identity) -> Result<Request, Error> {
    let request = &object::parse(encoding, body)?;
    Ok(match operation {
        Cold::CreateStream => Request::Mutation(create_stream::decode(request)?),
        Cold::DeleteStream => Request::Mutation(delete_stream::decode(request, identity)?),
        Cold::SplitShard => Request::Mutation(split_shard::decode(request, identity)?),
        Cold::MergeShards => Request::Mutation(merge_shards::decode(request, identity)?),
        Cold::IncreaseStreamRetentionPeriod => Request::Mutation(increase_retention::decode(request, identity)?),
        Cold::DecreaseStreamRetentionPeriod => Request::Mutation(decrease_retention::decode(request, identity)?),
        Cold::RegisterStreamConsumer => Request::Mutation(register_stream_consumer::decode(request, identity)?),
        Cold::DeregisterStreamConsumer => Request::Mutation(deregister_stream_consumer::decode(request, identity)?),
        Cold::DescribeStreamConsumer => {
            Request::Query(Query::DescribeStreamConsumer(describe_stream_consumer::decode(request, identity)?))
        }
        Cold::ListStreamConsumers => {
            Request::Query(Query::ListStreamConsumers(list_stream_consumers::decode(request, identity)?))
        }
        Cold::GetShardIterator => Request::GetShardIterator(get_shard_iterator::decode(request, identity)?),
        Cold::SubscribeToShard => Request::SubscribeToShard(subscribe_to_shard::decode(request, identity)?),
        Cold::DescribeStream => Request::Query(Query::DescribeStream(describe_stream::decode(request, identity)?)),
        Cold::DescribeStreamSummary => {
            Request::Query(Query::DescribeStreamSummary(describe_stream_summary::decode(request, identity)?))
        }
        Cold::ListShards => Request::Query(Query::ListShards(list_shards::decode(request, identity)?)),
        Cold::ListStreams => Request::Query(Query::ListStreams(list_streams::decode(request)?)),
        Cold::ListTagsForStream => {
            Request::Query(Query::ListTagsForStream(list_tags_for_stream::decode(request, identity)?))
        }
        Cold::PutResourcePolicy => Request::Mutation(resource_policy::decode_put(request, identity)?),
        Cold::DeleteResourcePolicy => Request::Mutation(resource_policy::decode_delete(request, identity)?),
        Cold::GetResourcePolicy => {
            Request::Query(Query::GetResourcePolicy(resource_policy::decode_get(request, identity)?))
        }
        Cold::Unknown => return Err(Error::new(Kind::UnknownOperation, "")),
    })
}

impl Query {
    /// The body of the answer.
    pub fn answer(&self, state: &State, context: &Context<'_>) -> Result<Vec<u8>, Error> {
        match self {
            Query::DescribeStream(query) => query.answer(state, context),
            Query::DescribeStreamSummary(query) => query.answer(state, context),
            Query::DescribeStreamConsumer(query) => query.answer(state, context),
            Query::ListStreamConsumers(query) => query.answer(state, context),
            Query::ListShards(query) => query.answer(state, context),
            Query::ListStreams(query) => query.answer(state, context),
            Query::ListTagsForStream(query) => query.answer(state, context),
            Query::GetResourcePolicy(query) => query.answer(state, context),
        }
    }
}
