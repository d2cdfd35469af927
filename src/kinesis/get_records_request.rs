//! GetRecords: its request.

use super::constraint::{Constraints, Text};
use super::error::Error;
use super::json;
use crate::limits::GET_RECORDS_MAX;

/// A GetRecords request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetRecords {
    /// The token, as it came.
    pub iterator: String,
    /// Most records to return.
    pub limit: u32,
    /// `StreamARN`; the iterator alone says what is read.
    pub arn: Option<String>,
    pub dry_run: bool,
}

/// Reads a body: types, then constraints.
pub fn decode(body: &[u8]) -> Result<GetRecords, Error> {
    let request = &mut json::parse(body)?;
    let (iterator, limit) = (request.string("ShardIterator")?, request.integer("Limit")?);
    let (arn, dry_run) = (request.string("StreamARN")?, request.boolean("DryRun")?);
    let mut constraints = Constraints::default();
    let limit = constraints.integer("limit", limit, 1, GET_RECORDS_MAX as i32);
    let iterator = constraints.required_text("shardIterator", iterator, &Text::SHARD_ITERATOR);
    let arn = constraints.text("streamARN", arn, &Text::STREAM_ARN);
    constraints.check()?;
    let limit = limit.unwrap_or(GET_RECORDS_MAX as u32);
    Ok(GetRecords { iterator, limit, arn, dry_run: dry_run.unwrap_or(false) })
}
