//! Texts of errors, as AWS writes them, and what requests decode to.

use super::error::{Error, Kind};
use super::get_shard_iterator::Start;
use super::object::Encoding;
use super::operation::Cold;
use super::request::{Context, Mutation, Request, decode};
use crate::catalog::change::Change;
use crate::catalog::decide::{Decide, NewStream};
use crate::catalog::identity::Identity;
use crate::catalog::place::LogPlace;
use crate::catalog::state::{State, StreamMode};
use crate::io::clock::{Mono, Now, Wall};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KEY: [u8; 16] = [7; 16];
const ARN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/s";

fn identity() -> Identity {
    Identity { region: "us-east-1".into(), account: "123456789012".into() }
}

fn read(operation: Cold, body: &str) -> Result<Request, Error> {
    decode(operation, Encoding::Json, body.as_bytes(), &identity())
}

#[track_caller]
fn check(operation: Cold, body: &str, error: &str) {
    assert_eq!(read(operation, body).map_err(|error| error.to_string()), Err(error.to_owned()), "{body}");
}

#[track_caller]
fn check_mutation(operation: Cold, body: &str, expect: Mutation) {
    assert_eq!(read(operation, body), Ok(Request::Mutation(expect)), "{body}");
}

#[test]
fn a_wrong_type_is_named_by_its_class() {
    for (body, text) in [
        (
            r#"{"StreamName":1}"#,
            "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String",
        ),
        (r#"{"StreamName":true}"#, "class java.lang.Boolean can not be converted to an String"),
        (r#"{"StreamName":[]}"#, "Start of list found where not expected"),
        (r#"{"StreamName":{}}"#, "Start of structure or map found where not expected."),
        (r#"{"ShardCount":"1"}"#, "class java.lang.String can not be converted to an Integer"),
        (r#"{"ShardCount":false}"#, "class java.lang.Boolean can not be converted to an Integer"),
        (r#"{"StreamModeDetails":"PROVISIONED"}"#, "Expected null"),
        (r#"{"StreamModeDetails":[]}"#, "Start of list found where not expected"),
        (r#"{"Tags":1}"#, "Expected map or null"),
        (r#"{"Tags":["a"]}"#, "Start of list found where not expected"),
        (
            r#"{"Tags":{"a":1}}"#,
            "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String",
        ),
        ("", ""),
        ("[]", ""),
        ("null", ""),
        (r#"{"StreamName":"a""#, ""),
        (r#"{"StreamName":"a"} {}"#, ""),
        ("{\"StreamName\":\"a\u{1}\"}", ""),
    ] {
        check(Cold::CreateStream, body, &format!("SerializationException: {text}"));
    }
    let text = "SerializationException: class java.lang.String can not be converted to milliseconds since epoch";
    check(Cold::GetShardIterator, r#"{"Timestamp":"2015"}"#, text);
}

#[test]
fn a_body_that_is_no_json_comes_before_an_unknown_operation() {
    check(Cold::Unknown, "{", "SerializationException: ");
    check(Cold::Unknown, r#"{"StreamName":1}"#, "UnknownOperationException: ");
}

#[test]
fn numbers_are_read_in_every_form_and_size() {
    for (number, count) in [
        ("3", Ok(3)),
        ("3.999", Ok(3)),
        ("3e0", Ok(3)),
        ("0.3E+1", Ok(3)),
        ("1e400", Ok(i32::MAX as u32)),
        ("99999999999999999999", Ok(i32::MAX as u32)),
        ("-1e400", Err(i32::MIN)),
        ("-0.5", Err(0)),
        ("0", Err(0)),
    ] {
        let read = read(Cold::CreateStream, &format!(r#"{{"StreamName":"s","ShardCount":{number}}}"#));
        match (read, count) {
            (Ok(Request::Mutation(Mutation::CreateStream { shard_count, .. })), Ok(count)) => {
                assert_eq!(shard_count, Some(count), "{number}");
            }
            (Err(error), Err(value)) => {
                let rule = "Member must have value greater than or equal to 1";
                assert_eq!(error.to_string(), one(&format!("'{value}'"), "shardCount", rule), "{number}");
            }
            (read, _) => panic!("{number}: {read:?}"),
        }
    }
}

#[test]
fn a_boolean_may_be_a_word() {
    let enforce = |value: &str| {
        let read = read(Cold::DeleteStream, &format!(r#"{{"StreamName":"s","EnforceConsumerDeletion":{value}}}"#));
        read.map(|read| matches!(read, Request::Mutation(Mutation::DeleteStream { enforce: true, .. })))
    };
    for value in ["true", r#""true""#, r#""TRUE""#, r#""1""#, r#""Yes""#] {
        assert_eq!(enforce(value), Ok(true), "{value}");
    }
    for value in ["false", "null", r#""False""#, r#""0""#, r#""no""#] {
        assert_eq!(enforce(value), Ok(false), "{value}");
    }
    for (value, text) in [
        (r#""really""#, "'REALLY' can not be converted to an Boolean"),
        ("1", "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an Boolean"),
        ("[]", "Start of list found where not expected"),
    ] {
        assert_eq!(enforce(value).map_err(|error| error.message), Err(text.to_owned()), "{value}");
    }
}

#[test]
fn of_a_wrong_value_no_more_is_shown_than_tells_which_it_was() {
    for name in ["!".repeat(10 << 20), "\"".repeat(1 << 20), "é".repeat(1 << 20)] {
        let error = read(Cold::DeleteStream, &json!({ "StreamName": name }).to_string()).expect_err("no name");
        assert_eq!(error.kind, Kind::Validation);
        assert!(error.message.len() < 10_000 && error.message.contains(&name[..100]), "{} bytes", error.message.len());
    }
    // All of what a client may have meant.
    let name = "x".repeat(2048);
    let error = read(Cold::DeleteStream, &json!({ "StreamName": name }).to_string()).expect_err("too long");
    assert!(error.message.contains(&format!("'{name}'")));
}

#[test]
fn a_type_comes_before_a_constraint() {
    let text = "SerializationException: class java.lang.String can not be converted to an Integer";
    check(Cold::CreateStream, r#"{"StreamName":"","ShardCount":"x"}"#, text);
}

#[test]
fn nesting_has_an_end() {
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    check(Cold::ListStreams, &deep, "SerializationException: ");
}

/// The text for one broken constraint.
fn one(value: &str, path: &str, rule: &str) -> String {
    let list = format!("Value {value} at '{path}' failed to satisfy constraint: {rule}");
    format!("ValidationException: 1 validation error detected: {list}")
}

const NULL: &str = "Member must not be null";

fn at_most(n: u64) -> String {
    format!("Member must have value less than or equal to {n}")
}

fn pattern(pattern: &str) -> String {
    format!("Member must satisfy regular expression pattern: {pattern}")
}

#[test]
fn broken_constraints_of_a_new_stream_are_told() {
    let long = "x".repeat(129);
    let at_least_one = "Member must have value greater than or equal to 1";
    for (operation, body, text) in [
        (Cold::CreateStream, json!({}), one("null", "streamName", NULL)),
        (Cold::CreateStream, json!({"StreamName": "a b"}), one("'a b'", "streamName", &pattern("[a-zA-Z0-9_.-]+"))),
        (
            Cold::CreateStream,
            json!({"StreamName": long}),
            one(&format!("'{long}'"), "streamName", "Member must have length less than or equal to 128"),
        ),
        (Cold::CreateStream, json!({"StreamName": "a", "ShardCount": 0}), one("'0'", "shardCount", at_least_one)),
        (
            Cold::CreateStream,
            json!({"StreamName": "a", "StreamModeDetails": {"StreamMode": "X"}}),
            one("'X'", "streamModeDetails.streamMode", "Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]"),
        ),
        (
            Cold::CreateStream,
            json!({"StreamName": "a", "StreamModeDetails": {}}),
            one("null", "streamModeDetails.streamMode", NULL),
        ),
        (
            Cold::CreateStream,
            json!({"StreamName": "a", "MaxRecordSizeInKiB": 20_000}),
            one("'20000'", "maxRecordSizeInKiB", &at_most(10_240)),
        ),
        (
            Cold::CreateStream,
            json!({"StreamName": "a", "Tags": {"": "v"}}),
            one(
                "'{=v}'",
                "tags",
                "Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater \
                 than or equal to 1]",
            ),
        ),
    ] {
        check(operation, &body.to_string(), &text);
    }
}

#[test]
fn broken_constraints_are_all_told() {
    for (operation, body, text) in [
        (Cold::DescribeStream, json!({"StreamName": "a", "Limit": 10_001}), one("'10001'", "limit", &at_most(10_000))),
        (Cold::ListTagsForStream, json!({"StreamName": "a", "Limit": 51}), one("'51'", "limit", &at_most(50))),
        (
            Cold::DeleteStream,
            json!({"StreamARN": "arn:aws:s3:::stream/s"}),
            one("'arn:aws:s3:::stream/s'", "streamARN", &pattern("arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+")),
        ),
        (
            Cold::SplitShard,
            json!({"StreamName": "a", "ShardToSplit": "0", "NewStartingHashKey": "007"}),
            one("'007'", "newStartingHashKey", &pattern("0|([1-9]\\d{0,38})")),
        ),
        (
            Cold::GetShardIterator,
            json!({"StreamName": "a", "ShardId": "0", "ShardIteratorType": "LATEST", "StartingSequenceNumber": "-1"}),
            one("'-1'", "startingSequenceNumber", &pattern("0|([1-9]\\d{0,128})")),
        ),
        (Cold::IncreaseStreamRetentionPeriod, json!({"StreamName": "a"}), one("null", "retentionPeriodHours", NULL)),
        (
            Cold::DecreaseStreamRetentionPeriod,
            json!({"StreamName": "a", "RetentionPeriodHours": -1}),
            one("'-1'", "retentionPeriodHours", "Member must have value greater than or equal to 1"),
        ),
        (Cold::ListShards, json!({"StreamName": "a", "ShardFilter": {}}), one("null", "shardFilter.type", NULL)),
    ] {
        check(operation, &body.to_string(), &text);
    }
    let text = "ValidationException: 2 validation errors detected: Value '' at 'streamName' failed to satisfy constraint: Member must \
                satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value '' at 'streamName' failed to satisfy constraint: Member must \
                have length greater than or equal to 1";
    check(Cold::DeleteStream, r#"{"StreamName":""}"#, text);
}

#[test]
fn a_length_is_counted_in_characters() {
    let tag = |key: String| json!({"StreamName": "a", "Tags": {key: "v"}}).to_string();
    assert!(read(Cold::CreateStream, &tag("漢".repeat(128))).is_ok());
    assert_eq!(read(Cold::CreateStream, &tag("漢".repeat(129))).map_err(|error| error.kind), Err(Kind::Validation));
}

#[test]
fn mutations_are_read() {
    let none = Mutation::CreateStream {
        stream: "s".into(),
        shard_count: None,
        mode: None,
        tags: BTreeMap::new(),
        max_record_kib: None,
    };
    check_mutation(Cold::CreateStream, r#"{"StreamName":"s","ShardCount":null,"Other":[1,{"a":null}]}"#, none);
    let all = json!({"StreamName": "s", "ShardCount": 3.7, "StreamModeDetails": {"StreamMode": "PROVISIONED"},
        "Tags": {"k": "v", "gone": null}, "MaxRecordSizeInKiB": 2048, "RecordDistributionStrategy": "USER_PARTITION_KEY"});
    let expect = Mutation::CreateStream {
        stream: "s".into(),
        shard_count: Some(3),
        mode: Some(StreamMode::Provisioned),
        tags: [("k".to_owned(), "v".to_owned())].into(),
        max_record_kib: Some(2048),
    };
    check_mutation(Cold::CreateStream, &all.to_string(), expect);
    let delete = |enforce| Mutation::DeleteStream { stream: "s".into(), enforce };
    check_mutation(Cold::DeleteStream, r#"{"StreamName":"x","StreamName":"s"}"#, delete(false));
    check_mutation(
        Cold::DeleteStream,
        &json!({"StreamARN": ARN, "EnforceConsumerDeletion": true}).to_string(),
        delete(true),
    );
    let split = |key: &str| {
        format!(r#"{{"StreamName":"s","ShardToSplit":"shardId-000000000002","NewStartingHashKey":"{key}"}}"#)
    };
    let expect = |new_start| Mutation::SplitShard { stream: "s".into(), shard: 2, new_start };
    check_mutation(Cold::SplitShard, &split("17"), expect(17));
    // The pattern lets keys above 2^128 - 1 through; they are inside no shard.
    check_mutation(Cold::SplitShard, &split(&"9".repeat(39)), expect(u128::MAX));
    let merge = json!({"StreamName": "s", "StreamARN": ARN, "ShardToMerge": "1", "AdjacentShardToMerge": "x-2"});
    let expect = Mutation::MergeShards { stream: "s".into(), shard: 1, adjacent: 2 };
    check_mutation(Cold::MergeShards, &merge.to_string(), expect);
    let hours = r#"{"StreamName":"s","RetentionPeriodHours":48}"#;
    let stream = || "s".to_owned();
    check_mutation(
        Cold::IncreaseStreamRetentionPeriod,
        hours,
        Mutation::IncreaseRetention { stream: stream(), hours: 48 },
    );
    check_mutation(
        Cold::DecreaseStreamRetentionPeriod,
        hours,
        Mutation::DecreaseRetention { stream: stream(), hours: 48 },
    );
}

#[test]
fn a_stream_is_meant_by_name_or_arn() {
    for (body, text) in [
        (json!({}), "InvalidArgumentException: Either StreamName or StreamARN must be given.".to_owned()),
        (
            json!({"StreamName": "t", "StreamARN": ARN}),
            format!("InvalidArgumentException: StreamName t and StreamARN {ARN} name different streams."),
        ),
    ] {
        check(Cold::DescribeStream, &body.to_string(), &text);
    }
    for arn in [ARN.replace("us-east-1", "eu-west-1"), ARN.replace("123456789012", "000000000000")] {
        let text = format!(
            "ResourceNotFoundException: Stream {arn} not found: this endpoint serves account 123456789012 in us-east-1."
        );
        check(Cold::DescribeStream, &json!({"StreamARN": arn}).to_string(), &text);
    }
    let shard = json!({"StreamName": "s", "ShardToSplit": "strange", "NewStartingHashKey": "1"}).to_string();
    let text = "ResourceNotFoundException: Could not find shard strange in stream s under account 123456789012.";
    check(Cold::SplitShard, &shard, text);
}

#[test]
fn rules_of_the_service_follow_the_constraints() {
    let invalid = |body: Value, text: &str| {
        check(Cold::CreateStream, &body.to_string(), &format!("InvalidArgumentException: {text}"));
    };
    let many: BTreeMap<String, String> = (0..51).map(|n| (n.to_string(), String::new())).collect();
    invalid(json!({"StreamName": "s", "Tags": many}), "Stream s cannot have more than 50 tags; 51 were given.");
    invalid(
        json!({"StreamName": "s", "Tags": {"a": "b;c"}}),
        "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @ :",
    );
    invalid(
        json!({"StreamName": "s", "Tags": {"aws:a": "b"}}),
        "Tag key aws:a is reserved: keys that begin with aws: cannot be set.",
    );
    let fine = json!({"StreamName": "s", "Tags": {"Käse _./=+-@:": "日本 1"}});
    assert!(read(Cold::CreateStream, &fine.to_string()).is_ok());
}

/// A catalog with the streams named, of two shards each.
fn state(names: &[&str]) -> State {
    let mut state = State::default();
    for name in names {
        let tags =
            [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned()), ("c".to_owned(), "3".to_owned())];
        let stream =
            NewStream { name: name.to_string(), shard_count: Some(2), tags: tags.into(), ..NewStream::default() };
        let decided = Decide { state: &state, identity: &identity(), logs: &[LogPlace::default()] }
            .create_stream(&stream, Wall(1_441_215_410_867_000));
        let change: Change = decided.expect("a new stream");
        state.apply(state.applied + 1, &change);
    }
    state
}

fn ask(state: &State, operation: Cold, body: &Value) -> Result<Value, Error> {
    let identity = identity();
    let now = Now { wall: Wall(1_441_215_420_000_000), mono: Mono(1) };
    let context = Context { identity: &identity, now, retention_now: now.wall, retention_hour: 3600, key: &KEY };
    let request = decode(operation, Encoding::Json, body.to_string().as_bytes(), &identity)?;
    let Request::Query(query) = request else { panic!("{operation:?} is no query") };
    Ok(serde_json::from_slice(&query.answer(state, &context)?).expect("an answer is JSON"))
}

#[test]
fn a_stream_is_known_by_its_creation_in_whole_seconds_too() {
    let state = state(&["s"]);
    let list =
        |created: f64| ask(&state, Cold::ListShards, &json!({"StreamName": "s", "StreamCreationTimestamp": created}));
    for created in [1_441_215_410.867, 1_441_215_410.0] {
        assert!(list(created).is_ok(), "{created}");
    }
    for other in [1_441_215_410.866, 1_441_215_410.001, 1_441_215_411.0, 1_441_215_409.0, 0.0] {
        assert_eq!(list(other).map_err(|error| error.kind), Err(Kind::ResourceNotFound), "{other}");
    }
}

#[test]
fn a_time_a_little_ahead_of_the_clock_is_now() {
    let state = state(&["s"]);
    let identity = identity();
    let now = Now { wall: Wall(1_441_215_420_123_456), mono: Mono(1) };
    let context = Context { identity: &identity, now, retention_now: now.wall, retention_hour: 3600, key: &KEY };
    let start = |at: f64| {
        let request = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at});
        let Request::GetShardIterator(request) = read(Cold::GetShardIterator, &request.to_string())? else {
            panic!("another request")
        };
        let (stream, shard) = request.resolve(&state, &identity)?;
        request.start(stream, shard, &context)
    };
    for (at, expect) in [
        (1_441_215_420.123, 1_441_215_420_123_000),
        (1_441_215_400.5, 1_441_215_400_500_000),
        (1_441_215_420.124, now.wall.0),
        (1_441_215_425.123, now.wall.0),
        (-1.0, 0),
    ] {
        assert_eq!(start(at), Ok(Start::AtTimestamp(expect)), "{at}");
    }
    let text = "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: 1441215425124, \
                currentTimestampInMillis: 1441215420123";
    assert_eq!(start(1_441_215_425.124), Err(Error::new(Kind::InvalidArgument, text)));
}

#[test]
fn a_stream_is_described_as_by_aws() {
    let state = state(&["s"]);
    let shard = |id: &str, first: &str, last: &str, number: &str| {
        json!({"ShardId": id, "HashKeyRange": {"StartingHashKey": first, "EndingHashKey": last},
            "SequenceNumberRange": {"StartingSequenceNumber": number}})
    };
    let [middle, before] = [1u128 << 127, (1 << 127) - 1].map(|key| key.to_string());
    let described = ask(&state, Cold::DescribeStream, &json!({"StreamName": "s"})).expect("it is there");
    let numbers: Vec<&str> = (0..2)
        .map(|at| {
            described["StreamDescription"]["Shards"][at]["SequenceNumberRange"]["StartingSequenceNumber"].as_str()
        })
        .map(|number| number.expect("a string"))
        .collect();
    assert!(numbers.iter().all(|number| number.len() == 56 && number.starts_with("49")));
    let expect = json!({"StreamDescription": {
        "StreamName": "s", "StreamARN": ARN, "StreamStatus": "ACTIVE", "StreamModeDetails": {"StreamMode": "PROVISIONED"},
        "Shards": [
            shard("shardId-000000000000", "0", &before, numbers[0]),
            shard("shardId-000000000001", &middle, "340282366920938463463374607431768211455", numbers[1]),
        ],
        "HasMoreShards": false, "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1441215410.867,
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}], "EncryptionType": "NONE",
    }});
    assert_eq!(described, expect);
    let summary = ask(&state, Cold::DescribeStreamSummary, &json!({"StreamARN": ARN})).expect("it is there");
    let expect = json!({"StreamDescriptionSummary": {
        "StreamName": "s", "StreamARN": ARN, "StreamStatus": "ACTIVE", "StreamModeDetails": {"StreamMode": "PROVISIONED"},
        "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1441215410.867, "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE", "OpenShardCount": 2, "ConsumerCount": 0, "MaxRecordSizeInKiB": 1024,
    }});
    assert_eq!(summary, expect);
    let error = ask(&state, Cold::DescribeStream, &json!({"StreamName": "t"})).expect_err("it is not there");
    assert_eq!(error.to_string(), "ResourceNotFoundException: Stream t under account 123456789012 not found.");
}

#[test]
fn shards_of_a_description_come_in_pages() {
    let state = state(&["s"]);
    let page = |body: Value| ask(&state, Cold::DescribeStream, &body).expect("a page")["StreamDescription"].clone();
    let first = page(json!({"StreamName": "s", "Limit": 1}));
    assert_eq!(
        (&first["HasMoreShards"], &first["Shards"][0]["ShardId"]),
        (&json!(true), &json!("shardId-000000000000"))
    );
    let second = page(json!({"StreamName": "s", "Limit": 1, "ExclusiveStartShardId": "shardId-000000000000"}));
    assert_eq!(
        (&second["HasMoreShards"], &second["Shards"][0]["ShardId"]),
        (&json!(false), &json!("shardId-000000000001"))
    );
    assert_eq!(page(json!({"StreamName": "s", "ExclusiveStartShardId": "1"}))["Shards"], json!([]));
}

#[test]
fn streams_are_listed_in_order_and_in_pages() {
    let state = state(&["b", "c", "a"]);
    let list = |body: Value| ask(&state, Cold::ListStreams, &body);
    let all = list(json!({})).expect("a list");
    assert_eq!((&all["StreamNames"], &all["HasMoreStreams"]), (&json!(["a", "b", "c"]), &json!(false)));
    assert!(all.get("NextToken").is_none());
    assert_eq!(
        all["StreamSummaries"][1],
        json!({"StreamName": "b", "StreamARN": ARN.replace("/s", "/b"), "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"}, "StreamCreationTimestamp": 1441215410.867})
    );
    let first = list(json!({"Limit": 2})).expect("a page");
    assert_eq!((&first["StreamNames"], &first["HasMoreStreams"]), (&json!(["a", "b"]), &json!(true)));
    let rest = list(json!({"NextToken": first["NextToken"]})).expect("the rest");
    assert_eq!((&rest["StreamNames"], &rest["HasMoreStreams"]), (&json!(["c"]), &json!(false)));
    // It need not be there any more.
    assert_eq!(list(json!({"ExclusiveStartStreamName": "aa"})).expect("a page")["StreamNames"], json!(["b", "c"]));
    assert_eq!(list(json!({"NextToken": "AAAA"})), Err(Error::new(Kind::InvalidArgument, "Invalid NextToken.")));
    // Paginators of SDKs send all that the first page was asked with once more.
    let first = list(json!({"Limit": 1, "ExclusiveStartStreamName": "a"})).expect("a page");
    let next = json!({"Limit": 1, "ExclusiveStartStreamName": "a", "NextToken": first["NextToken"]});
    assert_eq!(list(next).expect("the next")["StreamNames"], json!(["c"]));
}

#[test]
fn tags_are_listed_in_order_and_in_pages() {
    let state = state(&["s"]);
    let list = |body: Value| ask(&state, Cold::ListTagsForStream, &body).expect("a list");
    let tag = |key: &str, value: &str| json!({"Key": key, "Value": value});
    let all = json!({"Tags": [tag("a", "1"), tag("b", "2"), tag("c", "3")], "HasMoreTags": false});
    assert_eq!(list(json!({"StreamName": "s"})), all);
    let middle = json!({"Tags": [tag("b", "2")], "HasMoreTags": true});
    assert_eq!(list(json!({"StreamName": "s", "Limit": 1, "ExclusiveStartTagKey": "a"})), middle);
}
