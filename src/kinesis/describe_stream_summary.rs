//! DescribeStreamSummary.

use super::arn::{self, StreamMembers};
use super::constraint::Constraints;
use super::error::Error;
use super::object::Object;
use super::request::Context;
use super::shard_answer::{EnhancedMonitoring, ModeDetails, NO_ENHANCED_MONITORING, body, mode, seconds, status};
use crate::catalog::identity::Identity;
use crate::catalog::state::State;
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeStreamSummary {
    pub stream: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    stream_description_summary: Summary<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Summary<'a> {
    stream_name: &'a str,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: ModeDetails,
    retention_period_hours: u32,
    stream_creation_timestamp: f64,
    enhanced_monitoring: [EnhancedMonitoring; 1],
    encryption_type: &'static str,
    open_shard_count: usize,
    consumer_count: usize,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: u32,
}

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<DescribeStreamSummary, Error> {
    let stream = StreamMembers::take(request)?;
    let mut constraints = Constraints::default();
    let stream = stream.constrain(&mut constraints);
    constraints.check()?;
    Ok(DescribeStreamSummary { stream: stream.resolve(identity)? })
}

impl DescribeStreamSummary {
    pub(super) fn answer(&self, state: &State, context: &Context<'_>) -> Result<Vec<u8>, Error> {
        let stream = arn::find_stream(state, &self.stream, context.identity)?;
        body(&Answer {
            stream_description_summary: Summary {
                stream_name: &stream.name,
                stream_arn: arn::stream_arn(context.identity, &stream.name),
                stream_status: status(stream.status),
                stream_mode_details: mode(stream.mode),
                retention_period_hours: stream.retention_hours,
                stream_creation_timestamp: seconds(stream.created),
                enhanced_monitoring: NO_ENHANCED_MONITORING,
                encryption_type: "NONE",
                open_shard_count: stream.open().count(),
                consumer_count: stream.consumers.len(),
                max_record_size_in_kib: stream.max_record_kib,
            },
        })
    }
}
