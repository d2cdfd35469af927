//! The role that reads: sessions of one shard each, from a drawn start, following the iterators.

use super::call::{Call, Kind, error_type, list, number, of, shard, shard_id, shard_number};
use super::client::{Shared, Wish};
use super::oracle::{From, Life, Record};
use super::random::Random;
use super::wire::{Object, from_base64};
use serde_json::Value;

#[derive(Default)]
pub struct Reader {
    step: Step,
    /// GetRecords calls left in this session.
    left: u64,
    /// For a LATEST iterator that has given nothing yet: when it was answered.
    latest: Option<u64>,
    /// For an AT_TIMESTAMP iterator that has given nothing yet, in ms.
    timestamp: Option<u64>,
}

#[derive(Clone, Debug, Default)]
enum Step {
    /// A new session begins.
    #[default]
    Choose,
    Iterate {
        stream: usize,
        shard: u32,
        from: From,
        by: By,
    },
    Get {
        stream: usize,
        shard: u32,
        from: From,
        iterator: String,
    },
}

/// The type of the iterator to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    From,
    Latest,
    Timestamp,
}

impl Reader {
    pub fn next(&mut self, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        match self.step.clone() {
            Step::Choose => self.choose(random, shared),
            Step::Iterate { stream, shard, from, by } => Some(self.iterate(stream, shard, from, by, random, shared)),
            Step::Get { stream, shard, from, iterator } => {
                let limit = *random.pick(&[1, 3, 10, 100, 10_000]);
                Some(get(stream, shard, from, &iterator, limit, random, shared))
            }
        }
    }

    /// Asks for a stream's shards, or begins a session on a shard that is known.
    fn choose(&mut self, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        let live: Vec<usize> =
            (0..shared.oracle.streams.len()).filter(|s| shared.oracle.streams[*s].life == Life::Live).collect();
        if live.is_empty() {
            return None;
        }
        let stream = *random.pick(&live);
        let known: Vec<u32> = shared.oracle.streams[stream].shards.keys().copied().collect();
        if known.is_empty() || random.chance(300) {
            return Some(shards(stream, random, shared));
        }
        let shard = *random.pick(&known);
        let placed = shared.oracle.known(stream, shard);
        let (from, by) = match random.below(10) {
            0..=4 => (From::Horizon, By::From),
            5 | 6 if !placed.is_empty() => (From::At(random.pick(&placed).1.clone()), By::From),
            7 if !placed.is_empty() => (From::After(random.pick(&placed).1.clone()), By::From),
            8 => (shared.oracle.highest(stream, shard).map_or(From::Anywhere, From::Above), By::Latest),
            9 if !shared.settings.clock_steps => (From::Anywhere, By::Timestamp),
            _ => (From::Horizon, By::From),
        };
        (self.left, self.latest, self.timestamp) = (random.between(1, 30), None, None);
        Some(self.iterate(stream, shard, from, by, random, shared))
    }

    fn iterate(&mut self, stream: usize, shard: u32, from: From, by: By, random: &mut Random, shared: &Shared) -> Wish {
        let mut object = of(&shared.oracle.streams[stream].name).text("ShardId", &shard_id(shard));
        object = match (&by, &from) {
            (By::Latest, _) => object.text("ShardIteratorType", "LATEST"),
            (By::Timestamp, _) => {
                let wanted = shared.wall / 1000 - random.between(0, 20_000);
                self.timestamp = Some(wanted);
                let seconds = format!("{}.{:03}", wanted / 1000, wanted % 1000);
                object.text("ShardIteratorType", "AT_TIMESTAMP").raw("Timestamp", seconds)
            }
            (_, From::At(n)) => {
                object.text("ShardIteratorType", "AT_SEQUENCE_NUMBER").text("StartingSequenceNumber", &n.0)
            }
            (_, From::After(n)) => {
                object.text("ShardIteratorType", "AFTER_SEQUENCE_NUMBER").text("StartingSequenceNumber", &n.0)
            }
            _ => object.text("ShardIteratorType", "TRIM_HORIZON"),
        };
        self.step = Step::Iterate { stream, shard, from: from.clone(), by };
        ("GetShardIterator", object.shuffled(random), Kind::Iterator { stream, shard, from })
    }

    pub fn reply(&mut self, call: Call, status: u16, value: &Value, random: &mut Random, shared: &mut Shared) {
        let step = std::mem::take(&mut self.step);
        if status != 200 {
            let ended = check_error(&call, status, value, shared);
            if !ended && random.chance(700) {
                self.step = step;
            }
            return;
        }
        match &call.kind {
            Kind::Shards { stream, whole } => judge_shards(*stream, *whole, call.issued, value, shared),
            Kind::Iterator { stream, shard, from } => {
                if matches!(step, Step::Iterate { by: By::Latest, .. }) {
                    self.latest = Some(shared.now);
                }
                let iterator = iterator(value);
                self.step = Step::Get { stream: *stream, shard: *shard, from: from.clone(), iterator };
            }
            Kind::Get { stream, shard, .. } => {
                let got = judge_get(&call, value, shared);
                if let Some(first) = got.records.first() {
                    if let Some(since) = self.latest.take() {
                        shared.oracle.check_latest(*stream, *shard, &first.number, since, shared.now);
                    }
                    if let Some(wanted) = self.timestamp.take() {
                        let early = first.arrival * 1000.0 + 1.0 < wanted as f64;
                        assert!(!early, "AT_TIMESTAMP {wanted} gave a record of {}", first.arrival);
                    }
                }
                self.left = self.left.saturating_sub(1);
                if let Some(iterator) = got.iterator.filter(|_| self.left > 0) {
                    self.step = Step::Get { stream: *stream, shard: *shard, from: got.from, iterator };
                }
            }
            other => unreachable!("not a reader's call: {other:?}"),
        }
    }

    /// The call was lost with its connection: goes on where it was, by a new iterator or the old one, or begins anew.
    pub fn lost(&mut self, _call: Call, random: &mut Random) {
        if let Step::Get { stream, shard, from: from @ (From::After(_) | From::Horizon), .. } = self.step.clone() {
            match random.below(3) {
                0 => self.step = Step::Choose,
                1 => self.step = Step::Iterate { stream, shard, from, by: By::From },
                _ => {}
            }
        } else if random.chance(500) {
            self.step = Step::Choose;
        }
    }
}

/// ListShards of a stream.
pub fn shards(stream: usize, random: &mut Random, shared: &Shared) -> Wish {
    let object = of(&shared.oracle.streams[stream].name);
    ("ListShards", object.shuffled(random), Kind::Shards { stream, whole: true })
}

pub fn judge_shards(stream: usize, whole: bool, issued: u64, value: &Value, shared: &mut Shared) {
    let shards = list(value, "Shards").iter().map(|value| shard(value, shared.now)).collect();
    let whole = whole && value.get("NextToken").is_none_or(Value::is_null);
    shared.oracle.list(stream, shards, whole, issued);
}

pub fn iterator(value: &Value) -> String {
    let iterator = value["ShardIterator"].as_str().unwrap_or_else(|| panic!("no iterator: {value}"));
    assert!((1..=512).contains(&iterator.len()), "an iterator of {} characters", iterator.len());
    iterator.to_string()
}

pub fn get(
    stream: usize,
    shard: u32,
    from: From,
    iterator: &str,
    limit: u64,
    random: &mut Random,
    shared: &Shared,
) -> Wish {
    let known = shared.oracle.known(stream, shard);
    let object = Object::default().text("ShardIterator", iterator).raw("Limit", limit);
    ("GetRecords", object.shuffled(random), Kind::Get { stream, shard, from, limit, known })
}

/// Whether an error reply ends the session. It panics when nothing explains the error.
pub fn check_error(call: &Call, status: u16, value: &Value, shared: &mut Shared) -> bool {
    let (stream, shard) = match &call.kind {
        Kind::Iterator { stream, shard, .. } | Kind::Get { stream, shard, .. } => (*stream, Some(*shard)),
        Kind::Shards { stream, .. } => (*stream, None),
        other => unreachable!("not a reader's call: {other:?}"),
    };
    let stream = &shared.oracle.streams[stream];
    match error_type(value) {
        "ResourceNotFoundException" => {
            let expired = shard.and_then(|shard| stream.shards.get(&shard)).is_some_and(|shard| shard.ending.is_some());
            assert!(stream.life != Life::Live || expired, "{} of a live stream: {value}", call.operation);
            true
        }
        "ExpiredIteratorException" => {
            assert!(shared.settings.clock_steps || shared.now > 250_000_000_000, "expired too early: {value}");
            true
        }
        "ResourceInUseException" => {
            assert_ne!(stream.life, Life::Live, "{} of a live stream: {value}", call.operation);
            true
        }
        "InternalFailure" => {
            shared.check_failure(call, status, value);
            false
        }
        "ProvisionedThroughputExceededException" => false,
        _ => panic!("{} was refused with {status}: {value}: {}", call.operation, call.body),
    }
}

/// What a GetRecords reply gives its reader.
pub struct Got {
    pub records: Vec<Record>,
    pub from: From,
    /// `None`: the shard has ended.
    pub iterator: Option<String>,
    pub behind: u64,
}

pub fn judge_get(call: &Call, value: &Value, shared: &mut Shared) -> Got {
    let Kind::Get { stream, shard, from, limit, known } = &call.kind else { unreachable!("the call is a get") };
    let records: Vec<Record> = list(value, "Records").iter().map(record).collect();
    assert!(records.len() as u64 <= *limit, "{} records, {limit} wanted", records.len());
    let behind = value["MillisBehindLatest"].as_u64().unwrap_or_else(|| panic!("no MillisBehindLatest: {value}"));
    let next = value.get("NextShardIterator").and_then(Value::as_str).map(str::to_string);
    if let Some(next) = &next {
        assert!(!call.body.contains(next.as_str()), "the same iterator again");
    }
    if !shared.settings.clock_steps {
        shared.oracle.check_expired(*stream, &records, call.issued);
    }
    let from = shared.oracle.read(*stream, *shard, from.clone(), &records, shared.now);
    let children = value.get("ChildShards").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    assert_eq!(next.is_none(), !children.is_empty(), "a shard ends with its children: {value}");
    for child in children {
        let parents: Vec<u32> = list(child, "ParentShards").iter().map(shard_number).collect();
        assert!(parents.contains(shard) && parents.len() <= 2, "shard {shard} ended with a stranger: {child}");
    }
    if next.is_none() || (records.is_empty() && behind == 0) {
        shared.oracle.read_to_end(*stream, *shard, &from, next.is_none(), shared.now, known);
    }
    Got { records, from, iterator: next, behind }
}

/// A record of an answer or of an event.
pub fn record(value: &Value) -> Record {
    let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("no {name}: {value}")).to_string();
    Record {
        number: number(&value["SequenceNumber"]),
        key: text("PartitionKey"),
        data: from_base64(&text("Data")).unwrap_or_else(|| panic!("not base64: {value}")),
        arrival: value["ApproximateArrivalTimestamp"].as_f64().unwrap_or_else(|| panic!("no arrival: {value}")),
    }
}
