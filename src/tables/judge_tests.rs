//! Writes of random clients against a naive model, and what the derived parts come to.

use super::item::{Item, item_to_json};
use super::judge::Judge;
use super::limits::PAGE_BYTES_MAX;
use super::operation::Operation;
use super::read;
use super::request::{Request, decode};
use super::state::Tables;
use crate::catalog::identity::Identity;
use crate::io::clock::Wall;
use crate::log::memory_disk::Random;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

fn identity() -> Identity {
    Identity { region: "us-east-1".to_string(), account: "000000000000".to_string() }
}

fn request(operation: Operation, body: &Json) -> Request {
    decode(operation, body.to_string().as_bytes()).expect("a valid request")
}

/// Judges and applies a write: the body, or the name and text of the error.
pub(super) fn write(tables: &mut Tables, operation: Operation, body: Json) -> Result<Json, String> {
    let Request::Write(write) = request(operation, &body) else { panic!("{operation:?} writes") };
    let identity = identity();
    let judged = Judge { tables, identity: &identity, now: Wall(1_700_000_000_000_000) }.judge(&write);
    let judged = judged.map_err(|error| error.body())?;
    let before = tables.need();
    judged.changes.iter().for_each(|change| tables.apply(change));
    assert!(tables.need() <= before + judged.growth, "grown by more than {} bytes", judged.growth);
    Ok(serde_json::from_str(&judged.body).expect("a body is JSON"))
}

fn read_body(tables: &Tables, operation: Operation, body: Json) -> Json {
    let Request::Read(read) = request(operation, &body) else { panic!("{operation:?} reads") };
    serde_json::from_str(&read::answer(&read, tables, &identity()).expect("there is such a table")).expect("JSON")
}

pub(super) fn with_table(name: &str) -> Tables {
    let mut tables = Tables::default();
    let part = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
    let body = json!({
        "TableName": name,
        "KeySchema": [part("leaseKey", "HASH")],
        "AttributeDefinitions": [
            {"AttributeName": "leaseKey", "AttributeType": "S"},
            {"AttributeName": "owner", "AttributeType": "S"},
            {"AttributeName": "rank", "AttributeType": "N"},
        ],
        "GlobalSecondaryIndexes": [
            {"IndexName": "byKey", "KeySchema": [part("owner", "HASH"), part("leaseKey", "RANGE")],
             "Projection": {"ProjectionType": "KEYS_ONLY"}},
            {"IndexName": "byRank", "KeySchema": [part("owner", "HASH"), part("rank", "RANGE")],
             "Projection": {"ProjectionType": "ALL"}},
        ],
        "BillingMode": "PAY_PER_REQUEST",
    });
    write(&mut tables, Operation::CreateTable, body).expect("it is new");
    tables
}

/// One write as the model sees it.
fn random_write(random: &mut Random, model: &mut BTreeMap<String, (i64, Option<u64>)>, tables: &mut Tables) -> bool {
    let key = format!("k{}", random.below(5));
    let held = model.get(&key).copied();
    let guess = held.map_or(0, |(counter, _)| counter) + (random.below(4) == 0) as i64;
    let owner = random.below(3);
    let body = json!({
        "TableName": "leases",
        "Key": {"leaseKey": {"S": key}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    let with = |more: Json| {
        let mut body = body.as_object().expect("as above").clone();
        body.extend(more.as_object().expect("an object").clone());
        Json::Object(body)
    };
    let item = |counter: i64| json!({"leaseKey": {"S": key}, "counter": {"N": counter.to_string()}, "owner": {"S": format!("w{owner}")}, "rank": {"N": counter.to_string()}});
    let (result, expect) = match random.below(4) {
        0 => {
            let body = json!({"TableName": "leases", "Item": item(0), "Expected": {"leaseKey": {"Exists": false}}});
            let expect = held.is_none().then_some(Some((0, Some(owner))));
            (write(tables, Operation::PutItem, body), expect)
        }
        1 => {
            let body = with(json!({
                "Expected": {"counter": {"Value": {"N": guess.to_string()}}},
                "AttributeUpdates": {"counter": {"Action": "ADD", "Value": {"N": "1"}}, "owner": {"Action": "DELETE"}},
            }));
            let matches = held.is_some_and(|(counter, _)| counter == guess);
            (write(tables, Operation::UpdateItem, body), matches.then(|| Some((guess + 1, None))))
        }
        2 => {
            let body = with(json!({
                "UpdateExpression": "SET #o = :o",
                "ConditionExpression": "attribute_exists(leaseKey) AND attribute_not_exists(#o)",
                "ExpressionAttributeNames": {"#o": "owner"},
                "ExpressionAttributeValues": {":o": {"S": format!("w{owner}")}},
            }));
            let expect = held.filter(|(_, owner)| owner.is_none()).map(|(counter, _)| Some((counter, Some(owner))));
            (write(tables, Operation::UpdateItem, body), expect)
        }
        _ => {
            let body = with(json!({
                "ConditionExpression": "counter = :c",
                "ExpressionAttributeValues": {":c": {"N": guess.to_string()}},
            }));
            let matches = held.is_some_and(|(counter, _)| counter == guess);
            (write(tables, Operation::DeleteItem, body), matches.then_some(None))
        }
    };
    match (&result, expect) {
        (Ok(_), Some(Some(lease))) => drop(model.insert(key, lease)),
        (Ok(_), Some(None)) => drop(model.remove(&key)),
        (Err(body), None) => assert!(body.contains("ConditionalCheckFailedException"), "{body}"),
        (result, expect) => panic!("{result:?} where {expect:?} was expected of {held:?}"),
    }
    result.is_ok()
}

#[test]
fn random_writes_leave_what_a_naive_model_has() {
    let (mut tables, mut model, mut random) = (with_table("leases"), BTreeMap::new(), Random(17));
    let mut done = 0;
    for _ in 0..3_000 {
        done += random_write(&mut random, &mut model, &mut tables) as u32;
        let table = &tables.tables["leases"];
        let items: Vec<Item> =
            table.items.values().map(|text| super::item::parse_stored(text).expect("as it was written")).collect();
        assert_eq!(items.len(), model.len());
        for item in &items {
            let text = item_to_json(item);
            let json: Json = serde_json::from_str(&text).expect("JSON");
            let (counter, owner) = model[json["leaseKey"]["S"].as_str().expect("a key")];
            assert_eq!(json["counter"]["N"], counter.to_string());
            assert_eq!(json["owner"]["S"].as_str().map(str::to_string), owner.map(|owner| format!("w{owner}")));
        }
        let mut derived = tables.clone();
        derived.derive();
        assert_eq!(derived, tables, "what is derived follows");
    }
    assert!((500..2_500).contains(&done), "{done} of 3000 were done: both outcomes are met");
}

#[test]
fn pages_have_everything_once_in_order() {
    let mut tables = with_table("leases");
    let filler = "x".repeat(1000);
    let (mut random, mut ranks) = (Random(3), Vec::new());
    for key in 0..700 {
        let rank = random.below(40) as i64 - 20;
        let item = json!({"leaseKey": {"S": format!("k{key:03}")}, "owner": {"S": "w"}, "rank": {"N": rank.to_string()}, "f": {"S": filler}});
        write(&mut tables, Operation::PutItem, json!({"TableName": "leases", "Item": item})).expect("unconditional");
        ranks.push((rank, format!("k{key:03}")));
    }
    ranks.sort();
    let query = |index: &str, forward: bool, limit: Option<u32>| {
        json!({
            "TableName": "leases", "IndexName": index, "Limit": limit, "ScanIndexForward": forward,
            "KeyConditionExpression": "#o = :o", "ExpressionAttributeNames": {"#o": "owner"},
            "ExpressionAttributeValues": {":o": {"S": "w"}},
        })
    };
    let scan = |limit: Option<u32>| json!({"TableName": "leases", "Limit": limit});
    let all = |operation, mut body: Json| {
        let (mut keys, mut pages) = (Vec::new(), 0);
        loop {
            let text = read_body(&tables, operation, body.clone());
            assert!(text.to_string().len() < 2 * PAGE_BYTES_MAX);
            keys.extend(
                text["Items"]
                    .as_array()
                    .expect("items")
                    .iter()
                    .map(|item| item["leaseKey"]["S"].as_str().expect("a key").to_string()),
            );
            pages += 1;
            match text.get("LastEvaluatedKey") {
                Some(last) => body["ExclusiveStartKey"] = last.clone(),
                None => return (keys, pages),
            }
        }
    };
    let by_rank: Vec<String> = ranks.iter().map(|(_, key)| key.clone()).collect();
    let mut by_key = by_rank.clone();
    by_key.sort();
    for (limit, least) in [(None, 2), (Some(1), 700), (Some(699), 2), (Some(64), 10)] {
        assert_eq!(all(Operation::Scan, scan(limit)).0, by_key);
        assert_eq!(all(Operation::Query, query("byKey", true, limit)).0, by_key);
        let (keys, pages) = all(Operation::Query, query("byRank", true, limit));
        assert_eq!(keys, by_rank);
        assert!(pages >= least, "{pages} pages of {limit:?}");
        let mut keys = all(Operation::Query, query("byRank", false, limit)).0;
        keys.reverse();
        assert_eq!(keys, by_rank);
    }
}

#[test]
fn a_transaction_is_done_as_a_whole_or_not_at_all() {
    let mut tables = with_table("leases");
    let put = |key: &str| json!({"Put": {"TableName": "leases", "Item": {"leaseKey": {"S": key}}, "ConditionExpression": "attribute_not_exists(leaseKey)"}});
    let transact = |tables: &mut Tables, items: Vec<Json>| {
        write(tables, Operation::TransactWriteItems, json!({"TransactItems": items}))
    };
    transact(&mut tables, vec![put("a"), put("b")]).expect("neither is there");
    let before = tables.clone();
    let error = transact(&mut tables, vec![put("c"), put("b")]).expect_err("one is there");
    assert!(error.contains("[None, ConditionalCheckFailed]"), "{error}");
    assert_eq!(tables, before);
    let large = |key: usize| {
        let item = json!({"leaseKey": {"S": format!("l{key}")}, "f": {"S": "x".repeat(60_000)}});
        write(&mut before.clone(), Operation::PutItem, json!({"TableName": "leases", "Item": item.clone()}))
            .expect("it may be so large");
        item
    };
    for key in 0..14 {
        let item = large(key);
        write(&mut tables, Operation::PutItem, json!({"TableName": "leases", "Item": item})).expect("there is room");
    }
    let touch = |key: usize| json!({"Update": {"TableName": "leases", "Key": {"leaseKey": {"S": format!("l{key}")}}, "UpdateExpression": "SET a = :a", "ExpressionAttributeValues": {":a": {"N": "1"}}}});
    let error = transact(&mut tables, (0..14).map(touch).collect()).expect_err("more bytes than an entry takes");
    assert!(error.contains("LimitExceededException"), "{error}");
    transact(&mut tables, (0..12).map(touch).collect()).expect("these fit");
}
