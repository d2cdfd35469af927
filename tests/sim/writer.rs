//! The role that puts records: keys of its own, one outstanding call for each.

use super::call::{Call, Kind, error_type, list, number, of, shard_number};
use super::client::{Shared, Wish};
use super::oracle::{Fate, Life};
use super::random::Random;
use super::wire::{Object, base64};
use md5::{Digest, Md5};
use serde_json::Value;
use std::collections::BTreeSet;

/// Data and keys of one request, at most: half of what the smallest log memory holds.
const REQUEST_MAX: usize = 20_000;

pub struct Writer {
    keys: Vec<Key>,
    /// Keys with a call outstanding.
    busy: BTreeSet<String>,
}

struct Key {
    text: String,
    explicit: Option<u128>,
}

impl Key {
    fn hash(&self) -> u128 {
        self.explicit.unwrap_or_else(|| u128::from_be_bytes(Md5::digest(self.text.as_bytes()).into()))
    }
}

impl Writer {
    pub fn new(number: usize, random: &mut Random) -> Writer {
        let keys = (0..random.between(2, 12)).map(|index| {
            let tail = *random.pick(&[
                "",
                "",
                "é",
                "\"\\\n",
                "a key that is longer than what one block of the hash takes, by a few words",
            ]);
            let explicit = random.chance(250).then(|| *random.pick(&[0, u128::MAX, 1 << 127, (1 << 127) - 1, 7]));
            let explicit = explicit.or_else(|| random.chance(150).then(|| random.u128()));
            Key { text: format!("w{number}-{index}{tail}"), explicit }
        });
        Writer { keys: keys.collect(), busy: BTreeSet::new() }
    }

    pub fn next(&mut self, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        let live: Vec<usize> =
            (0..shared.oracle.streams.len()).filter(|s| shared.oracle.streams[*s].life == Life::Live).collect();
        let free: Vec<usize> = (0..self.keys.len()).filter(|k| !self.busy.contains(&self.keys[*k].text)).collect();
        if live.is_empty() || free.is_empty() {
            return None;
        }
        let stream = *random.pick(&live);
        let single = random.chance(500);
        let count = if single { 1 } else { *random.pick(&[1, 2, 5, 5, 12, 30]) };
        let mut room = REQUEST_MAX;
        let (mut marks, mut records) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let key = &self.keys[*random.pick(&free)];
            let most = room.saturating_sub(key.text.len() + 64) as u64;
            let size = match random.below(10) {
                0 => 0,
                1..=6 => random.between(0, 200),
                7 | 8 => random.between(0, 2000),
                _ => random.between(0, 14_000),
            };
            let size = size.min(most) as usize;
            room = room.saturating_sub(size + key.text.len() + 64);
            let (mark, data) = shared.oracle.attempt(stream, &key.text, key.hash(), size, shared.now);
            marks.push(mark);
            self.busy.insert(key.text.clone());
            let mut record = Object::default().text("PartitionKey", &key.text).text("Data", &base64(&data));
            if let Some(hash) = key.explicit {
                record = record.text("ExplicitHashKey", &hash.to_string());
            }
            records.push(record);
        }
        let name = shared.oracle.streams[stream].name.clone();
        let kind = Kind::Put { stream, marks, single };
        if single {
            let record = records.pop().expect("one record").text("StreamName", &name);
            return Some(("PutRecord", record.shuffled(random), kind));
        }
        let records: Vec<String> = records.into_iter().map(|record| record.shuffled(random)).collect();
        Some(("PutRecords", of(&name).list("Records", &records).shuffled(random), kind))
    }

    fn free_keys(&mut self, call: &Call, shared: &Shared) {
        if let Kind::Put { marks, .. } = &call.kind {
            for mark in marks {
                self.busy.remove(&shared.oracle.attempts[*mark as usize].key);
            }
        }
    }

    pub fn reply(&mut self, call: Call, status: u16, value: &Value, shared: &mut Shared) {
        self.free_keys(&call, shared);
        judge_put(&call, status, value, shared);
    }

    pub fn lost(&mut self, call: Call) {
        // The keys go on with new tries; what was lost is not ordered among them.
        if let Kind::Put { .. } = call.kind {
            self.busy.clear();
        }
    }
}

/// Tells the oracle what a reply to a put says of each record.
pub fn judge_put(call: &Call, status: u16, value: &Value, shared: &mut Shared) {
    let Kind::Put { stream, marks, single } = &call.kind else { unreachable!("the call is a put") };
    if status != 200 {
        let fate = match error_type(value) {
            "ProvisionedThroughputExceededException" => Fate::Refused,
            "ResourceNotFoundException" => {
                let life = shared.oracle.streams[*stream].life;
                assert_ne!(life, Life::Live, "a live stream was not found: {value}");
                Fate::Refused
            }
            "InternalFailure" => {
                if *single {
                    shared.note_failed_put(marks[0]);
                }
                if shared.oracle.streams[*stream].life != Life::Going {
                    shared.check_failure(call, status, value);
                }
                Fate::Unknown
            }
            _ => panic!("a right put was refused with {status}: {value}: {}", call.body),
        };
        return marks.iter().for_each(|mark| shared.oracle.settle(*mark, fate));
    }
    if *single {
        let (shard, number) = (shard_number(&value["ShardId"]), number(&value["SequenceNumber"]));
        return shared.oracle.ack(marks[0], shard, number, shared.now);
    }
    let entries = list(value, "Records");
    assert_eq!(entries.len(), marks.len(), "an entry for each record: {value}");
    let mut failed = 0;
    for (mark, entry) in marks.iter().zip(entries) {
        match entry.get("ErrorCode").map(|code| code.as_str().unwrap_or_default()) {
            None => {
                let (shard, number) = (shard_number(&entry["ShardId"]), number(&entry["SequenceNumber"]));
                shared.oracle.ack(*mark, shard, number, shared.now);
            }
            Some("ProvisionedThroughputExceededException") => shared.oracle.settle(*mark, Fate::Refused),
            Some("InternalFailure") => {
                shared.note_failed_put(*mark);
                if shared.oracle.streams[*stream].life != Life::Going {
                    shared.check_failure(call, status, value);
                }
                shared.oracle.settle(*mark, Fate::Unknown);
            }
            Some(_) => panic!("an entry failed: {entry}"),
        }
        failed += entry.get("ErrorCode").is_some() as u64;
    }
    assert_eq!(value["FailedRecordCount"].as_u64(), Some(failed), "{value}");
}
