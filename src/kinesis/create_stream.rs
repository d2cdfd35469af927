//! CreateStream.

use super::constraint::{Constraints, TAG_MAP_MAX, Text};
use super::error::{Error, Kind};
use super::object::Object;
use super::request::Mutation;
use crate::catalog::state::StreamMode;
use std::collections::BTreeMap;

/// `MaxRecordSizeInKiB`.
const RECORD_KIB: (i32, i32) = (1024, 10_240);
/// Tags of one stream: a rule of the service, below what the model allows.
const TAGS_MAX: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Distribution {
    ByPartitionKey,
    Auto,
}

pub(super) fn decode(request: &Object<'_>) -> Result<Mutation, Error> {
    let (name, shard_count) = (request.string("StreamName")?, request.integer("ShardCount")?);
    let mode_details = match request.object("StreamModeDetails")? {
        Some(details) => Some(details.string("StreamMode")?),
        None => None,
    };
    let tags = request.strings("Tags", TAG_MAP_MAX)?;
    let warm_throughput = request.integer("WarmThroughputMiBps")?;
    let max_record_kib = request.integer("MaxRecordSizeInKiB")?;
    let distribution = request.string("RecordDistributionStrategy")?;

    let mut constraints = Constraints::default();
    let shard_count = constraints.integer("shardCount", shard_count, 1, i32::MAX);
    let stream = constraints.required_text("streamName", name, &Text::NAME);
    let mode = mode_details.map(|mode| {
        const MODES: &[(&str, StreamMode)] =
            &[("PROVISIONED", StreamMode::Provisioned), ("ON_DEMAND", StreamMode::OnDemand)];
        constraints.required_choice("streamModeDetails.streamMode", mode, MODES, StreamMode::Provisioned)
    });
    let tags = constraints.tags("tags", tags);
    let max_record_kib = constraints.integer("maxRecordSizeInKiB", max_record_kib, RECORD_KIB.0, RECORD_KIB.1);
    const STRATEGIES: &[(&str, Distribution)] =
        &[("AUTO", Distribution::Auto), ("USER_PARTITION_KEY", Distribution::ByPartitionKey)];
    let distribution = constraints.choice("recordDistributionStrategy", distribution, STRATEGIES);
    constraints.check()?;

    if warm_throughput.is_some() {
        return Err(invalid("WarmThroughputMiBps is not served by this endpoint: leave it out, nothing is throttled."));
    }
    if distribution == Some(Distribution::Auto) {
        return Err(invalid("RecordDistributionStrategy AUTO is not served by this endpoint: use USER_PARTITION_KEY."));
    }
    check_tags(&format!("Stream {stream}"), &tags)?;
    Ok(Mutation::CreateStream { stream, shard_count, mode, tags, max_record_kib })
}

/// The rules of the service for tags.
pub(super) fn check_tags(resource: &str, tags: &BTreeMap<String, String>) -> Result<(), Error> {
    let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_./=+-%@:".contains(c);
    if !tags.iter().flat_map(|(key, value)| key.chars().chain(value.chars())).all(allowed) {
        return Err(invalid(
            "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @ :",
        ));
    }
    if let Some(key) = tags.keys().find(|key| key.starts_with("aws:")) {
        return Err(invalid(format!("Tag key {key} is reserved: keys that begin with aws: cannot be set.")));
    }
    if tags.len() > TAGS_MAX {
        return Err(invalid(format!("{resource} cannot have more than {TAGS_MAX} tags; {} were given.", tags.len())));
    }
    Ok(())
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, text)
}
