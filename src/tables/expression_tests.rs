//! Expressions: what they mean, and what is refused.

use super::condition::Condition;
use super::error::Error;
use super::expression::{Substitutes, condition, names, update};
use super::item::{Item, Value, item_to_json, read_item};
use super::members::Members;
use super::number::Number;
use super::update::updated;
use super::{legacy, members};
use crate::log::memory_disk::Random;
use std::collections::BTreeMap;

pub(super) fn item(json: &str) -> Item {
    read_item(&serde_json::from_str(json).expect(json), 0).expect(json)
}

const HELD: &str = r##"{"s":{"S":"text"},"n":{"N":"7"},"set":{"SS":["a","b"]},"AND":{"S":"x"},"b":{"B":"AP8="}}"##;

fn with() -> Substitutes {
    let names =
        [("#s", "s"), ("#and", "AND"), ("#gone", "gone")].map(|(key, name)| (key.to_string(), name.to_string()));
    let values =
        r#"{":t":{"S":"text"},":te":{"S":"te"},":7":{"N":"7.0"},":8":{"N":"8"},":a":{"S":"a"},":set":{"SS":["c"]}}"#;
    Substitutes::new(names.into(), item(values))
}

#[track_caller]
fn check(text: &str, expect: bool) {
    let condition = condition("ConditionExpression", text, &with()).expect(text);
    assert_eq!(condition.holds(&item(HELD)), expect, "{text}");
}

#[track_caller]
fn refuses(result: Result<impl std::fmt::Debug, Error>, text: &str) {
    let error = result.expect_err(text);
    assert!(error.message.contains(text), "{:?} where {text:?} was expected", error.message);
}

/// Each text is refused with words that have the other in them.
#[track_caller]
fn refuses_all<T: std::fmt::Debug>(read: impl Fn(&str) -> Result<T, Error>, cases: &[(&str, &str)]) {
    cases.iter().for_each(|(text, why)| refuses(read(text), why));
}

#[test]
fn conditions_hold_or_not() {
    for (text, expect) in [
        ("attribute_not_exists(#gone)", true),
        ("attribute_exists(s) AND #s = :t", true),
        ("attribute_exists (s) and s = :te", false),
        ("n = :7", true),
        ("n < :8 AND :8 > n", true),
        ("n <> :7", false),
        ("gone <> :7", true),
        ("gone = :7 OR gone < :7 OR gone >= :7", false),
        ("s < :7", false),
        ("NOT s = :t OR n = :7", true),
        ("NOT (s = :t OR n = :7)", false),
        ("s = :te AND n = :8 OR n = :7", true),
        ("s = :te AND (n = :8 OR n = :7)", false),
        ("begins_with(s, :te)", true),
        ("begins_with(n, :te)", false),
        ("contains(set, :a) AND contains(s, :te)", true),
        ("n BETWEEN :7 AND :8 AND s = :t", true),
        ("n IN (:8, :7)", true),
        ("s IN (:te)", false),
        ("#and <> s", true),
        ("n=:7 AND(s=:t)", true),
    ] {
        check(text, expect);
    }
}

#[test]
fn what_is_no_condition_is_told() {
    let read = |text: &str| condition("ConditionExpression", text, &with());
    for text in [
        "s",
        "s =",
        "= :t",
        "s = :t AND",
        "(s = :t",
        "s = :t)",
        "s == :t",
        "attribute_exists(s",
        "n BETWEEN :7 OR :8",
        "n IN ()",
        "NOT",
        "s : t",
        "s = 'x'",
        "s = :t n = :7",
        "attribute_exists(:t)",
        "12 = :7",
    ] {
        refuses(read(text), "Syntax error");
    }
    refuses_all(
        read,
        &[
            ("  ", "can not be empty"),
            ("s = :x", "attribute value: :x"),
            ("#x = :t", "attribute name: #x"),
            ("exists(s)", "Invalid function name; function: exists"),
            ("size(s) > :7", "not a DynamoDB"),
            ("s.t = :t", "path into an attribute"),
            ("s[0] = :t", "path into an attribute"),
            (&format!("{}s = :t{}", "(".repeat(33), ")".repeat(33)), "too many levels"),
            (&format!("{}s = :t", "NOT ".repeat(900)), "too many levels"),
            (&format!("s = :t{}", " OR s = :t".repeat(500)), "maximum allowed size"),
        ],
    );
    let substitutes = with();
    condition("FilterExpression", "#s = :t", &substitutes).expect("as above");
    refuses(substitutes.all_used(), "ExpressionAttributeValues unused in expressions: keys: {:7, :8, :a, :set, :te}");
}

/// A random condition, as a text and as what it comes to for `item` by another way.
fn random_condition(random: &mut Random, item: &BTreeMap<&str, i64>, depth: u32) -> (String, bool) {
    let name = ["a", "b", "c"][random.below(3) as usize];
    let value = random.below(4) as i64;
    let held = item.get(name).copied();
    if depth == 0 {
        return match random.below(9) {
            0 => (format!("{name} = :{value}"), held == Some(value)),
            1 => (format!("{name} <> :{value}"), held != Some(value)),
            2 => (format!("{name} < :{value}"), held.is_some_and(|held| held < value)),
            3 => (format!("{name} <= :{value}"), held.is_some_and(|held| held <= value)),
            4 => (format!(":{value} < {name}"), held.is_some_and(|held| held > value)),
            5 => (format!("{name} >= :{value}"), held.is_some_and(|held| held >= value)),
            6 => (format!("attribute_exists({name})"), held.is_some()),
            7 => (format!("attribute_not_exists({name})"), held.is_none()),
            _ => (format!("{name} BETWEEN :1 AND :{value}"), held.is_some_and(|held| (1..=value).contains(&held))),
        };
    }
    let (left, a) = random_condition(random, item, depth - 1);
    let (right, b) = random_condition(random, item, depth - 1);
    match random.below(5) {
        0 => (format!("({left}) AND ({right})"), a && b),
        1 => (format!("({left}) OR ({right})"), a || b),
        2 => (format!("NOT ({left})"), !a),
        // Without parentheses AND binds closer, so both sides of an OR may be anything.
        3 => (format!("{left} OR {right}"), a || b),
        _ => (format!("NOT ({left}) AND NOT ({right})"), !a && !b),
    }
}

#[test]
fn random_conditions_agree_with_a_naive_reading() {
    let mut random = Random(9);
    let number = |n: i64| Value::N(Number::parse(&n.to_string()).expect("it is one"));
    let values: Item = (0..4).map(|n| (format!(":{n}"), number(n))).collect();
    let (mut held, mut all) = (0, 0);
    for _ in 0..4_000 {
        let mut plain = BTreeMap::new();
        for name in ["a", "b", "c"] {
            if random.coin() {
                plain.insert(name, random.below(4) as i64);
            }
        }
        let item: Item = plain.iter().map(|(name, n)| (name.to_string(), number(*n))).collect();
        let depth = random.below(4) as u32;
        let (text, expect) = random_condition(&mut random, &plain, depth);
        let with = Substitutes::new(BTreeMap::new(), values.clone());
        let read = condition("ConditionExpression", &text, &with).expect(&text);
        assert_eq!(read.holds(&item), expect, "{text} of {plain:?}");
        (held, all) = (held + expect as u32, all + 1);
    }
    assert!((all / 5..all * 4 / 5).contains(&held), "{held} of {all} held: both outcomes are met");
}

#[test]
fn no_text_makes_the_reader_fail_otherwise() {
    let pieces = [
        "s",
        "#s",
        ":t",
        "=",
        "<>",
        "(",
        ")",
        ",",
        "AND",
        "OR",
        "NOT",
        "BETWEEN",
        "IN",
        "begins_with",
        "SET",
        "REMOVE",
        "ADD",
        "+",
        "-",
        ".",
        "[",
        "7",
        "if_not_exists",
    ];
    let mut random = Random(4);
    let mut taken = 0;
    for _ in 0..20_000 {
        let text: Vec<&str> =
            (0..random.below(9)).map(|_| pieces[random.below(pieces.len() as u64) as usize]).collect();
        let text = text.join(if random.coin() { " " } else { "" });
        taken += condition("ConditionExpression", &text, &with()).is_ok() as u32;
        taken += update(&text, &with()).is_ok() as u32;
        taken += names(&text, &with()).is_ok() as u32;
    }
    assert!(taken > 100, "some are expressions: {taken}");
}

#[test]
fn updates_see_the_item_as_it_was() {
    let check = |text: &str, expect: &str| {
        let update = update(text, &with()).expect(text);
        assert_eq!(
            item_to_json(
                &updated(&item(r#"{"n":{"N":"7"},"m":{"N":"1"},"set":{"SS":["a","b"]}}"#), &update).expect(text)
            ),
            expect
        );
    };
    check("SET n = m, m = n REMOVE set", r#"{"m":{"N":"7"},"n":{"N":"1"}}"#);
    check("SET n = n + :8 REMOVE m, set", r#"{"n":{"N":"15"}}"#);
    check("REMOVE m, set, gone SET n = if_not_exists(gone, :8) - :7", r#"{"n":{"N":"1"}}"#);
    check("ADD n :8, #gone :7, set :set remove m", r#"{"gone":{"N":"7"},"n":{"N":"15"},"set":{"SS":["a","b","c"]}}"#);
    check("DELETE set :set REMOVE n, m", r#"{"set":{"SS":["a","b"]}}"#);
    let refused = |text: &str| update(text, &with()).and_then(|update| updated(&item(HELD), &update));
    refuses_all(
        refused,
        &[
            ("SET n = gone", "does not exist in the item"),
            ("SET n = s + :7", "incorrect data type"),
            ("ADD s :t", "incorrect data type"),
            ("SET n = :7, n = :8", "overlap"),
            ("SET n = :7 SET s = :t", "only be used once"),
            ("SET n", "Syntax error"),
            ("PUT n = :7", "Syntax error"),
            ("SET n = power(n)", "Invalid function name"),
        ],
    );
}

#[test]
fn the_older_dialect_means_the_same() {
    let check = |json: &str, expect: Option<bool>| {
        let json = members::parse(json.as_bytes()).expect(json);
        let condition: Option<Condition> =
            legacy::expected(&Members::of(&json, "").expect("an object")).expect("valid");
        assert_eq!(condition.map(|condition| condition.holds(&item(HELD))), expect, "{json}");
    };
    check(r#"{}"#, None);
    check(r#"{"Expected":{}}"#, None);
    check(r#"{"Expected":{"s":{"Value":{"S":"text"}},"gone":{"Exists":false}}}"#, Some(true));
    check(r#"{"Expected":{"s":{"Exists":true,"Value":{"S":"text"}},"n":{"Exists":false}}}"#, Some(false));
    check(r#"{"Expected":{"s":{"Value":{"S":"x"}},"gone":{"Exists":false}},"ConditionalOperator":"OR"}"#, Some(true));
    let list = |operator: &str, values: &str| {
        format!(r#"{{"Expected":{{"n":{{"ComparisonOperator":"{operator}","AttributeValueList":[{values}]}}}}}}"#)
    };
    check(&list("GE", r#"{"N":"7"}"#), Some(true));
    check(&list("NE", r#"{"N":"7"}"#), Some(false));
    check(&list("IN", r#"{"N":"1"},{"N":"7"}"#), Some(true));
    check(&list("BETWEEN", r#"{"N":"1"},{"N":"6"}"#), Some(false));
    check(&list("NOT_NULL", ""), Some(true));
    let refused = |json: &str| {
        let json = members::parse(json.as_bytes()).expect(json);
        let members = Members::of(&json, "").expect("an object");
        legacy::expected(&members).and(legacy::updates(&members)).map(|_| ())
    };
    refuses(refused(r#"{"Expected":{"s":{}}}"#), "Value must be provided when Exists is null");
    refuses(
        refused(r#"{"Expected":{"s":{"Exists":false,"Value":{"S":"x"}}}}"#),
        "cannot be used when Exists is set to false",
    );
    refuses(refused(&list("EQ", "")), "Invalid number of argument(s)");
    refuses(refused(&list("BETWEEN", r#"{"N":"1"}"#)), "Invalid number of argument(s)");
    refuses(refused(r#"{"AttributeUpdates":{"s":{"Action":"PUT"}}}"#), "Only DELETE action is allowed");
    refuses(
        refused(r#"{"AttributeUpdates":{"s":{"Action":"ADD","Value":{"S":"x"}}}}"#),
        "not supported for the type S",
    );
    refuses(refused(r#"{"AttributeUpdates":{"s":{"Action":"DO"}}}"#), "enum value set");
}
