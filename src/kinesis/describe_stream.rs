//! DescribeStream.

use super::arn::{self, StreamMembers};
use super::constraint::{Constraints, Text};
use super::error::Error;
use super::object::Object;
use super::request::Context;
use super::shard_answer::{
    EnhancedMonitoring, ModeDetails, NO_ENHANCED_MONITORING, ShardAnswer, body, is_held, mode, seconds, status,
};
use super::shard_id::ShardId;
use crate::catalog::identity::Identity;
use crate::catalog::state::State;
use serde::Serialize;

/// Shards of one answer, whatever the request's limit.
const SHARDS_MAX: u32 = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeStream {
    pub stream: String,
    limit: u32,
    /// Shards above this number.
    after: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    stream_description: Description<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description<'a> {
    stream_name: &'a str,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: ModeDetails,
    shards: Vec<ShardAnswer>,
    has_more_shards: bool,
    retention_period_hours: u32,
    stream_creation_timestamp: f64,
    enhanced_monitoring: [EnhancedMonitoring; 1],
    encryption_type: &'static str,
}

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<DescribeStream, Error> {
    let stream = StreamMembers::take(request)?;
    let (limit, after) = (request.integer("Limit")?, request.string("ExclusiveStartShardId")?);
    let mut constraints = Constraints::default();
    let limit = constraints.integer("limit", limit, 1, 10_000);
    let after = constraints.text("exclusiveStartShardId", after, &Text::NAME);
    let stream = stream.constrain(&mut constraints);
    constraints.check()?;

    let stream = stream.resolve(identity)?;
    let after = after.map(|after| ShardId::resolve(&after, &stream, identity)).transpose()?;
    Ok(DescribeStream { stream, limit: limit.unwrap_or(SHARDS_MAX).min(SHARDS_MAX), after })
}

impl DescribeStream {
    pub(super) fn answer(&self, state: &State, context: &Context<'_>) -> Result<Vec<u8>, Error> {
        let stream = arn::find_stream(state, &self.stream, context.identity)?;
        let horizon = context.horizon(stream.retention_hours);
        let first = self.after.map_or(0, |after| after + 1);
        let mut listed = stream.shards.range(first..).map(|(_, shard)| shard).filter(|shard| is_held(shard, horizon));
        let shards = listed.by_ref().take(self.limit as usize).map(ShardAnswer::new).collect();
        body(&Answer {
            stream_description: Description {
                stream_name: &stream.name,
                stream_arn: arn::stream_arn(context.identity, &stream.name),
                stream_status: status(stream.status),
                stream_mode_details: mode(stream.mode),
                shards,
                has_more_shards: listed.next().is_some(),
                retention_period_hours: stream.retention_hours,
                stream_creation_timestamp: seconds(stream.created),
                enhanced_monitoring: NO_ENHANCED_MONITORING,
                encryption_type: "NONE",
            },
        })
    }
}
