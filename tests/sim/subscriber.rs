//! The role that subscribes: a consumer of each stream, one subscription after another, each where the last one ended or somewhere else.

use super::call::{Call, Kind, error_type, list, shard_id, shard_number};
use super::client::{Shared, Wish};
use super::clock::SECOND;
use super::frames::Frame;
use super::oracle::{From, Life, Number, Record};
use super::random::Random;
use super::reader::{judge_shards, record, shards};
use super::wire::Object;
use serde_json::Value;
use std::collections::BTreeMap;

/// A record that was acked so long ago has come, when a subscriber hears that it has all.
const LATE: u64 = 30 * SECOND;

pub struct Subscriber {
    /// Of its consumers: two subscribers with one name take each other's subscriptions over.
    name: &'static str,
    /// By stream: the consumer's ARN.
    consumers: BTreeMap<usize, String>,
    step: Step,
    /// When the subscription was answered, for LATEST, until a record has come.
    latest: Option<u64>,
    /// What the stream has said of its end.
    exception: Option<String>,
    ended: bool,
    /// When something came last.
    pub heard: u64,
}

#[derive(Clone, Debug, Default)]
enum Step {
    #[default]
    Choose,
    /// The consumer's ARN is asked for, or, when there is none, made.
    Describe {
        stream: usize,
    },
    Register {
        stream: usize,
    },
    /// `position`: as the API has it, a type and a number.
    Subscribe {
        stream: usize,
        shard: u32,
        from: From,
        position: (&'static str, Option<Number>),
    },
}

impl Subscriber {
    pub fn new(name: &'static str) -> Subscriber {
        Subscriber {
            name,
            consumers: BTreeMap::new(),
            step: Step::Choose,
            latest: None,
            exception: None,
            ended: false,
            heard: 0,
        }
    }

    pub fn next(&mut self, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        if matches!(self.step, Step::Choose) {
            return self.choose(random, shared);
        }
        Some(self.wish(random, shared))
    }

    fn wish(&mut self, random: &mut Random, shared: &Shared) -> Wish {
        match &self.step {
            Step::Choose => unreachable!("nothing was chosen"),
            Step::Describe { stream } => {
                let object = Object::default().text("StreamARN", &arn(*stream, shared)).text("ConsumerName", self.name);
                ("DescribeStreamConsumer", object.shuffled(random), Kind::Consumer { stream: *stream })
            }
            Step::Register { stream } => {
                let object = Object::default().text("StreamARN", &arn(*stream, shared)).text("ConsumerName", self.name);
                ("RegisterStreamConsumer", object.shuffled(random), Kind::Consumer { stream: *stream })
            }
            Step::Subscribe { stream, shard, position: (kind, number), .. } => {
                let at = match number {
                    Some(number) => format!("{{\"Type\":\"{kind}\",\"SequenceNumber\":\"{}\"}}", number.0),
                    None => format!("{{\"Type\":\"{kind}\"}}"),
                };
                let object = Object::default()
                    .text("ConsumerARN", &self.consumers[stream])
                    .text("ShardId", &shard_id(*shard))
                    .raw("StartingPosition", at);
                (self.latest, self.exception, self.ended) = (None, None, false);
                ("SubscribeToShard", object.shuffled(random), Kind::Subscribe { stream: *stream, shard: *shard })
            }
        }
    }

    fn choose(&mut self, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        let live: Vec<usize> =
            (0..shared.oracle.streams.len()).filter(|s| shared.oracle.streams[*s].life == Life::Live).collect();
        if live.is_empty() {
            return None;
        }
        let stream = *random.pick(&live);
        if !self.consumers.contains_key(&stream) {
            self.step = Step::Describe { stream };
            return Some(self.wish(random, shared));
        }
        let known: Vec<u32> = shared.oracle.streams[stream].shards.keys().copied().collect();
        if known.is_empty() || random.chance(200) {
            return Some(shards(stream, random, shared));
        }
        let shard = *random.pick(&known);
        let placed = shared.oracle.known(stream, shard);
        let (from, position) = match random.below(6) {
            0 if !placed.is_empty() => {
                let number = random.pick(&placed).1.clone();
                (From::At(number.clone()), ("AT_SEQUENCE_NUMBER", Some(number)))
            }
            1 if !placed.is_empty() => {
                let number = random.pick(&placed).1.clone();
                (From::After(number.clone()), ("AFTER_SEQUENCE_NUMBER", Some(number)))
            }
            2 => (shared.oracle.highest(stream, shard).map_or(From::Anywhere, From::Above), ("LATEST", None)),
            _ => (From::Horizon, ("TRIM_HORIZON", None)),
        };
        self.step = Step::Subscribe { stream, shard, from, position };
        Some(self.wish(random, shared))
    }

    /// A chunk of the answer has come.
    pub fn chunk(&mut self, call: &Call, chunk: &[u8], shared: &mut Shared) {
        let frame = Frame::read(chunk);
        self.heard = shared.now;
        assert!(self.exception.is_none(), "something follows an exception");
        match (frame.header(":message-type"), frame.header(":event-type")) {
            ("event", "initial-response") => {
                let Step::Subscribe { position: (kind, _), .. } = &self.step else { unreachable!("it has subscribed") };
                self.latest = (*kind == "LATEST").then_some(shared.now);
            }
            ("event", "SubscribeToShardEvent") => self.event(call, &frame.json(), shared),
            ("exception", _) => self.exception = Some(frame.header(":exception-type").to_string()),
            ("error", _) => {
                let value = Value::String(frame.header(":error-message").to_string());
                shared.check_failure(call, 500, &value);
                self.exception = Some(frame.header(":error-code").to_string());
            }
            other => panic!("an unknown frame: {other:?}"),
        }
    }

    fn event(&mut self, call: &Call, value: &Value, shared: &mut Shared) {
        assert!(!self.ended, "an event behind the end of the shard: {value}");
        let Step::Subscribe { stream, shard, from, position } = &mut self.step else {
            unreachable!("it has subscribed: {}", call.operation)
        };
        let (stream, shard) = (*stream, *shard);
        let records: Vec<Record> = list(value, "Records").iter().map(record).collect();
        let behind = value["MillisBehindLatest"].as_u64().unwrap_or_else(|| panic!("no MillisBehindLatest: {value}"));
        shared.subscribed += records.len() as u64;
        *from = shared.oracle.read(stream, shard, from.clone(), &records, shared.now);
        if let Some(first) = records.first()
            && let Some(since) = self.latest.take()
        {
            shared.oracle.check_latest(stream, shard, &first.number, since, shared.now);
        }
        let next = value.get("ContinuationSequenceNumber").and_then(Value::as_str);
        let children = value.get("ChildShards").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(next.is_none(), !children.is_empty(), "a shard ends with its children: {value}");
        for child in children {
            let parents: Vec<u32> = list(child, "ParentShards").iter().map(shard_number).collect();
            assert!(parents.contains(&shard), "shard {shard} ended with a stranger: {child}");
        }
        match next {
            Some(next) => {
                let number = Number::parse(next);
                if let Some(last) = records.last() {
                    // It may have ended at damage, or before what a full log had no room for, and then goes on behind that.
                    let gaps = shared.oracle.damaged || shared.oracle.trimmed_until > 0;
                    let passes = gaps && last.number < number;
                    assert!(last.number == number || passes, "an event to {:?} goes on behind {number:?}", last.number);
                }
                *position = ("AFTER_SEQUENCE_NUMBER", Some(number));
                if records.is_empty() && behind == 0 {
                    let known = shared.oracle.acked_before(stream, shard, shared.now.saturating_sub(LATE));
                    shared.oracle.read_to_end(stream, shard, from, false, shared.now, &known);
                }
            }
            None => {
                self.ended = true;
                shared.oracle.read_to_end(stream, shard, from, true, shared.now, &[]);
            }
        }
    }

    /// A whole answer, or the end of a stream.
    pub fn reply(&mut self, call: Call, status: u16, value: &Value, random: &mut Random, shared: &mut Shared) {
        if status != 200 {
            return self.refused(&call, status, value, random, shared);
        }
        match &call.kind {
            Kind::Shards { stream, whole } => judge_shards(*stream, *whole, call.issued, value, shared),
            Kind::Consumer { stream } => {
                let described = value.get("ConsumerDescription").or_else(|| value.get("Consumer"));
                let arn = described.and_then(|consumer| consumer["ConsumerARN"].as_str());
                let arn = arn.unwrap_or_else(|| panic!("no ARN: {value}"));
                self.consumers.insert(*stream, arn.to_string());
                self.step = Step::Choose;
            }
            Kind::Subscribe { stream, .. } => {
                let gone = self.exception.as_deref() == Some("ResourceNotFoundException");
                if gone && shared.oracle.streams[*stream].life == Life::Live {
                    // A shard whose records have all expired.
                    let Step::Subscribe { shard, .. } = &self.step else { unreachable!("it has subscribed") };
                    let ending = shared.oracle.streams[*stream].shards.get(shard).is_some_and(|s| s.ending.is_some());
                    assert!(ending, "{} of a live stream and shard ended", call.operation);
                }
                if self.ended || gone || random.chance(300) {
                    self.step = Step::Choose;
                }
            }
            other => unreachable!("not a subscriber's call: {other:?}"),
        }
    }

    fn refused(&mut self, call: &Call, status: u16, value: &Value, random: &mut Random, shared: &mut Shared) {
        let (stream, ended) = match &call.kind {
            Kind::Shards { stream, .. } | Kind::Consumer { stream } => (*stream, false),
            Kind::Subscribe { stream, shard } => {
                let ended =
                    shared.oracle.streams[*stream].shards.get(shard).is_some_and(|shard| shard.ending.is_some());
                (*stream, ended)
            }
            other => unreachable!("not a subscriber's call: {other:?}"),
        };
        let live = shared.oracle.streams[stream].life == Life::Live;
        let step = std::mem::take(&mut self.step);
        match error_type(value) {
            "ResourceNotFoundException" if call.operation == "DescribeStreamConsumer" => {
                assert!(!live || !self.consumers.contains_key(&stream), "a consumer is lost: {value}");
                if live {
                    self.step = Step::Register { stream };
                }
            }
            "ResourceNotFoundException" => assert!(!live || ended, "{} of a live stream: {value}", call.operation),
            "ResourceInUseException" if call.operation == "RegisterStreamConsumer" => {
                self.step = Step::Describe { stream };
            }
            // Another subscription is not over, or was not long ago; or there are as many as there can be.
            "ResourceInUseException" | "LimitExceededException" => {
                if random.chance(700) {
                    self.step = step;
                }
            }
            "InternalFailure" => shared.check_failure(call, status, value),
            _ => panic!("{} was refused with {status}: {value}: {}", call.operation, call.body),
        }
    }

    /// The connection is gone: mostly it goes on where it was. Behind the end of a shard, of which no word came any more, nothing is.
    pub fn lost(&mut self, _call: Call, random: &mut Random) {
        if random.chance(300) || self.ended {
            self.step = Step::Choose;
        }
        // What LATEST is, is another number now.
        if let Step::Subscribe { from, position: ("LATEST", _), .. } = &mut self.step {
            *from = From::Anywhere;
        }
    }
}

fn arn(stream: usize, shared: &Shared) -> String {
    format!("arn:aws:kinesis:us-east-1:000000000000:stream/{}", shared.oracle.streams[stream].name)
}
