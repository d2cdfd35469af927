//! Streams and shards as the answers of the control plane show them.

use super::error::{Error, Kind};
use super::sequence::{DIGITS, SequenceNumber};
use super::shard_id::ShardId;
use crate::catalog::state::{Shard, ShardState, StreamMode, StreamStatus};
use crate::io::clock::Wall;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardAnswer {
    shard_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjacent_parent_shard_id: Option<String>,
    hash_key_range: HashKeyRange,
    sequence_number_range: SequenceNumberRange,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HashKeyRange {
    starting_hash_key: String,
    ending_hash_key: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SequenceNumberRange {
    starting_sequence_number: String,
    /// Absent: the shard is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    ending_sequence_number: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ModeDetails {
    stream_mode: &'static str,
}

/// Metrics a shard, which are always off.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EnhancedMonitoring {
    shard_level_metrics: [&'static str; 0],
}

/// AWS always lists one entry.
pub(super) const NO_ENHANCED_MONITORING: [EnhancedMonitoring; 1] = [EnhancedMonitoring { shard_level_metrics: [] }];

impl ShardAnswer {
    pub(super) fn new(shard: &Shard) -> ShardAnswer {
        let number = |number, at| {
            let mut text = [0; DIGITS];
            SequenceNumber { created: shard.created, shard: shard.number, number, at }.write(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        let ending = match shard.state {
            ShardState::Open | ShardState::Closing => None,
            ShardState::Closed { at, .. } => Some(number(SequenceNumber::END, at.seconds())),
        };
        let parent = |parent: Option<u32>| parent.map(|number| ShardId(number).to_string());
        ShardAnswer {
            shard_id: ShardId(shard.number).to_string(),
            parent_shard_id: parent(shard.parents[0]),
            adjacent_parent_shard_id: parent(shard.parents[1]),
            hash_key_range: HashKeyRange {
                starting_hash_key: shard.range.first.to_string(),
                ending_hash_key: shard.range.last.to_string(),
            },
            sequence_number_range: SequenceNumberRange {
                starting_sequence_number: number(0, shard.created),
                ending_sequence_number: ending,
            },
        }
    }
}

pub(super) fn mode(mode: StreamMode) -> ModeDetails {
    let stream_mode = match mode {
        StreamMode::Provisioned => "PROVISIONED",
        StreamMode::OnDemand => "ON_DEMAND",
    };
    ModeDetails { stream_mode }
}

pub(super) fn status(status: StreamStatus) -> &'static str {
    match status {
        StreamStatus::Active => "ACTIVE",
        StreamStatus::Updating => "UPDATING",
        StreamStatus::Deleting => "DELETING",
    }
}

/// Seconds since 1970, to the millisecond.
pub(super) fn seconds(wall: Wall) -> f64 {
    wall.millis() as f64 / 1e3
}

/// The body of an answer.
pub(super) fn body(answer: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(answer)
        .map_err(|error| Error::new(Kind::InternalFailure, format!("The answer cannot be written: {error}")))
}

/// Whether a shard still has, or may have, records that arrived at `horizon` or later.
pub(super) fn is_held(shard: &Shard, horizon: Wall) -> bool {
    match shard.state {
        ShardState::Open | ShardState::Closing => true,
        ShardState::Closed { at, .. } => at >= horizon,
    }
}
