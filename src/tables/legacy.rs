//! The older dialect of conditions and updates, which the client library's lease code speaks: `Expected` and `AttributeUpdates`.

use super::condition::{Comparison, Condition, Operand};
use super::error::Error;
use super::item::{Item, Value};
use super::members::{Members, violation};
use super::update::{Action, Source, Update};
use serde_json::Value as Json;

const COMPARISONS: [&str; 13] = [
    "EQ",
    "NE",
    "LE",
    "LT",
    "GE",
    "GT",
    "NOT_NULL",
    "NULL",
    "BEGINS_WITH",
    "CONTAINS",
    "NOT_CONTAINS",
    "IN",
    "BETWEEN",
];

/// `Expected`, its entries combined by `ConditionalOperator`.
pub fn expected(request: &Members<'_>) -> Result<Option<Condition>, Error> {
    let operator = request.word("ConditionalOperator", &["AND", "OR"])?;
    let Some(entries) = request.members("Expected")? else { return Ok(None) };
    let all: Vec<Condition> =
        entries.entries().map(|(name, json)| expectation(name, &Members::of(json, name)?)).collect::<Result<_, _>>()?;
    Ok(match (all.is_empty(), operator) {
        (true, _) => None,
        (false, Some("OR")) => Some(Condition::Or(all)),
        (false, _) => Some(Condition::And(all)),
    })
}

fn invalid(text: String) -> Error {
    Error::validation(format!("One or more parameter values were invalid: {text}"))
}

fn expectation(name: &str, entry: &Members<'_>) -> Result<Condition, Error> {
    let value = entry.json("Value").map(|json| Value::read(json, 0)).transpose()?;
    let exists = entry.truth("Exists")?;
    if let Some(operator) = entry.word("ComparisonOperator", &COMPARISONS)? {
        if exists.is_some() || (value.is_some() && entry.json("AttributeValueList").is_some()) {
            let text = format!("Exists and Value cannot be used with ComparisonOperator for Attribute: {name}");
            return Err(invalid(text));
        }
        let list = entry.list("AttributeValueList")?.unwrap_or_default();
        let mut values: Vec<Value> = list.iter().map(|json| Value::read(json, 0)).collect::<Result<_, _>>()?;
        values.extend(value);
        return compared(name, operator, values);
    }
    match (exists, value) {
        (None | Some(true), Some(value)) => Ok(equals(name, value)),
        (Some(false), None) => Ok(Condition::NotExists(name.to_string())),
        (Some(false), Some(_)) => {
            Err(invalid(format!("Value cannot be used when Exists is set to false for Attribute: {name}")))
        }
        (exists, None) => {
            let exists = exists.map_or("null", |_| "true");
            Err(invalid(format!("Value must be provided when Exists is {exists} for Attribute: {name}")))
        }
    }
}

fn equals(name: &str, value: Value) -> Condition {
    Condition::Compare(Operand::Attribute(name.to_string()), Comparison::Equal, Operand::Value(value))
}

fn compared(name: &str, operator: &str, values: Vec<Value>) -> Result<Condition, Error> {
    let attribute = || Operand::Attribute(name.to_string());
    let wrong = || invalid(format!("Invalid number of argument(s) for the {operator} ComparisonOperator"));
    let count = values.len();
    let mut values = values.into_iter().map(Operand::Value);
    let comparison = match operator {
        "EQ" => Some(Comparison::Equal),
        "NE" => Some(Comparison::Unequal),
        "LE" => Some(Comparison::LessOrEqual),
        "LT" => Some(Comparison::Less),
        "GE" => Some(Comparison::GreaterOrEqual),
        "GT" => Some(Comparison::Greater),
        _ => None,
    };
    let mut value = || values.next().ok_or_else(wrong);
    let (condition, wanted) = match (operator, comparison) {
        (_, Some(comparison)) => (Condition::Compare(attribute(), comparison, value()?), 1),
        ("NULL", _) => (Condition::NotExists(name.to_string()), 0),
        ("NOT_NULL", _) => (Condition::Exists(name.to_string()), 0),
        ("BEGINS_WITH", _) => (Condition::BeginsWith(attribute(), value()?), 1),
        ("CONTAINS", _) => (Condition::Contains(attribute(), value()?), 1),
        ("NOT_CONTAINS", _) => (Condition::Not(Box::new(Condition::Contains(attribute(), value()?))), 1),
        ("BETWEEN", _) => (Condition::Between(attribute(), value()?, value()?), 2),
        _ if count == 0 => return Err(wrong()),
        _ => (Condition::In(attribute(), values.collect()), count),
    };
    if count == wanted { Ok(condition) } else { Err(wrong()) }
}

/// `AttributeUpdates`.
pub fn updates(request: &Members<'_>) -> Result<Option<Update>, Error> {
    let Some(entries) = request.members("AttributeUpdates")? else { return Ok(None) };
    entries.entries().map(|(name, json)| Ok((name.clone(), action(name, json)?))).collect::<Result<_, _>>().map(Some)
}

fn action(name: &str, json: &Json) -> Result<Action, Error> {
    let entry = Members::of(json, name)?;
    let value = entry.json("Value").map(|json| Value::read(json, 0)).transpose()?;
    let action = entry.text("Action")?.unwrap_or("PUT");
    Ok(match (action, value) {
        ("PUT", Some(value)) => Action::Set(Source::Value(value)),
        ("ADD", Some(value @ (Value::N(_) | Value::Ss(_) | Value::Ns(_) | Value::Bs(_) | Value::L(_)))) => {
            Action::AddOrAppend(value)
        }
        ("ADD", Some(value)) => {
            let text = format!("ADD action is not supported for the type {}", value.type_name());
            return Err(invalid(text));
        }
        ("DELETE", None) => Action::Remove,
        ("DELETE", Some(value @ (Value::Ss(_) | Value::Ns(_) | Value::Bs(_)))) => Action::Delete(value),
        ("DELETE", Some(value)) => {
            let text = format!("DELETE action with value is not supported for the type {}", value.type_name());
            return Err(invalid(text));
        }
        ("PUT" | "ADD", None) => {
            let text = format!("Only DELETE action is allowed when no attribute value is specified; Attribute: {name}");
            return Err(invalid(text));
        }
        _ => return Err(violation(action, "Action", "Member must satisfy enum value set: [ADD, DELETE, PUT]")),
    })
}

/// Names of the legacy members that a request has, for the text that refuses both dialects at once.
pub fn used(request: &Members<'_>) -> Vec<&'static str> {
    let names = ["AttributesToGet", "AttributeUpdates", "ConditionalOperator", "Expected"];
    names.into_iter().filter(|name| request.json(name).is_some()).collect()
}

/// An item without conditions is judged like any other.
pub fn holds(condition: Option<&Condition>, item: &Item) -> bool {
    condition.is_none_or(|condition| condition.holds(item))
}
