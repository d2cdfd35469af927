//! CBOR requests: maps whose members are looked up by name and type, as [`super::json`] does it with objects, with the same texts.

use super::cbor::{self, Head, Parts, TIME, Walk};
use super::error::Error;
use super::object::{Blob, truth, wrong_type};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A CBOR map that has been found valid.
#[derive(Clone, Copy, Debug)]
pub struct Map<'b>(&'b [u8]);

/// A request body: a map, and nothing behind it.
pub fn parse(body: &[u8]) -> Result<Map<'_>, Error> {
    cbor::document(body).ok_or_else(|| wrong_type("")).and_then(|value| match head_of(value) {
        Head::Map(_) => Ok(Map(value)),
        _ => Err(wrong_type("")),
    })
}

/// Of a value that has been found valid.
fn head_of(value: &[u8]) -> Head {
    Walk::new(value).head().unwrap_or(Head::Null)
}

/// The text for a value of another type, as AWS's Java classes name it.
fn not_convertible(value: &[u8], to: &str) -> Error {
    let class = match head_of(value) {
        Head::List(_) => return wrong_type("Start of list found where not expected"),
        Head::Map(_) => return wrong_type("Start of structure or map found where not expected."),
        Head::Bool(_) => "java.lang.Boolean",
        Head::Text(_) => "java.lang.String",
        Head::Bytes(_) => "java.nio.HeapByteBuffer",
        _ => "com.amazon.coral.value.json.numbers.TruncatingBigNumber",
    };
    wrong_type(format!("class {class} can not be converted to {to}"))
}

/// The bytes of a string, of whichever kind, its pieces put together.
fn content(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut walk = Walk::new(value);
    match walk.head()? {
        Head::Bytes(Some(len)) | Head::Text(Some(len)) => walk.take(len).map(Cow::from),
        head @ (Head::Bytes(None) | Head::Text(None)) => {
            let mut all = Vec::new();
            walk.chunks(head, |piece| all.extend_from_slice(piece))?;
            Some(all.into())
        }
        _ => None,
    }
}

fn string(value: &[u8], to: &str) -> Result<String, Error> {
    match head_of(value) {
        Head::Text(_) => {
            let text = content(value).unwrap_or_default();
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        _ => Err(not_convertible(value, to)),
    }
}

fn number(value: &[u8], to: &str) -> Result<f64, Error> {
    match head_of(value) {
        Head::Unsigned(n) => Ok(n as f64),
        Head::Negative(n) => Ok(-1.0 - n as f64),
        Head::Float(number) => Ok(number),
        _ => Err(not_convertible(value, to)),
    }
}

fn is_null(value: &[u8]) -> bool {
    matches!(head_of(value), Head::Null)
}

impl<'b> Map<'b> {
    fn find(&self, name: &str) -> Option<&'b [u8]> {
        let is_it = |found: &[u8]| content(found).is_some_and(|found| *found == *name.as_bytes());
        let last = Parts::of(self.0).filter(|(found, _)| is_it(found)).last();
        last.map(|(_, value)| value).filter(|value| !is_null(value))
    }

    pub fn string(&self, name: &str) -> Result<Option<String>, Error> {
        self.find(name).map(|value| string(value, "an String")).transpose()
    }

    /// Fractions are cut off, values beyond 32 bits become the nearest of 32 bits.
    pub fn integer(&self, name: &str) -> Result<Option<i32>, Error> {
        self.find(name).map(|value| Ok(number(value, "an Integer")? as i32)).transpose()
    }

    /// Some words are as good as the literals.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.find(name) {
            None => Ok(None),
            Some(value) => match head_of(value) {
                Head::Bool(is) => Ok(Some(is)),
                _ => truth(&string(value, "an Boolean")?).map(Some),
            },
        }
    }

    /// Whole milliseconds since 1970, behind the tag of a time, as microseconds; negative ones count as 1970.
    pub fn timestamp(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(value) = self.find(name) else { return Ok(None) };
        let mut walk = Walk::new(value);
        let untagged = match walk.head() {
            Some(Head::Tag(TIME)) => &value[walk.at..],
            _ => value,
        };
        match head_of(untagged) {
            Head::Unsigned(ms) => Ok(Some(ms.saturating_mul(1000))),
            Head::Negative(_) => Ok(Some(0)),
            _ => Err(not_convertible(untagged, "milliseconds since epoch")),
        }
    }

    pub fn map(&self, name: &str) -> Result<Option<Map<'b>>, Error> {
        self.find(name).map(map).transpose()
    }

    /// A list of maps, one after another: `None` stands for a null among them.
    pub fn maps(
        &self,
        name: &str,
    ) -> Result<Option<impl Iterator<Item = Result<Option<Map<'b>>, Error>> + use<'b>>, Error> {
        let Some(value) = self.find(name) else { return Ok(None) };
        match head_of(value) {
            Head::List(_) => Ok(Some(Parts::of(value).map(|(_, item)| match is_null(item) {
                true => Ok(None),
                false => map(item).map(Some),
            }))),
            Head::Map(_) => Err(not_convertible(value, "")),
            _ => Err(wrong_type("Expected list or null")),
        }
    }

    pub fn blob(&self, name: &str) -> Result<Option<Blob>, Error> {
        let Some(value) = self.find(name) else { return Ok(None) };
        match head_of(value) {
            Head::Bytes(_) => Ok(content(value).map(|bytes| Blob { len: bytes.len() })),
            _ => Err(not_convertible(value, "a Blob")),
        }
    }

    /// A map of strings: `most` of them and one more, where there are more than that.
    pub fn strings(&self, name: &str, most: usize) -> Result<Option<BTreeMap<String, String>>, Error> {
        let Some(value) = self.find(name) else { return Ok(None) };
        match head_of(value) {
            Head::Map(_) => {}
            Head::List(_) => return Err(not_convertible(value, "")),
            _ => return Err(wrong_type("Expected map or null")),
        }
        let mut map = BTreeMap::new();
        for (key, value) in Parts::of(value).filter(|(_, value)| !is_null(value)) {
            let (key, value) = (string(key, "an String")?, string(value, "an String")?);
            if map.len() <= most || map.contains_key(&key) {
                map.insert(key, value);
            }
        }
        Ok(Some(map))
    }
}

fn map(value: &[u8]) -> Result<Map<'_>, Error> {
    match head_of(value) {
        Head::Map(_) => Ok(Map(value)),
        Head::List(_) => Err(not_convertible(value, "")),
        _ => Err(wrong_type("Expected null")),
    }
}
