//! What clients ask: calls with what is needed to judge their replies.

use super::lessee::Ask;
use super::oracle::{From, Number, ShardSeen};
use super::wire::Object;
use serde_json::Value;

/// A call that is on its way.
#[derive(Debug)]
pub struct Call {
    pub operation: &'static str,
    pub body: String,
    pub kind: Kind,
    /// When it was sent (boot clock).
    pub issued: u64,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Create {
        stream: usize,
    },
    Delete {
        stream: usize,
    },
    Describe {
        stream: usize,
    },
    Summary {
        stream: usize,
    },
    Shards {
        stream: usize,
        whole: bool,
    },
    Retention {
        stream: usize,
        hours: u32,
    },
    Reshard {
        stream: usize,
    },
    Streams,
    /// Moves of shards between logs.
    Move,
    Snapshot,
    /// On the lease; what anybody had been told of it before.
    Lease {
        ask: Ask,
        told: u64,
    },
    /// Marks in the order of the request.
    Put {
        stream: usize,
        marks: Vec<u64>,
        single: bool,
    },
    Iterator {
        stream: usize,
        shard: u32,
        from: From,
    },
    /// `known`: records that were acked or read before the call, which it must come by.
    Get {
        stream: usize,
        shard: u32,
        from: From,
        limit: u64,
        known: Vec<(u32, Number, u64)>,
    },
    /// A consumer of a stream is looked for, or made.
    Consumer {
        stream: usize,
    },
    Subscribe {
        stream: usize,
        shard: u32,
    },
    /// A batch of a native client, or what else it waits for an answer to.
    Native {
        number: u32,
    },
    /// Something that must be refused.
    Bad,
}

pub fn shard_id(number: u32) -> String {
    format!("shardId-{number:012}")
}

pub fn shard_number(value: &Value) -> u32 {
    let digits = value.as_str().and_then(|id| id.strip_prefix("shardId-")).filter(|digits| digits.len() == 12);
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("not a shard id: {value}"))
}

pub fn number(value: &Value) -> Number {
    Number::parse(value.as_str().unwrap_or_else(|| panic!("not a sequence number: {value}")))
}

fn hash_key(value: &Value) -> u128 {
    let key = value.as_str().and_then(|text| text.parse().ok());
    key.unwrap_or_else(|| panic!("not a hash key: {value}"))
}

/// A shard of ListShards or DescribeStream.
pub fn shard(value: &Value, at: u64) -> ShardSeen {
    let numbers = &value["SequenceNumberRange"];
    let parents = ["ParentShardId", "AdjacentParentShardId"].iter().filter_map(|name| value.get(name));
    ShardSeen {
        number: shard_number(&value["ShardId"]),
        parents: parents.map(shard_number).collect(),
        first: hash_key(&value["HashKeyRange"]["StartingHashKey"]),
        last: hash_key(&value["HashKeyRange"]["EndingHashKey"]),
        starting: number(&numbers["StartingSequenceNumber"]),
        ending: numbers.get("EndingSequenceNumber").map(number),
        at,
    }
}

pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no list {name} in {value}"))
}

/// An object that names a stream.
pub fn of(name: &str) -> Object {
    Object::default().text("StreamName", name)
}

/// The type of an error reply, without its namespace.
pub fn error_type(value: &Value) -> &str {
    let name = value["__type"].as_str().unwrap_or_else(|| panic!("an error without type: {value}"));
    name.rsplit('#').next().unwrap_or(name)
}
