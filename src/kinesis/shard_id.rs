//! Shard ids: `shardId-` and twelve digits.

use super::error::{Error, Kind};
use crate::catalog::identity::Identity;
use std::fmt;

/// A shard's number, shown as its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shardId-{:012}", self.0)
    }
}

impl ShardId {
    /// As forgiving as AWS: `shardId-000000000001`, `shardId-1`, `anything-1` and `1` are the same shard.
    pub fn parse(text: &str) -> Option<ShardId> {
        let digits = match text.split_once('-') {
            Some((_, rest)) => rest.split('-').next().filter(|digits| !digits.is_empty()).unwrap_or(text),
            None => text,
        };
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten().filter(|number| *number <= i32::MAX as u32).map(ShardId)
    }

    /// The number that `text` means, for a request on `stream`.
    pub fn resolve(text: &str, stream: &str, identity: &Identity) -> Result<u32, Error> {
        match ShardId::parse(text) {
            Some(ShardId(number)) => Ok(number),
            None => Err(could_not_find(text, stream, identity)),
        }
    }
}

/// Said of an id that cannot be one, and by SplitShard and MergeShards of any that is not there.
pub fn could_not_find(shard: impl fmt::Display, stream: &str, identity: &Identity) -> Error {
    let text = format!("Could not find shard {shard} in stream {stream} under account {}.", identity.account);
    Error::new(Kind::ResourceNotFound, text)
}

/// Said by GetShardIterator and GetRecords.
pub fn does_not_exist(shard: ShardId, stream: &str, identity: &Identity) -> Error {
    let text = format!("Shard {shard} in stream {stream} under account {} does not exist", identity.account);
    Error::new(Kind::ResourceNotFound, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_forgivingly_as_by_aws() {
        for (text, number) in [
            ("shardId-000000000001", Some(1)),
            ("shardId-1", Some(1)),
            ("anything-1", Some(1)),
            ("1", Some(1)),
            ("shardId-000002147483647", Some(2_147_483_647)),
            ("shardId-2147483648", None),
            ("shardId-99999999999999999999", None),
            ("shardId-", None),
            ("shardId--1", None),
            ("shardId-x", None),
            ("shardId-+1", None),
            ("", None),
        ] {
            assert_eq!(ShardId::parse(text), number.map(ShardId), "{text}");
        }
        assert_eq!(ShardId(12).to_string(), "shardId-000000000012");
    }
}
