//! A lessee: takes a lease again and again by its counter, as the client library does, and checks that the counter is linearizable.
//!
//! The counter lies in a lease table. Of all lessees one at most is told that it has raised the counter from a number; whoever reads it, or
//! is refused with it, is never told less than what anybody was told before the call began.

use super::call::{Call, Kind, error_type};
use super::client::{Shared, Wish};
use super::random::Random;
use serde_json::Value;
use std::collections::BTreeSet;

/// What all lessees of a run know.
#[derive(Debug, Default)]
pub struct Lease {
    /// The table, and the item in it, are there: somebody was told.
    has_table: bool,
    has_item: bool,
    /// The highest number that anybody was told.
    told: u64,
    /// One more than the highest number that anybody has tried to raise.
    tried: u64,
    /// Numbers whose raise was acknowledged.
    won: BTreeSet<u64>,
    pub taken: u64,
    pub refused: u64,
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Table,
    Item,
    Read,
    /// Raise the counter from this number.
    Take(u64),
}

#[derive(Debug, Default)]
pub struct Lessee {
    /// What it believes the counter to be.
    counter: u64,
}

const KEY: &str = r#""TableName":"leases","Key":{"leaseKey":{"S":"shard"}}"#;

impl Lessee {
    pub fn next(&mut self, random: &mut Random, shared: &mut Shared) -> Option<Wish> {
        let lease = &mut shared.lease;
        let ask = match (lease.has_table, lease.has_item) {
            (false, _) => Ask::Table,
            (true, false) => Ask::Item,
            _ if random.chance(300) => Ask::Read,
            _ => Ask::Take(self.counter),
        };
        let (operation, body) = match ask {
            Ask::Table => (
                "DynamoDB_20120810.CreateTable",
                r#"{"TableName":"leases","KeySchema":[{"AttributeName":"leaseKey","KeyType":"HASH"}],"BillingMode":"PAY_PER_REQUEST",
                "AttributeDefinitions":[{"AttributeName":"leaseKey","AttributeType":"S"}]}"#
                    .to_string(),
            ),
            Ask::Item => (
                "DynamoDB_20120810.PutItem",
                r#"{"TableName":"leases","Item":{"leaseKey":{"S":"shard"},"leaseCounter":{"N":"0"}},
                "ConditionExpression":"attribute_not_exists(leaseKey)"}"#
                    .to_string(),
            ),
            Ask::Read => ("DynamoDB_20120810.GetItem", format!("{{{KEY}}}")),
            Ask::Take(from) => {
                lease.tried = lease.tried.max(from + 1);
                let body = format!(
                    "{{{KEY},\"Expected\":{{\"leaseCounter\":{{\"Value\":{{\"N\":\"{from}\"}}}}}},\"AttributeUpdates\":{{\"leaseCounter\":\
                     {{\"Action\":\"ADD\",\"Value\":{{\"N\":\"1\"}}}}}},\"ReturnValues\":\"ALL_NEW\",\
                     \"ReturnValuesOnConditionCheckFailure\":\"ALL_OLD\"}}"
                );
                ("DynamoDB_20120810.UpdateItem", body)
            }
        };
        Some((operation, body, Kind::Lease { ask, told: lease.told }))
    }

    pub fn reply(&mut self, call: Call, status: u16, value: &Value, shared: &mut Shared) {
        let Kind::Lease { ask, told } = call.kind else { panic!("a lessee asks for leases: {call:?}") };
        let error = if status == 200 { "" } else { error_type(value) };
        match (ask, error) {
            (Ask::Table, "" | "ResourceInUseException") => shared.lease.has_table = true,
            (Ask::Item, "" | "ConditionalCheckFailedException") => shared.lease.has_item = true,
            (Ask::Read, "") => self.tell(&value["Item"], told, shared),
            (Ask::Take(from), "") => {
                assert!(shared.lease.won.insert(from), "two were told that they had raised the counter from {from}");
                assert!(from >= told, "the counter was raised from {from}, after somebody was told {told}");
                assert_eq!(counter(&value["Attributes"]), from + 1);
                self.tell(&value["Attributes"], told, shared);
                shared.lease.taken += 1;
            }
            (Ask::Take(from), "ConditionalCheckFailedException") => {
                assert_ne!(counter(&value["Item"]), from, "refused though the counter was as expected");
                self.tell(&value["Item"], told, shared);
                shared.lease.refused += 1;
            }
            // Nothing was done: the next try may be.
            (_, "LimitExceededException" | "ProvisionedThroughputExceededException") => {}
            _ => shared.check_failure(&call, status, value),
        }
    }

    /// Somebody is told what the counter is.
    fn tell(&mut self, item: &Value, told: u64, shared: &mut Shared) {
        let now = counter(item);
        let lease = &mut shared.lease;
        assert!(now >= told, "the counter is {now}, after somebody was told {told}");
        assert!(now <= lease.tried, "the counter is {now}, and nobody has raised it from {}", lease.tried);
        lease.told = lease.told.max(now);
        self.counter = now;
    }
}

fn counter(item: &Value) -> u64 {
    let number = item["leaseCounter"]["N"].as_str().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("an item without its counter: {item}"))
}
