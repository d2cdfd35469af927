//! What a request needs permission for: the action and the resource.

use super::operation::{Cold, Operation};
use super::request::{Context, Mutation, Query, Request};
use crate::auth::ask::Resource;
use crate::catalog::state::State;

impl Operation {
    /// As policies name it.
    pub fn action(self) -> &'static str {
        match self {
            Operation::PutRecord => "kinesis:PutRecord",
            Operation::PutRecords => "kinesis:PutRecords",
            Operation::GetRecords => "kinesis:GetRecords",
            Operation::Cold(cold) => cold.action(),
        }
    }
}

impl Cold {
    pub fn action(self) -> &'static str {
        match self {
            Cold::CreateStream => "kinesis:CreateStream",
            Cold::DecreaseStreamRetentionPeriod => "kinesis:DecreaseStreamRetentionPeriod",
            Cold::DeleteResourcePolicy => "kinesis:DeleteResourcePolicy",
            Cold::DeleteStream => "kinesis:DeleteStream",
            Cold::DeregisterStreamConsumer => "kinesis:DeregisterStreamConsumer",
            Cold::DescribeStream => "kinesis:DescribeStream",
            Cold::DescribeStreamConsumer => "kinesis:DescribeStreamConsumer",
            Cold::DescribeStreamSummary => "kinesis:DescribeStreamSummary",
            Cold::GetResourcePolicy => "kinesis:GetResourcePolicy",
            Cold::GetShardIterator => "kinesis:GetShardIterator",
            Cold::IncreaseStreamRetentionPeriod => "kinesis:IncreaseStreamRetentionPeriod",
            Cold::ListShards => "kinesis:ListShards",
            Cold::ListStreamConsumers => "kinesis:ListStreamConsumers",
            Cold::ListStreams => "kinesis:ListStreams",
            Cold::ListTagsForStream => "kinesis:ListTagsForStream",
            Cold::MergeShards => "kinesis:MergeShards",
            Cold::PutResourcePolicy => "kinesis:PutResourcePolicy",
            Cold::RegisterStreamConsumer => "kinesis:RegisterStreamConsumer",
            Cold::SplitShard => "kinesis:SplitShard",
            Cold::SubscribeToShard => "kinesis:SubscribeToShard",
            Cold::Unknown => "",
        }
    }
}

impl Request {
    /// What it is about; `None`: a token that leads nowhere, which its own answer says.
    pub fn resource<'r>(&'r self, state: &'r State, context: &Context<'_>) -> Option<Resource<'r>> {
        Some(match self {
            Request::GetShardIterator(request) => Resource::Stream(request.stream()),
            Request::Query(Query::ListStreams(_)) => Resource::Any,
            Request::Query(Query::ListShards(query)) => Resource::Stream(query.stream(state, context)?),
            Request::Query(Query::DescribeStream(query)) => Resource::Stream(&query.stream),
            Request::Query(Query::DescribeStreamSummary(query)) => Resource::Stream(&query.stream),
            Request::Query(Query::ListTagsForStream(query)) => Resource::Stream(&query.stream),
            Request::Query(Query::ListStreamConsumers(query)) => Resource::Stream(query.stream()),
            Request::Query(Query::DescribeStreamConsumer(query)) => query.consumer().resource(state),
            Request::SubscribeToShard(request) => request.consumer().resource(state),
            Request::Mutation(Mutation::DeregisterConsumer(consumer)) => consumer.resource(state),
            Request::Query(Query::GetResourcePolicy(query)) => Resource::Arn(&query.arn),
            Request::Mutation(Mutation::PutResourcePolicy { arn, .. } | Mutation::DeleteResourcePolicy { arn }) => {
                Resource::Arn(arn)
            }
            Request::Mutation(
                Mutation::CreateStream { stream, .. }
                | Mutation::DeleteStream { stream, .. }
                | Mutation::RegisterConsumer { stream, .. }
                | Mutation::SplitShard { stream, .. }
                | Mutation::MergeShards { stream, .. }
                | Mutation::IncreaseRetention { stream, .. }
                | Mutation::DecreaseRetention { stream, .. },
            ) => Resource::Stream(stream),
        })
    }
}
