//! Values of attributes, and items: their JSON, which is also how items are stored.

use super::error::{Error, Kind};
use super::limits::DEPTH_MAX;
use super::number::Number;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    S(String),
    N(Number),
    B(Vec<u8>),
    Bool(bool),
    Null,
    Ss(BTreeSet<String>),
    Ns(BTreeSet<Number>),
    Bs(BTreeSet<Vec<u8>>),
    L(Vec<Value>),
    M(Item),
}

/// Attributes by name.
pub type Item = BTreeMap<String, Value>;

impl Value {
    /// The name of its type.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Value::S(_) => "S",
            Value::N(_) => "N",
            Value::B(_) => "B",
            Value::Bool(_) => "BOOL",
            Value::Null => "NULL",
            Value::Ss(_) => "SS",
            Value::Ns(_) => "NS",
            Value::Bs(_) => "BS",
            Value::L(_) => "L",
            Value::M(_) => "M",
        }
    }

    /// `{"S":"x"}` and the like, at a nesting of `depth`.
    pub fn read(json: &Json, depth: usize) -> Result<Value, Error> {
        let Json::Object(members) = json else { return Err(wrong_type()) };
        let mut there = members.iter().filter(|(_, value)| !value.is_null());
        let Some((name, value)) = there.next() else {
            return Err(invalid(
                "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
            ));
        };
        if there.next().is_some() {
            return Err(invalid(
                "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
            ));
        }
        if depth > DEPTH_MAX {
            return Err(Error::validation("Nesting Levels have exceeded supported limits"));
        }
        Ok(match name.as_str() {
            "S" => Value::S(text(value)?.to_string()),
            "N" => Value::N(number(text(value)?)?),
            "B" => Value::B(bytes(text(value)?)?),
            "BOOL" => Value::Bool(value.as_bool().ok_or_else(wrong_type)?),
            "NULL" => match value.as_bool().ok_or_else(wrong_type)? {
                true => Value::Null,
                false => {
                    return Err(invalid(
                        "One or more parameter values were invalid: Null attribute value types must have the value of true",
                    ));
                }
            },
            "SS" => Value::Ss(set(value, "string", |text| Ok(text.to_string()))?),
            "NS" => Value::Ns(set(value, "number", number)?),
            "BS" => Value::Bs(set(value, "binary", bytes)?),
            "L" => {
                let list = value.as_array().ok_or_else(wrong_type)?;
                Value::L(list.iter().map(|value| Value::read(value, depth + 1)).collect::<Result<_, _>>()?)
            }
            "M" => Value::M(read_item(value, depth + 1)?),
            _ => {
                return Err(invalid(
                    "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
                ));
            }
        })
    }

    /// Appends its JSON.
    pub fn write(&self, out: &mut String) {
        out.push_str("{\"");
        out.push_str(self.type_name());
        out.push_str("\":");
        match self {
            Value::S(text) => write_text(text, out),
            Value::N(number) => write_number(number, out),
            Value::B(bytes) => write_bytes(bytes, out),
            Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Value::Null => out.push_str("true"),
            Value::Ss(set) => write_list(set, out, |text, out| write_text(text, out)),
            Value::Ns(set) => write_list(set, out, write_number),
            Value::Bs(set) => write_list(set, out, |bytes, out| write_bytes(bytes, out)),
            Value::L(list) => write_list(list, out, Value::write),
            Value::M(item) => write_item(item, out),
        }
        out.push('}');
    }

    pub fn to_json(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }
}

/// `{"name":{"S":"x"},...}`.
pub fn read_item(json: &Json, depth: usize) -> Result<Item, Error> {
    let members = json.as_object().ok_or_else(wrong_type)?;
    members.iter().map(|(name, value)| Ok((name.clone(), Value::read(value, depth)?))).collect()
}

/// An item as it is stored.
pub fn parse_stored(text: &str) -> Result<Item, Error> {
    let json = serde_json::from_str(text).ok();
    let item = json.and_then(|json: Json| read_item(&json, 0).ok());
    item.ok_or_else(|| Error::new(Kind::InternalServer, "A stored item does not decode; nothing was altered."))
}

pub fn write_item(item: &Item, out: &mut String) {
    out.push('{');
    for (at, (name, value)) in item.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        value.write(out);
    }
    out.push('}');
}

pub fn item_to_json(item: &Item) -> String {
    let mut text = String::new();
    write_item(item, &mut text);
    text
}

pub fn write_text(text: &str, out: &mut String) {
    out.push_str(&Json::from(text).to_string());
}

fn write_number(number: &Number, out: &mut String) {
    out.push('"');
    out.push_str(&number.to_string());
    out.push('"');
}

fn write_bytes(bytes: &[u8], out: &mut String) {
    out.push('"');
    out.push_str(&base64_simd::STANDARD.encode_to_string(bytes));
    out.push('"');
}

fn write_list<T>(list: impl IntoIterator<Item = T>, out: &mut String, write: impl Fn(T, &mut String)) {
    out.push('[');
    for (at, value) in list.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(value, out);
    }
    out.push(']');
}

fn text(json: &Json) -> Result<&str, Error> {
    json.as_str().ok_or_else(wrong_type)
}

fn number(text: &str) -> Result<Number, Error> {
    Number::parse(text).map_err(|why| Error::validation(why.text(text)))
}

fn bytes(text: &str) -> Result<Vec<u8>, Error> {
    let wrong = |_| Error::new(Kind::Serialization, "Invalid Base64 in a value of type B");
    base64_simd::STANDARD.decode_to_vec(text).map_err(wrong)
}

fn set<T: Ord>(json: &Json, kind: &str, read: impl Fn(&str) -> Result<T, Error>) -> Result<BTreeSet<T>, Error> {
    let list = json.as_array().ok_or_else(wrong_type)?;
    if list.is_empty() {
        let text = format!("One or more parameter values were invalid: An {kind} set  may not be empty");
        return Err(Error::validation(text));
    }
    let mut set = BTreeSet::new();
    for value in list {
        if !set.insert(read(text(value)?)?) {
            let text = "One or more parameter values were invalid: Input collection contains duplicates.";
            return Err(Error::validation(text));
        }
    }
    Ok(set)
}

fn wrong_type() -> Error {
    Error::new(Kind::Serialization, "A value of the request has another type than its member")
}

fn invalid(text: &str) -> Error {
    Error::validation(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expect: Result<&str, &str>) {
        let value = Value::read(&serde_json::from_str(json).expect(json), 0);
        match (value, expect) {
            (Ok(value), Ok(text)) => assert_eq!(value.to_json(), text),
            (Err(error), Err(text)) => assert!(error.message.contains(text), "{json}: {}", error.message),
            (value, expect) => panic!("{json}: {value:?} where {expect:?} was expected"),
        }
    }

    #[test]
    fn values_are_read_and_written() {
        for json in [
            r#"{"S":"a\"b\u0001é"}"#,
            r#"{"N":"-0.5"}"#,
            r#"{"B":"AP8="}"#,
            r#"{"BOOL":false}"#,
            r#"{"NULL":true}"#,
            r#"{"SS":["a","b"]}"#,
            r#"{"NS":["-1","2"]}"#,
            r#"{"BS":["","AA=="]}"#,
            r#"{"L":[{"M":{"x":{"L":[]}}},{"S":""}]}"#,
            r#"{"M":{}}"#,
        ] {
            check(json, Ok(json));
        }
        check(r#"{"SS":["b","a"]}"#, Ok(r#"{"SS":["a","b"]}"#));
        check(r#"{"N":"1.50","S":null}"#, Ok(r#"{"N":"1.5"}"#));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        check("{}", Err("is empty"));
        check(r#"{"X":"a"}"#, Err("is empty"));
        check(r#"{"S":"a","N":"1"}"#, Err("more than one"));
        check(r#"{"S":1}"#, Err("another type"));
        check(r#"{"N":1}"#, Err("another type"));
        check(r#"{"N":"one"}"#, Err("numeric value: one"));
        check(r#"{"B":"A"}"#, Err("Base64"));
        check(r#"{"NULL":false}"#, Err("value of true"));
        check(r#"{"SS":[]}"#, Err("may not be empty"));
        check(r#"{"NS":["1","1.0"]}"#, Err("duplicates"));
        check(r#""a""#, Err("another type"));
        let deep =
            |levels: usize| format!("{}{}{}", r#"{"L":["#.repeat(levels), r#"{"NULL":true}"#, "]}".repeat(levels));
        check(&deep(DEPTH_MAX), Ok(&deep(DEPTH_MAX)));
        check(&deep(DEPTH_MAX + 1), Err("Nesting"));
    }
}
