//! Bodies of all dialects as one kind of value: JSON as it is, CBOR and forms turned into it.

use super::dialect::{Dialect, Error, Kind, PUT_METRIC_DATA};
use crate::kinesis::cbor::{self, Head, Parts, Walk};
use flate2::read::GzDecoder;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::Read;

/// Bytes of a body, inflated: PutMetricData takes 1 MB.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Lists and maps within each other that a request can need, and some more.
const DEPTH_MAX: usize = 8;
/// Members of a form, and the longest list in it.
const MEMBERS_MAX: usize = 100_000;
const LIST_MAX: usize = 1_000;

fn malformed(what: &str) -> Error {
    Error::new(Kind::Malformed, format!("The body is not {what}"))
}

/// The body, inflated where it was compressed: no dialect begins as gzip does.
pub fn inflated(body: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let too_long =
        || Error::new(Kind::InvalidParameterValue, format!("The request has more than {BODY_BYTES_MAX} bytes"));
    if body.len() > BODY_BYTES_MAX {
        return Err(too_long());
    }
    if !body.starts_with(&[0x1f, 0x8b]) {
        return Ok(Cow::Borrowed(body));
    }
    let mut all = Vec::new();
    let mut decoder = GzDecoder::new(body).take(BODY_BYTES_MAX as u64 + 1);
    decoder.read_to_end(&mut all).map_err(|_| malformed("valid gzip"))?;
    if all.len() > BODY_BYTES_MAX { Err(too_long()) } else { Ok(Cow::Owned(all)) }
}

/// The members of a request.
pub fn members(dialect: Dialect, body: &[u8]) -> Result<Map<String, Value>, Error> {
    let (value, what) = match dialect {
        Dialect::Json => (serde_json::from_slice(body).ok(), "a JSON object"),
        Dialect::Cbor => (cbor::document(body).and_then(|body| of_cbor(body, 0)), "a CBOR map"),
        Dialect::Form => return of_form(body),
    };
    match value {
        Some(Value::Object(members)) => Ok(members),
        _ => Err(malformed(what)),
    }
}

/// Of an item that has been found valid.
fn of_cbor(item: &[u8], depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut walk = Walk::new(item);
    Some(match walk.head()? {
        Head::Unsigned(number) => Value::from(number),
        Head::Negative(number) => Value::from(-1.0 - number as f64),
        Head::Float(number) => Value::from(number),
        Head::Bool(truth) => Value::from(truth),
        Head::Tag(_) => of_cbor(&item[walk.at..], depth + 1)?,
        head @ Head::Text(_) => Value::from(text(head, walk)?),
        Head::List(_) => Parts::of(item).map(|(_, item)| of_cbor(item, depth + 1)).collect::<Option<Vec<_>>>()?.into(),
        Head::Map(_) => {
            let member = |(name, value): (&[u8], &[u8])| {
                let mut walk = Walk::new(name);
                let head = walk.head()?;
                Some((text(head, walk)?, of_cbor(value, depth + 1)?))
            };
            Value::Object(Parts::of(item).map(member).collect::<Option<Map<_, _>>>()?)
        }
        // Nothing of a request is bytes.
        _ => Value::Null,
    })
}

/// The text behind its head.
fn text(head: Head, mut walk: Walk<'_>) -> Option<String> {
    let mut bytes = Vec::new();
    match head {
        Head::Text(Some(len)) => bytes.extend_from_slice(walk.take(len)?),
        Head::Text(None) => walk.chunks(head, |piece| bytes.extend_from_slice(piece))?,
        _ => return None,
    }
    String::from_utf8(bytes).ok()
}

/// `MetricData.member.1.MetricName=x&...` as members within members; every value is text.
fn of_form(body: &[u8]) -> Result<Map<String, Value>, Error> {
    let mut root = Value::Object(Map::new());
    for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).take(MEMBERS_MAX) {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let decoded = |bytes| unescaped(bytes).ok_or_else(|| malformed("a form"));
        let (name, value) = (decoded(&pair[..at])?, decoded(pair.get(at + 1..).unwrap_or_default())?);
        put(&mut root, &name, value)?;
    }
    let Value::Object(members) = root else { return Err(malformed("a form")) };
    match members.get("Action").and_then(Value::as_str) {
        Some(PUT_METRIC_DATA) => Ok(members),
        _ => Err(Error::unknown_operation()),
    }
}

/// Puts a value where a name like `A.member.2.B` says.
fn put(root: &mut Value, name: &str, value: String) -> Result<(), Error> {
    let wrong = || malformed("a form of this service");
    let mut at = root;
    for (depth, part) in name.split('.').filter(|part| *part != "member").enumerate() {
        if depth > DEPTH_MAX {
            return Err(wrong());
        }
        at = match part.parse::<usize>() {
            Ok(number @ 1..=LIST_MAX) => {
                if at.is_null() {
                    *at = Value::Array(Vec::new());
                }
                let list = at.as_array_mut().ok_or_else(wrong)?;
                if list.len() < number {
                    list.resize(number, Value::Null);
                }
                &mut list[number - 1]
            }
            Ok(_) => return Err(wrong()),
            Err(_) => {
                if at.is_null() {
                    *at = Value::Object(Map::new());
                }
                at.as_object_mut().ok_or_else(wrong)?.entry(part).or_insert(Value::Null)
            }
        };
    }
    *at = Value::String(value);
    Ok(())
}

fn unescaped(bytes: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &after[2..];
            }
            byte => out.push(*byte),
        }
    }
    String::from_utf8(out).ok()
}
