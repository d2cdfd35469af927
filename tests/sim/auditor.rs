//! The role of the end: on a healed node it reads every shard of every stream from the horizon to the end, and puts one record into
//! each open shard.

use super::call::{Call, Kind, error_type, list, of, shard_id};
use super::client::{Shared, Wish};
use super::oracle::{From, Life};
use super::random::Random;
use super::reader::{check_error, get, iterator, judge_get, judge_shards, shards};
use super::wire::{Object, base64};
use super::writer::judge_put;
use serde_json::Value;
use std::collections::VecDeque;

/// Calls of one shard that bring nothing, and replies that ask to come again: beyond this the node is stuck.
const EMPTY_MAX: u32 = 2_000;

#[derive(Default)]
pub struct Auditor {
    steps: VecDeque<Step>,
    /// The step whose call is on its way.
    doing: Option<Step>,
    empty: u32,
    begun: bool,
    pub done: bool,
    /// Puts that were acked at the end.
    pub acked: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Describe { stream: usize },
    Shards { stream: usize },
    Iterate { stream: usize, shard: u32, from: From },
    Get { stream: usize, shard: u32, from: From, iterator: String },
    Put { stream: usize, hash: u128 },
}

impl Auditor {
    pub fn next(&mut self, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        if !self.begun {
            self.begun = true;
            let streams = 0..shared.oracle.streams.len();
            self.steps = streams.map(|stream| Step::Describe { stream }).collect();
        }
        let Some(step) = self.steps.pop_front() else {
            self.done = true;
            return None;
        };
        self.doing = Some(step.clone());
        Some(match step {
            Step::Describe { stream } => {
                let body = of(&shared.oracle.streams[stream].name).shuffled(random);
                ("DescribeStream", body, Kind::Describe { stream })
            }
            Step::Shards { stream } => shards(stream, random, shared),
            Step::Iterate { stream, shard, from } => {
                let object = of(&shared.oracle.streams[stream].name).text("ShardId", &shard_id(shard));
                let object = match &from {
                    From::After(number) => object
                        .text("ShardIteratorType", "AFTER_SEQUENCE_NUMBER")
                        .text("StartingSequenceNumber", &number.0),
                    _ => object.text("ShardIteratorType", "TRIM_HORIZON"),
                };
                ("GetShardIterator", object.shuffled(random), Kind::Iterator { stream, shard, from })
            }
            Step::Get { stream, shard, from, iterator } => get(stream, shard, from, &iterator, 10_000, random, shared),
            Step::Put { stream, hash } => {
                let (mark, data) = shared.oracle.attempt(stream, "audit", hash, 50, shared.now);
                let object = Object::default()
                    .text("StreamName", &shared.oracle.streams[stream].name)
                    .text("PartitionKey", "audit")
                    .text("ExplicitHashKey", &hash.to_string())
                    .text("Data", &base64(&data));
                ("PutRecord", object.shuffled(random), Kind::Put { stream, marks: vec![mark], single: true })
            }
        })
    }

    pub fn reply(&mut self, call: Call, status: u16, value: &Value, shared: &mut Shared) {
        let step = self.doing.take().expect("one call at a time");
        match &call.kind {
            Kind::Describe { .. } if status == 500 => {
                self.count_empty(&call, value);
                shared.check_failure(&call, status, value);
                self.steps.push_front(step);
            }
            Kind::Describe { stream } => self.described(*stream, status, value, shared),
            Kind::Put { .. } => {
                // A put of a key goes to the shard of its hash here, so numbers of one key do not rise over shards.
                shared.oracle.forget_order("audit");
                judge_put(&call, status, value, shared);
                shared.oracle.forget_order("audit");
                self.acked += (status == 200) as u64;
            }
            _ if status != 200 => {
                self.count_empty(&call, value);
                if !check_error(&call, status, value, shared) {
                    self.steps.push_front(step);
                }
            }
            Kind::Shards { stream, whole } => {
                judge_shards(*stream, *whole, call.issued, value, shared);
                let listed: Vec<_> =
                    list(value, "Shards").iter().map(|value| super::call::shard(value, shared.now)).collect();
                let numbers: Vec<u32> = listed.iter().map(|shard| shard.number).collect();
                shared.oracle.check_complete(*stream, &numbers, shared.now);
                for shard in &listed {
                    if shard.ending.is_none() {
                        self.steps.push_front(Step::Put { stream: *stream, hash: shard.first });
                    }
                    self.steps.push_front(Step::Iterate { stream: *stream, shard: shard.number, from: From::Horizon });
                }
            }
            Kind::Iterator { stream, shard, from } => {
                let iterator = iterator(value);
                self.steps.push_front(Step::Get { stream: *stream, shard: *shard, from: from.clone(), iterator });
            }
            Kind::Get { stream, shard, .. } => {
                let got = judge_get(&call, value, shared);
                let at_end = got.records.is_empty() && got.behind == 0;
                if got.records.is_empty() {
                    self.count_empty(&call, value)
                } else {
                    self.empty = 0
                };
                if let Some(iterator) = got.iterator.filter(|_| !at_end) {
                    self.steps.push_front(Step::Get { stream: *stream, shard: *shard, from: got.from, iterator });
                }
            }
            other => unreachable!("not an auditor's call: {other:?}"),
        }
    }

    /// Which streams there are is what was promised.
    fn described(&mut self, stream: usize, status: u16, value: &Value, shared: &mut Shared) {
        let model = &mut shared.oracle.streams[stream];
        match (status, model.life) {
            (200, Life::Going) => {}
            (200, _) => {
                model.life = Life::Live;
                self.steps.push_front(Step::Shards { stream });
            }
            (_, life) => {
                let gone = error_type(value) == "ResourceNotFoundException";
                let promised = life == Life::Live || life == Life::Coming && model.created;
                assert!(gone && !promised, "stream {} should be there: {value}", model.name);
            }
        }
    }

    fn count_empty(&mut self, call: &Call, value: &Value) {
        self.empty += 1;
        assert!(self.empty < EMPTY_MAX, "{} leads nowhere: {value}: {}", call.operation, call.body);
    }

    pub fn lost(&mut self, call: Call) {
        self.empty += 1;
        assert!(
            self.empty < EMPTY_MAX,
            "connections are closed without an answer to {}: {}",
            call.operation,
            call.body
        );
        if !matches!(call.kind, Kind::Put { .. }) {
            self.steps.extend(self.doing.take());
        }
    }
}
