//! The role that makes, changes and deletes streams, looks at them, and sends what must be refused.

use super::call::{Call, Kind, error_type, list, of, shard_id};
use super::client::{Shared, Wish};
use super::clock::SECOND;
use super::oracle::{Life, ShardSeen, Stream};
use super::random::Random;
use super::reader::{judge_shards, shards};
use serde_json::Value;
use std::collections::VecDeque;

#[derive(Default)]
pub struct Administrator {
    todo: VecDeque<Todo>,
    /// The call that `todo` led to, to be done again when it is lost.
    doing: Option<Todo>,
    /// Names of deleted streams that may be used again from this time on.
    free_names: Vec<(String, u64)>,
    made: u32,
}

#[derive(Clone, Copy, Debug)]
enum Todo {
    Create { stream: usize, tries: u32 },
    Delete { stream: usize },
    Describe { stream: usize },
    Shards { stream: usize },
}

/// Requests that are refused whole, with the error that AWS gives.
const BAD: &[(&str, &str, &str)] = &[
    ("PutRecord", "{", "SerializationException"),
    ("PutRecord", "[1]", "SerializationException"),
    ("Nonsense", "{}", "UnknownOperationException"),
    ("PutRecord", r#"{"StreamName":"nowhere","PartitionKey":"a","Data":"AA=="}"#, "ResourceNotFoundException"),
    (
        "PutRecords",
        r#"{"StreamName":"nowhere","Records":[{"PartitionKey":"a","Data":"AA=="}]}"#,
        "ResourceNotFoundException",
    ),
    ("PutRecords", r#"{"StreamName":"nowhere","Records":[]}"#, "ValidationException"),
    ("GetRecords", r#"{"ShardIterator":"AAAAAAAAAAEnonsense"}"#, "InvalidArgumentException"),
    ("GetRecords", r#"{"ShardIterator":"x","Limit":0}"#, "ValidationException"),
    ("DescribeStream", r#"{"StreamName":"nowhere"}"#, "ResourceNotFoundException"),
    ("DeleteStream", r#"{"StreamName":"nowhere"}"#, "ResourceNotFoundException"),
    ("CreateStream", r#"{"StreamName":"not a name","ShardCount":1}"#, "ValidationException"),
    ("CreateStream", r#"{"StreamName":"zero","ShardCount":0}"#, "ValidationException"),
];

impl Todo {
    /// It may have been done.
    fn again(self) -> Todo {
        match self {
            Todo::Create { stream, tries } => Todo::Create { stream, tries: tries + 1 },
            other => other,
        }
    }
}

impl Administrator {
    pub fn is_busy(&self) -> bool {
        !self.todo.is_empty() || self.doing.is_some()
    }

    pub fn next(&mut self, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        let alive: Vec<usize> =
            (0..shared.oracle.streams.len()).filter(|s| shared.oracle.streams[*s].life != Life::Going).collect();
        if let Some(todo) = self.todo.pop_front() {
            self.doing = Some(todo);
            return Some(self.carry_out(todo, random, shared));
        }
        let live: Vec<usize> = alive.iter().copied().filter(|s| shared.oracle.streams[*s].life == Life::Live).collect();
        if alive.is_empty() || alive.len() < shared.settings.streams && random.chance(300) {
            return Some(self.create(random, shared));
        }
        let stream = *live.get(random.index(live.len().max(1)))?;
        if random.chance(shared.settings.reshard) {
            return self.reshard(stream, random, shared);
        }
        let name = shared.oracle.streams[stream].name.clone();
        match random.weighted(&[20, 10, 15, 10, 15, 6, 24]) {
            0 => Some(("DescribeStream", of(&name).shuffled(random), Kind::Describe { stream })),
            1 => Some(("DescribeStreamSummary", of(&name).shuffled(random), Kind::Summary { stream })),
            2 => Some(shards(stream, random, shared)),
            3 => Some(("ListStreams", "{}".to_string(), Kind::Streams)),
            4 => Some(self.retention(stream, random, shared)),
            5 => {
                self.todo.push_back(Todo::Delete { stream });
                self.next(random, shared)
            }
            _ => {
                let (operation, body, _) = random.pick(BAD);
                Some((operation, body.to_string(), Kind::Bad))
            }
        }
    }

    fn carry_out(&mut self, todo: Todo, random: &mut Random, shared: &mut Shared) -> Wish {
        match todo {
            Todo::Create { stream, .. } => {
                let count = *random.pick(&[1, 2, 2, 4, 7]);
                let object = of(&shared.oracle.streams[stream].name);
                ("CreateStream", object.raw("ShardCount", count).shuffled(random), Kind::Create { stream })
            }
            Todo::Delete { stream } => {
                shared.oracle.streams[stream].life = Life::Going;
                let object = of(&shared.oracle.streams[stream].name);
                let object = match shared.settings.subscribers {
                    0 => object,
                    _ => object.raw("EnforceConsumerDeletion", true),
                };
                ("DeleteStream", object.shuffled(random), Kind::Delete { stream })
            }
            Todo::Describe { stream } => {
                let body = of(&shared.oracle.streams[stream].name).shuffled(random);
                ("DescribeStream", body, Kind::Describe { stream })
            }
            Todo::Shards { stream } => shards(stream, random, shared),
        }
    }

    fn create(&mut self, random: &mut Random, shared: &mut Shared) -> Wish {
        let old = self.free_names.iter().position(|(_, from)| *from < shared.now).filter(|_| random.chance(500));
        let name = match old {
            Some(index) => self.free_names.swap_remove(index).0,
            None => {
                self.made += 1;
                format!("stream-{}", self.made)
            }
        };
        let hour = shared.settings.retention_hour as u64 * SECOND;
        shared.oracle.streams.push(Stream::new(&name, 24 * hour));
        let todo = Todo::Create { stream: shared.oracle.streams.len() - 1, tries: 1 };
        self.doing = Some(todo);
        self.carry_out(todo, random, shared)
    }

    fn retention(&mut self, stream: usize, random: &mut Random, shared: &mut Shared) -> Wish {
        let model = &mut shared.oracle.streams[stream];
        let hours = random.between(24, 48) as u32;
        // It may be in force though its reply is lost.
        let ns = hours as u64 * shared.settings.retention_hour as u64 * SECOND;
        let operation = match hours >= model.hours {
            true => "IncreaseStreamRetentionPeriod",
            false => "DecreaseStreamRetentionPeriod",
        };
        model.retention = model.retention.min(ns);
        model.retention_most = model.retention_most.max(ns);
        let body = of(&model.name).raw("RetentionPeriodHours", hours).shuffled(random);
        (operation, body, Kind::Retention { stream, hours })
    }

    fn reshard(&mut self, stream: usize, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        let model = &shared.oracle.streams[stream];
        let mut open: Vec<&ShardSeen> = model.shards.values().filter(|shard| shard.ending.is_none()).collect();
        open.sort_by_key(|shard| shard.first);
        let Some(first) = open.first() else {
            self.todo.push_back(Todo::Shards { stream });
            return None;
        };
        if open.len() > 1 && (open.len() > 8 || random.chance(500)) {
            let lower = random.index(open.len() - 1);
            let body = of(&model.name)
                .text("ShardToMerge", &shard_id(open[lower].number))
                .text("AdjacentShardToMerge", &shard_id(open[lower + 1].number));
            return Some(("MergeShards", body.shuffled(random), Kind::Reshard { stream }));
        }
        let shard = if random.chance(300) { first } else { *random.pick(&open) };
        let width = shard.last - shard.first;
        if width < 8 {
            return None;
        }
        let at = shard.first + 2 + random.u128() % (width - 3);
        let body =
            of(&model.name).text("ShardToSplit", &shard_id(shard.number)).text("NewStartingHashKey", &at.to_string());
        Some(("SplitShard", body.shuffled(random), Kind::Reshard { stream }))
    }

    pub fn reply(&mut self, call: Call, status: u16, value: &Value, shared: &mut Shared) {
        let doing = self.doing.take();
        if let Kind::Bad = call.kind {
            return check_bad(&call, status, value, shared);
        }
        if status == 200 {
            return self.done(&call, value, shared);
        }
        match (&call.kind, error_type(value)) {
            (_, "InternalFailure") => {
                shared.check_failure(&call, status, value);
                // A change whose write has failed may be there after a restart.
                self.todo.extend(doing.map(Todo::again));
            }
            (_, "LimitExceededException") => self.todo.extend(doing),
            (Kind::Create { stream }, "ResourceInUseException") => {
                let again = matches!(doing, Some(Todo::Create { tries: 2.., .. }));
                assert!(again, "a new name is in use: {value}");
                shared.oracle.streams[*stream].created = true;
                self.todo.push_back(Todo::Describe { stream: *stream });
            }
            (Kind::Delete { stream } | Kind::Describe { stream }, "ResourceNotFoundException") => {
                self.not_found(*stream, shared);
            }
            (Kind::Delete { .. }, "ResourceInUseException") => self.todo.extend(doing),
            (Kind::Summary { stream } | Kind::Shards { stream, .. } | Kind::Retention { stream, .. }, name) => {
                let known =
                    matches!(name, "ResourceNotFoundException" | "ResourceInUseException" | "InvalidArgumentException");
                let quiet =
                    shared.oracle.streams[*stream].life != Life::Live || matches!(call.kind, Kind::Retention { .. });
                assert!(known && quiet, "{} of a live stream: {value}", call.operation);
            }
            (
                Kind::Reshard { stream },
                "ResourceInUseException" | "InvalidArgumentException" | "ResourceNotFoundException",
            ) => {
                self.todo.push_back(Todo::Shards { stream: *stream });
            }
            _ => panic!("{} was refused with {status}: {value}: {}", call.operation, call.body),
        }
    }

    fn not_found(&mut self, stream: usize, shared: &mut Shared) {
        let model = &shared.oracle.streams[stream];
        match model.life {
            Life::Going => self.free_names.push((model.name.clone(), shared.now + 15 * SECOND)),
            Life::Coming if !model.created => self.todo.push_back(Todo::Create { stream, tries: 2 }),
            _ => panic!("a stream that was created is gone: {}", model.name),
        }
    }

    fn done(&mut self, call: &Call, value: &Value, shared: &mut Shared) {
        match &call.kind {
            Kind::Create { stream } => {
                shared.oracle.streams[*stream].created = true;
                self.todo.push_back(Todo::Describe { stream: *stream });
            }
            Kind::Delete { stream } => self.todo.push_back(Todo::Describe { stream: *stream }),
            Kind::Describe { stream } => self.described(*stream, call.issued, &value["StreamDescription"], shared),
            Kind::Summary { stream } => {
                let open = value["StreamDescriptionSummary"]["OpenShardCount"].as_u64();
                assert!(open.is_some_and(|open| open > 0), "{value}");
                assert_ne!(shared.oracle.streams[*stream].life, Life::Coming, "only live streams are asked for");
            }
            Kind::Shards { stream, whole } => judge_shards(*stream, *whole, call.issued, value, shared),
            Kind::Retention { stream, hours } => {
                let model = &mut shared.oracle.streams[*stream];
                model.hours = *hours;
            }
            Kind::Reshard { stream } => self.todo.push_back(Todo::Shards { stream: *stream }),
            Kind::Streams => check_streams(call, value, shared),
            other => unreachable!("not an administrator's call: {other:?}"),
        }
    }

    fn described(&mut self, stream: usize, issued: u64, value: &Value, shared: &mut Shared) {
        let model = &mut shared.oracle.streams[stream];
        assert_eq!(value["StreamName"].as_str(), Some(model.name.as_str()));
        let status = value["StreamStatus"].as_str().unwrap_or_default();
        match (status, model.life) {
            // One that was just made may be moving to another log.
            ("ACTIVE" | "UPDATING", Life::Coming) => model.life = Life::Live,
            ("ACTIVE" | "UPDATING", Life::Live) => {}
            ("CREATING", Life::Coming) | ("DELETING", Life::Going) => self.todo.push_back(Todo::Describe { stream }),
            // The DeleteStream has been lost, or the reply overtaken.
            ("ACTIVE" | "UPDATING", Life::Going) => self.todo.push_back(Todo::Delete { stream }),
            _ => panic!("stream {} is {status}, and should be {:?}", model.name, model.life),
        }
        if matches!(status, "ACTIVE" | "UPDATING") {
            let whole = value["HasMoreShards"] == Value::Bool(false);
            let shards = list(value, "Shards").iter().map(|value| super::call::shard(value, shared.now)).collect();
            shared.oracle.list(stream, shards, whole, issued);
        }
    }

    pub fn lost(&mut self, call: Call) {
        if let Some(Todo::Create { stream, .. }) = self.doing {
            self.doing = Some(Todo::Create { stream, tries: 2 });
        }
        self.todo.extend(self.doing.take());
        if let Kind::Reshard { stream } = call.kind {
            self.todo.push_back(Todo::Shards { stream });
        }
    }
}

fn check_bad(call: &Call, status: u16, value: &Value, shared: &Shared) {
    assert_ne!(status, 200, "{} took {}", call.operation, call.body);
    let given = error_type(value);
    let (_, _, wanted) = BAD
        .iter()
        .find(|(operation, body, _)| *operation == call.operation && *body == call.body)
        .expect("sent from there");
    let failed = given == "InternalFailure" && (shared.lenient || shared.stopping);
    // Where the catalog waits for room, nothing is judged.
    let waits = given == "LimitExceededException" && shared.settings.room_varies;
    assert!(given == *wanted || failed || waits, "{} with {} gave {value}, not {wanted}", call.operation, call.body);
}

/// Every live stream is listed, in order.
fn check_streams(call: &Call, value: &Value, shared: &Shared) {
    let names: Vec<&str> = list(value, "StreamNames").iter().filter_map(Value::as_str).collect();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "not in order: {value}");
    for stream in shared.oracle.streams.iter().filter(|stream| stream.life == Life::Live) {
        assert!(names.contains(&stream.name.as_str()), "{} lacks {}: {value}", call.operation, stream.name);
    }
}
