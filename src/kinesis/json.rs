//! JSON requests of the control plane: an object whose members are taken out by name and type, with AWS's texts for a wrong type.
//!
//! Unknown members are ignored, `null` is absent, of two members with one name the last counts. Nesting is bounded by serde_json (128).

use super::error::{Error, Kind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The members of a JSON object that have not been taken yet.
#[derive(Clone, Debug, Default)]
pub struct Object(Map<String, Value>);

/// A request body: a JSON object, and nothing behind it.
pub fn parse(body: &[u8]) -> Result<Object, Error> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(Object(members)),
        _ => Err(Error::new(Kind::Serialization, "")),
    }
}

fn wrong_type(text: impl Into<String>) -> Error {
    Error::new(Kind::Serialization, text)
}

/// The text for a list or object where a plain value was wanted.
fn unexpected_start(value: &Value) -> Error {
    match value {
        Value::Array(_) => wrong_type("Start of list found where not expected"),
        _ => wrong_type("Start of structure or map found where not expected."),
    }
}

/// The text for a plain value of another type, as AWS's Java classes name it.
fn not_convertible(value: &Value, to: &str) -> Error {
    let class = match value {
        Value::Bool(_) => "java.lang.Boolean",
        Value::Number(_) => "com.amazon.coral.value.json.numbers.TruncatingBigNumber",
        Value::String(_) => "java.lang.String",
        _ => return unexpected_start(value),
    };
    wrong_type(format!("class {class} can not be converted to {to}"))
}

fn string(value: Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(not_convertible(&other, "an String")),
    }
}

impl Object {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub fn string(&mut self, name: &str) -> Result<Option<String>, Error> {
        self.take(name).map(string).transpose()
    }

    /// An integer of Java: fractions are cut off, values beyond 32 bits become the nearest of 32 bits.
    pub fn integer(&mut self, name: &str) -> Result<Option<i32>, Error> {
        match self.take(name) {
            None => Ok(None),
            // A float-to-integer cast saturates; every 32-bit integer is exact in a float.
            Some(Value::Number(n)) => Ok(Some(n.as_f64().unwrap_or(0.0).floor() as i32)),
            Some(other) => Err(not_convertible(&other, "an Integer")),
        }
    }

    /// As AWS reads it, every string but `true` is false.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(b)),
            Some(Value::String(text)) => Ok(Some(text == "true")),
            Some(other) => Err(not_convertible(&other, "an Boolean")),
        }
    }

    /// Seconds since 1970 with a fraction, as microseconds; negative ones count as 1970.
    pub fn timestamp(&mut self, name: &str) -> Result<Option<u64>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Number(n)) => Ok(Some((n.as_f64().unwrap_or(0.0) * 1e6).round() as u64)),
            Some(other) => Err(not_convertible(&other, "milliseconds since epoch")),
        }
    }

    pub fn object(&mut self, name: &str) -> Result<Option<Object>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Object(members))),
            Some(list @ Value::Array(_)) => Err(unexpected_start(&list)),
            Some(_) => Err(wrong_type("Expected null")),
        }
    }

    /// A list of objects.
    pub fn objects(&mut self, name: &str) -> Result<Option<Vec<Object>>, Error> {
        let object = |value: Value| match value {
            Value::Object(members) => Ok(Object(members)),
            Value::Array(_) => Err(unexpected_start(&value)),
            _ => Err(wrong_type("Expected map or null")),
        };
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => list.into_iter().map(object).collect::<Result<_, _>>().map(Some),
            Some(map @ Value::Object(_)) => Err(unexpected_start(&map)),
            Some(_) => Err(wrong_type("Expected list or null")),
        }
    }

    /// The text of a blob, still in base64.
    pub fn blob(&mut self, name: &str) -> Result<Option<String>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(not_convertible(&other, "a Blob")),
        }
    }

    /// A map of strings.
    pub fn strings(&mut self, name: &str) -> Result<Option<BTreeMap<String, String>>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(members)) => {
                let present = members.into_iter().filter(|(_, value)| !value.is_null());
                present.map(|(key, value)| Ok((key, string(value)?))).collect::<Result<_, _>>().map(Some)
            }
            Some(list @ Value::Array(_)) => Err(unexpected_start(&list)),
            Some(_) => Err(wrong_type("Expected map or null")),
        }
    }
}
