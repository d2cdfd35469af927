//! Control requests judged against the state: the change they make, or the error of the API, in AWS's order of checks.
//!
//! Judge against [`super::journal::Catalog::ahead`], which holds what is proposed and not durable yet; an answer, an error too, may be sent
//! only when what it was judged against is durable.

use super::change::Change;
use super::identity::Identity;
use super::place::LogPlace;
use super::state::{State, Stream, StreamMode, StreamStatus};
use crate::io::clock::Wall;
use crate::kinesis::arn::stream_arn;
use crate::kinesis::error::{Error, Kind};
use crate::limits::{RECORD_SIZE_KIB_DEFAULT, SHARDS_PER_STREAM_MAX};
use std::collections::BTreeMap;

/// Shards of a stream whose creator names no number, as on-demand streams of AWS begin.
pub const SHARDS_DEFAULT: u32 = 4;
/// Hours a record lives: at first, at least, and at most (365 days).
const RETENTION_HOURS_MIN: u32 = 24;
const RETENTION_HOURS_MAX: u32 = 8760;

/// What CreateStream asks for, its values already validated one by one.
#[derive(Clone, Debug, Default)]
pub struct NewStream {
    pub name: String,
    pub shard_count: Option<u32>,
    pub mode: Option<StreamMode>,
    pub tags: BTreeMap<String, String>,
    pub max_record_kib: Option<u32>,
}

/// A state that requests are judged against, and who answers.
#[derive(Clone, Copy)]
pub struct Decide<'a> {
    pub state: &'a State,
    pub identity: &'a Identity,
    /// All logs that there are, by number, to place shards on.
    pub logs: &'a [LogPlace],
}

impl<'a> Decide<'a> {
    pub fn create_stream(&self, request: &NewStream, now: Wall) -> Result<Change, Error> {
        if self.state.streams.contains_key(&request.name) {
            let text = format!("Stream {} under account {} already exists.", request.name, self.identity.account);
            return Err(Error::new(Kind::ResourceInUse, text));
        }
        let (mode, shards) = match (request.mode, request.shard_count) {
            (None | Some(StreamMode::OnDemand), None) => (StreamMode::OnDemand, SHARDS_DEFAULT),
            (None | Some(StreamMode::Provisioned), Some(count)) => (StreamMode::Provisioned, count),
            (Some(StreamMode::Provisioned), None) => {
                return Err(Error::new(Kind::Validation, "ShardCount is required when StreamMode=PROVISIONED."));
            }
            (Some(StreamMode::OnDemand), Some(_)) => {
                return Err(Error::new(Kind::Validation, "ShardCount is not expected when StreamMode=ON_DEMAND."));
            }
        };
        if shards == 0 || shards as usize > SHARDS_PER_STREAM_MAX || self.state.next_stream == u32::MAX {
            return Err(self.shard_limit(0, shards));
        }
        Ok(Change::CreateStream {
            number: self.state.next_stream,
            name: request.name.clone(),
            created: now,
            mode,
            retention_hours: RETENTION_HOURS_MIN,
            max_record_kib: request.max_record_kib.unwrap_or(RECORD_SIZE_KIB_DEFAULT),
            tags: request.tags.clone(),
            shards,
            logs: self.state.logs_for(shards, self.logs),
        })
    }

    /// Also while a resharding is under way: deleting ends it.
    /// Consumers go with the stream, if the caller says that they may (`enforce`).
    pub fn delete_stream(&self, name: &str, enforce: bool) -> Result<Change, Error> {
        let stream = self.stream(name)?;
        if stream.status == StreamStatus::Deleting {
            return Err(self.not_active(stream));
        }
        if !stream.consumers.is_empty() && !enforce {
            let arn = stream_arn(self.identity, name);
            let text = format!(
                "DeleteStream can't delete {arn} because there are consumers associated with this data stream. To delete {name} anyway, \
                 set the EnforceConsumerDeletion parameter to true to force the deletion of all the consumers that are associated with it."
            );
            return Err(Error::new(Kind::ResourceInUse, text));
        }
        Ok(Change::DeleteStream { stream: stream.number })
    }

    /// The present period again is allowed and changes nothing: Terraform asks for it after every create.
    pub fn increase_retention(&self, name: &str, hours: i64) -> Result<Change, Error> {
        let stream = self.active(name)?;
        let hours = retention_hours(hours)?;
        if hours < stream.retention_hours {
            return Err(retention_order(stream, hours, "shorter", "Decrease"));
        }
        Ok(Change::Retention { stream: stream.number, hours })
    }

    /// The present period again is allowed and changes nothing.
    pub fn decrease_retention(&self, name: &str, hours: i64) -> Result<Change, Error> {
        let stream = self.active(name)?;
        let hours = retention_hours(hours)?;
        if hours > stream.retention_hours {
            return Err(retention_order(stream, hours, "longer", "Increase"));
        }
        Ok(Change::Retention { stream: stream.number, hours })
    }

    /// The stream, in any state.
    pub fn stream(&self, name: &str) -> Result<&'a Stream, Error> {
        self.state.stream(name).ok_or_else(|| {
            let text = format!("Stream {name} under account {} not found.", self.identity.account);
            Error::new(Kind::ResourceNotFound, text)
        })
    }

    /// The stream, if it may be altered now.
    pub(super) fn active(&self, name: &str) -> Result<&'a Stream, Error> {
        let stream = self.stream(name)?;
        match stream.status {
            StreamStatus::Active => Ok(stream),
            _ => Err(self.not_active(stream)),
        }
    }

    pub(super) fn not_active(&self, stream: &Stream) -> Error {
        let text = format!(
            "Stream {} under account {} not ACTIVE, instead in state {}",
            stream.name,
            self.identity.account,
            stream.status.name()
        );
        Error::new(Kind::ResourceInUse, text)
    }

    pub(super) fn shard_limit(&self, present: usize, additional: u32) -> Error {
        let Identity { region, account } = self.identity;
        let text = format!(
            "This request would exceed the shard limit for the account {account} in {region}. Current shard count for the account: \
             {present}. Limit: {SHARDS_PER_STREAM_MAX}. Number of additional shards that would have resulted from this request: \
             {additional}. Refer to the AWS Service Limits page \
             (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits."
        );
        Error::new(Kind::LimitExceeded, text)
    }
}

fn retention_hours(hours: i64) -> Result<u32, Error> {
    let (bound, limit, how) = match hours {
        ..24 => ("Minimum", RETENTION_HOURS_MIN, "short"),
        8761.. => ("Maximum", RETENTION_HOURS_MAX, "long"),
        _ => return Ok(hours as u32),
    };
    let text = format!(
        "{bound} allowed retention period is {limit} hours. Requested retention period ({hours} hours) is too {how}."
    );
    Err(Error::new(Kind::InvalidArgument, text))
}

fn retention_order(stream: &Stream, hours: u32, how: &str, other: &str) -> Error {
    let text = format!(
        "Requested retention period ({hours} hours) for stream {} can not be {how} than existing retention period ({} hours). Use \
         {other}RetentionPeriod API.",
        stream.name, stream.retention_hours
    );
    Error::new(Kind::InvalidArgument, text)
}
